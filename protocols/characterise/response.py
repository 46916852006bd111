"""The response to pulses: trains up and down with reads in between."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Blocks, BoardSpec
from protocols.characterise.cells import Bench, pulse, read, read_volts, spread, states
from protocols.characterise.noise import Noise
from protocols.characterise.plan import ResponsePlan


@dataclass(frozen=True, slots=True, eq=False)
class Trains:
    """Readings along trains of pulses.

    Args:
        blocks: the kernels.
        cells: int64 [n], flat index in [T, R, C] of the cells that were good in every reading.
        up: [cycles, points + 1, n] S, before the first pulse and after each burst of a train up.
        down: likewise, of a train down.
        counts: int64 [points], pulses of each burst.
        sigma: S, standard error of one reading.
    """

    blocks: Blocks
    cells: Tensor
    up: Tensor
    down: Tensor
    counts: Tensor
    sigma: float

    @property
    def reached(self) -> float:
        """Share of a train's whole movement that was left over for its last fifth; small when bounds were reached."""
        late = -max(2, len(self.counts) // 5)
        whole, rest = ((t[:, -1] - t[:, first]).abs().mean() for t in (self.up,) for first in (0, late))
        return float(rest / whole) if float(whole) > 0 else 0.0


def bursts(plan: ResponsePlan, spec: BoardSpec) -> list[int]:
    """Pulses of each burst of a train."""
    pulses = plan.pulses or max(8, round(1.6 * states(spec)))
    points = min(plan.points, pulses)
    sizes = [pulses * (k + 1) // points - pulses * k // points for k in range(points)]
    if not plan.singles:
        return sizes
    return [part for size in sizes for part in ((1, size - 1) if size > 1 else (1,))]


def respond(bench: Bench, plan: ResponsePlan, noise: Noise) -> Trains:
    """Brings cells down, then drives them up and down in trains.

    Args:
        bench: the board and its cells; stuck ones are best left out.
        plan: how.
        noise: that of a read.
    """
    spec, blocks = bench.spec, spread(bench.spec, plan.kernels)
    sizes = bursts(plan, spec)
    volts = read_volts(spec)
    good = bench.cells(blocks).clone()

    def look() -> Tensor:
        seen = read(bench, blocks, volts, plan.averages)
        good.logical_and_(seen.good)
        return seen.siemens

    pulse(bench, blocks, -sum(sizes))
    last = look()
    trains: dict[int, list[Tensor]] = {1: [], -1: []}
    for _ in range(plan.cycles):
        for sign in (1, -1):
            readings: list[Tensor] = [last]
            for size in sizes:
                pulse(bench, blocks, sign * size)
                readings.append(look())
            last = readings[-1]
            trains[sign].append(torch.stack(readings))
    cells = good.flatten().nonzero().view(-1)
    up, down = (torch.stack(trains[sign]).flatten(2)[..., cells] for sign in (1, -1))
    return Trains(blocks, cells, up, down, torch.tensor(sizes), noise.siemens(volts, plan.averages))


def single_steps(trains: Trains) -> tuple[Tensor, Tensor, Tensor]:
    """All single pulses of trains: conductance before, S, its change, S, and whether the pulse was one up."""
    single = trains.counts == 1
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for t, is_up in ((trains.up, True), (trains.down, False)):
        before, change = t[:, :-1][:, single].flatten(), t.diff(dim=1)[:, single].flatten()
        parts.append((before, change, torch.full(before.shape, is_up)))
    before, change, up = (torch.cat(column) for column in zip(*parts, strict=True))
    return before, change, up
