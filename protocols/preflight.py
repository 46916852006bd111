"""A look before the flight: is the perturbation strong enough against the noise, and does the estimate point downhill?

The cost noise is what repeated measurements of one batch scatter by. What the perturbation makes of the cost is
compared with what the same measurement gives when nothing is perturbed. The angle test compares the mean of some
estimates with the exact gradient of a digital copy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hil.errors import UsageError
from hil.network import Network
from hil.protocol import Batch
from hil.twin import read_weights
from protocols.core.mgd import amplitude
from protocols.parts import Estimate, Key, Tensors
from protocols.perturbation import NodePerturbation, WeightPerturbation

Perturbing = NodePerturbation | WeightPerturbation
WANTED = 3.0
"""The change of the cost should be this many times its noise."""
LARGEST = 1.0
"""Perturbations above this length leave the part of the cost that is nearly straight."""
_REPEATS, _NOTHING = 100, 1e-9
"""Measurements of the noise, and a perturbation that changes nothing."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What the look found; the groups are those of parameters that are perturbed together.

    Args:
        cost_noise: standard deviation of a measured mean cost.
        change: rms of the change of the mean cost that the perturbation makes, noise taken off, by group.
        noise: rms of the change that is measured without a perturbation, by group.
        norm: the perturbation of the run.
        proposed: the perturbation that lifts every change to ``WANTED`` times its noise, up to ``LARGEST``.
        angles: degrees between the mean estimate and the digital copy's gradient, by group.
        expected: degrees that the code gives for noise-free measurements, by group.
        slots: estimates that were averaged.
    """

    cost_noise: float
    change: Mapping[str, float]
    noise: Mapping[str, float]
    norm: float
    proposed: float
    angles: Mapping[str, float]
    expected: Mapping[str, float]
    slots: int

    @property
    def strength(self) -> float:
        """The smallest ratio of a change to its noise; infinite without noise."""
        return min(c / self.noise[name] if self.noise[name] > 0 else math.inf for name, c in self.change.items())

    def lines(self) -> list[str]:
        """The findings for people."""
        ratio, smallest = self.strength, min(self.change.values())
        times = "" if math.isinf(ratio) else f" ({ratio:.1f} times its noise)"
        if ratio >= WANTED:
            advice = "strong enough"
        elif self.proposed > self.norm:
            advice = f"weak: try norm {self.proposed:.2g}"
        else:
            advice = "weak: try baseline two_sided, a larger batch or a larger tau_theta"
        angles = ", ".join(f"{n} {a:.0f}° ({self.expected[n]:.0f}° without noise)" for n, a in self.angles.items())
        change = f"the perturbation changes the cost by {smallest:.2g}{times}"
        return [
            f"cost noise      {self.cost_noise:.2g}; {change}, {advice}",
            f"angle test      after {self.slots} estimates: {angles}",
        ]


def preflight(network: Network, source: Perturbing, batch: Batch, seed: int, slots: int = 100) -> Preflight:
    """Looks at a network on its board; nothing is written.

    Args:
        network: on the board.
        source: the gradient source of the run.
        batch: the samples.
        seed: root seed of the perturbations.
        slots: estimates to average.

    Raises:
        UsageError: fewer than two estimates were asked for.
    """
    if slots < 2:
        raise UsageError("a preflight needs at least two estimates")
    groups = _groups(network, source)
    counts = {name: _count(network, source, members) for name, members in groups.items()}
    # over whole periods no baseline and one that is kept are the same, and a part of a period needs one
    kept = replace(source, baseline="once") if source.baseline == "none" else source
    unbiased = replace(kept, normalised=False)

    def measured(norm: float, repeats: int) -> tuple[list[Estimate], dict[str, float]]:
        source = replace(unbiased, norm=norm)
        seen = _estimates(network, source, batch, seed, repeats)
        return seen, {name: _change(seen, source, groups[name], n) for name, n in counts.items()}

    _, noise = measured(_NOTHING, _REPEATS)
    seen, found = measured(source.norm, slots)
    change = _without_noise(found, noise)
    proposed, there = source.norm, change
    while (lift := _lift(there, noise)) > 1 and proposed < LARGEST:
        proposed = min(LARGEST, proposed * max(lift, 1.1))
        there = _without_noise(measured(proposed, _REPEATS)[1], noise)  # a weak change was only a guess
    exact = _digital(network, batch)
    return Preflight(
        cost_noise=_cost_noise(network, source, batch),
        change=change,
        noise=noise,
        norm=source.norm,
        proposed=proposed,
        angles={name: _angle(seen, exact, members) for name, members in groups.items()},
        expected={name: math.degrees(math.acos(1 / source.code.spread(n, slots))) for name, n in counts.items()},
        slots=slots,
    )


def _without_noise(found: Mapping[str, float], noise: Mapping[str, float]) -> dict[str, float]:
    return {name: math.sqrt(max(value**2 - noise[name] ** 2, 0.0)) for name, value in found.items()}


def _lift(change: Mapping[str, float], noise: Mapping[str, float]) -> float:
    """By what a perturbation is to grow; a change that drowns in its noise is taken for half of it."""
    return max(WANTED * noise[n] / max(c, noise[n] / 2) if noise[n] > 0 else 0.0 for n, c in change.items())


def _groups(network: Network, source: Perturbing) -> dict[str, list[str]]:
    """The layers that are perturbed together."""
    names = [layer.name for layer in network.layers]
    if isinstance(source, WeightPerturbation) and source.together == "network":
        return {"network": names}
    return {name: [name] for name in names}


def _count(network: Network, source: Perturbing, members: list[str]) -> int:
    """Parameters, or nodes, that are perturbed together."""
    nodes = isinstance(source, NodePerturbation)
    return sum(layer.n_out * (1 if nodes else layer.n_in + 1) for layer in network.layers if layer.name in members)


def _estimates(network: Network, source: Perturbing, batch: Batch, seed: int, slots: int) -> list[Estimate]:
    memory: Tensors = {}
    keys = [Key(seed, slot, slot, slot == 0, slot == 0) for slot in range(slots)]
    return [source.estimate(network, batch, key, slots, memory) for key in keys]


def _cost_noise(network: Network, source: Perturbing, batch: Batch) -> float:
    """The scatter of the mean cost, with the noise of a study."""
    with torch.no_grad():
        costs = torch.stack([network.loss(network(batch.x), batch.y).mean() for _ in range(_REPEATS)])
    return math.hypot(float(costs.std()), source.cost_noise / math.sqrt(batch.x.shape[0]))


def _change(seen: list[Estimate], source: Perturbing, members: list[str], count: int) -> float:
    """The rms change of the mean cost behind unbiased estimates: each entry is change x pattern / amplitude.

    The patterns of a group have a mean square of 1. Those of nodes are seen in the biases.
    """
    total = 0.0
    for gradient in (estimate.layers[name] for estimate in seen for name in members):
        total += float(gradient.bias.double().square().sum())
        if isinstance(source, WeightPerturbation):
            total += float(gradient.weights.double().square().sum())
    return amplitude(source.norm, count) * math.sqrt(total / (count * len(seen)))


def _digital(network: Network, batch: Batch) -> dict[str, Tensor]:
    """The gradients of a digital copy of the chip, read cell by cell."""
    weights: dict[str, Tensor] = {}
    x = batch.x
    for layer, activation in zip(network.layers, network.activations, strict=True):
        parts = [read_weights(matrix, layer.backend).to(x.dtype) for matrix in layer.matrices.values()]
        weights[layer.name] = torch.stack(parts).sum(0).requires_grad_()
        x = activation(x @ weights[layer.name].T + layer.bias.detach())
    grads = torch.autograd.grad(network.loss(x, batch.y).mean(), list(weights.values()))
    return dict(zip(weights, grads, strict=True))


def _angle(seen: list[Estimate], exact: Mapping[str, Tensor], members: list[str]) -> float:
    """Degrees between the mean of estimates and the exact gradient of the weights of a group."""
    mean = [torch.stack([e.layers[name].weights.double() for e in seen]).mean(0).flatten() for name in members]
    truth = [exact[name].double().flatten() for name in members]
    cosine = torch.nn.functional.cosine_similarity(torch.cat(mean), torch.cat(truth), dim=0)
    return math.degrees(math.acos(max(-1.0, min(1.0, float(cosine)))))
