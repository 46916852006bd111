"""Binary cells: a pulse leaves a cell where it is or takes it to the other end of its window.

One usual pulse switches a cell with the probability ``chance``, k of them with 1 - (1 - chance)^k.

Reference: the toy device of the public control library of the Daffodil board has two states and a threshold; chance
and spreads are this project's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.contract.bounds import above_zero, not_negative
from sim_backend.laws.cell import Cell, Spread, within_one


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary(Cell):
    """The law of cells with two states.

    Args:
        chance: probability that one usual pulse switches a cell.
        level_std: how far inside the window a cell ends from switch to switch, as a share of the window: the absolute
            value of a normal number.
        level_dtod: the same between cells; a cell keeps its own.
    """

    kind: Literal["binary"] = "binary"
    start: float = 0.0
    chance: float = 1.0
    level_std: float = 0.0
    level_dtod: float = 0.0

    def __post_init__(self) -> None:
        Cell.__post_init__(self)
        not_negative(self, "level_std", "level_dtod")
        above_zero(self, "chance")
        within_one(self, "chance")

    def parameters(self, spread: Spread) -> dict[str, Tensor]:
        """``inside`` is how far from its bounds each cell ends, S."""
        return {"inside": self.window * spread(self.level_dtod).abs_()}

    def moved(
        self, g: Tensor, params: Mapping[str, Tensor], dose: Tensor, top: Tensor, generator: torch.Generator
    ) -> Tensor:
        """See ``Cell``."""
        switched = torch.rand(g.shape, generator=generator, dtype=g.dtype) < 1.0 - (1.0 - self.chance) ** dose.abs()
        noise = torch.randn(g.shape, generator=generator, dtype=g.dtype).abs_()
        inside = params["inside"] + noise.mul_(self.level_std * self.window)
        middle = 0.5 * (params["low"] + params["high"])
        upper = torch.maximum(top - inside, torch.minimum(middle, top))
        lower = torch.minimum(params["low"] + inside, middle)
        aim = torch.where(dose > 0, upper, lower)
        other = torch.where(dose > 0, g < middle, g >= middle)  # a cell that is there already stays
        return torch.where(switched & other, aim, g)
