"""How cells are measured while they are programmed: one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from hil.contract import Backend, Blocks, Op, ReadCells
from hil.usual import usual_sense


class Reader(Protocol):
    """Measures cells of blocks."""

    def read(self, cells: Tensor, averages: int, before: Sequence[Op] = ()) -> Tensor:
        """Measures some cells.

        Args:
            cells: bool [T, R, C], the cells that are wanted.
            averages: conversions of each reading.
            before: operations of the same list that come first.

        Returns:
            [T, R, C] S; what stands at other cells means nothing.
        """
        ...


class SingleReads:
    """Measures cells one by one at the highest voltage that one cell may see.

    Args:
        backend: the board.
        blocks: T blocks.
    """

    def __init__(self, backend: Backend, blocks: Blocks) -> None:
        self.backend, self.blocks = backend, blocks
        self.volts = backend.spec.limits.read_cell_volts

    def read(self, cells: Tensor, averages: int, before: Sequence[Op] = ()) -> Tensor:
        """See ``Reader``."""
        spec = self.backend.spec
        op = ReadCells(self.blocks, usual_sense(spec, self.volts, averages), spec.geometry.drive, cells)
        outcome = self.backend.execute([*before, op])[-1]
        assert outcome.value is not None
        return outcome.value.abs() / self.volts
