"""What a training protocol is to those who run it: batches in, explicit state, a record of each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from hil.network import Network


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples to learn from.

    Args:
        x: [batch, n_in].
        y: class numbers [batch], or targets [batch, n_out].
    """

    x: Tensor
    y: Tensor


@dataclass(slots=True)
class State:
    """All that a protocol remembers between steps.

    Args:
        step: number of the next step.
        seed: root seed of its draws.
        tensors: everything else, by name.
    """

    step: int = 0
    seed: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What a step reports.

    Args:
        step: its number, from 0.
        loss: mean cost of its batch, before the update.
        correct: share of its batch that was right.
        numbers: further numbers by name.
    """

    step: int
    loss: float
    correct: float
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])


class TrainingProtocol(Protocol):
    """A training algorithm: a frozen configuration with pure steps."""

    def init(self, network: Network, seed: int) -> State:
        """The state before the first step."""
        ...

    def remembered(self, network: Network, batch: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the float64 tensors that steps on batches of this size may add to the state, by name."""
        ...

    def batch_of(self, step: int) -> int:
        """The number of the batch that a step wants."""
        ...

    def step(self, state: State, network: Network, batch: Batch) -> tuple[State, StepRecord]:
        """Carries out one step and gives the state after it."""
        ...
