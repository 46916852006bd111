"""The smallest task that shows a biased update: a quadratic whose gradient is noisy, on asymmetric devices.

The gradient is w - target + noise n, n standard normal. All cases and seeds are trained at once: tensors are
[cases, seeds, weights], the last axis being averaged over. Draws belong to (seed, stream, step).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from protocols.core.draws import generator
from protocols.core.residual_learning import Residual, Response, SoftBounds, moved, relative_error
from protocols.core.rounding import stochastic_round
from protocols.core.symmetric_point import Tracking, tracked_step, visible


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Targets, and how long they are learnt.

    Args:
        steps: updates.
        settled: steps before the first snapshot.
        every: steps between snapshots.
        weights: of each copy.
        replicas: copies with draws of their own.
        half: targets are even from -half to half.
        seed: root seed.
    """

    steps: int
    settled: int
    every: int = 50
    weights: int = 200
    replicas: int = 1
    half: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.settled < self.steps or self.every < 1:
            raise ValueError(
                f"settled must be below steps and every at least 1, got {self.settled}, {self.steps}, {self.every}"
            )

    def targets(self) -> Tensor:
        """[replicas, weights], float64."""
        draws = torch.rand(self.replicas, self.weights, generator=self.source("targets", 0), dtype=torch.float64)
        return self.half * (2.0 * draws - 1.0)

    def normal(self, step: int) -> Tensor:
        """The noise of a step, [replicas, weights], standard normal; the same for all cases."""
        return torch.randn(self.replicas, self.weights, generator=self.source("noise", step), dtype=torch.float64)

    def source(self, stream: str, step: int) -> torch.Generator:
        """Where the draws of a stream come from."""
        return generator(self.seed, f"quadratic/{stream}", step)

    def looks(self, step: int) -> bool:
        """Whether there is a snapshot after this step."""
        return step + 1 > self.settled and (self.steps - step - 1) % self.every == 0


@dataclass(frozen=True, slots=True)
class Learnt:
    """What was learnt, as means over snapshots.

    Args:
        weights: mean visible weights, [cases, replicas, weights].
        error: relative error of single snapshots, mean over them, [cases, replicas].
        target: [replicas, weights].
    """

    weights: Tensor
    error: Tensor
    target: Tensor


class _Snapshots:
    def __init__(self) -> None:
        self._weights: list[Tensor] = []

    def take(self, weights: Tensor) -> None:
        self._weights.append(weights)

    def learnt(self, target: Tensor) -> Learnt:
        every = torch.stack(self._weights)
        return Learnt(every.mean(0), relative_error(every, target).mean(0), target)


def descent(problem: Problem, noise: Tensor, device: Response, alpha: float) -> Learnt:
    """Plain descent on the devices; ``noise`` [cases]."""
    target, sigma, seen = problem.targets(), noise.view(-1, 1, 1), _Snapshots()
    w = torch.zeros(len(noise), *target.shape, dtype=target.dtype)
    for step in range(problem.steps):
        w = moved(device, w, -alpha * (w - target + sigma * problem.normal(step)))
        if problem.looks(step):
            seen.take(w)
    return seen.learnt(target)


def residual(
    problem: Problem,
    noise: Tensor,
    rates: Residual,
    *,
    offset: float | Tensor = 0.0,
    reference: float | Tensor = 0.0,
    tracking: Tracking | None = None,
    tau: float = 1.0,
    main_only: bool = True,
) -> tuple[Learnt, Tensor]:
    """Residual learning, with a fixed reference or a tracked symmetry point.

    Args:
        problem: the task.
        noise: [cases].
        rates: alpha, beta, gamma; gamma 0 is Tiki-Taka.
        offset: symmetry points of P's devices, [replicas, weights] or one number.
        reference: what P is read against, the first value of Q.
        tracking: moves Q; None keeps it.
        tau: of all devices.
        main_only: judge W alone; else the visible weight.

    Returns:
        What was learnt, and Q at the end.
    """
    target, sigma, seen = problem.targets(), noise.view(-1, 1, 1), _Snapshots()
    main, second, how = SoftBounds(tau), SoftBounds(tau, offset), tracking or Tracking(eta=0.0, period=None)
    w = torch.zeros(len(noise), *target.shape, dtype=target.dtype)
    p, q = w.clone(), w + reference
    for step in range(problem.steps):
        c = how.chopper(step)
        gradient = visible(w, p, q, c, rates.gamma) - target + sigma * problem.normal(step)
        w, p, q = tracked_step((w, p, q), gradient, step, rates=rates, tracking=how, main=main, residual=second)
        if problem.looks(step):
            seen.take(w if main_only else visible(w, p, q, c, rates.gamma))
    return seen.learnt(target), q


def tiles(
    problem: Problem, noise: float, states: Sequence[int], most: int, *, alpha: float, gamma: float, tau: float = 1.0
) -> Tensor:
    """Trains tiles one after the other, each on the residual of those before it.

    Devices move in whole steps of 2 tau / states. Tile n is trained with rate alpha / gamma^n, the others frozen.

    Args:
        problem: the task; its steps are those of each tile.
        noise: of the gradient.
        states: of the devices; one case each.
        most: tiles.
        alpha: rate of the first tile.
        gamma: weight of each tile over that of the one before.
        tau: of all devices.

    Returns:
        Relative error of the visible weight after each tile, [most, cases, replicas].
    """
    target, device = problem.targets(), SoftBounds(tau)
    size = torch.tensor([2.0 * tau / count for count in states], dtype=target.dtype).view(-1, 1, 1)
    shape = (len(states), *target.shape)
    frozen = torch.zeros(shape, dtype=target.dtype)
    errors: list[Tensor] = []
    for n in range(most):
        tile, weight = torch.zeros(shape, dtype=target.dtype), gamma**n
        for step in range(n * problem.steps, (n + 1) * problem.steps):
            gradient = frozen + weight * tile - target + noise * problem.normal(step)
            drawn = torch.rand(shape, generator=problem.source("rounding", step), dtype=target.dtype)
            tile = device.pulsed(tile, stochastic_round(-alpha / weight * gradient / size, drawn), size)
        frozen = frozen + weight * tile
        errors.append(relative_error(frozen, target))
    return torch.stack(errors)
