"""What lines with resistance leave of a programming pulse: less, the farther a cell is from the drivers.

A pulse on one cell sees the lines of its whole kernel, and the cells as they are before the operation. With r the share
of the voltage V that lines leave to a cell of conductance G alone, they take (1 - r) V at the current r G V. Where gate
or compliance holds the current at I, they take that much less: (1 - r) V I / (r G V).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hil.contract import Bias, Blocks, BoardSpec, Cells, Shape
from hil.contract.indexing import cell_index
from sim_backend.chip import Chip
from sim_backend.doors import Conduction, NoWires
from sim_backend.pulsed.push import Limits


class PulseLines:
    """The lines of a board, for pulses.

    Args:
        spec: the board.
        wires: what lies between cells and electronics.
    """

    def __init__(self, spec: BoardSpec, wires: Conduction) -> None:
        self._wires = wires
        self._up, self._gate_lines = spec.geometry.up, spec.geometry.gate_lines
        self._own = next(iter(spec.writing.biases), Bias.GROUND)

    def left(
        self,
        chip: Chip,
        blocks: Blocks,
        counts: Tensor,
        shapes: tuple[Shape, Shape],
        *,
        limits: Limits,
        unselected: Bias | None,
    ) -> tuple[Cells, Cells]:
        """The share of the amplitude that reaches each cell in a pulse up and in one down, [T, R, C]; 1 for all of it.

        Args:
            chip: the cells.
            blocks: where the pulses go.
            counts: signed counts, [T, R, C]; a direction without a pulse is left at 1.
            shapes: of pulses up and down, as drivers make them.
            limits: the current let through in a pulse up and down, A; None for no limit.
            unselected: what the other lines do; None for the board's own scheme.
        """
        if isinstance(self._wires, NoWires):
            return 1.0, 1.0
        bias = self._own if unselected is None else unselected
        used = sorted(set(blocks.kernel))
        kernels = chip.state["g"][used]
        place = {kernel: number for number, kernel in enumerate(used)}
        at = cell_index(replace(blocks, kernel=tuple(place[kernel] for kernel in blocks.kernel)), *chip.shape[1:])
        found: list[Cells] = []
        for sign, side, shape, limit in zip((1, -1), (self._up, self._up.other), shapes, limits, strict=True):
            share, pulsed = None, (counts * sign > 0).expand(blocks.shape)
            if bool(pulsed.any()):
                wanted = torch.zeros(kernels.shape, dtype=torch.bool)
                wanted.view(-1)[at[pulsed]] = True
                share = self._wires.left(kernels, wanted, side, bias, self._gate_lines)
            if share is None:
                found.append(1.0)
                continue
            share, g = share.reshape(-1)[at], kernels.view(-1)[at]
            found.append(share if limit is None else _held(share, g * shape.volts, limit))
        return found[0], found[1]


def through(shapes: tuple[Shape, Shape], left: tuple[Cells, Cells]) -> tuple[Shape, Shape]:
    """Pulses up and down as they reach the cells."""
    up, down = (
        shape if isinstance(share, float) else replace(shape, volts=share * shape.volts)
        for shape, share in zip(shapes, left, strict=True)
    )
    return up, down


def _held(share: Tensor, amps: Tensor, limit: Cells) -> Tensor:
    """The share that is left where a limit holds the current; ``amps`` would flow through the cell on ideal lines."""
    most = torch.as_tensor(limit, dtype=share.dtype)
    part = (most / (share * amps).clamp(min=torch.finfo(share.dtype).tiny)).clamp(max=1.0)
    return 1.0 - (1.0 - share) * part
