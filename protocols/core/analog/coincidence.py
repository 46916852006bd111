"""From a vector update to firing probabilities: how long a train is, and how often each line fires in it.

The update lr d x^T is made of steps of equal mean size. In each of BL slots every input line and every output line
fires or not, independently; a weight gets a pulse where both fire. With probabilities p_x and p_d its mean count is
BL p_x p_d, which is lr x d / step as long as no probability has to be cut at 1.

References: Gokmen and Vlasov 2016, Front. Neurosci. 10, 333 (coincidence update); Gokmen, Onen and Haensch 2017, Front.
Neurosci. 11, 538 (update management). Length and scales follow the code of aihwkit, commit 4545f11b, with one
difference: management of the length does not switch update management on by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Scales:
    """The trains of vector updates: one sample each entry of the leading axes.

    Args:
        k: float64 [...], mean count of the weight with the largest change, were no train too short.
        bl: int64 [...], slots of the train (BL); 0 where an input or error vector is all zero.
        p_x: float64 [..., n_in], firing probability of each input line, with the sign of its input.
        p_d: float64 [..., n_out], firing probability of each output line, with the sign of its error.
        asked: float64 [...], mean pulses of all weights together, were no train too short.
        clipped: float64 [...], share of them that is lost because probabilities were cut at 1 (k above the longest
            train), up to rounding.
    """

    k: Tensor
    bl: Tensor
    p_x: Tensor
    p_d: Tensor
    asked: Tensor
    clipped: Tensor

    @property
    def slots(self) -> int:
        """Slots of the longest train."""
        return int(self.bl.max()) if self.bl.numel() else 0

    @property
    def lost(self) -> float:
        """Share of the asked change of all samples together that is lost to trains that are too short."""
        asked = float(self.asked.sum())
        return float((self.asked * self.clipped).sum()) / asked if asked > 0 else 0.0


def scales(
    x: Tensor,
    d: Tensor,
    lr: float | Tensor,
    step: float | Tensor,
    *,
    desired_bl: int = 31,
    update_management: bool = True,
    bl_management: bool = True,
    fixed_bl: bool = True,
    um_grad_scale: float = 1.0,
) -> Scales:
    """Length and firing probabilities of the trains that make W += lr d x^T.

    All of it is float64, and k is evaluated from left to right as ((lr max|x|) (um_grad_scale max|d|)) / step: where k
    is a whole number on paper, its rounding decides whether the train has a slot more.

    Args:
        x: [..., n_in], inputs.
        d: [..., n_out], errors as descent wants them: minus the derivative of the cost.
        lr: learning rate, at least 0; one, or one for each sample.
        step: mean change of a weight by one pulse, above 0; one, or one for each sample.
        desired_bl: the train's length; with ``bl_management`` its greatest length.
        update_management: share the gain between x and d so that both fire equally often at most; where trains are
            too short, d is cut and x is not.
        bl_management: no more slots than the largest change needs.
        fixed_bl: without ``bl_management``, keep the length even where lr / step is above it; else the train gets as
            many slots as that and no gain.
        um_grad_scale: counts errors as so many times larger when shares are made; below 1 large errors are cut sooner.

    Raises:
        ValueError: a number is out of its range, or inputs or errors are not finite.
    """
    lr, step = (torch.as_tensor(value, dtype=torch.float64) for value in (lr, step))
    if desired_bl < 1 or not um_grad_scale > 0 or not bool((lr >= 0).all()) or not bool((step > 0).all()):
        raise ValueError("desired_bl must be at least 1, um_grad_scale and step above 0 and lr at least 0")
    x, d = x.to(torch.float64), d.to(torch.float64)
    xm, dm = x.abs().amax(-1), um_grad_scale * d.abs().amax(-1)
    k = lr * xm * dm / step
    if not bool(torch.isfinite(k).all()):
        raise ValueError(f"{int((~torch.isfinite(k)).sum())} of {k.numel()} updates are not finite; look at the inputs")
    live = k > 0
    bl, gain = _length(k, lr, step, desired_bl=desired_bl, bl_management=bl_management, fixed_bl=fixed_bl)
    bl, ratio = torch.where(live, bl, 0.0), torch.ones_like(k)
    if update_management:
        share = torch.where(k > desired_bl, dm * (desired_bl / k), dm)
        ratio = torch.where(live, share / xm, 1.0).sqrt()
    gain = torch.where(live, gain, 0.0)
    p_x = ((gain * ratio)[..., None] * x).clamp(-1.0, 1.0)
    p_d = ((gain / ratio)[..., None] * d).clamp(-1.0, 1.0)
    asked = lr * x.abs().sum(-1) * d.abs().sum(-1) / step
    given = bl * p_x.abs().sum(-1) * p_d.abs().sum(-1)
    clipped = torch.where(live, 1.0 - given / torch.where(live, asked, 1.0), 0.0).clamp(min=0.0)
    return Scales(k, bl.to(torch.int64), p_x, p_d, asked, clipped)


def at_resolution(trains: Scales, res: float, source: torch.Generator | None = None) -> Scales:
    """The same trains with probabilities in whole steps of ``res``.

    Args:
        trains: as ``scales`` made them.
        res: step of a probability, above 0 and at most 1.
        source: draws of stochastic rounding, which keeps the mean; None for the nearest step.

    Raises:
        ValueError: ``res`` is out of its range.
    """
    if not 0 < res <= 1:
        raise ValueError(f"res must be above 0 and at most 1, got {res}")

    def rounded(p: Tensor) -> Tensor:
        steps = p.abs() / res
        if source is None:
            steps = steps.round()
        else:  # floor after a whole uniform draw is nearest after one of +-1/2, and never leaves a whole number
            steps = torch.floor(steps + torch.rand(p.shape, generator=source, dtype=p.dtype))
        return (steps * res).clamp(max=1.0) * p.sign()

    return replace(trains, p_x=rounded(trains.p_x), p_d=rounded(trains.p_d))


def _length(
    k: Tensor, lr: Tensor, step: Tensor, *, desired_bl: int, bl_management: bool, fixed_bl: bool
) -> tuple[Tensor, Tensor]:
    """Slots and base gain sqrt(lr / (step BL)) of each train, float64 [...]."""
    if bl_management:
        bl = k.ceil().clamp(1.0, desired_bl)
    else:
        bl = torch.full_like(k, desired_bl)
        if not fixed_bl:
            longer = (step * desired_bl < lr).expand(k.shape)
            bl = torch.where(longer, (lr / step).ceil(), bl)
            return bl, torch.where(longer, 1.0, (lr / (step * bl)).sqrt())
    return bl, (lr / (step * bl)).sqrt()
