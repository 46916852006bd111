"""Half-selected cells of a passive array: what they see of pulses that are meant for others.

While one cell gets V, the cells that share a line with it see

    V/2 scheme: V/2, all others nothing;   V/3 scheme: V/3, and all others V/3 the other way round

(Chen, IEEE Trans. Electron Devices 60, 1318, 2013). Gated arrays have none, and neither have lines that float or are
grounded here. Each cell counts how often it was half-selected. A pulse at a part of the voltage is worth what the law
says of it (``Law.strength``), so that a cell gets that many usual pulses, and none below the law's threshold. Pulses
are sent cell by cell, as they are priced; after them, what raises conductances is applied first, then what lowers them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hil.contract import Bias, Blocks, BoardSpec, Shape
from hil.contract.indexing import cell_index
from sim_backend.chip import Chip

NAME = "half_selects"
_SHARES = {Bias.HALF: 1 / 2, Bias.THIRD: 1 / 3}


class HalfSelect:
    """What pulses do to the cells beside.

    Args:
        spec: the board.
    """

    def __init__(self, spec: BoardSpec) -> None:
        self._passive = spec.geometry.selector == "passive"
        self._own = next(iter(spec.writing.biases), Bias.GROUND)
        self._cells = spec.cells

    def scheme(self, unselected: Bias | None) -> Bias | None:
        """The scheme that half-selects cells in an operation; None where none does."""
        bias = self._own if unselected is None else unselected
        return bias if self._passive and bias in _SHARES else None

    def tensors(self) -> dict[str, Tensor]:
        """What it adds to the state of a chip: how often each cell was half-selected, int32 [K, R, C]."""
        return {NAME: torch.zeros(self._cells, dtype=torch.int32)} if self._passive else {}

    def disturb(
        self,
        chip: Chip,
        blocks: Blocks,
        counts: Tensor,
        shapes: tuple[Shape, Shape],
        *,
        bias: Bias,
        generator: torch.Generator,
    ) -> None:
        """Counts the half-selects of pulses, and moves the cells that they disturb.

        Args:
            chip: the cells.
            blocks: where the pulses went.
            counts: signed counts, [T, R, C].
            shapes: of pulses up and down.
            bias: the scheme, not None.
            generator: noise of this operation.
        """
        kernels, whole = self._kernels(blocks)
        beside = _beside(self._spread(blocks, counts.abs().double(), whole))
        seen = beside[0] if bias is Bias.HALF else beside[0] + beside[1]
        chip.state[NAME][kernels] += seen.round().to(torch.int32)
        doses: dict[bool, Tensor] = {}
        for up, shape in zip((True, False), shapes, strict=True):
            number = (counts if up else -counts).clamp(min=0).double()
            if not bool(number.any()):
                continue
            for way, part in ((up, 0), (not up, 1)) if bias is Bias.THIRD else ((up, 0),):
                strength = chip.law.strength(replace(shape, volts=shape.volts * _SHARES[bias]), way)
                if isinstance(strength, float) and strength == 0:
                    continue
                dose = _beside(self._spread(blocks, number * strength, whole))[part]
                doses[way] = doses[way] + dose if way in doses else dose
        for way, sign in ((True, 1.0), (False, -1.0)):
            if way in doses:
                _move(chip, kernels, sign * doses[way], generator)

    def joules(self, chip: Chip, blocks: Blocks, counts: Tensor, shapes: tuple[Shape, Shape], bias: Bias) -> float:
        """Energy that pulses leave in half-selected cells, J; arguments as in ``disturb``."""
        kernels, whole = self._kernels(blocks)
        weight: Tensor | float = 0.0
        for sign, shape in zip((1, -1), shapes, strict=True):
            squares = (counts * sign).clamp(min=0).double() * (shape.volts * _SHARES[bias]) ** 2 * shape.seconds
            beside = _beside(self._spread(blocks, squares, whole))
            weight = weight + (beside[0] if bias is Bias.HALF else beside[0] + beside[1])
        return float((chip.state["g"][kernels] * weight).sum())

    def _kernels(self, blocks: Blocks) -> tuple[Tensor, Blocks]:
        """The kernels of an operation, and its blocks in a chip of these alone."""
        used = sorted(set(blocks.kernel))
        place = {kernel: number for number, kernel in enumerate(used)}
        return torch.tensor(used), replace(blocks, kernel=tuple(place[kernel] for kernel in blocks.kernel))

    def _spread(self, blocks: Blocks, values: Tensor, whole: Blocks) -> Tensor:
        """Values of the cells of blocks, in whole kernels, [kernels, R, C]."""
        rows, cols = self._cells[1:]
        found = torch.zeros(max(whole.kernel) + 1, rows, cols, dtype=values.dtype)
        cells = cell_index(whole, rows, cols).view(-1)
        found.view(-1).index_add_(0, cells, values.expand(blocks.shape).reshape(-1))
        return found


def _beside(values: Tensor) -> tuple[Tensor, Tensor]:
    """For each cell, the sum over the others on its two lines, and the sum over all that share none with it."""
    lines = values.sum(1, keepdim=True) + values.sum(2, keepdim=True) - 2.0 * values
    return lines, values.sum((1, 2), keepdim=True) - lines - values


def _move(chip: Chip, kernels: Tensor, dose: Tensor, generator: torch.Generator) -> None:
    """Gives usual pulses to cells of whole kernels, stuck cells left out."""
    rows, cols = chip.shape[1:]
    at, row, col = ((dose != 0) & ~chip.state["stuck"][kernels]).nonzero(as_tuple=True)
    if at.numel() == 0:
        return
    cells = (kernels[at] * rows + row) * cols + col
    flat = chip.state["g"].view(-1)
    params = {name: values.view(-1)[cells] for name, values in chip.params.items()}
    wanted = dose[at, row, col].to(flat.dtype)
    flat[cells] = chip.law.pulse(flat[cells], params, wanted, None, generator)
    for name in chip.law.kept:
        chip.params[name].view(-1)[cells] = params[name]
    chip.version += 1
