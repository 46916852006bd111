"""Training of networks that will be put on a chip: ternary, quantised or real weights, one task or several in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hil.errors import UsageError
from hil.network import own_head
from hil.protocol import Batch
from protocols.core.consolidation import elastic_cost, metaplastic
from protocols.core.draws import generator
from protocols.core.precision import Levels, Real, Ternary
from protocols.software.stack import Stack, fisher, new_stack

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Metaplasticity:
    """Hidden weights that have grown are hard to push back towards zero; see ``protocols.core.consolidation``.

    Args:
        m: how firmly; 0 for not at all.
        hold_biases: keep biases and scales as the first task leaves them. Ours: the published rule lets them go on.
    """

    kind: Literal["metaplasticity"] = "metaplasticity"
    m: float = 2.0
    hold_biases: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.m <= 1000:
            raise ValueError(f"m must lie between 0 and 1000, got {self.m}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticWeights:
    """Elastic weight consolidation: what earlier tasks need is held by a quadratic cost, biases and scales too.

    Args:
        strength: lambda.
    """

    kind: Literal["ewc"] = "ewc"
    strength: float = 5e3

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1e9:
            raise ValueError(f"strength must lie between 0 and 1e9, got {self.strength}")


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to.

    Args:
        models: the networks, one for each seed: Linear with Tanh between them; scale and slope are in the weights.
        accuracy: share of the training samples that is right, float64 [seeds, tasks].
        best: the network that does best on the training samples of all tasks.
    """

    models: tuple[nn.Sequential, ...]
    accuracy: Tensor
    best: int

    @property
    def model(self) -> nn.Sequential:
        """The best network."""
        return self.models[self.best]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftwareTraining:
    """Mini-batch training by Adam through the straight-through estimator, several seeds at once, cross-entropy.

    The learning rate falls as half a cosine within each task. Adam begins anew with each task. Hidden activations are
    tanh(slope z), outputs are logits, and each layer has one scale that is learned.

    Args:
        precision: how finely weights can be told.
        consolidation: what keeps earlier tasks from being forgotten; None for nothing.
        seeds: networks that are trained side by side; the one that does best on the training samples is chosen.
        eta: learning rate at the beginning of a task.
        epochs: passes through the samples of a task.
        batch: samples of one batch.
        slope: of the hidden activations; it ends up in the weights.
        noise: standard deviation of the noise on the weights in training, as a share of the scale of their layer.

    References:
        Laborieux et al. 2021, Nat. Commun. 12 (metaplastic hidden weights); Wan et al. 2022, Nature 608, 504 (training
        with the noise of the chip).
    """

    kind: Literal["trained"] = "trained"
    precision: Ternary | Levels | Real = field(default_factory=Ternary)
    consolidation: Metaplasticity | ElasticWeights | None = None
    seeds: int = 6
    eta: float = 0.01
    epochs: int = 40
    batch: int = 50
    slope: float = 2.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("seeds", 100), ("epochs", 100_000), ("batch", 1_000_000)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie between 1 and {most}, got {getattr(self, name)}")
        for name in ("eta", "slope"):
            if not 0 < getattr(self, name) <= 1000:
                raise ValueError(f"{name} must be above 0 and at most 1000, got {getattr(self, name)}")
        if not 0 <= self.noise <= 10:
            raise ValueError(f"noise must lie between 0 and 10, got {self.noise}")

    def train(self, widths: Sequence[int], tasks: Sequence[Batch], *, heads: int = 1, seed: int = 0) -> Trained:
        """Trains on tasks one after the other.

        Args:
            widths: inputs, hidden widths, outputs; the outputs of all heads together.
            tasks: training samples of each task, with class numbers; see ``Samples.of_task``.
            heads: tasks with outputs of their own, see ``hil.network.own_head``.
            seed: root seed of first weights, batches and noise.

        Raises:
            UsageError: widths and samples do not fit together.
        """
        _check(widths, tasks, heads)
        stack = new_stack(widths, self.precision, self.slope, self.seeds, seed)
        total: list[Tensor] = [torch.zeros_like(p) for p in stack.parameters]
        for number, samples in enumerate(tasks):
            stack = self._learn(stack, samples, _Lesson(number, heads, seed), total)
            if isinstance(self.consolidation, ElasticWeights) and number + 1 < len(tasks):
                total = [a + b for a, b in zip(total, fisher(stack, samples.x, heads, samples.y), strict=True)]
        accuracy = torch.stack([stack.correct(samples.x, samples.y, heads) for samples in tasks], 1)
        models = tuple(stack.model(replica) for replica in range(self.seeds))
        return Trained(models, accuracy, int(accuracy.mean(1).argmax()))

    def _learn(self, stack: Stack, samples: Batch, lesson: _Lesson, total: Sequence[Tensor]) -> Stack:
        """Learns one task; ``total`` is the Fisher information of the tasks before."""
        heads, seed, task = lesson.heads, lesson.seed, lesson.task
        anchors, count = stack.parameters, samples.x.shape[0]
        values = [p.clone().requires_grad_(True) for p in anchors]
        now, size = stack.with_parameters(values), min(self.batch, count)
        steps = count // size
        adam = _Adam(values, self._held(len(stack.hidden), task))
        for epoch in range(self.epochs):
            order = torch.randperm(count, generator=generator(seed, f"software/order/{task}", epoch))
            for place in range(steps):
                chosen = order[place * size : (place + 1) * size]
                step = epoch * steps + place
                noise = self._noise(now, seed, f"software/noise/{task}", step)
                cost = _cost(now.products(samples.x[chosen], noise)[1][-1], samples.y[chosen], heads)
                if isinstance(self.consolidation, ElasticWeights) and task:
                    cost = cost + elastic_cost(values, anchors, total, self.consolidation.strength)
                eta = 0.5 * self.eta * (1 + math.cos(math.pi * step / (self.epochs * steps)))
                adam.step(torch.autograd.grad(cost, adam.moving), eta, self._shaped)
        return stack.with_parameters([p.detach() for p in values])

    def _held(self, layers: int, task: int) -> int:
        """How many parameters move: all, or the hidden weights alone."""
        consolidation = self.consolidation
        holds = isinstance(consolidation, Metaplasticity) and consolidation.hold_biases and task > 0
        return layers if holds else 3 * layers

    def _shaped(self, step: Tensor, value: Tensor) -> Tensor:
        """The step that a parameter takes: hidden weights may be metaplastic."""
        is_hidden = value.dim() == 3
        if is_hidden and isinstance(self.consolidation, Metaplasticity) and self.consolidation.m > 0:
            return metaplastic(step, value, self.consolidation.m)
        return step

    def _noise(self, stack: Stack, seed: int, stream: str, step: int) -> list[Tensor]:
        if self.noise == 0:
            return []
        source = generator(seed, stream, step)
        return [self.noise * torch.randn(h.shape, generator=source) for h in stack.hidden]


