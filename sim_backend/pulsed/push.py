"""What the pulses of one operation are worth to its cells: shape and current limits, in usual pulses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Shape
from sim_backend.doors import Law
from sim_backend.laws.cell import rising
from sim_backend.pulsed.place import Where, taken

Limits = tuple[Tensor | float | None, Tensor | float | None]
"""The current let through in a pulse up and in one down, A; None where nothing holds it."""
_STRONGEST = 1e30
"""Most usual pulses one pulse can be worth: all cells have long come to rest, and numbers stay finite."""


@dataclass(frozen=True, slots=True)
class CellsOf:
    """What a push has to know of the cells it works on.

    Args:
        shape: of the blocks, [T, R, C].
        dtype: of the chip.
        highest: the highest bound of a cell of the chip, S; a ceiling above it is none.
    """

    shape: tuple[int, int, int]
    dtype: torch.dtype
    highest: float

    def flat(self, value: float | Tensor) -> float | Tensor:
        """One number for all cells, or a flat tensor with a number for each."""
        return value.to(self.dtype).expand(self.shape).reshape(-1) if isinstance(value, Tensor) else value


@dataclass(frozen=True, slots=True)
class Push:
    """The worth of pulses; numbers for all cells, or flat tensors with one value for each cell of the blocks.

    Args:
        up: usual pulses that one pulse up is worth.
        down: usual pulses that one pulse down is worth.
        ceiling: the highest conductance that the current limit allows after a pulse up, S; None for no limit.
        dtype: of the chip.
    """

    up: float | Tensor
    down: float | Tensor
    ceiling: float | Tensor | None
    dtype: torch.dtype

    @classmethod
    def of(cls, law: Law, shapes: tuple[Shape, Shape], limits: Limits, cells: CellsOf) -> Push:
        """The push of two pulses, one up and one down; no current, no push."""
        up, down = (
            cells.flat(_let(law.strength(shape, is_up), amps))
            for shape, is_up, amps in zip(shapes, (True, False), limits, strict=True)
        )
        ceiling = None if limits[0] is None else cells.flat(law.ceiling(limits[0]))
        if not isinstance(ceiling, Tensor) and ceiling is not None and ceiling >= cells.highest:
            ceiling = None
        return cls(_finite(up), _finite(down), ceiling, cells.dtype)

    def doses(self, counts: Tensor, where: Where) -> Tensor:
        """Signed usual pulses for counts (int32) of some cells of the blocks, in new memory."""
        doses = counts.to(self.dtype)
        if not isinstance(self.up, Tensor) and not isinstance(self.down, Tensor) and self.up == self.down:
            return doses if self.up == 1.0 else doses.mul_(self.up)
        up, down = (self._of(worth, where) for worth in (self.up, self.down))
        return torch.lerp(down, up, rising(doses)).mul_(doses)

    def ceilings(self, where: Where) -> Tensor | None:
        """Ceilings of some cells of the blocks, S; None for no limit."""
        return None if self.ceiling is None else self._of(self.ceiling, where)

    def _of(self, value: float | Tensor, where: Where) -> Tensor:
        return taken(value, where) if isinstance(value, Tensor) else torch.tensor(value, dtype=self.dtype)


def _let(worth: float | Tensor, amps: float | Tensor | None) -> float | Tensor:
    """The worth of a pulse that can carry no more than ``amps``: nothing without current."""
    if isinstance(amps, Tensor):
        return torch.where(amps > 0, worth, 0.0)
    return worth if amps is None or amps > 0 else 0.0


def _finite(worth: float | Tensor) -> float | Tensor:
    return worth.clamp(max=_STRONGEST) if isinstance(worth, Tensor) else min(worth, _STRONGEST)
