"""How one polarity of a layer is cut into tiles, and where the tiles of its copies sit on a chip.

G+ and G- are separate matrices with blocks of their own, so that their faults are independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from hil.contract import Blocks, Side
from hil.contract.indexing import cell_index
from hil.errors import PlacementError
from protocols.core.ensemble.faults import Faults


@dataclass(frozen=True, slots=True)
class Tiles:
    """A matrix ``[n_out, n_in]`` cut into equal tiles of single cells, outputs first.

    Args:
        n_out: outputs.
        n_in: inputs.
        out_tiles: tiles along the outputs.
        in_tiles: tiles along the inputs; their currents are added digitally.
        drive: the driven side of the board.
    """

    n_out: int
    n_in: int
    out_tiles: int
    in_tiles: int
    drive: Side

    @property
    def outs(self) -> int:
        """Outputs of one tile."""
        return math.ceil(self.n_out / self.out_tiles)

    @property
    def ins(self) -> int:
        """Inputs of one tile."""
        return math.ceil(self.n_in / self.in_tiles)

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of a tile's block."""
        return (self.outs, self.ins) if self.drive is Side.COLS else (self.ins, self.outs)

    def __len__(self) -> int:
        return self.out_tiles * self.in_tiles

    def split(self, matrix: Tensor, fill: float) -> Tensor:
        """Tiles ``[..., tiles, R, C]`` of matrices ``[..., n_out, n_in]``; padding cells get ``fill``."""
        spare_out, spare_in = self.out_tiles * self.outs - self.n_out, self.in_tiles * self.ins - self.n_in
        full = pad(matrix, (0, spare_in, 0, spare_out), value=fill)
        four = full.reshape(*matrix.shape[:-2], self.out_tiles, self.outs, self.in_tiles, self.ins)
        return self._oriented(four.transpose(-3, -2).flatten(-4, -3))

    def joined(self, tiles: Tensor) -> Tensor:
        """Matrices ``[..., n_out, n_in]`` of tiles ``[..., tiles, R, C]``; the inverse of ``split``."""
        four = self._oriented(tiles).reshape(*tiles.shape[:-3], self.out_tiles, self.in_tiles, self.outs, self.ins)
        return four.transpose(-3, -2).flatten(-2, -1).flatten(-3, -2)[..., : self.n_out, : self.n_in]

    def _oriented(self, cells: Tensor) -> Tensor:
        return cells if self.drive is Side.COLS else cells.transpose(-1, -2)


def cut(name: str, n_out: int, n_in: int, kernel: tuple[int, int], drive: Side) -> Tiles:
    """Cuts one polarity of a layer into the fewest equal tiles that fit into one kernel each.

    Args:
        name: of the layer.
        n_out: outputs.
        n_in: inputs.
        kernel: rows and columns of a kernel.
        drive: the driven side of the board.

    Raises:
        PlacementError: the layer or the kernel has no cells.
    """
    outs, ins = kernel if drive is Side.COLS else kernel[::-1]
    if min(n_out, n_in, outs, ins) < 1:
        raise PlacementError(name, max(n_out * n_in, 1), outs * ins, f"cells for {n_out} x {n_in}")
    return Tiles(n_out, n_in, math.ceil(n_out / outs), math.ceil(n_in / ins), drive)


@dataclass(frozen=True, slots=True)
class Copies:
    """Where the copies of a layer sit.

    Args:
        name: of the layer.
        tiles: how each copy is cut.
        alpha: copies.
        blocks: 2 * alpha * tiles blocks; all of G+ first, copy by copy, tile by tile.
    """

    name: str
    tiles: Tiles
    alpha: int
    blocks: Blocks

    def cells(self, layer: Tensor, fill: float = 0.0) -> Tensor:
        """Cells ``[T, R, C]`` of a layer's ``[2, copies, rows, cols]``; padding cells get ``fill``."""
        return self.tiles.split(layer, fill).flatten(0, 2)

    def layer(self, cells: Tensor) -> Tensor:
        """The layer ``[2, copies, rows, cols]`` of cells ``[T, R, C]``."""
        return self.tiles.joined(cells.reshape(2, self.alpha, len(self.tiles), *cells.shape[1:]))

    def of_chip(self, chip: Tensor) -> Tensor:
        """The layer ``[2, copies, rows, cols]`` of a tensor over the whole chip ``[K, R, C]``."""
        return self.layer(chip.reshape(-1)[cell_index(self.blocks, chip.shape[1], chip.shape[2])])

    def faults(self, chip: Faults) -> Faults:
        """The faults of the layer's cells, from those of the chip."""
        return Faults(self.of_chip(chip.stuck), self.of_chip(chip.siemens))


def devices(layers: Sequence[Tiles], alpha: int) -> int:
    """Cells that ``alpha`` copies of both polarities use, padding included."""
    return sum(2 * alpha * len(tiles) * tiles.outs * tiles.ins for tiles in layers)


def padding_mask(tiles: Tiles) -> Tensor:
    """Which cells of the tiles hold a weight: bool ``[tiles, R, C]``."""
    return tiles.split(torch.ones(tiles.n_out, tiles.n_in), 0.0) > 0