@dataclass(frozen=True, slots=True)
class _Lesson:
    """Which task is learned, and what its draws belong to."""

    task: int
    heads: int
    seed: int


class _Adam:
    """Adam on parameters with replica axes (Kingma and Ba 2015, algorithm 1)."""

    def __init__(self, values: Sequence[Tensor], moving: int) -> None:
        self.moving = list(values[:moving])
        self._means = [torch.zeros_like(v) for v in self.moving]
        self._squares = [torch.zeros_like(v) for v in self.moving]
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], eta: float, shaped: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Moves the parameters in place; ``shaped`` gives the step that each takes."""
        self._steps += 1
        first, second = 1 - _BETA1**self._steps, 1 - _BETA2**self._steps
        state = zip(self.moving, gradients, self._means, self._squares, strict=True)
        for value, gradient, mean, square in state:
            mean.lerp_(gradient, 1 - _BETA1)
            square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
            step = mean / ((square / second).sqrt_().add_(_EPSILON)) * (-eta / first)
            value.add_(shaped(step, value))


def _cost(out: Tensor, y: Tensor, heads: int) -> Tensor:
    """Cross-entropy within the heads, the mean over the batch and the sum over replicas [S, batch, n_out]."""
    logits, classes = own_head(out, y, heads)
    replicas = logits.shape[0]
    return F.cross_entropy(logits.flatten(0, 1), classes.repeat(replicas)) * replicas


def _check(widths: Sequence[int], tasks: Sequence[Batch], heads: int) -> None:
    if len(widths) < 2 or min(widths) < 1:
        raise UsageError(f"expected widths of at least one layer, each at least 1, got {list(widths)}")
    if not tasks:
        raise UsageError("expected the samples of at least one task, got none")
    if heads < 1 or widths[-1] % heads:
        raise UsageError(f"{heads} heads do not divide {widths[-1]} outputs; change the last width")
    for number, samples in enumerate(tasks, 1):
        if samples.y.dim() != 1 or samples.y.dtype != torch.int64:
            raise UsageError(
                f"task {number}: expected a class number for each sample (int64), got {samples.y.dtype} of shape "
                f"{list(samples.y.shape)}; targets of real numbers are for kind: software"
            )
        if not len(samples.y) or samples.x.shape[1:] != (widths[0],):
            raise UsageError(f"task {number}: expected samples of {widths[0]} inputs, got {list(samples.x.shape)}")
        if int(samples.y.min()) < 0 or int(samples.y.max()) >= widths[-1]:
            seen = f"{int(samples.y.min())} to {int(samples.y.max())}"
            raise UsageError(f"task {number}: expected classes from 0 to {widths[-1] - 1}, got {seen}")
