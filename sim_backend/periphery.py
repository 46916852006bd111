"""Converters and amplifiers around the cells.

A read goes: input codes, drivers and their supply, cells (and wires), noise, amplifiers, output codes. Work goes in
chunks that stay in the cache, because a fused read of a whole chip falls out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hil.contract import Bias, Blocks, BoardSpec, Cells, Read, Sense, Side
from hil.converters import pick_range, sensing
from sim_backend.channels import Channels, Lines
from sim_backend.config import SimulatorConfig
from sim_backend.doors import Conduction, NoWires
from sim_backend.energy import cell_watts, share_drawn
from sim_backend.inputs import Inputs, amplitudes
from sim_backend.sensing import Sensing, Spread
from sim_backend.vectors import EVERYTHING, VectorRead, part_of
from sim_backend.workspace import Workspace

CHUNK = 1 << 18
"""Most currents that are handled at once: one megabyte in float32."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Cells as a read sees them.

    Args:
        blocks: where they are.
        g: conductances, [T, R, C] S.
        noise: read noise of each cell in one conversion, [T, R, C] S rms; None for that of the configuration alone.
        limit: A, the current that the gate lets through each cell; None for no limit.
        shut: the gates are closed, so that the cells add no noise.
    """

    blocks: Blocks
    g: Tensor
    noise: Tensor | None = None
    limit: float | None = None
    shut: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What a read gave.

    Args:
        amps: currents, A.
        flags: uint8 like ``amps``; None for none.
        joules: energy in the array, J; None where it is not asked for.
    """

    amps: Tensor
    flags: Tensor | None
    joules: float | None = None


