"""Converters and amplifiers: offset and gain of each sensed line, the step of a code, the rails.

Nothing is said about a common gain: a cell whose conductance is known from elsewhere would be needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Flag, Side
from protocols.characterise.cells import Bench, Seen, read, read_volts, spread
from protocols.characterise.plan import NoisePlan

_FEW = 12
"""Fewer distances between values than this tell nothing about a step."""
_LOW = 0.2
"""Share of the read voltage from which gains are measured."""
_MOST_CODES = 1 << 18
"""A converter of more codes cannot be told from none."""


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Repeated single conversions of the same cells at several voltages.

    Args:
        volts: [L] V.
        amps: [L, repeats, T, R, C] A.
        flags: uint8, likewise.
        good: bool [T, R, C], cells that were good in all conversions.
        sensed: dimension of [T, R, C] along which the sensed lines lie.
    """

    volts: Tensor
    amps: Tensor
    flags: Tensor
    good: Tensor
    sensed: int


@dataclass(frozen=True, slots=True, eq=False)
class Amplifiers:
    """What is known about the sensed lines.

    Args:
        offset: [lines] A, current shown at 0 V.
        offset_error: [lines] A, standard error.
        step: A, one code; None when no step can be told from the values.
        lowest: A, lowest value seen; a rail when ``railed_low``.
        highest: A, highest value seen.
        railed_low: the low rail was reached.
        railed_high: the high rail was reached.
        bend: largest deviation of a line's mean current from a straight line, over the current at the highest voltage.
        bend_error: standard error of such a deviation.
    """

    offset: Tensor
    offset_error: Tensor
    step: float | None
    lowest: float
    highest: float
    railed_low: bool
    railed_high: bool
    bend: float
    bend_error: float


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """Gain of each sensed line relative to the mean of all, from reading cells through both of their lines.

    Args:
        rows: [rows], of the amplifiers that sense rows, 1 on average over both sides.
        cols: [cols], of those that sense columns.
        rows_error: standard error of one of them.
        cols_error: standard error of one of them.
    """

    rows: Tensor
    cols: Tensor
    rows_error: float
    cols_error: float


def levels(bench: Bench, plan: NoisePlan) -> Levels:
    """Reads the same cells again and again, from the lowest voltage up."""
    spec, blocks = bench.spec, spread(bench.spec, plan.kernels)
    volts = sorted({read_volts(spec, share) for share in plan.levels})
    seen = [[read(bench, blocks, v, 1) for _ in range(plan.repeats)] for v in volts]
    amps = torch.stack([torch.stack([s.amps for s in level]) for level in seen])
    flags = torch.stack([torch.stack([s.flags for s in level]) for level in seen])
    good = torch.stack([torch.stack([s.good for s in level]) for level in seen]).flatten(0, 1).all(0)
    sensed = 1 if spec.geometry.drive is Side.COLS else 2
    return Levels(torch.tensor(volts, dtype=torch.float64), amps, flags, good, sensed)


def amplifiers(data: Levels) -> Amplifiers:
    """Straight lines through the mean currents of each cell, averaged over the cells of a sensed line."""
    means = torch.where(data.good, data.amps.mean(1), torch.nan)
    x = data.volts - data.volts.mean()
    slope = torch.einsum("l,ltrc->trc", x, means) / x.square().sum()
    at_zero = means.mean(0) - slope * data.volts.mean()
    line = at_zero + slope * data.volts.view(-1, 1, 1, 1)
    others = tuple(d for d in range(3) if d != data.sensed)
    count = data.good.sum(others).clamp(min=1)
    offset = at_zero.nansum(others) / count
    spread_ = (at_zero - _along(offset, data.sensed)).square().nansum(others) / (count - 1).clamp(min=1)
    bent = (means - line).nansum(tuple(d + 1 for d in others)) / count
    scale = float(means[-1].nanmean().abs()) or 1.0
    residual = (means - line).square().nanmean() / float(count.double().mean())
    values = data.amps[torch.isfinite(data.amps)]
    return Amplifiers(
        offset=offset,
        offset_error=(spread_ / count).sqrt(),
        step=code_step(values),
        lowest=float(values.min()),
        highest=float(values.max()),
        railed_low=bool((data.flags & int(Flag.SAT_LOW)).any()),
        railed_high=bool((data.flags & int(Flag.SAT_HIGH)).any()),
        bend=float(bent.abs().max()) / scale,
        bend_error=float(residual.sqrt()) / scale,
    )


