"""Training as a composition: a gradient source, a chain of transforms, an update rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from hil.network import Network
from protocols.filters import Adam, Threshold, UpdateNoise
from protocols.parts import Batch, Change, Estimate, Key, State, StepRecord, Tensors, Transform, dense, zeros
from protocols.rules import RuleConfig
from protocols.sources import SourceConfig
from protocols.transforms import Residual, Sgd, StochasticRounding, TransformConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A training protocol.

    Args:
        source: how the gradient is measured.
        transforms: what happens to it, in order; biases pass through them too. One of them is an ``Sgd``: before it
            they see the gradient, behind it the wanted change. Rounding comes last; without it the rule sends the
            nearest whole number of pulses.
        rule: how the chip is written.
        tau_p: steps that one perturbation pattern is held; an update averages whole patterns.
        tau_x: steps that one batch is held.
        tau_theta: steps whose estimates are averaged into one update.
    """

    kind: Literal["training"] = "training"
    source: SourceConfig
    transforms: tuple[TransformConfig, ...]
    rule: RuleConfig
    tau_p: int = 1
    tau_x: int = 1
    tau_theta: int = 1

    def __post_init__(self) -> None:
        for name in ("tau_p", "tau_x", "tau_theta"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if sum(isinstance(t, Sgd) for t in self.transforms) != 1:
            raise ValueError("transforms must hold exactly one sgd: it turns the gradient into a change downhill")
        if any(isinstance(t, StochasticRounding | Residual) for t in self.transforms[:-1]):
            raise ValueError("rounding must be the last of the transforms, and there can be only one")
        place = next(n for n, t in enumerate(self.transforms) if isinstance(t, Sgd))
        for number, transform in enumerate(self.transforms):
            if isinstance(transform, Adam) and number > place:
                raise ValueError("adam must stand before sgd: it scales the gradient")
            if isinstance(transform, Threshold | UpdateNoise) and number < place:
                raise ValueError(f"{transform.kind} must stand after sgd: it is in units of weight")
        if self.tau_theta > 1 and self.tau_theta % self.tau_p:
            raise ValueError(f"tau_theta must be a multiple of tau_p, got {self.tau_theta} and {self.tau_p}")

    def init(self, network: Network, seed: int) -> State:
        """The state before the first step."""
        tensors: Tensors = {}
        for number, transform in enumerate(self._chain()):
            for name, value in transform.start(network).items():
                tensors[f"{number}/{name}"] = value
        if self.tau_theta > 1:
            tensors |= {f"sum/{name}": zero for name, zero in zeros(network).items()}
        tensors |= {f"rule/{name}": value for name, value in self.rule.start(network).items()}
        return State(0, seed, tensors)

    def remembered(self, network: Network, batch: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the float64 tensors that steps on batches of this size may add to the state."""
        return {f"source/{name}": shape for name, shape in self.source.remembered(network, batch).items()}

    def batch_of(self, step: int) -> int:
        """The number of the batch that a step wants."""
        return step // self.tau_x

    def step(self, state: State, network: Network, batch: Batch) -> tuple[State, StepRecord]:
        """Measures, and updates the chip when an estimate is complete."""
        key = self._key(state)
        tensors = dict(state.tensors)
        self.rule.show(network, _part(tensors, "rule/"))
        memory = _part(tensors, "source/")
        slots = max(1, self.tau_theta // self.tau_p)
        estimate = self.source.estimate(network, batch, key, slots, memory)
        tensors = {name: value for name, value in tensors.items() if not name.startswith("source/")}
        tensors |= {f"source/{name}": value for name, value in memory.items()}
        change = self._collect(estimate, tensors, state.step)
        numbers: Mapping[str, float] = {}
        if change is not None:
            for number, transform in enumerate(self._chain()):
                memory = _part(tensors, f"{number}/")
                change = transform.apply(change, memory, network, key)
                tensors |= {f"{number}/{name}": value for name, value in memory.items()}
            memory = _part(tensors, "rule/")
            numbers = self.rule.write(network, change, memory, key)
            tensors |= {f"rule/{name}": value for name, value in memory.items()}
            _add_biases(network, change)  # after the write: a refused update leaves the host as it was too
        record = StepRecord(state.step, estimate.loss, estimate.correct, numbers)
        return State(state.step + 1, state.seed, tensors), record

    def _key(self, state: State) -> Key:
        step = state.step
        new_batch = step == 0 or self.batch_of(step) != self.batch_of(step - 1)
        return Key(state.seed, step, step // self.tau_p, new_batch, new_batch or step % self.tau_theta == 0)

    def _chain(self) -> tuple[Transform, ...]:
        return self.transforms

    def _collect(self, estimate: Estimate, tensors: Tensors, step: int) -> Change | None:
        """The gradient to update with: this step's, or the mean over tau_theta steps once they are complete."""
        now: Change = {}
        for name, gradient in estimate.layers.items():
            factors = gradient.factors if self.rule.factored and self.tau_theta == 1 else None
            now[name], now[f"{name}.bias"] = factors or gradient.weights, gradient.bias
        if self.tau_theta == 1:
            return now
        for name, value in dense(now).items():
            tensors[f"sum/{name}"] = tensors[f"sum/{name}"] + value / self.tau_theta
        if (step + 1) % self.tau_theta:
            return None
        ready = {name: tensors[f"sum/{name}"] for name in now}
        tensors |= {f"sum/{name}": torch.zeros_like(value) for name, value in ready.items()}
        return {**ready}


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _add_biases(network: Network, change: Change) -> None:
    with torch.no_grad():
        for layer in network.layers:
            bias = change[f"{layer.name}.bias"]
            assert isinstance(bias, torch.Tensor)
            layer.bias.add_(bias)
