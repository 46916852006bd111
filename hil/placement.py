"""Where the tiles of a layer sit on a chip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Blocks, BoardSpec, Side
from hil.errors import PlacementError


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a weight matrix is cut into equal tiles of pairs.

    Args:
        n_out: outputs of the layer.
        n_in: inputs of the layer.
        out_tiles: tiles along the outputs.
        in_tiles: tiles along the inputs.
        outs: outputs of one tile.
        ins: inputs of one tile.
        drive: the driven side of the board.
    """

    n_out: int
    n_in: int
    out_tiles: int
    in_tiles: int
    outs: int
    ins: int
    drive: Side

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of a tile's block; the two cells of a pair sit on neighbouring sensed lines."""
        sensed = 2 * self.outs
        return (sensed, self.ins) if self.drive is Side.COLS else (self.ins, sensed)

    def __len__(self) -> int:
        return self.out_tiles * self.in_tiles


def tiling(n_out: int, n_in: int, spec: BoardSpec) -> Tiling:
    """Cuts a layer into the fewest equal tiles that fit into one kernel each."""
    drive = spec.geometry.drive
    most_outs, most_ins = spec.geometry.lines(drive.other) // 2, spec.geometry.lines(drive)
    if most_outs == 0 or min(n_out, n_in) < 1:
        raise PlacementError(f"{n_out} x {n_in}", 2, spec.geometry.lines(drive.other), "sensed lines")
    out_tiles, in_tiles = math.ceil(n_out / most_outs), math.ceil(n_in / most_ins)
    return Tiling(n_out, n_in, out_tiles, in_tiles, math.ceil(n_out / out_tiles), math.ceil(n_in / in_tiles), drive)


def free_windows(free: Tensor, n_rows: int, n_cols: int) -> Tensor:
    """Every position where a rectangle of free cells fits.

    Args:
        free: bool [K, R, C].
        n_rows: rows of the rectangle.
        n_cols: columns of the rectangle.

    Returns:
        bool [K, R - n_rows + 1, C - n_cols + 1]: the rectangle whose first cell is there is free.
    """
    kernels, rows, cols = free.shape
    if n_rows > rows or n_cols > cols:
        return torch.zeros(kernels, max(rows - n_rows + 1, 0), max(cols - n_cols + 1, 0), dtype=torch.bool)
    taken = torch.zeros(kernels, rows + 1, cols + 1, dtype=torch.int64)
    taken[:, 1:, 1:] = (~free).to(torch.int64).cumsum(1).cumsum(2)
    inside = taken[:, n_rows:, n_cols:] - taken[:, :-n_rows, n_cols:] - taken[:, n_rows:, :-n_cols]
    return (inside + taken[:, :-n_rows, :-n_cols]) == 0


def place(layers: Sequence[tuple[str, Tiling]], spec: BoardSpec, avoid: Tensor | None = None) -> list[Blocks]:
    """Places the tiles of layers at the first free position, in order.

    Args:
        layers: name and tiling of each layer.
        spec: the board.
        avoid: bool [K, R, C], cells that must not be used; None for none.

    Raises:
        PlacementError: a layer does not fit; the error tells how many blocks it needs and how many are free.
    """
    free = torch.ones(spec.cells, dtype=torch.bool) if avoid is None else ~avoid
    placed: list[Blocks] = []
    for name, tiles in layers:
        n_rows, n_cols = tiles.block
        at: list[tuple[int, int, int]] = []
        for _ in range(len(tiles)):
            spots = free_windows(free, n_rows, n_cols).nonzero()
            if spots.shape[0] == 0:
                raise PlacementError(name, len(tiles), len(at), f"blocks of {n_rows} x {n_cols}")
            k, r, c = (int(spots[0, axis]) for axis in range(3))
            free[k, r : r + n_rows, c : c + n_cols] = False
            at.append((k, r, c))
        kernel, row, col = (tuple(axis) for axis in zip(*at, strict=True))
        placed.append(Blocks(kernel, row, col, n_rows, n_cols))
    return placed
