"""The first look at all cells, at the lowest voltage: what conducts too much to be read or pulsed any further."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Backend, BoardSpec
from hil.converters import pick_range
from protocols.characterise.cells import Bench, read, read_volts, spread


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Every cell at a low voltage.

    Args:
        siemens: [K, R, C] S.
        alive: bool [K, R, C], cells that may be read at the usual voltage and pulsed.
        volts: V across a cell.
        limit: S, the conductance from which a cell is left alone.
    """

    siemens: Tensor
    alive: Tensor
    volts: float
    limit: float


def scan(backend: Backend, share: float, averages: int = 4) -> Scan:
    """Reads the whole chip at a share of the read voltage."""
    spec, volts = backend.spec, read_volts(backend.spec, share)
    everything = torch.ones(spec.cells, dtype=torch.bool)
    seen = read(Bench(backend, everything), spread(spec, None), volts, averages)
    limit = bearable(spec)
    alive = seen.good & (seen.siemens.abs() < limit)
    return Scan(seen.siemens, alive, volts, limit)


def bearable(spec: BoardSpec) -> float:
    """The conductance that stays below the cell current's limit and the amplifier's rail, S, with a tenth to spare."""
    chosen = pick_range(spec.reading.ranges, None)
    amps = spec.limits.cell_amps
    if chosen is not None:
        amps = min(amps, chosen.positive)
    return 0.9 * amps / read_volts(spec)
