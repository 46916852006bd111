"""Which cells are measured, and how they are read; conductances come from here in float64."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hil.contract import Backend, Bias, Blocks, BoardSpec, Flag, Pulse, ReadCells, Sense, Side
from hil.usual import usual_pulse, usual_sense

RAILS = int(Flag.SAT_LOW | Flag.SAT_HIGH)
_LOST = RAILS | int(Flag.COMPLIANCE | Flag.NOT_MEASURED)


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """A board, and what is known of it so far.

    Args:
        backend: the board.
        alive: bool [K, R, C], cells that may be read at the usual voltage and pulsed.
        offset: [sensed lines] A, what the amplifiers show at 0 V with the board's own side driven; None: not known.
    """

    backend: Backend
    alive: Tensor
    offset: Tensor | None = None

    @property
    def spec(self) -> BoardSpec:
        """The spec of the board."""
        return self.backend.spec

    def cells(self, blocks: Blocks) -> Tensor:
        """The cells of whole kernels that may be touched, bool [T, R, C]."""
        return self.alive[list(blocks.kernel)]

    def without(self, cells: Tensor) -> Bench:
        """The same without some cells of the chip, bool [K, R, C]."""
        return replace(self, alive=self.alive & ~cells)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What cells showed.

    Args:
        amps: [.., T, R, C] A, float64; NaN where nothing was measured.
        flags: uint8, likewise.
        volts: V across the cells.
    """

    amps: Tensor
    flags: Tensor
    volts: float

    @property
    def siemens(self) -> Tensor:
        """Conductances, S; those at a rail are bounds only."""
        return self.amps / self.volts

    @property
    def good(self) -> Tensor:
        """Values that are neither at a rail nor missing."""
        return ((self.flags & _LOST) == 0) & self.amps.isfinite()


def kernels_of(spec: BoardSpec, kernels: Iterable[int]) -> Blocks:
    """Whole kernels as blocks."""
    chosen = tuple(kernels)
    return Blocks(chosen, (0,) * len(chosen), (0,) * len(chosen), spec.geometry.rows, spec.geometry.cols)


def spread(spec: BoardSpec, count: int | None) -> Blocks:
    """Some kernels, spread evenly over the chip; None for all, and never more than there are."""
    all_kernels = spec.geometry.kernels
    wanted = all_kernels if count is None else min(count, all_kernels)
    return kernels_of(spec, (k * all_kernels // wanted for k in range(wanted)))


def on_grid(spec: BoardSpec, volts: float) -> float:
    """The highest voltage that the input converter makes exactly and that is not above ``volts``."""
    step = spec.reading.volts_step
    return volts if step is None else math.floor(volts / step * (1 + 1e-12)) * step


def read_volts(spec: BoardSpec, share: float = 1.0) -> float:
    """A share of the highest voltage at which a cell may be read alone, V."""
    return on_grid(spec, share * min(spec.limits.read_cell_volts, spec.reading.volts_high))


def cell_sense(spec: BoardSpec, volts: float, averages: int, gate: float | None = None) -> Sense:
    """How a cell is read: on a passive array with the other lines grounded, where the board can do that."""
    grounded = spec.geometry.selector == "passive" and Bias.GROUND in spec.writing.biases
    return replace(usual_sense(spec, volts, averages), gate=gate, unselected=Bias.GROUND if grounded else None)


def read(
    bench: Bench, blocks: Blocks, volts: float, averages: int, *, drive: Side | None = None, gate: float | None = None
) -> Seen:
    """Reads cells one by one; what the amplifiers are known to show at 0 V is taken off.

    Args:
        bench: the board and its cells.
        blocks: whole kernels.
        volts: V across a cell.
        averages: conversions of each value.
        drive: the side that is driven; None for the board's own.
        gate: V on the gates; None for the board's own.
    """
    spec = bench.spec
    wanted = bench.cells(blocks)
    mask = None if bool(wanted.all()) else wanted
    own = spec.geometry.drive
    op = ReadCells(blocks, cell_sense(spec, volts, averages, gate), drive or own, mask)
    (outcome,) = bench.backend.execute([op])
    assert outcome.value is not None
    amps = outcome.value.double()
    if bench.offset is not None and (drive or own) is own:
        amps = amps - (bench.offset[:, None] if own is Side.COLS else bench.offset)
    flags = torch.zeros(amps.shape, dtype=torch.uint8) if outcome.flags is None else outcome.flags
    return Seen(amps, flags, volts)


def pulse(bench: Bench, blocks: Blocks, count: int) -> None:
    """Gives the same number of usual pulses to all cells of whole kernels that may be pulsed."""
    counts = bench.cells(blocks).to(torch.int32) * count
    if bool((counts != 0).any()):
        up, down = usual_pulse(bench.backend, up=True), usual_pulse(bench.backend, up=False)
        bench.backend.execute([Pulse(blocks, counts, up, down)])


def states(spec: BoardSpec) -> int:
    """Usual steps that fit into the window that the board file names."""
    return max(2, round((spec.limits.siemens_high - spec.limits.siemens_low) / spec.writing.step))
