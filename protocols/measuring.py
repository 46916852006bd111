"""How the change of the cost is taken: against which baseline, and with how much of the noise of a study.

``changes`` turns the measured costs of a fan into one change a branch. What has to be remembered between steps (a
baseline that is used again, the state of a high-pass) lives in the protocol's memory, so that a run can be resumed.

Reference: McCaughan et al. 2023, APL Machine Learning 1, 026118 (discrete and continuous form).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.network import Network, Port
from protocols.core.draws import generator
from protocols.parts import Batch, Key, Tensors

BaselineName = Literal["fresh", "once", "two_sided", "none", "high_pass"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one step measured.

    Args:
        changes: the change of each sample's cost by each branch, float64 [branches, batch].
        inputs: baseline inputs of each layer.
        loss: mean cost: of the baseline where there is one, else of the first branch.
        correct: share of the batch that is right, likewise.
    """

    changes: Tensor
    inputs: Mapping[str, Tensor]
    loss: float
    correct: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """How costs are compared.

    Args:
        baseline: ``fresh`` measures it in every step, ``once`` after samples or parameters have changed,
            ``two_sided`` takes half the difference of plus and minus, ``none`` takes none (for whole periods of Walsh
            codes, in which it drops out), ``high_pass`` passes the running cost through a high-pass and blanks the jump
            of a new batch.
        tau_hp: time constant of the high-pass, in steps.
        clip: changes of a sample's cost beyond +-clip are cut; None for no cut.
        cost_noise: standard deviation added to the measured cost of every sample; for studies.
    """

    baseline: BaselineName = "fresh"
    tau_hp: float = 1.6
    clip: float | None = None
    cost_noise: float = 0.0

    def measure(
        self, network: Network, batch: Batch, branches: Sequence[Mapping[str, Port]], key: Key, memory: Tensors
    ) -> Measured:
        """Measures a fan of branches and gives the change of each.

        Args:
            network: the network.
            batch: the samples.
            branches: the perturbations; for ``two_sided`` each must be followed by its opposite.
            key: step and seed; ``key.changed`` says that samples or parameters are new.
            memory: what the measuring remembers; replaced entry by entry.
        """
        known = _recalled(memory, "baseline", (batch.x.shape[0],)) if self.baseline == "once" else None
        want = self.baseline == "fresh" or (self.baseline == "once" and (key.changed or known is None))
        fan = network.fan(batch.x, branches, baseline=want)
        costs = self._noisy(network.loss(fan.outs, batch.y), key)
        correct = float(network.correct(fan.outs[0], batch.y).double().mean())
        loss = float(costs[0].mean())
        if want:
            known, costs = costs[0], costs[1:]
        if self.baseline == "once" and known is not None:
            _remember(memory, "baseline", known)
        return Measured(self._bounded(self._changes(costs, known, key, memory)), fan.inputs, loss, correct)

    def remembered(self, branches: int, batch: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes of what the measuring may remember of a number of perturbations and a batch, by name; all float64."""
        if self.baseline == "once":
            return {"baseline": (batch,)}
        return {"last": (branches, batch), "passed": (branches, batch)} if self.baseline == "high_pass" else {}

    def _changes(self, perturbed: Tensor, baseline: Tensor | None, key: Key, memory: Tensors) -> Tensor:
        if self.baseline == "two_sided":
            return (perturbed[0::2] - perturbed[1::2]) / 2
        if self.baseline == "high_pass":
            return self._high_passed(perturbed, key, memory)
        return perturbed if baseline is None else perturbed - baseline

    def _high_passed(self, now: Tensor, key: Key, memory: Tensors) -> Tensor:
        """c[n] = alpha (c[n-1] + C[n] - C[n-1]); a new batch makes a jump that is no information and is blanked."""
        alpha = self.tau_hp / (self.tau_hp + 1.0)
        last, before = _recalled(memory, "last", now.shape), _recalled(memory, "passed", now.shape)
        last = now if key.new_batch or last is None else last
        passed = alpha * ((0.0 if before is None else before) + now - last)
        _remember(memory, "last", now)
        _remember(memory, "passed", passed)
        return passed

    def _noisy(self, costs: Tensor, key: Key) -> Tensor:
        if not self.cost_noise:
            return costs
        source = generator(key.seed, "cost noise", key.step)
        return costs + self.cost_noise * torch.randn(costs.shape, generator=source, dtype=costs.dtype)

    def _bounded(self, changes: Tensor) -> Tensor:
        """What is not finite counts as no information, 0."""
        changes = torch.nan_to_num(changes, nan=0.0, posinf=0.0, neginf=0.0)
        return changes if self.clip is None else changes.clamp(-self.clip, self.clip)


def _remember(memory: Tensors, name: str, value: Tensor) -> None:
    """Remembers costs that are finite; others would spoil every later change, and are forgotten."""
    if bool(value.isfinite().all()):
        memory[name] = value
    else:
        memory.pop(name, None)


def _recalled(memory: Tensors, name: str, shape: tuple[int, ...]) -> Tensor | None:
    """A remembered tensor, unless it belongs to a batch of another size."""
    found = memory.get(name)
    return found if found is not None and found.shape == shape else None
