"""Further transforms: Adam, the low-pass of the analog form, schedules, thresholds, and the noise of studies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from hil.network import Network
from protocols.core.draws import generator
from protocols.parts import Change, Key, Tensors, dense, weight_zeros, zeros


@dataclass(frozen=True, slots=True, kw_only=True)
class Adam:
    """Divides the mean gradient by the root of its mean square; must stand before ``sgd``.

    Args:
        beta1: memory of the mean.
        beta2: memory of the mean square.
        eps: added to the root.
        corrected: correct for the zeros at the start; the 2025 study of MGD does not.

    Reference: Kingma and Ba 2015, algorithm 1.
    """

    kind: Literal["adam"] = "adam"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    corrected: bool = True

    def __post_init__(self) -> None:
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and self.eps > 0):
            raise ValueError("beta1 and beta2 must be at least 0 and below 1, and eps above 0")

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        memory: Tensors = {"count": torch.zeros((), dtype=torch.float64)}
        for name, zero in zeros(network).items():
            memory |= {f"{name}/mean": zero, f"{name}/square": zero.clone()}
        return memory

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        count = memory["count"] = memory["count"] + 1
        first = 1 - self.beta1 ** float(count) if self.corrected else 1.0
        second = 1 - self.beta2 ** float(count) if self.corrected else 1.0
        scaled: Change = {}
        for name, value in dense(change).items():
            mean = memory[f"{name}/mean"] = self.beta1 * memory[f"{name}/mean"] + (1 - self.beta1) * value
            square = self.beta2 * memory[f"{name}/square"] + (1 - self.beta2) * value.square()
            memory[f"{name}/square"] = square
            scaled[name] = mean / first / ((square / second).sqrt() + self.eps)
        return scaled


@dataclass(frozen=True, slots=True, kw_only=True)
class LowPass:
    """Passes the gradient through a low-pass: the analog form of integration, with an update in every step.

    Use it with ``tau_theta: 1``, and with sources that are not normalised: they know nothing of this integration time.

    Args:
        tau: time constant in steps.

    Reference: McCaughan et al. 2023, APL Machine Learning 1, 026118 (continuous form).
    """

    kind: Literal["low_pass"] = "low_pass"
    tau: float

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise ValueError(f"tau must be above 0, got {self.tau}")

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        return zeros(network)

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        keep = self.tau / (self.tau + 1.0)
        for name, value in dense(change).items():
            memory[name] = keep * memory[name] + (1.0 - keep) * value
        return {**memory}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decay:
    """Shrinks the change with the steps.

    Args:
        halving: steps after which it is half as large.
    """

    kind: Literal["decay"] = "decay"
    halving: float

    def __post_init__(self) -> None:
        if not self.halving > 0:
            raise ValueError(f"halving must be above 0, got {self.halving}")

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        return {}

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        factor = 0.5 ** (key.step / self.halving)
        return {name: factor * value for name, value in change.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateNoise:
    """Adds noise to the change of every weight, each drawn for itself; must stand after ``sgd``. For studies.

    Args:
        std: standard deviation, in units of weight.
    """

    kind: Literal["update_noise"] = "update_noise"
    std: float

    def __post_init__(self) -> None:
        if not self.std >= 0:
            raise ValueError(f"std must be at least 0, got {self.std}")

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        return {}

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        noisy = dense(change)
        for layer in network.layers:
            value = noisy[layer.name]
            source = generator(key.seed, f"update noise/{layer.name}", key.step)
            noisy[layer.name] = value + self.std * torch.randn(value.shape, generator=source, dtype=value.dtype)
        return {**noisy}


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Lets a weight's change pass once it has grown above a threshold, and keeps it back until then.

    It must stand after ``sgd``. With ``signed_pulses`` the chip is written seldom; with ``sign_threshold`` or
    ``write_verify`` it says which weights are worth a write.

    Args:
        above: smallest change that passes, in units of weight.
    """

    kind: Literal["threshold"] = "threshold"
    above: float

    def __post_init__(self) -> None:
        if not self.above > 0:
            raise ValueError(f"above must be above 0, got {self.above}")

    def start(self, network: Network) -> Tensors:
        """See ``Transform``."""
        return weight_zeros(network)

    def apply(self, change: Change, memory: Tensors, network: Network, key: Key) -> Change:
        """See ``Transform``."""
        passed = dense(change)
        for layer in network.layers:
            total = memory[layer.name] + passed[layer.name]
            passed[layer.name] = torch.where(total.abs() > self.above, total, 0.0)
            memory[layer.name] = total - passed[layer.name]
        return {**passed}
