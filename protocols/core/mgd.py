"""Multiplexed gradient descent with random codes: estimates of the gradient from one scalar cost.

Every parameter carries a small perturbation a s with s = +-1. The change of the cost is correlated with each
parameter's own code.

Reference: McCaughan et al. 2023, APL Machine Learning 1, 026118 (weight perturbation); Oripov et al. 2025, APL Machine
Learning 3, doi 10.1063/5.0258271 (node perturbation, normalised estimate).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from protocols.core.draws import generator, signs

_CHUNK = 500
"""Steps whose draws ``descend`` makes at once; a part of the definition of its draws."""


def amplitude(norm: float, count: int) -> float:
    """The perturbation of one of ``count`` parameters when the whole perturbation has length ``norm``."""
    return norm / math.sqrt(count)


def normaliser(a: float, count: int, slots: int) -> float:
    """What a correlation is divided by, so that the estimate's rms length is that of the gradient.

    With it a learning rate keeps its meaning for every number of slots and every size (Oripov et al. 2025): the divisor
    is a sqrt(1 + (count - 1) / slots).

    Args:
        a: perturbation of one parameter.
        count: parameters perturbed together.
        slots: perturbations that are summed into one estimate.
    """
    return a * math.sqrt(1.0 + (count - 1) / slots)


def node_error(change: Tensor, code: Tensor, a: float, slots: int = 1) -> Tensor:
    """The error signal at the nodes of a layer.

    Args:
        change: [..., batch], each sample's cost with perturbation minus without.
        code: [..., nodes], the signs; one code for the whole batch.
        a: perturbation of one node.
        slots: perturbations summed into one estimate.

    Returns:
        [..., batch, nodes]; the estimated derivative of each sample's cost by each node.
    """
    scale = 1.0 / normaliser(a, code.shape[-1], slots)
    return change.unsqueeze(-1) * (code * scale).to(change.dtype).unsqueeze(-2)


def weight_estimate(change: Tensor, code: Tensor, a: float, slots: int = 1) -> Tensor:
    """The gradient by all perturbed parameters.

    Args:
        change: [...], the cost with perturbation minus without.
        code: [..., P], the signs.
        a: perturbation of one parameter.
        slots: perturbations summed into one estimate.

    Returns:
        [..., P].
    """
    return change.unsqueeze(-1) * (code / normaliser(a, code.shape[-1], slots)).to(change.dtype)


def descend(
    cost: Callable[[Tensor, Tensor], Tensor],
    theta: Tensor,
    inputs: Tensor,
    *,
    steps: int,
    eta: float,
    norm: float,
    seed: int,
) -> Tensor:
    """Trains many replicas at once by weight perturbation with random codes, one sample and one update a step.

    Args:
        cost: (parameters [2, replicas, P], sample numbers [replicas]) -> costs [2, replicas]; float64, because the two
            costs differ by little. It must not keep or change its arguments.
        theta: [replicas, P], initial parameters; left as they are.
        inputs: sample numbers to draw from, [samples].
        steps: updates.
        eta: learning rate; a step moves theta by eta / P times the unbiased estimate.
        norm: length of the perturbation.
        seed: root seed.

    Returns:
        The final parameters, [replicas, P].
    """
    replicas, count = theta.shape
    a = amplitude(norm, count)
    both = torch.stack((theta, theta))
    perturbed, theta = both  # views, so that one call measures both costs and nothing is copied
    for first in range(0, steps, _CHUNK):
        source = generator(seed, "descend", first)
        samples = inputs[torch.randint(0, inputs.shape[0], (_CHUNK, replicas), generator=source)]
        codes = signs((_CHUNK, replicas, count), source, theta.dtype)
        for sample, code in zip(samples[: steps - first], codes, strict=False):
            torch.add(theta, code, alpha=a, out=perturbed)
            with_code, without = cost(both, sample)
            theta.addcmul_((with_code - without).unsqueeze(-1), code, value=-eta / (count * a))
    return theta.clone()
