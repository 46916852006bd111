"""Training with pulses that only lower conductances: to raise a weight, lower the minus cell of its pair.

No SET pulse is used, so the two conductances of a pair only fall, and what is left of them is a budget. When too much
is spent, a pair is formed anew: both its cells are raised by the same amount, which keeps the weight.

References: arXiv 2601.09903 (2026; learning with reset pulses below 1 V only); Zhang et al. 2023, Science 381, 1205
(one pulse by sign and threshold).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]
"""Conductances of the plus and of the minus cells, from 0 to 1 of the window; the weight is scale (plus - minus)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetOnly:
    """A device that is only reset, with a soft lower bound: a pulse takes a share of what is left.

    Args:
        step: share that a pulse takes.
        scale: weight of a whole window.
        spread: of the step from pulse to pulse, relative.
        spent: conductance at or below which a cell counts as spent.
    """

    step: float = 0.01
    scale: float = 1.0
    spread: float = 0.0
    spent: float = 0.25

    def __post_init__(self) -> None:
        if not (0 < self.step < 1 and self.scale > 0 and self.spread >= 0 and 0 < self.spent < 1):
            raise ValueError(
                "step must be between 0 and 1, scale above 0, spread at least 0, spent between 0 and 1, got "
                f"{self.step}, {self.scale}, {self.spread}, {self.spent}"
            )

    def fresh(self, weights: Tensor, top: float = 1.0) -> Pair:
        """Pairs that hold weights with one cell at ``top`` of the window.

        Raises:
            ValueError: a weight does not fit below it.
        """
        return self.raised((weights.clamp(min=0) / self.scale, -weights.clamp(max=0) / self.scale), top)

    def raised(self, pair: Pair, top: float = 1.0) -> Pair:
        """The same weights with the larger cell of each pair at ``top``: what forming anew is to reach.

        Raises:
            ValueError: a weight does not fit below it.
        """
        plus, minus = pair
        lift = top - torch.maximum(plus, minus)
        lower = float((torch.minimum(plus, minus) + lift).min())
        if lower < 0:
            raise ValueError(
                f"a weight needs {top - lower:.3g} of the window, there is {top:.3g}: take a larger scale than "
                f"{self.scale:g}, or smaller weights"
            )
        return plus + lift, minus + lift

    def weights(self, pair: Pair) -> Tensor:
        """The weights of pairs, scale (plus - minus)."""
        return self.scale * (pair[0] - pair[1])

    def renewed(self, pair: Pair) -> tuple[Pair, Tensor]:
        """Forms the spent pairs anew, the only step that raises conductances; gives the pairs and which they were."""
        spent = self.left(pair) == 0
        plus, minus = self.raised(pair)
        return (torch.where(spent, plus, pair[0]), torch.where(spent, minus, pair[1])), spent

    def pulsed(self, pair: Pair, direction: Tensor, normal: Tensor | None = None) -> Pair:
        """One pulse at most on each pair.

        Args:
            pair: conductances.
            direction: -1, 0 or 1: lower the plus cell, nothing, lower the minus cell.
            normal: standard normal draws for the spread; None for none.
        """
        plus, minus = pair
        share = torch.full_like(plus, self.step)
        if normal is not None:
            share = (share * (1.0 + self.spread * normal)).clamp(0.0, 1.0)  # a device cannot fall below its bound
        return torch.where(direction < 0, plus * (1.0 - share), plus), torch.where(
            direction > 0, minus * (1.0 - share), minus
        )

    def left(self, pair: Pair) -> Tensor:
        """The budget of each pair: pulses of the usual size until its smaller cell is spent; 0 when it is.

        A pulse leaves the share 1 - step, so n pulses from g to ``spent`` are log(g / spent) / -log(1 - step).
        """
        smaller = torch.minimum(*pair)
        return torch.log((smaller / self.spent).clamp(min=1.0)) / -math.log1p(-self.step)


def directions(change: Tensor, above: float | Tensor) -> Tensor:
    """The sign of a wanted change where it is larger than a threshold, else 0.

    Reference: Zhang et al. 2023 (sign-and-threshold update without write-verify).
    """
    return change.sign() * (change.abs() > above)
