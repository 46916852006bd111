"""How a ramp decides, cell by cell, that it is done.

One piece of code for the simulator's native ramp and for the ramp that lowering makes of pulses and reads, so that the
two stop at the same point.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hil.contract.ops import Flag, Kind, Ramp, Shape, Stop


def ramp_shape(op: Ramp, point: float) -> Shape:
    """The pulse of a ramp with its knob at a point."""
    return replace(op.shape, volts=point) if op.knob == "volts" else replace(op.shape, gate=point)


class RampProgress:
    """Follows one ramp through its points.

    Args:
        op: the ramp.

    Attributes:
        active: bool [T, R, C], cells that still want the next point.
        amps: last current of each cell, [T, R, C] A.
        applied: int32 [T, R, C], pulses so far.
    """

    def __init__(self, op: Ramp) -> None:
        shape = op.blocks.shape
        self.op = op
        self.sign = op.sign.expand(shape)
        self.active = self.sign != 0
        self.amps = torch.full(shape, torch.nan, dtype=op.points.dtype)
        self.applied = torch.zeros(shape, dtype=torch.int32)
        self._flags = torch.where(self.active, 0, int(Flag.NOT_MEASURED)).to(torch.uint8)
        self._trace: list[tuple[Tensor, Tensor]] = []
        self._first = torch.full(shape, torch.nan, dtype=op.points.dtype)
        self._rises = torch.zeros(shape, dtype=torch.int32)
        self._evidence = torch.zeros(shape, dtype=torch.int32)
        self._window: list[Tensor] = []

    def wanted(self, step: int) -> Tensor:
        """Cells that get point number ``step``, bool [T, R, C]."""
        return self.active & (torch.as_tensor(self.op.start) <= step)

    @property
    def value(self) -> Tensor:
        """The outcome's value: the last current of each cell [T, R, C] A, or with ``trace`` all, [T, R, C, steps]."""
        return torch.stack([amps for amps, _ in self._trace], -1) if self.op.trace else self.amps

    @property
    def flags(self) -> Tensor:
        """Flags like ``value``, uint8; in a trace, the flag that tells how a cell ended stands at its last point."""
        return torch.stack([flags for _, flags in self._trace], -1) if self.op.trace else self._flags

    def skip(self) -> None:
        """Notes a point that no cell wanted."""
        self._note(torch.zeros_like(self.active), self.amps, self._flags)

    def observe(self, step: int, amps: Tensor, flags: Tensor | None) -> None:
        """Takes in the readings after point ``step``, [T, R, C] A, and retires the cells that are done."""
        cells, stop = self.wanted(step), self.op.stop
        self.applied += cells
        now, before = amps.abs(), self.amps.abs()
        self._first = torch.where(cells & self._first.isnan(), now, self._first)
        broken = now > stop.amps_max
        if self.op.kind is Kind.RESET:
            broken |= self._rising(step, now, before, stop)
        reached = self._switched(step, now, before, stop) if stop.slope is not None else self._inside(now, stop)
        last = int(Flag.EXHAUSTED) if step == self.op.points.shape[0] - 1 else 0
        ended = torch.where(broken, int(Flag.ABORTED), torch.where(reached, int(Flag.STOPPED), last)).to(torch.uint8)
        self.active = self.active & ~(cells & (ended != 0))
        seen = ended if flags is None else ended | flags
        self._flags = torch.where(cells, self._flags | seen, self._flags)
        self.amps = torch.where(cells, amps, self.amps)
        self._note(cells, amps, seen)

    def _note(self, cells: Tensor, amps: Tensor, flags: Tensor) -> None:
        if self.op.trace:
            seen = torch.where(cells, flags, int(Flag.NOT_MEASURED)).to(torch.uint8)
            self._trace.append((torch.where(cells, amps, torch.nan), seen))

    def _inside(self, now: Tensor, stop: Stop) -> Tensor:
        if self.op.kind is Kind.SWEEP:
            return torch.zeros_like(self.active)
        return torch.where(self.sign > 0, now >= stop.low, now <= stop.high)

    def _rising(self, step: int, now: Tensor, before: Tensor, stop: Stop) -> Tensor:
        rise = now - before  # NaN at the first reading, and NaN compares false
        self._rises = torch.where(rise > stop.rise, self._rises + 1, 0)
        broken = (rise > stop.jump) | (now - self._first > stop.jump) | (self._rises >= stop.rises)
        if stop.rise_after is not None and float(self.op.points[step]) > stop.rise_after[0]:
            broken |= rise > stop.rise_after[1]
        return broken

    def _switched(self, step: int, now: Tensor, before: Tensor, stop: Stop) -> Tensor:
        """Evidence of switching: the slope over three steps; done once it was seen and the current is flat."""
        self._window = [*self._window[-3:], torch.where(self.wanted(step), now, torch.nan)]
        if len(self._window) == 4 and stop.slope is not None:
            width = float(self.op.points[step] - self.op.points[step - 3])
            self._evidence += ((now - self._window[0]) / width > stop.slope) & ~self._window[0].isnan()
        flat = (now - before).abs() < (stop.flat if stop.flat is not None else float("inf"))
        return (self._evidence >= stop.hits) & flat
