"""Draws jumps for whole tensors of cells, by inverting the cumulative distribution.

A jump table says what happens at its levels; between them this project chooses:

* in G, ``between``: a cell between two levels gets the quantile function between those of the two levels, in linear
  proportion (Read 1999, linear interpolation of histograms). Mean and width follow in proportion, and no second peak
  appears, as it would if one of the two levels were drawn. ``nearest``: the nearest level alone.
* in dG, ``between``: probability is spread evenly between neighbouring changes, so that the cdf is met at every level
  and jumps are not biased. ``level``: the first change whose cdf reaches the random number. Beside a cdf that was
  sampled from a smooth law this shifts every jump up by half a level on average.
* outside the axis of G the first or last level holds; what is missing to 1 in a row belongs to its last change.

All rows of both polarities lie end to end as one rising sequence, row + cdf, so that one binary search finds the places
of all cells.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sim_backend.fit.table import Jumps, JumpTable

Between = Literal["between", "nearest"]
Levels = Literal["between", "level"]

_LEAST = 1e-12
"""A difference of probabilities that counts as none."""


class JumpSampler:
    """Draws from a table.

    Args:
        table: the jumps.
        rows: between or nearest levels of G.
        levels: between levels of dG, or at them.
    """

    def __init__(self, table: JumpTable, *, rows: Between = "between", levels: Levels = "between") -> None:
        self.table = table
        self._rows = rows
        both = (table.up, table.down)
        self._axes = tuple(torch.from_numpy(jumps.g.copy()) for jumps in both)
        self._axis = torch.cat(self._axes)
        self._per_siemens = torch.cat([_inverse_gaps(axis) for axis in self._axes])
        self._last = len(table.up.g) - 1, len(self._axis) - 1
        self._means = torch.from_numpy(np.concatenate([_means(jumps, levels) for jumps in both]))
        cdf = [row for jumps in both for row in jumps.whole]
        self._cdf = torch.from_numpy(np.concatenate(cdf))
        self._keys = torch.from_numpy(np.concatenate([number + row for number, row in enumerate(cdf)]))
        self._dg = torch.from_numpy(np.concatenate([jumps.dg for jumps in both for _ in jumps.g]))
        self._start = torch.tensor(np.cumsum([0, *(len(row) for row in cdf)]))
        slopes = [_slopes(row, jumps.dg) for jumps in both for row in jumps.whole]
        self._slopes = torch.from_numpy(np.concatenate(slopes)) if levels == "between" else None

    def draw(self, g: Tensor, up: Tensor, generator: torch.Generator) -> Tensor:
        """One jump of each cell, S.

        Args:
            g: conductances, S, any shape.
            up: bool, in the shape of ``g``: the pulse is meant to raise the cell.
            generator: random numbers, one a cell.
        """
        return self.quantile(g, up, torch.rand(g.shape, generator=generator, dtype=torch.float64))

    def quantile(self, g: Tensor, up: Tensor, u: Tensor) -> Tensor:
        """The jump of each cell below which a share ``u`` (float64) of its jumps lies, S; shapes as in ``draw``."""
        row, share = self._place(g, up)
        jump = self._inverse(row, u)
        if self._rows == "between":
            jump = torch.lerp(jump, self._inverse(self._next(row, up), u), share)
        return jump.to(g.dtype)

    def mean(self, g: Tensor, up: Tensor) -> Tensor:
        """The mean jump of each cell, S."""
        row, share = self._place(g, up)
        mean = self._means[row]
        if self._rows == "between":
            mean = torch.lerp(mean, self._means[self._next(row, up)], share)
        return mean.to(g.dtype)

    def _place(self, g: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        """The row of each cell, and how far it lies on the way to the next one."""
        g = g.double().contiguous()
        below = [torch.bucketize(g, axis, right=True).sub_(1).clamp_(min=0) for axis in self._axes]
        row = torch.where(up, below[0], below[1].add_(len(self._axes[0])))
        share = (g - self._axis[row]).mul_(self._per_siemens[row]).clamp_(0.0, 1.0)
        if self._rows == "nearest":
            row = torch.where(share > 0.5, self._next(row, up), row)
        return row, share

    def _next(self, row: Tensor, up: Tensor) -> Tensor:
        return torch.minimum(row + 1, torch.where(up, *self._last))

    def _inverse(self, row: Tensor, u: Tensor) -> Tensor:
        """The change that belongs to probability ``u`` in a row of each cell."""
        place = torch.searchsorted(self._keys, row + u)
        place = torch.minimum(torch.maximum(place, self._start[row]), self._start[row + 1] - 1)
        if self._slopes is None:
            return self._dg[place]
        return torch.addcmul(self._dg[place], u - self._cdf[place], self._slopes[place])


def _inverse_gaps(axis: Tensor) -> Tensor:
    """1 / distance to the next level; 0 at the last one."""
    return torch.cat([axis.diff().reciprocal(), torch.zeros(1, dtype=axis.dtype)])


def _slopes(row: np.ndarray, dg: np.ndarray) -> np.ndarray:
    """How fast the change falls below a level with the probability that is missing to it; none at the first level."""
    steps = np.diff(row, prepend=row[0])
    gaps = np.diff(dg, prepend=dg[0])
    return np.divide(gaps, steps, out=np.zeros_like(row), where=steps > _LEAST)


def _means(jumps: Jumps, levels: Levels) -> np.ndarray:
    if levels == "between":
        return jumps.means
    return np.diff(jumps.whole, axis=1, prepend=0.0) @ jumps.dg
