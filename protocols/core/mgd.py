"""Multiplexed gradient descent: amplitude, normalisation and estimates of the gradient from one scalar cost.

Every parameter carries a small perturbation a s with s = +-1. The change of the cost is correlated with each
parameter's own code.

Reference: McCaughan et al. 2023, APL Machine Learning 1, 026118 (weight perturbation); Oripov et al. 2025, APL Machine
Learning 3, doi 10.1063/5.0258271 (node perturbation, normalised estimate).
"""

from __future__ import annotations

import math

from torch import Tensor


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
