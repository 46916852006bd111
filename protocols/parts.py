"""What the parts of a training protocol hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hil.network import Network
from hil.protocol import Batch, State, StepRecord

__all__ = [
    "Batch",
    "Change",
    "Estimate",
    "Key",
    "LayerGradient",
    "Rule",
    "Source",
    "State",
    "StepRecord",
    "Tensors",
    "Transform",
    "weight_zeros",
    "zeros",
]


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
    """Where the draws of a step come from, and what is new in it.

    Args:
        seed: root seed.
        step: number of the step.
        slot: number of the perturbation pattern.
        new_batch: the samples are others than in the step before.
        changed: the samples or the parameters are others than in the step before.
    """

    seed: int
    step: int
    slot: int = 0
    new_batch: bool = True
    changed: bool = True


Tensors = dict[str, Tensor]
Change = dict[str, Tensor]
"""Wanted changes: a layer's weights [n_out, n_in] under ``<layer>``, its bias [n_out] under ``<layer>.bias``."""


class Source(Protocol):
    """Measures a gradient."""

    def remembered(self, network: Network, batch: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the float64 tensors that ``memory`` may hold with batches of this size, by name."""
        ...

    def estimate(self, network: Network, batch: Batch, key: Key, slots: int, memory: Tensors) -> Estimate:
        """The estimate of one step.

        Args:
            network: the network.
            batch: the samples.
            key: where draws come from.
            slots: patterns whose estimates are averaged into one update.
            memory: what the source remembers between steps, replaced entry by entry.
        """
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


def zeros(network: Network) -> Tensors:
    """A change of nothing: zeros for the weights and the bias of every layer."""
    biases = {f"{layer.name}.bias": torch.zeros_like(layer.bias.detach()) for layer in network.layers}
    return weight_zeros(network) | biases


def weight_zeros(network: Network) -> Tensors:
    """Zeros for the weights of every layer, [n_out, n_in]."""
    return {layer.name: torch.zeros(layer.n_out, layer.n_in, dtype=layer.bias.dtype) for layer in network.layers}
