"""Energy that goes into the cells, J: voltage times current times time, summed over all of them.

It counts what sources give to cells together with their selectors. Cells are ohmic and lines have no resistance: a
cell at V takes V^2 G, or V I where a limit I holds its current. These are the places to swap for node voltages.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Cells, Shape, Side
from hil.contract.bounds import above_zero
from hil.units import Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """That energy is counted, and what it takes to count it.

    Args:
        source: where the numbers come from.
        read_seconds: how long the read voltage is on in one conversion.
    """

    source: str = ""
    read_seconds: Seconds

    def __post_init__(self) -> None:
        above_zero(self, "read_seconds")


def vector_watts(volts: Tensor, g: Tensor, drive: Side, amplitude: Tensor | None = None) -> float:
    """Power of vectors on cells, added up over vectors and tiles, W.

    Args:
        volts: driven voltages, [T, batch, driven] V.
        g: conductances, [T, R, C] S.
        drive: the side that is driven; the other is held at 0 V.
        amplitude: [T, batch, 1] V where inputs are widths at this amplitude and ``volts`` is what they come to.
    """
    squares = volts.square() if amplitude is None else volts.abs() * amplitude
    lines = g.sum(2 if drive is Side.ROWS else 1, dtype=torch.float64)
    return float(squares.sum(1, dtype=torch.float64).mul_(lines).sum())


def cell_watts(g: Tensor, volts: Cells, limit: Cells | None = None, weight: Tensor | None = None) -> float:
    """Power of cells that each see a voltage, added up over them, W.

    Args:
        g: conductances, [T, R, C] S.
        volts: across each cell, V.
        limit: the current that a gate or a source lets through, A; None for no limit.
        weight: how often each cell counts; None for once.
    """
    size = torch.as_tensor(volts, dtype=torch.float64).abs()
    amps = size * g
    if limit is not None:
        amps = torch.minimum(amps, torch.as_tensor(limit, dtype=torch.float64))
    watts = (amps * size).expand(g.shape)
    return float(watts.sum() if weight is None else (watts * weight).sum())


def pulse_joules(
    before: Tensor,
    after: Tensor,
    counts: Tensor,
    shapes: tuple[Shape, Shape],
    limits: tuple[Cells | None, Cells | None],
) -> float:
    """Energy of programming pulses on the cells they are meant for, J.

    A cell counts with the mean of its conductances before and after; exact as long as it moves evenly.

    Args:
        before: conductances before, [T, R, C] S.
        after: conductances after, S.
        counts: signed pulse counts, [T, R, C].
        shapes: of pulses up and down.
        limits: the current let through in a pulse up and down, A; None for no limit.
    """
    mean = (before.double() + after.double()) / 2.0
    joules = 0.0
    for sign, shape, limit in zip((1, -1), shapes, limits, strict=True):
        number = (counts * sign).clamp(min=0)
        if bool(number.any()):
            joules += shape.seconds * cell_watts(mean, shape.volts, limit, number)
    return joules
