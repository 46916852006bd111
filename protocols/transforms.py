"""Transforms of an update, from gradient to whole pulses. They are chained in the order of the run file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.network import Network
from protocols.core.draws import generator
from protocols.core.rounding import round_with_residual, stochastic_round
from protocols.filters import Adam, Decay, LowPass, Threshold, UpdateNoise
from protocols.parts import Change, Key, Tensors, dense, weight_zeros, zeros


@dataclass(frozen=True, slots=True, kw_only=True)
class Sgd:
    """Scales the gradient by the learning rate: change = -eta * gradient.

    Args:
        eta: learning rate.
        decay: eta is divided by (1 + decay * step).
    """

    kind: Literal["sgd"] = "sgd"
    eta: float
    decay: float = 0.0

    def __post_init__(self) -> None:
        if not (self.eta > 0 and self.decay >= 0):
            raise ValueError(f"eta must be above 0 and decay at least 0, got {self.eta} and {self.decay}")

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        return {}

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        eta = self.eta / (1.0 + self.decay * key.step)
        return {name: -eta * value for name, value in change.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Momentum:
    """Adds a share of the last change: m = beta m + change.

    Args:
        beta: share that is kept.
    """

    kind: Literal["momentum"] = "momentum"
    beta: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.beta < 1:
            raise ValueError(f"beta must be at least 0 and below 1, got {self.beta}")

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        return zeros(network)

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        for name, value in dense(change).items():
            memory[name] = self.beta * memory[name] + value
        return {**memory}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Bounds the rms of each tensor's change.

    Args:
        rms: largest rms.
    """

    kind: Literal["clip"] = "clip"
    rms: float

    def __post_init__(self) -> None:
        if not self.rms > 0:
            raise ValueError(f"rms must be above 0, got {self.rms}")

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        return {}

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        return {name: self._bounded(value) for name, value in dense(change).items()}

    def _bounded(self, value: Tensor) -> Tensor:
        size = value.square().mean().sqrt()
        return value * (self.rms / size) if float(size) > self.rms else value


@dataclass(frozen=True, slots=True, kw_only=True)
class StochasticRounding:
    """Rounds the change of every weight to whole pulses so that the mean is exact. Biases stay as they are."""

    kind: Literal["stochastic_rounding"] = "stochastic_rounding"

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        return {}

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        rounded = dense(change)
        for layer in network.layers:
            value = rounded[layer.name]
            source = generator(key.seed, f"round/{layer.name}", key.step)
            uniform = torch.rand(value.shape, generator=source, dtype=value.dtype)
            rounded[layer.name] = stochastic_round(value / layer.step, uniform) * layer.step
        return {**rounded}


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """Rounds to whole pulses and keeps the rest digitally for the next update (mixed precision)."""

    kind: Literal["residual"] = "residual"

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        return weight_zeros(network)

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        rounded = dense(change)
        for layer in network.layers:
            whole, memory[layer.name] = round_with_residual(rounded[layer.name] / layer.step, memory[layer.name])
            rounded[layer.name] = whole * layer.step
        return {**rounded}


TransformConfig = (
    Sgd | Momentum | Adam | Clip | LowPass | Decay | UpdateNoise | Threshold | StochasticRounding | Residual
)
"""The transforms a run file can name."""