class Periphery:
    """The analog chain of a board.

    Args:
        spec: input grid and current ranges.
        config: noise, supply, energy.
        wires: what lies between cells and amplifiers.
        channels: errors of drivers and amplifiers.
    """

    def __init__(self, spec: BoardSpec, config: SimulatorConfig, wires: Conduction, channels: Channels) -> None:
        self._inputs = Inputs(spec)
        self._ranges = spec.reading.ranges
        self._stated_for = spec.reading.volts_high if spec.reading.normalised else None
        self._read_noise, self._amplifier_noise = config.read_noise, config.amplifier_noise
        self._supply, self._energy = config.supply, config.energy
        self._wires, self._channels = wires, channels
        self._gate_lines = spec.geometry.gate_lines
        self._work = Workspace(torch.float32 if config.dtype == "float32" else torch.float64)
        self._bias = next(iter(spec.writing.biases), Bias.GROUND)

    def read(self, cells: Seen, op: Read, generator: torch.Generator) -> Measured:
        """Currents [T, batch, sensed] and flags of a vector read."""
        work, averages = self._vectors(cells, op, generator), op.sense.averages
        tiles, batch, sensed = len(cells.g), op.volts.shape[1], op.blocks.lines(op.drive.other)
        amps = torch.empty(tiles, batch, sensed, dtype=cells.g.dtype)
        flags, watts = None, 0.0
        for part, rows in _chunks(tiles, batch, sensed, whole=averages > 1):
            seen, power = work.measure_(part_of(amps, part, rows), part, rows)
            watts += power
            if seen is not None:
                flags = torch.zeros(amps.shape, dtype=torch.uint8) if flags is None else flags
                flags[part, rows] = seen
        return Measured(amps, flags, self._joules(watts * self._share_drawn(work) if watts else 0.0, averages))

    def cells(
        self,
        cells: Seen,
        volts: Cells,
        sense: Sense,
        drive: Side,
        generator: torch.Generator,
        *,
        counted: Tensor | None = None,
    ) -> Measured:
        """Currents [T, R, C] and flags of cells read one by one, each at its volts.

        Args:
            cells: the cells.
            volts: V across each cell, as asked for.
            sense: how to measure.
            drive: the side that carries the voltage.
            generator: noise of this operation.
            counted: [T, R, C], which cells take energy; None for all.
        """
        asked = torch.as_tensor(volts, dtype=cells.g.dtype)
        drivers = self._channels.drivers(cells.blocks, drive)
        if drivers is not None:
            drivers = drivers.along(2 if drive is Side.ROWS else 1)
            asked = asked.expand(torch.broadcast_shapes(asked.shape, drivers.gain.shape))
        made = self._inputs.converted(asked, drivers)
        seen = self._wires.cells(cells.g, drive, sense.unselected or self._bias, self._gate_lines)
        if self._supply is not None:  # all cells of a selected line are measured at the same time
            along = 1 if (self._gate_lines or drive) is Side.COLS else 2
            made = made * self._supply.share((cells.g * made).abs().sum(along, keepdim=True))
        amps = seen * made
        if cells.limit is not None:
            amps.clamp_(-cells.limit, cells.limit)
        amplifiers = self._channels.amplifiers(cells.blocks, drive.other)
        amplifiers = None if amplifiers is None else amplifiers.along(2 if drive is Side.COLS else 1)
        scale = None if self._stated_for is None else _over(asked.abs(), self._stated_for)
        flags = self._sensing(sense, generator, amplifiers, scale).convert_(amps, self._spread(made, cells))
        watts = 0.0 if self._energy is None else cell_watts(seen, made, cells.limit, counted)
        return Measured(amps, flags, self._joules(watts, sense.averages))

    def _vectors(self, cells: Seen, op: Read, generator: torch.Generator) -> VectorRead:
        g, volts = cells.g, op.volts.to(cells.g.dtype)
        drivers = self._channels.drivers(op.blocks, op.drive)
        drivers = None if drivers is None else drivers.along(1)
        amplifiers = self._channels.amplifiers(op.blocks, op.drive.other)
        amplifiers = None if amplifiers is None else amplifiers.along(1)
        variance = self._variance(cells)
        if isinstance(variance, Tensor) and op.drive is Side.COLS:
            variance = variance.transpose(1, 2)
        scale = None if self._stated_for is None else _over(amplitudes(volts), self._stated_for)
        work = VectorRead(
            g=g, k=None, drive=op.drive, volts=volts, feed=op.feed, made=False, inputs=self._inputs, drivers=drivers,
            supply=self._supply, amplitude=amplitudes(volts) if self._inputs.as_widths and self._energy else None,
            variance=variance, amplifier=self._amplifier_noise, limit=cells.limit,
            sense=self._sensing(op.sense, generator, amplifiers, None), counts_energy=self._energy is not None,
            work=self._work,
        )  # fmt: skip
        if scale is not None:
            work.sense = replace(work.sense, scale=work.chosen(scale, EVERYTHING, EVERYTHING))
        if drivers is None and len(volts) < len(g):  # the same for all tiles that share a feed
            work.volts, work.made = self._inputs.made(volts, None), True
        if not isinstance(self._wires, NoWires):
            work.spread_out()
            work.exact = self._wires.currents(g, work.volts, op.drive)
        if work.exact is None:
            work.k = self._wires.matrix(g, op.drive)
        return work

    def _share_drawn(self, work: VectorRead) -> float:
        """Power that vectors take through the lines of this board, over that on ideal lines."""
        if isinstance(self._wires, NoWires):
            return 1.0
        volts = work.volts
        if self._supply is not None:
            lines = work.g.sum(2 if work.drive is Side.ROWS else 1)
            volts = volts * self._supply.share(volts.abs() @ lines.unsqueeze(-1))
        amps = self._wires.drawn(work.g, volts, work.drive)
        return 1.0 if amps is None else share_drawn(volts, amps, work.g, work.drive, work.amplitude)

    def _sensing(
        self, sense: Sense, generator: torch.Generator, amplifiers: Lines | None, scale: Tensor | None
    ) -> Sensing:
        chosen = pick_range(self._ranges, sense.full_scale)
        adc = None if chosen is None else sensing(chosen)
        return Sensing(sense.averages, adc, generator, amplifiers, sense.amps, scale)

    def _variance(self, cells: Seen) -> Tensor | float:
        """Variance of the conductance noise of cells, S^2."""
        if cells.shut:
            return 0.0
        own = self._read_noise**2
        return own if cells.noise is None else cells.noise.square().add_(own)

    def _spread(self, volts: Tensor, cells: Seen) -> Spread:
        variance = self._variance(cells)
        if not isinstance(variance, Tensor) and variance == 0:
            return self._amplifier_noise
        return (volts.square() * variance).add_(self._amplifier_noise**2).sqrt_()

    def _joules(self, watts: float, averages: int) -> float | None:
        return None if self._energy is None else watts * averages * self._energy.read_seconds


def _over(volts: Tensor, stated_for: float) -> Tensor:
    """Read voltages over the one that ranges are stated for; 1 where nothing is driven."""
    return torch.where(volts > 0, volts / stated_for, 1.0)


def _chunks(tiles: int, batch: int, sensed: int, *, whole: bool) -> Iterator[tuple[slice, slice]]:
    """Tiles and vectors to work on at once; ``whole`` keeps the vectors of a tile together.

    A large tile is cut at multiples of 16 vectors: torch draws normal numbers in sixteens.
    """
    each = max(batch * sensed, 1)
    if tiles * each <= CHUNK:
        yield EVERYTHING, EVERYTHING
        return
    if each <= CHUNK or whole:
        count = max(1, CHUNK // each)
        for first in range(0, tiles, count):
            yield slice(first, first + count), EVERYTHING
        return
    rows = max(16, CHUNK // sensed // 16 * 16)
    for tile in range(tiles):
        for first in range(0, batch, rows):
            yield slice(tile, tile + 1), slice(first, first + rows)