def code_step(values: Tensor) -> float | None:
    """The step of the code that values are whole multiples of, up to an offset; None when there is none to be seen.

    The smallest distance between different values is taken and made better by a straight line through all of them.
    """
    ordered = values.flatten().sort().values
    distinct = torch.cat([ordered[:1], ordered[1:][ordered.diff() > 0]])
    fine = 1e-6 * float(distinct.abs().max()) if distinct.numel() else 0.0  # float32 values of one code differ a little
    gaps = distinct.diff()
    gaps = gaps[gaps > fine]
    if gaps.numel() < _FEW:
        return None
    step = float(gaps.min())
    places, codes = distinct - distinct[0], distinct
    for _ in range(3):  # each line reaches farther than the one before
        codes = (places / step).round()
        step = float((codes * places).sum() / codes.square().sum())
    off = (places / step - (places / step).round()).abs().max()
    return step if float(off) < 0.05 and float(codes.max()) < _MOST_CODES else None


def gains(bench: Bench, plan: NoisePlan) -> Gains | None:
    """Reads cells through rows and through columns; None where the board can drive one side only.

    The logarithm of the ratio of the two currents of a cell is the difference of two line gains, whatever its
    conductance is: a two-way layout whose least squares are means.
    """
    spec = bench.spec
    if not {Side.ROWS, Side.COLS} <= set(spec.reading.sides):
        return None
    blocks, averages = spread(spec, plan.kernels), max(4, plan.repeats)

    def through(driven: Side) -> Seen:
        """Differences between two voltages, in which offsets drop out."""
        low, high = (read(bench, blocks, read_volts(spec, share), averages, drive=driven) for share in (_LOW, 1.0))
        return Seen(high.amps - low.amps, high.flags | low.flags, high.volts - low.volts)

    return two_way(through(Side.COLS), through(Side.ROWS))


def two_way(by_row: Seen, by_col: Seen) -> Gains | None:
    """Line gains from the currents of the same cells into row and into column amplifiers."""
    large = torch.minimum(by_row.amps, by_col.amps)
    good = by_row.good & by_col.good & (large > 0)
    if not bool(good.any()):
        return None
    good &= large > 0.25 * float(large[good].median())  # small currents have a large relative noise
    ratio = torch.where(good, (by_row.amps / by_col.amps).log(), torch.nan)
    middle = float(ratio.nanmean())
    rows, cols = torch.zeros(ratio.shape[1]).double(), torch.zeros(ratio.shape[2]).double()
    for _ in range(50):  # alternating means: least squares also where cells are missing
        rows = (ratio - middle + cols).nanmean((0, 2)).nan_to_num(0.0)
        cols = -(ratio - middle - rows[:, None]).nanmean((0, 1)).nan_to_num(0.0)
    rest = ratio - middle - rows[:, None] + cols
    sigma = float(rest[good].std())
    per_row, per_col = (float(good.sum(dims).double().mean()) for dims in ((0, 2), (0, 1)))
    return Gains(
        (rows + middle / 2).exp(), (cols - middle / 2).exp(), sigma / max(per_row, 1) ** 0.5,
        sigma / max(per_col, 1) ** 0.5,
    )  # fmt: skip


def _along(line: Tensor, dim: int) -> Tensor:
    shape = [1, 1, 1]
    shape[dim] = -1
    return line.view(shape)
