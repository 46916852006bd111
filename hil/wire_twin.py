"""A twin that knows the resistance of the lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hil.contract import Backend, Bias, Side
from hil.matrix import PlacedMatrix
from hil.twin import MatrixTwin, read_siemens

SWEEPS = 4
"""Rounds in which the cells behind their lines are found; each takes the error down by the share of the lines."""


class Lines(Protocol):
    """What lies between cells and amplifiers, as the simulator models it."""

    def matrix(self, g: Tensor, drive: Side) -> Tensor:
        """The transfer matrix [T, driven, sensed] of cells ``g`` [T, R, C] S."""
        ...

    def cells(self, g: Tensor, drive: Side, unselected: Bias, gate_lines: Side | None) -> Tensor:
        """What cells read one by one seem to conduct, [T, R, C] S."""
        ...


@dataclass(slots=True)
class WireTwin(MatrixTwin):
    """The matrices of all layers as last read, and seen through the resistance of their lines.

    Cells are read one by one, through their lines. The twin finds the conductances behind (fixed-point iteration), and
    then the matrix that the whole array makes of them, so that errors go back through the lines as they are.

    Args:
        lines: the lines; the simulator's, or those of a chip file.
    """

    lines: Lines | None = None

    def siemens(self, matrix: PlacedMatrix, backend: Backend) -> Tensor:
        """What the cells of a matrix make of their lines together, [T, R, C] S."""
        measured = read_siemens(matrix, backend, self.averages)
        if self.lines is None:
            return measured
        spec = backend.spec
        unselected = next(iter(spec.writing.biases), Bias.GROUND)
        cells = measured
        for _ in range(SWEEPS):
            seen = self.lines.cells(cells, matrix.drive, unselected, spec.geometry.gate_lines)
            cells = torch.where(seen > 0, cells * measured / seen, cells)
        k = self.lines.matrix(cells, matrix.drive)
        return k if matrix.drive is Side.ROWS else k.transpose(1, 2)
