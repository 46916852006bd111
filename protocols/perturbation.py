"""Gradient sources that perturb and measure: multiplexed gradient descent on a board.

Baseline and perturbed branches are measured in the same reads: one iteration is one Read a layer, and perturbing the
last layer needs no read of its own. Nothing is written to the chip while perturbing: node perturbation adds its offset
on the host after the converter, weight perturbation adds a digital shadow term.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from hil.errors import UsageError
from hil.network import Network, Port
from protocols.core.codes import CodeConfig, RandomCode, WalshCode, pattern
from protocols.core.mgd import amplitude
from protocols.measuring import BaselineName, Measured, Measuring
from protocols.parts import Batch, Estimate, Factors, Key, LayerGradient, Tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePerturbation:
    """Perturbs the pre-activations of one layer at a time, one code for the whole batch.

    Args:
        norm: length of the perturbation of a layer; each of its N nodes moves by norm / sqrt(N). Choose it against
            the read noise: too small a norm costs accuracy and pulses.
        code: perturbation code.
        normalised: give the estimate the length of the gradient, so that eta keeps its meaning; else it is unbiased.
        baseline: see ``Measuring``.
        tau_hp: see ``Measuring``.
        clip: see ``Measuring``.
        cost_noise: see ``Measuring``.

    Reference: Oripov et al. 2025, APL Machine Learning 3, doi 10.1063/5.0258271.
    """

    kind: Literal["node_perturbation"] = "node_perturbation"
    norm: float = 1.0
    code: CodeConfig = field(default_factory=RandomCode)
    normalised: bool = True
    baseline: BaselineName = "fresh"
    tau_hp: float = 1.6
    clip: float | None = None
    cost_noise: float = 0.0

    def __post_init__(self) -> None:
        check(self.norm, self.code, self.measuring)

    @property
    def measuring(self) -> Measuring:
        """How costs are compared."""
        return Measuring(baseline=self.baseline, tau_hp=self.tau_hp, clip=self.clip, cost_noise=self.cost_noise)

    def remembered(self, network: Network, batch: int) -> Mapping[str, tuple[int, ...]]:
        """See ``Source``."""
        return self.measuring.remembered(len(network.layers), batch)

    def estimate(self, network: Network, batch: Batch, key: Key, slots: int, memory: Tensors) -> Estimate:
        """See ``Source``."""
        sizes = {layer.name: layer.n_out for layer in network.layers}
        check_periods(self.baseline, self.code, list(sizes.values()), slots)
        patterns = {name: _pattern(self.code, n, f"node/{name}", key, batch) for name, n in sizes.items()}
        moves = {name: amplitude(self.norm, s.numel()) * s for name, s in patterns.items()}
        ports: list[Mapping[str, Port]] = [{name: move} for name, move in moves.items()]
        against: list[Mapping[str, Port]] = [{name: -move} for name, move in moves.items()]
        measured = self.measuring.measure(network, batch, _sides(self.baseline, ports, against), key, memory)
        layers: dict[str, LayerGradient] = {}
        for (name, s), change in zip(patterns.items(), measured.changes, strict=True):
            x, code = measured.inputs[name], s / divisor(self.norm, self.code, self.normalised, s.numel(), slots)
            e = (change.unsqueeze(-1) * code.double()).to(x.dtype)
            layers[name] = LayerGradient(e.mean(0), e.T @ x / x.shape[0], Factors(x, e / x.shape[0]))
        return Estimate(layers, measured.loss, measured.correct)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightPerturbation:
    """Perturbs weights and biases through a digital shadow term.

    Args:
        norm: length of the perturbation; each of the P parameters perturbed together moves by norm / sqrt(P).
        together: ``layer`` perturbs one layer at a time around a shared baseline, ``network`` all of them at once.
        code: perturbation code.
        normalised: give the estimate the length of the gradient, so that eta keeps its meaning; else it is unbiased.
        baseline: see ``Measuring``.
        tau_hp: see ``Measuring``.
        clip: see ``Measuring``.
        cost_noise: see ``Measuring``.

    Reference: McCaughan et al. 2023, APL Machine Learning 1, 026118; layer by layer and normalised as in Oripov et al.
    2025, doi 10.1063/5.0258271.
    """

    kind: Literal["weight_perturbation"] = "weight_perturbation"
    norm: float = 0.3
    together: Literal["layer", "network"] = "layer"
    code: CodeConfig = field(default_factory=RandomCode)
    normalised: bool = True
    baseline: BaselineName = "fresh"
    tau_hp: float = 1.6
    clip: float | None = None
    cost_noise: float = 0.0

    def __post_init__(self) -> None:
        check(self.norm, self.code, self.measuring)

    @property
    def measuring(self) -> Measuring:
        """How costs are compared."""
        return Measuring(baseline=self.baseline, tau_hp=self.tau_hp, clip=self.clip, cost_noise=self.cost_noise)

    def remembered(self, network: Network, batch: int) -> Mapping[str, tuple[int, ...]]:
        """See ``Source``."""
        return self.measuring.remembered(1 if self.together == "network" else len(network.layers), batch)

    def estimate(self, network: Network, batch: Batch, key: Key, slots: int, memory: Tensors) -> Estimate:
        """See ``Source``."""
        shapes = {layer.name: (layer.n_out, layer.n_in + 1) for layer in network.layers}
        sizes = {name: n_out * width for name, (n_out, width) in shapes.items()}
        if self.together == "network":
            groups = [list(shapes)]
            whole = _pattern(self.code, sum(sizes.values()), "weight", key, batch)
            parts: Sequence[Tensor] = torch.split(whole, list(sizes.values()))
            patterns = dict(zip(shapes, parts, strict=True))
        else:
            groups = [[name] for name in shapes]
            patterns = {name: _pattern(self.code, n, f"weight/{name}", key, batch) for name, n in sizes.items()}
        counts = [sum(sizes[name] for name in group) for group in groups]
        check_periods(self.baseline, self.code, counts, slots)
        branches = [
            {n: amplitude(self.norm, count) * patterns[n].view(shapes[n]) for n in group}
            for group, count in zip(groups, counts, strict=True)
        ]
        measured = self._measure(network, batch, branches, key, memory)
        layers: dict[str, LayerGradient] = {}
        for group, count, change in zip(groups, counts, measured.changes.mean(-1), strict=True):
            scale = change / divisor(self.norm, self.code, self.normalised, count, slots)
            for name in group:
                both = (patterns[name].double() * scale).view(shapes[name]).to(batch.x.dtype)
                layers[name] = LayerGradient(both[:, -1], both[:, :-1])
        return Estimate(layers, measured.loss, measured.correct)

    def _measure(
        self, network: Network, batch: Batch, branches: list[dict[str, Tensor]], key: Key, memory: Tensors
    ) -> Measured:
        ports: list[Mapping[str, Port]] = [{n: shadow(p) for n, p in branch.items()} for branch in branches]
        against: list[Mapping[str, Port]] = [{n: shadow(-p) for n, p in branch.items()} for branch in branches]
        return self.measuring.measure(network, batch, _sides(self.baseline, ports, against), key, memory)


def shadow(parameters: Tensor) -> Callable[[Tensor], Tensor]:
    """A port that adds the product with a digital matrix [n_out, n_in + 1], whose last column is a bias."""
    weights, bias = parameters[:, :-1], parameters[:, -1]
    return lambda x: x @ weights.T + bias


def divisor(norm: float, code: CodeConfig, normalised: bool, count: int, slots: int) -> float:
    """What a correlation with a pattern is divided by: the amplitude, times the spread of the estimate."""
    return amplitude(norm, count) * (code.spread(count, slots) if normalised else 1.0)


def check(norm: float, code: CodeConfig, measuring: Measuring) -> None:
    """Refuses settings that cannot work.

    Raises:
        ValueError: the text begins with the name of the field.
    """
    if not norm > 0:
        raise ValueError(f"norm must be above 0, got {norm}")
    if measuring.clip is not None and not measuring.clip > 0:
        raise ValueError(f"clip must be above 0 or none, got {measuring.clip}")
    if not measuring.tau_hp > 0:
        raise ValueError(f"tau_hp must be above 0, got {measuring.tau_hp}")
    if not measuring.cost_noise >= 0:
        raise ValueError(f"cost_noise must be at least 0, got {measuring.cost_noise}")
    if measuring.baseline == "none" and not isinstance(code, WalshCode):
        # tones are free of DC in the long run only; what is left of the cost itself would drown its changes
        raise ValueError(f"baseline none needs the walsh code, got {code.kind}")


def check_periods(baseline: BaselineName, code: CodeConfig, counts: Sequence[int], slots: int) -> None:
    """Refuses updates from parts of a period where the cost itself only drops out of whole ones.

    Raises:
        UsageError: ``tau_theta`` has to be changed.
    """
    if baseline != "none":
        return
    period = max(code.period(count) or 1 for count in counts)  # powers of two: the largest holds the others
    if slots % period:
        raise UsageError(
            f"baseline none needs whole periods: tau_theta must be a multiple of {period} patterns, got {slots}"
        )


def _sides(
    baseline: BaselineName, ports: list[Mapping[str, Port]], against: list[Mapping[str, Port]]
) -> list[Mapping[str, Port]]:
    """The branches of a step; in the two-sided form each is followed by its opposite."""
    if baseline != "two_sided":
        return ports
    return [port for both in zip(ports, against, strict=True) for port in both]


def _pattern(code: CodeConfig, count: int, stream: str, key: Key, batch: Batch) -> Tensor:
    """The pattern of a step, in the precision of the samples; every layer has a stream of its own."""
    return pattern(code, count, key.slot, key.seed, stream, dtype=batch.x.dtype)
