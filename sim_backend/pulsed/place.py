"""Where the cells of blocks lie: in one run, which is worked on in place, or scattered over the chip."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from torch import Tensor

from hil.contract import Blocks
from hil.contract.indexing import cell_index

Where = slice | Tensor
"""Some cells of a flat tensor: a slice, or int64 indices without repetition."""


@dataclass(frozen=True, slots=True)
class Place:
    """The cells of blocks in a flat tensor over the whole chip, in the order of the blocks.

    Args:
        cells: how many there are.
        first: where they begin when they lie in one run, else None.
        index: int64 [cells], where they lie when they do not.
    """

    cells: int
    first: int | None
    index: Tensor | None

    def on_chip(self, where: Where) -> Where:
        """The places on the chip of some cells of the blocks."""
        if self.index is not None:
            return self.index[where] if isinstance(where, slice) else self.index.index_select(0, where)
        first = self.first or 0
        return slice(first + where.start, first + where.stop) if isinstance(where, slice) else where + first


@lru_cache(maxsize=256)
def place_of(blocks: Blocks, rows: int, cols: int) -> Place:
    """The place of blocks on a chip whose kernels have ``rows`` x ``cols`` cells.

    Blocks are one run when each covers whole rows of its kernel (or is one row) and the next begins where it ends.
    """
    size = blocks.n_rows * blocks.n_cols
    starts = [(k * rows + r) * cols + c for k, r, c in zip(blocks.kernel, blocks.row, blocks.col, strict=True)]
    whole = blocks.n_cols == cols or blocks.n_rows == 1
    if starts and whole and all(after - before == size for before, after in pairwise(starts)):
        return Place(len(blocks) * size, starts[0], None)
    return Place(len(blocks) * size, None, cell_index(blocks, rows, cols).view(-1))


def taken(values: Tensor, where: Where) -> Tensor:
    """Values of some cells of a flat tensor: a view of a slice, a copy of others."""
    return values[where] if isinstance(where, slice) else values.index_select(0, where)


def copied(values: Tensor, where: Where) -> Tensor:
    """Values of some cells of a flat tensor, in memory of their own."""
    return values[where].clone() if isinstance(where, slice) else values.index_select(0, where)


def put(values: Tensor, where: Where, new: Tensor) -> None:
    """Writes values of some cells of a flat tensor."""
    if isinstance(where, slice):
        values[where] = new
    else:
        values.scatter_(0, where, new)  # several times faster than index_copy_ and values[where] = new
