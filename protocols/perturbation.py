"""Gradient sources that perturb and measure: multiplexed gradient descent on a board.

Both sources measure a baseline and one perturbed branch a layer in the same reads: one iteration is one Read a layer,
and perturbing the last layer needs no read of its own. Nothing is written to the chip while perturbing: node
perturbation adds its offset on the host after the converter, weight perturbation adds a digital shadow term.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.layers import CrossbarLayer
from hil.network import Network
from protocols.core.draws import generator, signs
from protocols.core.mgd import amplitude, node_error, weight_estimate
from protocols.parts import Batch, Estimate, Key, LayerGradient


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePerturbation:
    """Perturbs the pre-activations of one layer at a time, one code for the whole batch.

    Args:
        norm: length of the perturbation of a layer; each of its N nodes moves by norm / sqrt(N). Choose it against
            the read noise: too small a norm costs accuracy and pulses.
        clip: cost changes of a sample beyond +-clip are cut; None for no cut.

    Reference: Oripov et al. 2025, APL Machine Learning 3, doi 10.1063/5.0258271.
    """

    kind: Literal["node_perturbation"] = "node_perturbation"
    norm: float = 1.0
    clip: float | None = None

    def __post_init__(self) -> None:
        _check(self.norm, self.clip)

    def estimate(self, network: Network, batch: Batch, key: Key, slots: int) -> Estimate:
        """See ``Source``."""
        codes = {layer.name: _code(layer, (layer.n_out,), "node", key) for layer in network.layers}
        fan = network.fan(batch.x, [(name, amplitude(self.norm, s.numel()) * s) for name, s in codes.items()])
        costs = network.loss(fan.outs, batch.y)
        layers: dict[str, LayerGradient] = {}
        for (name, code), perturbed in zip(codes.items(), costs[1:], strict=True):
            change = _clipped(finite_change(perturbed, costs[0]), self.clip)
            x = fan.inputs[name]
            e = node_error(change, code, amplitude(self.norm, code.numel()), slots).to(x.dtype)
            layers[name] = LayerGradient(e.T @ x / x.shape[0], e.mean(0), (x, e))
        return _estimate(network, layers, costs[0], fan.outs[0], batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightPerturbation:
    """Perturbs all weights and biases of one layer at a time through a digital shadow term.

    Args:
        norm: length of the perturbation of a layer; each of its P parameters moves by norm / sqrt(P).
        clip: changes of the mean cost beyond +-clip are cut; None for no cut.

    Reference: McCaughan et al. 2023, APL Machine Learning 1, 026118; normalised as in Oripov et al. 2025.
    """

    kind: Literal["weight_perturbation"] = "weight_perturbation"
    norm: float = 0.3
    clip: float | None = None

    def __post_init__(self) -> None:
        _check(self.norm, self.clip)

    def estimate(self, network: Network, batch: Batch, key: Key, slots: int) -> Estimate:
        """See ``Source``."""
        codes = {layer.name: _code(layer, (layer.n_out, layer.n_in + 1), "weight", key) for layer in network.layers}
        fan = network.fan(batch.x, [(name, shadow(amplitude(self.norm, s.numel()) * s)) for name, s in codes.items()])
        costs = network.loss(fan.outs, batch.y)
        layers: dict[str, LayerGradient] = {}
        for (name, code), perturbed in zip(codes.items(), costs[1:], strict=True):
            change = _clipped(finite_change(perturbed, costs[0]).mean(), self.clip)
            flat = weight_estimate(change, code.reshape(-1), amplitude(self.norm, code.numel()), slots)
            both = flat.view(code.shape).to(code.dtype)
            layers[name] = LayerGradient(both[:, :-1], both[:, -1])
        return _estimate(network, layers, costs[0], fan.outs[0], batch)


def shadow(parameters: Tensor) -> Callable[[Tensor], Tensor]:
    """A port that adds the product with a digital matrix [n_out, n_in + 1], whose last column is a bias."""
    weights, bias = parameters[:, :-1], parameters[:, -1]
    return lambda x: x @ weights.T + bias


def finite_change(perturbed: Tensor, baseline: Tensor) -> Tensor:
    """The change of each sample's cost; what is not finite counts as no information, 0."""
    return torch.nan_to_num(perturbed - baseline, nan=0.0, posinf=0.0, neginf=0.0)


def _clipped(change: Tensor, clip: float | None) -> Tensor:
    return change if clip is None else change.clamp(-clip, clip)


def _code(layer: CrossbarLayer, shape: tuple[int, ...], stream: str, key: Key) -> Tensor:
    """The signs of a layer at a step; every layer has a stream of its own."""
    return signs(shape, generator(key.seed, f"{stream}/{layer.name}", key.step), layer.bias.dtype)


def _estimate(network: Network, layers: dict[str, LayerGradient], costs: Tensor, out: Tensor, batch: Batch) -> Estimate:
    correct = float(network.correct(out, batch.y).double().mean())
    return Estimate(layers, float(costs.mean()), correct)


def _check(norm: float, clip: float | None) -> None:
    if not norm > 0:
        raise ValueError(f"norm must be above 0, got {norm}")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be above 0 or none, got {clip}")


SourceConfig = NodePerturbation | WeightPerturbation
"""The gradient sources a run file can name."""
