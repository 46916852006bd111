"""Stuck cells: what is broken on a chip, and where.

A stuck cell keeps its conductance whatever pulses it gets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract.bounds import not_negative
from hil.units import Siemens


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How many cells are stuck, and at what.

    The five shares are relative weights; they need not add to one.

    Args:
        fraction: share of all cells that is stuck.
        low: share of stuck cells that sit at their lower bound.
        high: share that sit at their upper bound.
        open: share without any current.
        short: share at ``short_siemens``.
        value: share at a value drawn evenly from the window of the cell.
        short_siemens: conductance of a short, held by the selector.
    """

    fraction: float = 0.0
    low: float = 1.0
    high: float = 1.0
    open: float = 0.0
    short: float = 0.0
    value: float = 0.0
    short_siemens: Siemens = 1e-3

    def __post_init__(self) -> None:
        not_negative(self, "short_siemens")
        if not 0.0 <= self.fraction <= 1.0:
            raise ValueError(f"fraction must lie between 0 and 1, got {self.fraction}")
        if min(self._weights()) < 0 or sum(self._weights()) <= 0:
            raise ValueError("the shares low, high, open, short and value must be at least 0, and not all 0")

    def draw(self, low: Tensor, high: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws the stuck cells of a chip.

        Args:
            low: [K, R, C] S, lower bound of each cell.
            high: [K, R, C] S, upper bound of each cell.
            generator: the chip's own stream.

        Returns:
            stuck: bool [K, R, C]; value: [K, R, C] S, where a stuck cell sits.
        """
        stuck = torch.rand(low.shape, generator=generator) < self.fraction
        kind = torch.multinomial(torch.tensor(self._weights()), low.numel(), replacement=True, generator=generator)
        inside = low + (high - low) * torch.rand(low.shape, generator=generator, dtype=low.dtype)
        choices = torch.stack([low, high, torch.zeros_like(low), torch.full_like(low, self.short_siemens), inside])
        return stuck, choices.gather(0, kind.view(1, *low.shape)).squeeze(0)

    def _weights(self) -> list[float]:
        return [self.low, self.high, self.open, self.short, self.value]
