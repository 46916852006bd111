"""Keeping what was learned before: metaplastic steps and elastic weight consolidation. Replica axes may lead."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def metaplastic(step: Tensor, hidden: Tensor, m: float) -> Tensor:
    """An optimiser's step on hidden weights, the smaller the firmer a weight is held.

    A step that pushes h towards zero is multiplied by f = 1 - tanh^2(m |h|); one away from zero stays as it is, and so
    does any step with m = 0.

    Args:
        step: what would be added to the hidden weights [...].
        hidden: the hidden weights h [...].
        m: metaplasticity.

    Reference: Laborieux et al. 2021, Nat. Commun. 12 (synaptic metaplasticity), as its public code applies it.
    """
    factor = 1.0 - torch.tanh(m * hidden.abs()).square()
    return torch.where(step * hidden < 0, factor * step, step)


def elastic_cost(
    values: Sequence[Tensor], anchors: Sequence[Tensor], fisher: Sequence[Tensor], strength: float
) -> Tensor:
    """The cost of moving away from what earlier tasks need: strength / 2 sum F (theta - anchor)^2, over all replicas.

    Args:
        values: parameters theta.
        anchors: the parameters after the last task.
        fisher: diagonal Fisher information F of the earlier tasks.
        strength: lambda.

    Reference: Kirkpatrick et al. 2017, PNAS 114, 3521, equation 3; the terms of several tasks share their last anchor
    (Huszár 2018, PNAS 115, E2496).
    """
    terms = [(f * (v - a).square()).sum() for v, a, f in zip(values, anchors, fisher, strict=True)]
    return 0.5 * strength * torch.stack(terms).sum()
