"""Whole-array reads beside cell reads: the data that line resistance is fitted to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hil.contract import Bias, BoardSpec, Read, Side
from hil.usual import usual_sense
from protocols.characterise.cells import Bench, cell_sense, on_grid, read, read_volts, spread
from protocols.characterise.noise import Noise
from protocols.characterise.plan import LinePlan


@dataclass(frozen=True, slots=True, eq=False)
class ArrayReads:
    """The same cells read one by one and all at once.

    Args:
        siemens: [T, R, C] S, cells one by one, by the side driven.
        siemens_error: S, standard error of one of them.
        volts: [batch, driven] V of each side driven, by side.
        amps: [T, batch, sensed] A of each side driven; what was shown at 0 V is taken off.
        amps_error: A, standard error of one of them.
        unselected: what the other lines did then.
    """

    siemens: dict[Side, Tensor]
    siemens_error: float
    volts: dict[Side, Tensor]
    amps: dict[Side, Tensor]
    amps_error: float
    unselected: Bias


def why_not(spec: BoardSpec) -> str:
    """Why line resistance cannot be measured on a board; empty when it can."""
    if "Read" not in spec.abilities.ops:
        return "the board does not read a whole array at once"
    if spec.geometry.selector == "passive":
        return "in a passive array cell reads add up to the array read, by superposition, whatever the lines are"
    return ""


def array_reads(bench: Bench, plan: LinePlan, noise: Noise, scanned: Tensor) -> ArrayReads:
    """Reads cells one by one, and the array with all lines and with parts of the lines driven, from either side.

    Each side has cell reads of its own, so that both kinds of read go through the same drivers and amplifiers, and
    their gains drop out.

    Args:
        bench: the board and its cells.
        plan: how.
        noise: that of a read.
        scanned: [K, R, C] S, what is known of cells that conduct too much to be read here.
    """
    spec, blocks = bench.spec, spread(bench.spec, plan.kernels)
    at_cells = read_volts(spec)
    high = on_grid(spec, min(spec.limits.read_array_volts, spec.limits.line_volts, spec.reading.volts_high))
    siemens: dict[Side, Tensor] = {}
    volts: dict[Side, Tensor] = {}
    amps: dict[Side, Tensor] = {}
    plain = replace(bench, offset=None)
    for side in sorted(spec.reading.sides, key=lambda s: s.value):
        patterns = _patterns(blocks.lines(side)) * high
        ask = patterns.to(torch.float32).expand(len(blocks), -1, -1).contiguous()
        (outcome,) = bench.backend.execute([Read(blocks, ask, side, usual_sense(spec, averages=plan.averages))])
        assert outcome.value is not None
        shown = outcome.value.double()
        if outcome.flags is not None:
            shown = torch.where(outcome.flags == 0, shown, torch.nan)
        offset = shown[:, 0]
        volts[side], amps[side] = patterns[1:], shown[:, 1:] - offset[:, None]
        cells = read(plain, blocks, at_cells, plan.averages, drive=side)
        own = cells.amps - (offset[:, :, None] if side is Side.COLS else offset[:, None])
        siemens[side] = torch.where(cells.good, own / at_cells, scanned[list(blocks.kernel)])
    unselected = cell_sense(spec, at_cells, 1).unselected
    per_line = max(spec.geometry.rows, spec.geometry.cols)
    variance = noise.amplifier**2 + noise.rounding**2 + per_line * (noise.cell * high) ** 2
    return ArrayReads(
        siemens, noise.siemens(at_cells, plan.averages), volts, amps, (2 * variance / plan.averages) ** 0.5,
        unselected or next(iter(spec.writing.biases), Bias.GROUND),
    )  # fmt: skip


def _patterns(lines: int) -> Tensor:
    """0 V first, then all lines, each half, and each quarter of the lines."""
    parts = [torch.zeros(lines), torch.ones(lines)]
    for pieces in (2, 4):
        for k in range(pieces):
            part = torch.zeros(lines)
            part[k * lines // pieces : (k + 1) * lines // pieces] = 1.0
            parts.append(part)
    return torch.stack(parts).double()
