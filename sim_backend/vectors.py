"""One vector read: the driven side of a product, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from hil.contract import Side
from sim_backend.channels import Lines
from sim_backend.energy import vector_watts
from sim_backend.inputs import Inputs
from sim_backend.sensing import Sensing, Spread
from sim_backend.supply import Supply
from sim_backend.workspace import Workspace

EVERYTHING = slice(None)


def part_of(values: Tensor, tiles: slice, rows: slice = EVERYTHING) -> Tensor:
    """Some tiles and vectors of values [T, batch, ..]; the values themselves for all, since indexing takes its time."""
    return values if tiles == EVERYTHING and rows == EVERYTHING else values[tiles, rows]


@lru_cache(maxsize=16)
def _alike(lines: int, value: float, dtype: torch.dtype) -> Tensor:
    """A column of equal numbers; it is only read."""
    return torch.full((lines, 1), value, dtype=dtype)


@dataclass(slots=True, kw_only=True)
class VectorRead:
    """What is driven into a stack of tiles, and how what comes out is measured.

    Args:
        g: conductances, [T, R, C] S.
        k: transfer matrix, [T, driven, sensed] S; None where ``exact`` holds the currents.
        drive: the side that is driven.
        volts: [feeds, batch, driven] V; as asked for, or as made where ``made`` says so.
        feed: which row of ``volts`` each tile gets; None: one each.
        made: levels, converters and drivers have been at work.
        inputs: the converters.
        drivers: their errors, [T, 1, driven]; None for none.
        supply: of the drivers; None for a stiff one.
        amplitude: [feeds, batch, 1] V, where inputs are widths at this amplitude; None for amplitudes.
        variance: of the current noise of a cell over its squared voltage, S^2, one number or [T, driven, sensed].
        amplifier: current noise of an amplifier in one conversion, A rms.
        sense: the output side.
        limit: A, the current that the gate lets through each cell; None for no limit.
        counts_energy: whether power is asked for.
        work: memory for voltages and their squares.
        exact: currents of voltages ``volts``, [T, batch, sensed] A; None where ``k`` gives them.
    """

    g: Tensor
    k: Tensor | None
    drive: Side
    volts: Tensor
    feed: tuple[int, ...] | None
    made: bool
    inputs: Inputs
    drivers: Lines | None
    supply: Supply | None
    amplitude: Tensor | None
    variance: Tensor | float
    amplifier: float
    sense: Sensing
    limit: float | None
    counts_energy: bool
    work: Workspace
    exact: Tensor | None = None

    def measure_(self, amps: Tensor, tiles: slice, rows: slice) -> tuple[Tensor | None, float]:
        """Writes the measured currents of some tiles and vectors into ``amps``; gives their flags and power in W."""
        volts = self.driven(tiles, rows)
        share = None if self.supply is None else self._share(self.supply, volts, tiles)
        if share is not None:
            volts = volts * share
        spread, sense = self._spread(volts, tiles), self.sense.part(tiles, rows)
        watts = 0.0
        if self.counts_energy:
            amplitude = None if self.amplitude is None else self.chosen(self.amplitude, tiles, rows)
            watts = vector_watts(volts, part_of(self.g, tiles), self.drive, amplitude)
        held = None if self.limit is None else self._held(volts, tiles, self.limit)
        if self.exact is None and held is None:
            assert self.k is not None
            return sense.product_(amps, volts, part_of(self.k, tiles), spread), watts
        if self.exact is not None:
            amps.copy_(part_of(self.exact, tiles, rows))
            if share is not None:
                amps.mul_(share)
        else:
            assert self.k is not None
            torch.bmm(volts, part_of(self.k, tiles), out=amps)
        if held is not None:
            amps.sub_(held[0])
            watts -= held[1] if self.counts_energy else 0.0
        return sense.convert_(amps, spread), watts

    def spread_out(self) -> None:
        """Makes the voltages of all tiles now, each with a row of its own."""
        if self.amplitude is not None:
            self.amplitude = self.chosen(self.amplitude, EVERYTHING, EVERYTHING)
        volts = self.driven(EVERYTHING, EVERYTHING)
        self.volts, self.made, self.feed = volts if self.made else volts.clone(), True, None

    def chosen(self, values: Tensor, tiles: slice, rows: slice) -> Tensor:
        """The vectors of some tiles."""
        if self.feed is not None:
            return part_of(values[list(self.feed[tiles])], EVERYTHING, rows)
        if len(values) == 1 < len(self.g):
            values = values.expand(len(self.g), -1, -1)
        return part_of(values, tiles, rows)

    def driven(self, tiles: slice, rows: slice) -> Tensor:
        """The voltages that reach the lines of some tiles, before any droop; [T, batch, driven] V."""
        volts = self.chosen(self.volts, tiles, rows)
        if self.made:
            return volts
        drivers = None if self.drivers is None else self.drivers.take(tiles)
        return self.inputs.made(volts, drivers, self.work.take("volts", volts.shape))

    def _share(self, supply: Supply, volts: Tensor, tiles: slice) -> Tensor:
        """The share of the voltages that is left, [T, batch, 1]; as cells draw it through lines without resistance."""
        lines = part_of(self.g, tiles).sum(2 if self.drive is Side.ROWS else 1)
        return supply.share(volts.abs() @ lines.unsqueeze(-1))

    def _spread(self, volts: Tensor, tiles: slice) -> Spread:
        if not isinstance(self.variance, Tensor) and self.variance == 0:
            return self.amplifier
        squares = torch.mul(volts, volts, out=self.work.take("squares", volts.shape))
        if isinstance(self.variance, Tensor):
            return (squares @ part_of(self.variance, tiles)).add_(self.amplifier**2).sqrt_()
        each = _alike(volts.shape[-1], self.variance, volts.dtype)
        return squares.matmul(each).add_(self.amplifier**2).sqrt_()

    def _held(self, volts: Tensor, tiles: slice, limit: float) -> tuple[Tensor, float] | None:
        """What gates keep back of the currents of ohmic cells, [T, batch, sensed] A, and its power; None for nothing.

        Cell by cell, for the driven lines on which a cell could reach the limit; lines without resistance are meant.
        """
        if max(float(volts.amax()), -float(volts.amin())) * float(self.g.amax()) <= limit:
            return None
        cells = part_of(self.g, tiles) if self.drive is Side.ROWS else part_of(self.g, tiles).transpose(1, 2)
        reach = (volts.abs().amax(1) * cells.amax(2)).amax(0)
        lines = (reach > limit).nonzero().view(-1).tolist()
        if not lines:
            return None
        held, watts = torch.zeros(*volts.shape[:2], cells.shape[2], dtype=volts.dtype), 0.0
        for line in lines:
            amps = volts[:, :, line, None] * cells[:, None, line]
            over = amps - amps.clamp(-limit, limit)
            held += over
            watts += float((over * volts[:, :, line, None]).sum())
        return held, watts
