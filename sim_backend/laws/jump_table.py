"""Cells that follow a jump table: every pulse draws its jump from what was measured at that conductance.

Pulses are drawn one by one, with the window applied after each, up to ``SINGLE`` in one operation. Beyond that each
round takes a growing number n (1 / SINGLE of all before) as one jump with the mean and the variance of n independent
jumps at the conductance where the round starts,

    dG = n m + sqrt(n) (x - m),    x drawn from the table, m its mean

which is exact for n = 1 and serves parts of a pulse (n < 1, pulses weaker than the usual one) as well. The usual pulse
is the one that the table was measured with.

Reference: jump tables after IBM's work on PCM and PCMO synapses; Yousuf et al., arXiv 2211.15925. How values between
the levels of a table are found: ``sim_backend.fit.sampling``. Rounds of many pulses: a choice of this project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from hil.contract import Shape
from hil.contract.bounds import above_zero, not_negative
from hil.units import Seconds, engineering
from sim_backend.fit.files import read_table
from sim_backend.fit.sampling import Between, JumpSampler, Levels
from sim_backend.laws.cell import Cell, Spread, step_gain
from sim_backend.laws.walking import rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class JumpTableLaw(Cell):
    """The law of cells with a jump table.

    Args:
        table: folder of the six text files, or folder and prefix (``tables/1.5V``), from the current folder.
        digest: fingerprint of the table, so that a record says which one was used; ``hil device plot`` tells it.
        rows: ``between`` interpolates between levels of G, ``nearest`` takes the nearest one.
        levels: ``between`` spreads probability between levels of dG, ``level`` keeps to them.
        noise: how far jumps lie from their mean, relative; 1 as measured, 0 for mean jumps.
        step_dtod: relative spread of the size of all jumps between cells.
        seconds_down: width of a usual pulse that lowers the conductance; None for that of one that raises it.
    """

    kind: Literal["jump_table"] = "jump_table"
    table: str
    digest: str
    rows: Between = "between"
    levels: Levels = "between"
    noise: float = 1.0
    step_dtod: float = 0.0
    seconds_down: Seconds | None = None
    sampler: JumpSampler = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        Cell.__post_init__(self)
        not_negative(self, "noise", "step_dtod")
        above_zero(self, "seconds_down")
        read = read_table(Path(self.table))
        if read.digest() != self.digest:
            seen = f"the table in {self.table!r} has the digest {read.digest()}"
            raise ValueError(f"digest {self.digest!r} is not that of the table: {seen}; write it, or restore the table")
        low, high = read.reach
        if self.low < low or self.high > high:
            seen = f"it serves {engineering(low, 'S')} to {engineering(high, 'S')}"
            raise ValueError(f"low and high must lie where the table was measured, or little beyond; {seen}")
        object.__setattr__(self, "sampler", JumpSampler(read, rows=self.rows, levels=self.levels))

    def parameters(self, spread: Spread) -> dict[str, Tensor]:
        """``gain`` is how large the jumps of each cell are against those of the table."""
        return {"gain": step_gain(spread, self.step_dtod).abs_()}

    def strength(self, shape: Shape, up: bool) -> float | Tensor:
        """See ``Cell``; either polarity has a width of its own."""
        strength = Cell.strength(self, shape, up)
        return strength if up or self.seconds_down is None else strength * (self.seconds / self.seconds_down)

    def moved(
        self, g: Tensor, params: Mapping[str, Tensor], dose: Tensor, top: Tensor, generator: torch.Generator
    ) -> Tensor:
        """See ``Cell``: pulse by pulse, for the cells that still have one to come."""
        now, left, up = g.reshape(-1).clone(), dose.abs().reshape(-1), (dose > 0).reshape(-1)
        low, high, gain = params["low"].reshape(-1), top.reshape(-1), params["gain"].reshape(-1)
        cells = torch.arange(now.numel())
        for done, most in rounds(float(left.max()) if now.numel() else 0.0):
            cells = cells[left[cells] > done]
            here = now[cells]
            jump = self._jump(here, up[cells], (left[cells] - done).clamp_(max=most), generator)
            there = torch.addcmul(here, jump, gain[cells])
            now[cells] = torch.minimum(torch.maximum(there, low[cells]), high[cells])
        return now.view(g.shape)

    def _jump(self, g: Tensor, up: Tensor, part: Tensor, generator: torch.Generator) -> Tensor:
        """How far ``part`` pulses move cells, S."""
        jump = self.sampler.draw(g, up, generator)
        if self.noise == 1 and bool((part == 1).all()):
            return jump
        mean = self.sampler.mean(g, up)
        return torch.addcmul(mean * part, jump.sub_(mean), part.sqrt() * self.noise)
