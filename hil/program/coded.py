"""Coded reads: all cells of a block from few reads in which many lines are driven at once.

N patterns drive all lines together; every pattern tells something of every cell, so that N reads give each cell the
worth of N readings (Hadamard-transform measurement; for verify: HARP, arXiv 2604.12420). With the Sylvester matrix H of
order N = 2^k, a line is driven with the signs of one of its columns, y = H g V, and H^T y / N / V is the conductance,
with noise sigma / (V sqrt(N)) for noise sigma of one reading. A board whose inputs have one polarity is driven with
(1 - H) / 2, the S-matrix of order N - 1 and a dark pattern, and -2 H^T y / N / V is the conductance, with twice the
noise. The column of ones is never given to a line. It is what the offset of an amplifier looks like, so that offsets
drop out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Backend, Blocks, BoardSpec, Flag, Op, Read, Side
from hil.errors import UsageError
from hil.program.reading import SingleReads
from hil.usual import usual_sense

_SPOILED = int(Flag.SAT_LOW | Flag.SAT_HIGH | Flag.COMPLIANCE)


@dataclass(frozen=True, slots=True, eq=False)
class Code:
    """Patterns and how they are undone.

    Args:
        patterns: [N, lines], what each pattern drives a line with: -1, 0 or 1.
        decode: [lines, N]; ``decode @ patterns`` is the unit matrix, and each row of ``decode`` adds to 0.
    """

    patterns: Tensor
    decode: Tensor


def sylvester(order: int) -> Tensor:
    """The Hadamard matrix of an order 2^k after Sylvester (1867), [order, order] of -1 and 1; its first column is 1."""
    h = torch.ones(1, 1, dtype=torch.float64)
    while len(h) < order:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h


def hadamard_code(lines: int) -> Code:
    """Patterns of -1 and 1; N is the smallest power of two above the number of lines."""
    h = _columns(lines)
    return Code(h, h.T / len(h))


def s_code(lines: int) -> Code:
    """Patterns of 0 and 1: the S-matrix and a dark pattern; N is the smallest power of two above the lines.

    Without the dark pattern the S-matrix of order n = N - 1 has the variance 4 n / (n + 1)^2 and lets 2 / (n + 1) of
    an offset through; with it the variance is 4 / (n + 1), and no offset gets through.
    """
    h = _columns(lines)
    return Code((1 - h) / 2, -2 * h.T / len(h))


def _columns(lines: int) -> Tensor:
    return sylvester(1 << lines.bit_length())[:, 1 : lines + 1]


class CodedReads:
    """Measures whole blocks with coded vectors; lines that rail in a pattern are measured cell by cell.

    Args:
        backend: the board.
        blocks: T blocks.
        dtype: number format of the vectors.

    Raises:
        UsageError: the board measures no vectors.
    """

    def __init__(self, backend: Backend, blocks: Blocks, dtype: torch.dtype) -> None:
        spec = backend.spec
        if "Read" not in spec.abilities.ops:
            raise UsageError(
                f"coded reads need a board that measures whole vectors (Read), and {spec.identity.name} knows "
                f"{', '.join(sorted(spec.abilities.ops))}; leave coded out"
            )
        self.backend, self.blocks = backend, blocks
        lines, (self.volts, signed) = blocks.lines(spec.geometry.drive), _amplitude(spec)
        code = hadamard_code(lines) if signed else s_code(lines)
        self.vectors = (code.patterns * self.volts).to(dtype)
        self.decode = (code.decode / self.volts).to(dtype)
        self.single = SingleReads(backend, blocks)

    def read(self, cells: Tensor, averages: int, before: Sequence[Op] = ()) -> Tensor:
        """See ``Reader``; blocks without a wanted cell are not read."""
        spec, tiles = self.backend.spec, [t for t, block in enumerate(cells.flatten(1).any(1)) if bool(block)]
        siemens = torch.full(self.blocks.shape, torch.nan, dtype=self.decode.dtype)
        if not tiles:
            self.backend.execute(before)
            return siemens
        blocks, drive = _some(self.blocks, tiles), spec.geometry.drive
        most = spec.abilities.largest_batch or len(self.vectors)
        batches = [self.vectors[first : first + most] for first in range(0, len(self.vectors), most)]
        sense, feed = usual_sense(spec, None, averages), (0,) * len(tiles)
        reads = [Read(blocks, batch.unsqueeze(0), drive, sense, feed) for batch in batches]
        outcomes = self.backend.execute([*before, *reads])[len(before) :]
        amps = torch.cat([outcome.value for outcome in outcomes if outcome.value is not None], 1)
        found = self.decode @ amps.to(self.decode.dtype)  # [T, driven, sensed]
        siemens[tiles] = found if drive is Side.ROWS else found.transpose(1, 2)
        railed = torch.zeros(self.blocks.shape, dtype=torch.bool)
        for outcome in outcomes:
            if outcome.flags is not None:
                lines = ((outcome.flags & _SPOILED) != 0).any(1)
                railed[tiles] |= lines.unsqueeze(1 if drive is Side.ROWS else 2)
        again = railed & cells
        if bool(again.any()):
            siemens = torch.where(again, self.single.read(again, averages).to(siemens.dtype), siemens)
        return siemens


def _amplitude(spec: BoardSpec) -> tuple[float, bool]:
    """The largest voltage that all driven lines of an array may have, and whether either sign may be driven."""
    limits, reading = spec.limits, spec.reading
    most = min(limits.read_array_volts, limits.line_volts, reading.volts_high)
    if reading.volts_low >= 0 or not spec.abilities.signed_read:
        return most, False
    return min(most, -reading.volts_low), True


def _some(blocks: Blocks, tiles: list[int]) -> Blocks:
    """Some of the blocks."""
    if len(tiles) == len(blocks):
        return blocks
    kernel, row, col = (tuple(part[i] for i in tiles) for part in (blocks.kernel, blocks.row, blocks.col))
    return Blocks(kernel, row, col, blocks.n_rows, blocks.n_cols)
