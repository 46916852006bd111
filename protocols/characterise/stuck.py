"""The stuck map: cells that move neither up nor down, with the probability that this is so.

A cell that is stuck shows the noise of a read. One that works moves by up to twice the median, and hardly ever by
little: its step is taken as spread with a density that rises linearly from 0. With a prior share of stuck cells, Bayes'
rule gives the probability from both steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from hil.contract import Blocks, BoardSpec
from protocols.characterise.cells import Bench, pulse, read, read_volts, spread, states
from protocols.characterise.noise import Noise
from protocols.characterise.plan import StuckPlan

_CLEAR = 10.0
"""A working cell moves by at least so many standard deviations of a read, or the trains are too short to tell."""
_SHORT = 0.25
"""A stuck cell this share of a window above the window counts as a short."""


class Cell(IntEnum):
    """What a cell is."""

    UNKNOWN = 0
    GOOD = 1
    LOW = 2
    HIGH = 3
    VALUE = 4
    OPEN = 5
    SHORT = 6


@dataclass(frozen=True, slots=True, eq=False)
class StuckMap:
    """Which cells of the measured kernels move.

    Args:
        blocks: the kernels.
        first: [T, R, C] S, as found.
        low: [T, R, C] S, after the first train down.
        up: [T, R, C] S, how far the train up moved a cell; NaN where it was not measured.
        down: [T, R, C] S, how far the last train moved it back, positive.
        stuck: bool [T, R, C].
        confidence: [T, R, C], probability that ``stuck`` is right.
        siemens: [T, R, C] S, mean of the readings.
        sigma: S, standard error of one reading.
        pulses: pulses of each train.
        clear: the median cell moves far more than the noise of a read; else most cells are stuck, or the trains are too
            short to tell.
    """

    blocks: Blocks
    first: Tensor
    low: Tensor
    up: Tensor
    down: Tensor
    stuck: Tensor
    confidence: Tensor
    siemens: Tensor
    sigma: float
    pulses: int
    clear: bool

    @property
    def weak(self) -> Tensor:
        """Cells that move, but less than a tenth of the median cell."""
        moved = self.up + self.down
        return ~self.stuck & (moved < 0.1 * float(moved[~self.stuck & moved.isfinite()].median()))


def train(plan: StuckPlan, spec: BoardSpec) -> int:
    """Pulses of one train."""
    return plan.pulses or max(4, round(states(spec) / 3))


def stuck_map(bench: Bench, plan: StuckPlan, noise: Noise) -> StuckMap:
    """Reads, and reads again after a train of pulses down, up, and down."""
    spec, blocks, count = bench.spec, spread(bench.spec, plan.kernels), train(plan, bench.spec)
    volts = read_volts(spec)
    seen = [read(bench, blocks, volts, plan.averages)]
    for sign in (-1, 1, -1):
        pulse(bench, blocks, sign * count)
        seen.append(read(bench, blocks, volts, plan.averages))
    maps = torch.stack([torch.where(one.good, one.siemens, torch.nan) for one in seen])
    return judge(blocks, maps, noise.siemens(volts, plan.averages), plan.prior, count)


def judge(blocks: Blocks, maps: Tensor, sigma: float, prior: float, pulses: int) -> StuckMap:
    """Tells stuck cells from working ones.

    Args:
        blocks: the kernels.
        maps: [4, T, R, C] S: as found, after down, after up, after down; NaN where a cell could not be read.
        sigma: S, standard error of one reading.
        prior: share of cells that is expected to be stuck.
        pulses: pulses of each train.
    """
    up, down = maps[2] - maps[1], maps[2] - maps[3]
    known = up.isfinite() & down.isfinite()
    median = float(((up + down) / 2)[known].abs().median()) if bool(known.any()) else 0.0
    width = math.sqrt(2.0) * max(sigma, 1e-3 * median, 1e-15)
    usual = max(median, _CLEAR * width)  # where most cells are stuck the median is noise
    odds = torch.full(up.shape, math.log(prior / (1 - prior)), dtype=torch.float64)
    for step in (up, down):
        still = -0.5 * (step / width).square() - math.log(width * math.sqrt(2 * math.pi))
        odds += still - torch.log(step.abs().clamp(min=width) / (2 * usual**2))
    chance = torch.sigmoid(odds)
    stuck = torch.where(known, odds > 0, True)
    confidence = torch.where(known, torch.where(stuck, chance, 1 - chance), 1.0)
    siemens = torch.where(stuck, maps.nanmean(0), maps[0])
    return StuckMap(
        blocks, maps[0], maps[1], up, down, stuck, confidence, siemens, sigma, pulses, median >= _CLEAR * width
    )


def kinds(found: StuckMap, scanned: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """What each cell is, uint8 ``Cell`` [T, R, C].

    Args:
        found: the map.
        scanned: [T, R, C] S, as the scan saw the cells; it stands in for cells that conduct too much to be read.
        low: [n] S, lower bounds of working cells.
        high: [n] S, upper bounds.
    """
    bottom, top = float(low.mean()), float(high.mean())
    near_low, near_high = (max(2 * float(b.std()), 0.03 * (top - bottom)) + 3 * found.sigma for b in (low, high))
    g = torch.where(found.siemens.isfinite(), found.siemens, scanned)
    kind = torch.full(g.shape, int(Cell.VALUE), dtype=torch.uint8)
    kind[(g - bottom).abs() <= near_low] = int(Cell.LOW)
    kind[(g - top).abs() <= near_high] = int(Cell.HIGH)
    kind[g > top + _SHORT * (top - bottom) + near_high] = int(Cell.SHORT)
    kind[g.abs() < max(3 * found.sigma, bottom / 4)] = int(Cell.OPEN)
    return torch.where(found.stuck, kind, int(Cell.GOOD)).to(torch.uint8)
