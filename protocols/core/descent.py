"""Multiplexed gradient descent of many replicas at once, in every form of the papers.

The discrete form integrates the estimate over tau_theta and updates; the analog form updates in every slot from a
low-passed correlation with the high-passed cost, as a circuit without memory would. The cost is a callable, so that the
same loop serves networks, XOR and test functions.

Reference: McCaughan et al. 2023, APL Machine Learning 1, 026118, algorithms of the discrete and the continuous form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from protocols.core.codes import CodeConfig, RandomCode
from protocols.core.draws import generator
from protocols.core.mgd import amplitude
from protocols.core.rounding import round_with_residual, stochastic_round

Cost = Callable[[Tensor, int], Tensor]
"""(parameters [evaluations, replicas, P], number of the sample) -> costs [evaluations, replicas], float64."""

Watch = Callable[[int, Tensor], bool | None]
"""(slots done, parameters [replicas, P]) -> True to end the training."""

_SLOTS, _ELEMENTS = 256, 1 << 21
"""Slots, and numbers, whose patterns are made at once at most; no part of the definition of the draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """The settings of a descent. Times are in slots.

    Args:
        code: perturbation code.
        norm: length of the perturbation; each of P parameters has rms norm / sqrt(P).
        eta: learning rate.
        form: ``discrete`` or ``analog``.
        baseline: discrete: ``once`` measures it when the sample or the parameters have changed, ``fresh`` in every
            slot, ``two_sided`` takes half the difference of plus and minus, ``none`` takes none (for codes free of DC).
            The high-pass of the analog form takes its place.
        tau_p: time that one pattern is held.
        tau_x: time that one sample is held.
        tau_theta: discrete: time between updates; analog: time constant of the low-pass.
        tau_hp: analog: time constant of the high-pass.
        normalised: discrete: divide by the rms length of the estimate, so that eta keeps its meaning for every size and
            integration time; else eta / P is the rate a slot, as in the 2023 paper.
        cost_noise: standard deviation of every measured cost.
        update_noise: standard deviation of every parameter's update, drawn independently.
        clamp: largest cost change that is used; None for no bound.
        step: updates are whole multiples of this; None for any size.
        rounding: how they are rounded; ``residual`` keeps the rest for the next update, ``sign`` moves by one step.
    """

    code: CodeConfig = field(default_factory=RandomCode)
    norm: float = 0.05
    eta: float = 1.0
    form: Literal["discrete", "analog"] = "discrete"
    baseline: Literal["once", "fresh", "two_sided", "none"] = "once"
    tau_p: int = 1
    tau_x: int = 1
    tau_theta: int = 1
    tau_hp: float = 1.6
    normalised: bool = False
    cost_noise: float = 0.0
    update_noise: float = 0.0
    clamp: float | None = None
    step: float | None = None
    rounding: Literal["nearest", "stochastic", "residual", "sign"] = "nearest"

    def __post_init__(self) -> None:
        for name in ("tau_p", "tau_x", "tau_theta"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 slot, got {getattr(self, name)}")
        for name in ("norm", "tau_hp", "clamp", "step"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        if self.form == "discrete" and self.tau_theta % self.tau_p:
            raise ValueError(f"tau_theta must be a multiple of tau_p, got {self.tau_theta} and {self.tau_p}")
        if self.baseline == "none" and not self.code.dc_free:
            raise ValueError(f"{self.code.kind} codes do not add up to 0, so they need a baseline")
        if self.form == "analog" and (self.normalised or self.baseline != "once"):
            raise ValueError("the analog form has a high-pass and no integration time: leave baseline and normalised")


def descend(
    cost: Cost, theta: Tensor, how: Descent, *, steps: int, seed: int, watch: Watch | None = None, stream: str = "theta"
) -> Tensor:
    """Trains many replicas.

    Args:
        cost: the cost; samples are numbered by slot // tau_x. It must not keep or change its arguments.
        theta: [replicas, P], initial parameters; left as they are.
        how: the settings.
        steps: slots.
        seed: root seed; every replica has its own draws.
        watch: called after each update.
        stream: name of the tensor, so that two equal ones get different draws.

    Returns:
        The final parameters, [replicas, P].
    """
    form = _Discrete if how.form == "discrete" else _Analog
    loop = form(cost, theta, how, seed, stream)
    slot = 0
    for perturbations in _perturbations(theta, how, steps, seed, stream):
        for perturbation in perturbations:
            updated = loop.slot(slot, perturbation)
            slot += 1
            if updated and watch is not None and watch(slot, loop.theta):
                return loop.theta
    return loop.theta


def gradients(
    cost: Cost,
    theta: Tensor,
    how: Descent,
    *,
    marks: Sequence[int],
    seed: int,
    baseline_error: Tensor | None = None,
    stream: str = "theta",
) -> list[Tensor]:
    """The unbiased estimates of the gradient at fixed parameters and sample: means of change x pattern / amplitude.

    Args:
        cost: the cost; it is asked for sample 0, for many slots at once.
        theta: [replicas, P].
        how: the settings; form, learning rate, rounding and all times but tau_p play no part.
        marks: slots of integration, ascending.
        seed: root seed.
        baseline_error: error of the baseline, [replicas]; None for none.
        stream: name of the tensor.

    Returns:
        [replicas, P] float64 for each of the marks.
    """
    meter = _Meter(cost, how, generator(seed, f"{stream}/noise", 0))
    error = theta.new_zeros(theta.shape[0], dtype=torch.float64) if baseline_error is None else baseline_error
    total = torch.zeros_like(theta, dtype=torch.float64)
    found: list[Tensor] = []
    done = 0
    for perturbations in _perturbations(theta, how, marks[-1], seed, stream):
        changes = meter.changes(theta, perturbations, 0) - error
        while len(found) < len(marks) and marks[len(found)] <= done + len(perturbations):
            part = marks[len(found)] - done
            upto = total + torch.einsum("sr,srp->rp", changes[:part], perturbations[:part].double())
            found.append(upto / (marks[len(found)] * amplitude(how.norm, theta.shape[-1]) ** 2))
        total += torch.einsum("sr,srp->rp", changes, perturbations.double())
        done += len(perturbations)
    return found


def _perturbations(theta: Tensor, how: Descent, steps: int, seed: int, stream: str) -> Iterator[Tensor]:
    """The perturbations of all slots in order, in pieces [slots, replicas, P]."""
    replicas, count = theta.shape
    a = amplitude(how.norm, count)
    patterns = -(-steps // how.tau_p)
    piece = max(1, min(_SLOTS, _ELEMENTS // (replicas * count)))
    for first in range(0, patterns, piece):
        slots = range(first, min(first + piece, patterns))
        made = how.code.patterns(count, slots, replicas, seed, stream, dtype=theta.dtype)
        held = (a * made.to(theta.device)).repeat_interleave(how.tau_p, 0)
        yield held[: steps - first * how.tau_p]


class _Meter:
    """Measures by how much a perturbation changes the cost."""

    def __init__(self, cost: Cost, how: Descent, noise: torch.Generator) -> None:
        self._cost, self._how, self._noise = cost, how, noise
        self._baseline: Tensor | None = None

    def changes(self, theta: Tensor, perturbations: Tensor, sample: int) -> Tensor:
        """The changes [slots, replicas] by perturbations [slots, replicas, P], to be used as they are."""
        slots, baseline = len(perturbations), self._how.baseline
        moved = theta + perturbations
        if baseline == "two_sided":
            costs = self.costs(torch.cat((moved, theta - perturbations)), sample)
            return self.bounded((costs[:slots] - costs[slots:]) / 2)
        if baseline == "none":
            return self.bounded(self.costs(moved, sample))
        if baseline == "once" and self._baseline is not None:
            return self.bounded(self.costs(moved, sample) - self._baseline)
        still = theta.expand(1 if baseline == "once" else slots, *theta.shape)
        costs = self.costs(torch.cat((moved, still)), sample)  # one call: the two costs differ by little
        self._baseline = costs[slots:]
        return self.bounded(costs[:slots] - self._baseline)

    def forget(self) -> None:
        """The sample or the parameters have changed: the next change needs a new baseline."""
        self._baseline = None

    def costs(self, parameters: Tensor, sample: int) -> Tensor:
        """Measured costs [evaluations, replicas], float64."""
        costs = self._cost(parameters, sample).double()
        if self._how.cost_noise:
            drawn = torch.randn(costs.shape, generator=self._noise, dtype=costs.dtype)
            costs = costs + self._how.cost_noise * drawn.to(costs.device)
        return costs

    def bounded(self, change: Tensor) -> Tensor:
        """Changes within the clamp; what is not finite counts as no information."""
        change = torch.nan_to_num(change, nan=0.0, posinf=0.0, neginf=0.0)
        return change if self._how.clamp is None else change.clamp(-self._how.clamp, self._how.clamp)


class _Parameters:
    """Parameters that move as the settings allow: rounded, and with noise."""

    def __init__(self, theta: Tensor, how: Descent, noise: torch.Generator) -> None:
        self.value = theta.clone()
        self._how, self._noise = how, noise
        self._residual = torch.zeros_like(theta)

    def move(self, change: Tensor) -> None:
        """Adds a change."""
        if self._how.step is not None:
            change = self._how.step * self._whole(change / self._how.step)
        if self._how.update_noise:
            drawn = torch.randn(change.shape, generator=self._noise, dtype=change.dtype)
            change = change + self._how.update_noise * drawn.to(change.device)
        self.value = self.value + change

    def _whole(self, wanted: Tensor) -> Tensor:
        match self._how.rounding:
            case "nearest":
                return wanted.round()
            case "stochastic":
                drawn = torch.rand(wanted.shape, generator=self._noise, dtype=wanted.dtype)
                return stochastic_round(wanted, drawn.to(wanted.device))
            case "residual":
                whole, self._residual = round_with_residual(wanted, self._residual)
                return whole
            case "sign":
                return wanted.sign()


class _Discrete:
    """The discrete form: measure a change, integrate, update."""

    def __init__(self, cost: Cost, theta: Tensor, how: Descent, seed: int, stream: str) -> None:
        noise = generator(seed, f"{stream}/noise", 0)
        self._how, self._meter, self._parameters = how, _Meter(cost, how, noise), _Parameters(theta, how, noise)
        self._sum = torch.zeros_like(theta)  # of change x perturbation
        count = theta.shape[-1]
        if how.normalised:
            patterns = how.tau_theta // how.tau_p
            unbiased = 1.0 / (how.tau_theta * amplitude(how.norm, count) ** 2)
            self._rate = how.eta * unbiased / how.code.spread(count, patterns)
        else:
            self._rate = how.eta / how.norm**2

    @property
    def theta(self) -> Tensor:
        """The parameters, [replicas, P]."""
        return self._parameters.value

    def slot(self, slot: int, perturbation: Tensor) -> bool:
        """One slot; True when the parameters were updated."""
        if slot % self._how.tau_x == 0:
            self._meter.forget()
        change = self._meter.changes(self.theta, perturbation.unsqueeze(0), slot // self._how.tau_x)[0]
        self._sum.addcmul_(change.unsqueeze(-1).to(perturbation.dtype), perturbation)
        if (slot + 1) % self._how.tau_theta:
            return False
        self._parameters.move(-self._rate * self._sum)
        self._sum.zero_()
        self._meter.forget()
        return True


class _Analog:
    """The analog form: a high-pass on the cost, a low-pass on the correlation, an update in every slot."""

    def __init__(self, cost: Cost, theta: Tensor, how: Descent, seed: int, stream: str) -> None:
        noise = generator(seed, f"{stream}/noise", 0)
        self._how, self._meter, self._parameters = how, _Meter(cost, how, noise), _Parameters(theta, how, noise)
        self._estimate = torch.zeros_like(theta)
        self._last: Tensor | None = None
        self._passed = theta.new_zeros(theta.shape[0], dtype=torch.float64)
        self._alpha = how.tau_hp / (how.tau_hp + 1.0)
        self._keep = how.tau_theta / (how.tau_theta + 1.0)

    @property
    def theta(self) -> Tensor:
        """The parameters, [replicas, P]."""
        return self._parameters.value

    def slot(self, slot: int, perturbation: Tensor) -> bool:
        """One slot; the parameters are always updated, before the cost is measured."""
        self._parameters.move(-self._how.eta * self._estimate)
        now = self._meter.costs((self.theta + perturbation).unsqueeze(0), slot // self._how.tau_x)[0]
        blank = self._last is None or slot % self._how.tau_x == 0
        last = now if blank or self._last is None else self._last  # a new input makes a jump that is no information
        self._passed = torch.nan_to_num(self._alpha * (self._passed + now - last), nan=0.0, posinf=0.0, neginf=0.0)
        self._last = now
        change = self._meter.bounded(self._passed).unsqueeze(-1).to(perturbation.dtype)
        correlation = change * perturbation / self._how.norm**2
        self._estimate = (1.0 - self._keep) * correlation + self._keep * self._estimate
        return True
