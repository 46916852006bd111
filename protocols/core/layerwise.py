"""Layer-wise perturbation of many small networks at once, with backpropagation beside it, for studies.

Layers are perturbed one at a time around a shared baseline; the estimates are normalised, so that a learning rate means
the same for every size and integration time.

Reference: Oripov et al. 2025, APL Machine Learning 3, doi 10.1063/5.0258271.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from protocols.core.draws import generator, signs
from protocols.core.mgd import amplitude, node_error, weight_estimate
from protocols.core.mlp import Mlp

Method = Literal["node", "weight", "backprop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layerwise:
    """The settings of a layer-wise training.

    Args:
        method: what is perturbed; ``backprop`` is the exact gradient.
        eta: learning rate.
        norm: length of the perturbation of a layer.
        tau_theta: steps of one update.
    """

    method: Method
    eta: float
    norm: float = 0.1
    tau_theta: int = 1

    def __post_init__(self) -> None:
        if self.tau_theta < 1:
            raise ValueError(f"tau_theta must be at least 1 step, got {self.tau_theta}")
        if not self.norm > 0:
            raise ValueError(f"norm must be above 0, got {self.norm}")


def train(
    network: Mlp,
    theta: Tensor,
    batch: Callable[[int], tuple[Tensor, Tensor]],
    how: Layerwise,
    *,
    steps: int,
    seed: int,
    watch: Callable[[int, Tensor], bool] | None = None,
) -> Tensor:
    """Trains replicas of a network by plain descent.

    Args:
        network: the shape; its cost is ``cross_entropy``.
        theta: [replicas, P], initial parameters; left as they are.
        batch: gives inputs [batch, n_in] and classes [batch] of a step.
        how: the settings.
        steps: steps; each measures one cost a layer and a baseline.
        seed: root seed of the perturbations.
        watch: called after each update with the number of steps done; True ends the training.

    Returns:
        The final parameters.
    """
    theta = theta.clone()
    total = torch.zeros_like(theta)
    for step in range(steps):
        x, y = batch(step)
        total += estimate(network, theta, x, y, how, seed=seed, step=step)
        if (step + 1) % how.tau_theta:
            continue
        theta -= how.eta / how.tau_theta * total
        total.zero_()
        if watch is not None and watch(step + 1, theta):
            break
    return theta


def estimate(network: Mlp, theta: Tensor, x: Tensor, y: Tensor, how: Layerwise, *, seed: int, step: int) -> Tensor:
    """One estimate of the gradient, [replicas, P].

    Args:
        network: the shape.
        theta: [replicas, P].
        x: [batch, n_in].
        y: classes [batch].
        how: the settings.
        seed: root seed.
        step: number of the step; the draws belong to it.
    """
    if how.method == "backprop":
        return network.gradient(theta, x, y)
    layers = network.layers(theta)
    inputs, products = _forward(network, layers, x)
    baseline = _costs(products[-1], y)
    found: list[Tensor] = []
    for number, (weights, _) in enumerate(layers):
        source = generator(seed, f"{how.method}/{number}", step)
        replicas, n_out, n_in = weights.shape
        count = n_out if how.method == "node" else n_out * (n_in + 1)
        code, a = signs((replicas, count), source, theta.dtype).to(theta.device), amplitude(how.norm, count)
        part = code if how.method == "node" else code.view(replicas, n_out, n_in + 1)
        moved = products[number] + a * _port(part, inputs[number])
        change = _costs(_rest(network, layers, number, moved), y) - baseline
        if how.method == "node":
            e = node_error(change, code, a, how.tau_theta).to(theta.dtype)
            found += [(e.transpose(-1, -2) @ inputs[number] / x.shape[0]).flatten(-2), e.mean(-2)]
        else:
            both = weight_estimate(change.mean(-1), code, a, how.tau_theta).to(theta.dtype).view_as(part)
            found += [both[..., :-1].flatten(-2), both[..., -1]]
    return torch.cat(found, -1)


def _port(code: Tensor, x: Tensor) -> Tensor:
    """What a code adds to the products: itself at the nodes, or its product with the inputs as weights and bias."""
    if code.dim() == 2:
        return code.unsqueeze(-2)
    return x @ code[..., :-1].transpose(-1, -2) + code[..., -1].unsqueeze(-2)


def _forward(network: Mlp, layers: list[tuple[Tensor, Tensor]], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and pre-activations of every layer, [replicas, batch, n]."""
    inputs: list[Tensor] = []
    products: list[Tensor] = []
    h = x.expand(layers[0][0].shape[0], *x.shape)
    for number, (weights, bias) in enumerate(layers):
        inputs.append(h)
        products.append(torch.baddbmm(bias.unsqueeze(-2), h, weights.transpose(-1, -2)))
        if number < len(layers) - 1:
            h = network.activate(products[-1])
    return inputs, products


def _rest(network: Mlp, layers: list[tuple[Tensor, Tensor]], number: int, z: Tensor) -> Tensor:
    """The last pre-activations when those of one layer are ``z``."""
    for weights, bias in layers[number + 1 :]:
        z = torch.baddbmm(bias.unsqueeze(-2), network.activate(z), weights.transpose(-1, -2))
    return z


def _costs(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each sample, float64 [replicas, batch]."""
    replicas, batch, _ = logits.shape
    flat = F.cross_entropy(logits.double().flatten(0, 1), y.repeat(replicas), reduction="none")
    return flat.view(replicas, batch)
