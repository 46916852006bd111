"""Many pulses at once for cells whose step is linear in their conductance.

One pulse moves such a cell by a share ``pull`` of its distance d to a fixed point. With xi a new normal number for
every pulse and s the cycle noise, k pulses give in closed form (q = 1 - pull):

    multiplicative, d' = d (1 - pull (1 + s xi)):   E d' = q^k d,  Var d' = d^2 [(q^2 + (pull s)^2)^k - q^(2 k)]
    additive, d' = q d - jitter xi:                  E d' = q^k d,  Var d' = jitter^2 (1 - q^(2 k)) / (1 - q^2)

They follow from the recursions. Written with expm1 and log1p they hold down to pull = 0, the constant step. Bounds are
applied after the last pulse, and the sum of the noise is taken as normal: both are exact for one pulse, and good as
long as the noise of k pulses is small against the distance to a bound.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sim_backend.laws.cell import root_

_LEAST = 1e-12
"""A pull that is no pull; its square still is a float32."""
_MOST = 0.999


def relaxed(distance: Tensor, pull: Tensor, count: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """How far ``count`` pulses with multiplicative noise move cells, S, with the sign of ``distance``.

    Args:
        distance: from the cell to its fixed point, S.
        pull: share of the distance that one pulse goes, made by ``as_pull``.
        count: number of pulses, at least 0, may be fractional.
        std: cycle noise of one pulse in units of its step.
        generator: noise of this operation.
    """
    lost = torch.log1p(-pull).mul_(count).expm1_()  # q^k - 1
    if std == 0:
        return lost.mul_(distance).neg_()
    ratio = root_((pull * std).div_(1.0 - pull).square_().log1p_().mul_(count).expm1_())
    noise = torch.randn(distance.shape, generator=generator, dtype=distance.dtype).mul_(ratio)
    return torch.addcmul(lost, lost + 1.0, noise).mul_(distance).neg_()


def relaxed_additive(
    distance: Tensor, pull: Tensor, count: Tensor, jitter: Tensor | None, generator: torch.Generator
) -> Tensor:
    """As ``relaxed``, with noise ``jitter`` (S) in each pulse that does not depend on the state; None for none."""
    lost = torch.log1p(-pull).mul_(count).expm1_()
    if jitter is None:
        return lost.mul_(distance).neg_()
    spread = root_((lost * (lost + 2.0)).neg_().div_(pull * (2.0 - pull))).mul_(jitter)
    noise = torch.randn(distance.shape, generator=generator, dtype=distance.dtype)
    return torch.addcmul(lost.mul_(distance).neg_(), spread, noise)


def as_pull(share: Tensor) -> Tensor:
    """A share of the distance that the closed forms can take: above 0 and below 1."""
    return share.clamp(_LEAST, _MOST)
