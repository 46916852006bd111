"""Transforms of an update, from gradient to whole pulses. They are chained in the order of the run file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from hil.network import Network
from protocols.core.draws import generator
from protocols.core.rounding import round_with_residual, stochastic_round
from protocols.parts import Change, Key, Tensors


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

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        return _zeros(network)

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        for name, value in change.items():
            memory[name] = self.beta * memory[name] + value
        return dict(memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Bounds the rms of each tensor's change.

    Args:
        rms: largest rms.
    """

    kind: Literal["clip"] = "clip"
    rms: float

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        return {}

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        def bounded(value: torch.Tensor) -> torch.Tensor:
            size = value.square().mean().sqrt().clamp(min=1e-30)
            return value * (self.rms / size).clamp(max=1.0)

        return {name: bounded(value) for name, value in change.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class StochasticRounding:
    """Rounds the change of every weight to whole pulses so that the mean is exact. Biases stay as they are."""

    kind: Literal["stochastic_rounding"] = "stochastic_rounding"

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        return {}

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        rounded = dict(change)
        for layer in network.layers:
            value = change[layer.name]
            uniform = torch.rand(value.shape, generator=generator(key.seed, f"round/{layer.name}", key.step))
            rounded[layer.name] = stochastic_round(value / layer.step, uniform) * layer.step
        return rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """Rounds to whole pulses and keeps the rest digitally for the next update (mixed precision)."""

    kind: Literal["residual"] = "residual"

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        return {layer.name: torch.zeros(layer.n_out, layer.n_in) for layer in network.layers}

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        rounded = dict(change)
        for layer in network.layers:
            whole, memory[layer.name] = round_with_residual(change[layer.name] / layer.step, memory[layer.name])
            rounded[layer.name] = whole * layer.step
        return rounded


def _zeros(network: Network) -> Tensors:
    """Zeros for the weights and the bias of every layer."""
    zeros: Tensors = {}
    for layer in network.layers:
        zeros[layer.name] = torch.zeros(layer.n_out, layer.n_in)
        zeros[f"{layer.name}.bias"] = torch.zeros(layer.n_out)
    return zeros


TransformConfig = Sgd | Momentum | Clip | StochasticRounding | Residual
