"""What the parts of a training protocol hand to each other."""

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


@dataclass(frozen=True, slots=True)
class LayerGradient:
    """The gradient of the mean cost by one layer's weights and bias.

    Args:
        weights: dense, [n_out, n_in].
        bias: [n_out].
        factors: (x [batch, n_in], e [batch, n_out]) whose mean outer product is ``weights``, where the source has them.
    """

    weights: Tensor
    bias: Tensor
    factors: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a gradient source measured.

    Args:
        layers: gradient of each layer.
        loss: mean cost of the batch.
        correct: share of the batch that is right.
    """

    layers: Mapping[str, LayerGradient]
    loss: float
    correct: float


@dataclass(frozen=True, slots=True)
class Key:
    """Where the draws of a step come from: root seed and step."""

    seed: int
    step: int


Tensors = dict[str, Tensor]
Change = dict[str, Tensor]
"""The wanted change of each layer's weights, [n_out, n_in]."""


@dataclass(slots=True)
class State:
    """All that a protocol remembers between steps; tensors by name."""

    step: int = 0
    seed: int = 0
    tensors: Tensors = field(default_factory=dict[str, "Tensor"])


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


class Source(Protocol):
    """Measures a gradient."""

    def estimate(self, network: Network, batch: Batch, key: Key, slots: int) -> Estimate:
        """The estimate of one step; ``slots`` estimates are summed into one update."""
        ...


class Transform(Protocol):
    """Changes what is about to be written."""

    def start(self, network: Network) -> Tensors:
        """The tensors it remembers."""
        ...

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """The changed change; ``memory`` is replaced entry by entry."""
        ...


class Rule(Protocol):
    """Turns wanted changes of weights into operations on the chip."""

    def write(self, network: Network, change: Change, key: Key) -> Mapping[str, float]:
        """Sends the operations; gives numbers for the record."""
        ...
