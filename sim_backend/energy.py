"""Energy that goes into the array, J: voltage times current times time, summed over all that sources give.

It counts cells together with their selectors and, where lines have resistance, the lines with their ends: what drivers
of V give at the current I that they see is V I, wherever it turns to heat (Tellegen, Philips Res. Rep. 7, 259, 1952).
Cells are ohmic: on ideal lines a cell at V takes V^2 G, or V I where a limit I holds its current. Behind wires G is
replaced by the current that flows over V.
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


def share_drawn(volts: Tensor, amps: Tensor, g: Tensor, drive: Side, amplitude: Tensor | None = None) -> float:
    """Power that vectors take through lines with resistance, over ``vector_watts``; 1 where that is none.

    Inputs as widths: what lines that are on at the same time take from each other is counted at the mean voltages.

    Args:
        volts: as in ``vector_watts``.
        amps: currents that the lines take from their drivers, like ``volts``.
        g: as in ``vector_watts``.
        drive: as in ``vector_watts``.
        amplitude: as in ``vector_watts``.
    """
    ideal = vector_watts(volts, g, drive, amplitude)
    on = volts.double() if amplitude is None else volts.double().sign() * amplitude
    return float((on * amps).sum()) / ideal if ideal > 0 else 1.0


def cell_watts(g: Tensor, volts: Cells, limit: Cells | None = None, weight: Tensor | None = None) -> float:
    """Power of cells that each see a voltage, added up over them, W.

    Args:
        g: conductances, [T, R, C] S; behind wires the current over the voltage of the driver.
        volts: across each cell, V; behind wires that of the driver.
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
    *,
    left: tuple[Cells, Cells] = (1.0, 1.0),
) -> float:
    """Energy of programming pulses on the cells they are meant for and on their lines, J.

    A cell counts with the mean of its conductances before and after; exact as long as it moves evenly. Its current is
    that of the voltage that the lines leave to it; times that voltage it heats the cell, times the rest the lines.

    Args:
        before: conductances before, [T, R, C] S.
        after: conductances after, S.
        counts: signed pulse counts, [T, R, C].
        shapes: of pulses up and down, as drivers make them.
        limits: the current let through in a pulse up and down, A; None for no limit.
        left: the share of the voltage that lines leave to each cell in a pulse up and down.
    """
    mean = (before.double() + after.double()) / 2.0
    joules = 0.0
    for sign, shape, limit, share in zip((1, -1), shapes, limits, left, strict=True):
        number = (counts * sign).clamp(min=0)
        if bool(number.any()):
            joules += shape.seconds * cell_watts(mean * share, shape.volts, limit, number)
    return joules
