"""Tracking of the symmetry point while training, so that residual learning needs no zero-shifting.

A chopper c = +1 or -1 turns the sign of what the residual tile P learns; what does not turn with it is its symmetry
point, which a slow digital mean Q finds. The chopper must be much slower than P settles, and must be there: without it
Q takes the signal for the symmetry point.

This is a reconstruction in the spirit of arXiv 2602.21321 (2026), whose exact equations were not checked.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from protocols.core.residual_learning import Residual, Response, moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """Settings of the tracking.

    Args:
        eta: share by which Q moves to P in a step; 0 keeps Q as it is.
        period: steps between two turns of the chopper; None never turns it.
    """

    eta: float = 0.002
    period: int | None = 200

    def __post_init__(self) -> None:
        if not 0 <= self.eta < 1 or (self.period is not None and self.period < 1):
            raise ValueError(
                f"eta must be from 0 to below 1 and period at least 1 step, got {self.eta} and {self.period}"
            )

    def chopper(self, step: int) -> float:
        """The sign of a step."""
        return 1.0 if self.period is None or (step // self.period) % 2 == 0 else -1.0


def visible(w: Tensor, p: Tensor, q: Tensor, chopper: float, gamma: float) -> Tensor:
    """The weight that a product sees: W + gamma c (P - Q)."""
    return w + gamma * chopper * (p - q)


def tracked_step(
    tiles: tuple[Tensor, Tensor, Tensor],
    gradient: Tensor,
    step: int,
    *,
    rates: Residual,
    tracking: Tracking,
    main: Response,
    residual: Response,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of residual learning with a tracked symmetry point.

    P moves by -alpha c gradient, W by beta c (P - Q) with the new P, then Q by eta towards P.

    Args:
        tiles: W, P, and Q, the digital estimate of P's symmetry point.
        gradient: at the visible weight of this step.
        step: number of the step.
        rates: alpha, beta, gamma.
        tracking: eta and period.
        main: devices of W.
        residual: devices of P.

    Returns:
        The new W, P and Q.
    """
    w, p, q = tiles
    c = tracking.chopper(step)
    p = moved(residual, p, -rates.alpha * c * gradient)
    w = moved(main, w, rates.beta * c * (p - q))
    return w, p, q + tracking.eta * (p - q)
