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
    "Factors",
    "Forgetful",
    "Key",
    "LayerGradient",
    "Rule",
    "Source",
    "State",
    "StepRecord",
    "Tensors",
    "Transform",
    "dense",
    "weight_zeros",
    "zeros",
]


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """A gradient or a change of weights as a sum of outer products, one for each sample: sum_k d_k x_k^T.

    Args:
        x: [samples, n_in].
        d: [samples, n_out].
    """

    x: Tensor
    d: Tensor

    def __mul__(self, factor: float) -> Factors:
        """The same, times a number."""
        return Factors(self.x, self.d * factor)

    __rmul__ = __mul__

    @property
    def dense(self) -> Tensor:
        """The sum, [n_out, n_in]."""
        return self.d.T @ self.x


@dataclass(frozen=True, slots=True, eq=False)
class LayerGradient:
    """The gradient of the mean cost by one layer's weights and bias.

    Args:
        bias: [n_out].
        whole: gradient by the weights, [n_out, n_in]; None where it is the sum of the factors.
        factors: outer products whose sum it is, where the source has them.
    """

    bias: Tensor
    whole: Tensor | None = None
    factors: Factors | None = None

    @property
    def weights(self) -> Tensor:
        """The gradient by the weights, [n_out, n_in]."""
        if self.whole is not None:
            return self.whole
        assert self.factors is not None
        return self.factors.dense


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
Change = dict[str, Tensor | Factors]
"""Wanted changes: a layer's weights [n_out, n_in] under ``<layer>``, its bias [n_out] under ``<layer>.bias``. Weights
come as factors only to rules that are ``factored``, and only while no transform has made them dense."""


def dense(change: Change) -> Tensors:
    """A change with all factors multiplied out."""
    return {name: value.dense if isinstance(value, Factors) else value for name, value in change.items()}


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
    """Changes what is about to be written. What it does not know how to do to factors, it does to ``dense`` changes."""

    def start(self, network: Network) -> Tensors:
        """The tensors it remembers."""
        ...

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """The changed change; ``memory`` is replaced entry by entry."""
        ...


class Rule(Protocol):
    """Turns wanted changes of weights into operations on the chip.

    Attributes:
        factored: takes changes as factors, where the source has them.
        beside: names of the matrices that each layer needs beside ``W``.
    """

    @property
    def factored(self) -> bool:
        """See the class."""
        ...

    @property
    def beside(self) -> tuple[str, ...]:
        """See the class."""
        ...

    def prepare(self, network: Network, seed: int) -> None:
        """Readies the chip once, before the first weights are written: for example shifts its zero."""
        ...

    def start(self, network: Network) -> Tensors:
        """The tensors it remembers between steps."""
        ...

    def show(self, network: Network, memory: Tensors) -> None:
        """Makes each layer's products what they are to be before a step: which matrices, with which gains and signs."""
        ...

    def write(self, network: Network, change: Change, memory: Tensors, key: Key) -> Mapping[str, float]:
        """Sends the operations; ``memory`` is replaced entry by entry; gives numbers for the record."""
        ...


class Forgetful:
    """What rules share that write to ``W`` alone, take dense changes and remember nothing."""

    @property
    def factored(self) -> bool:
        """See ``Rule``."""
        return False

    @property
    def beside(self) -> tuple[str, ...]:
        """See ``Rule``."""
        return ()

    def prepare(self, network: Network, seed: int) -> None:
        """See ``Rule``."""

    def start(self, network: Network) -> Tensors:
        """See ``Rule``."""
        return {}

    def show(self, network: Network, memory: Tensors) -> None:
        """See ``Rule``."""


def zeros(network: Network) -> Tensors:
    """A change of nothing: zeros for the weights and the bias of every layer."""
    biases = {f"{layer.name}.bias": torch.zeros_like(layer.bias.detach()) for layer in network.layers}
    return weight_zeros(network) | biases


def weight_zeros(network: Network) -> Tensors:
    """Zeros for the weights of every layer, [n_out, n_in]."""
    return {layer.name: torch.zeros(layer.n_out, layer.n_in, dtype=layer.bias.dtype) for layer in network.layers}
