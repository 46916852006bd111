"""What the guard checks of the operations that write: pulses, coincidence pulses and ramps."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from hil.contract import Blocks, BoardSpec, Kind, Outer, Pulse, Ramp, Sense, Shape, Stop
from hil.contract.cost import coincidences
from hil.errors import InvalidOperation
from hil.lab.limits import LimitChecks, place
from hil.lab.wellformed import (
    FLOATS,
    INTEGERS,
    MOST,
    KnownBlocks,
    cells,
    extremes,
    member,
    number,
    pulse_shape,
    seen,
    tensor,
    whole,
)

MOST_POINTS = 100_000


class WriteChecks:
    """The checks of operations that write.

    Each check gives a private copy of the operation, the largest voltage across a cell in V, and the worst-case number
    of pulses of each cell, int64 [T, R, C].

    Args:
        spec: the board.
        limits: its limits.
        blocks: the blocks known to lie on its chip.
    """

    def __init__(self, spec: BoardSpec, limits: LimitChecks, blocks: KnownBlocks) -> None:
        self._spec, self._limits, self._blocks = spec, limits, blocks

    def pulse(self, op: Pulse) -> tuple[Pulse, float, Tensor]:
        """Checks plain pulses."""
        blocks = self._blocks.writing(op.blocks)
        counts = cells("Pulse", "counts", op.counts, blocks, INTEGERS)
        cycles = whole("Pulse", "cycles", op.cycles)
        member("Pulse", "alternate", op.alternate, bool)
        low, high = extremes(counts)
        most = int(max(high, -low)) * cycles  # Python's whole numbers do not overflow
        self._limits.at_most("pulses_per_run", most, place(blocks))
        if most > MOST:
            raise InvalidOperation("Pulse", f"{most} pulses on one cell are more than one operation can count")
        up, down, peak = self._both_shapes("Pulse", op, blocks)
        worst = (counts.to(torch.int64).abs() * cycles).expand(blocks.shape)
        copy = Pulse(blocks, counts.to(torch.int32), up, down, cycles, op.alternate, op.unselected)
        return copy, peak, worst

    def outer(self, op: Outer) -> tuple[Outer, float, Tensor]:
        """Checks coincidence pulses."""
        blocks = self._blocks.writing(op.blocks)
        rows = self._bits("row_bits", op.row_bits, len(blocks), blocks.n_rows)
        cols = self._bits("col_bits", op.col_bits, len(blocks), blocks.n_cols)
        if rows.shape[1] != cols.shape[1]:
            raise InvalidOperation("Outer", "row_bits and col_bits must have the same number of slots")
        up, down, peak = self._both_shapes("Outer", op, blocks)
        copy = Outer(blocks, rows, cols, up, down, op.unselected)
        return copy, peak, coincidences(copy).abs().to(torch.int64)

    def ramp(self, op: Ramp) -> tuple[Ramp, float, Tensor]:
        """Checks a ramp; with ``back``, the way down may pulse a cell at every point once more."""
        blocks = self._blocks.writing(op.blocks)
        kind = member("Ramp", "kind", op.kind, Kind)
        for name in ("back", "trace"):
            member("Ramp", name, getattr(op, name), bool)
        sign = cells("Ramp", "sign", op.sign, blocks, (torch.int8,))
        lowest = -1 if kind is not Kind.FORM else 0
        if not (lowest <= extremes(sign)[0] and extremes(sign)[1] <= 1):
            wanted = "-1, 0 and 1" if lowest else "0 and 1, since forming raises the conductance,"
            raise InvalidOperation("Ramp", f"sign must hold {wanted} only")
        points = self._points(op, blocks)
        steps = points.shape[0]
        start = self._start(op.start, blocks, steps)
        self._ramp_sense(op, blocks)
        shape, peak = self._ramp_shape(op, points, blocks, kind)
        stop = self._stop(op.stop, blocks, kind)
        visits = steps - torch.as_tensor(start, dtype=torch.int64) + (steps - 1 if op.back else 0)
        worst = ((sign != 0) * visits).expand(blocks.shape)
        copy = replace(op, blocks=blocks, sign=sign, points=points, shape=shape, start=start, stop=stop)
        return copy, peak, worst

    def _both_shapes(self, name: str, op: Pulse | Outer, blocks: Blocks) -> tuple[Shape, Shape, float]:
        self._limits.unselected(name, op.unselected)
        up, down = pulse_shape(name, "up", op.up, blocks), pulse_shape(name, "down", op.down, blocks)
        peaks = [self._limits.shape(name, shape, blocks, op.unselected, Kind.SET) for shape in (up, down)]
        return up, down, max(peaks)

    @staticmethod
    def _bits(name: str, given: object, tiles: int, lines: int) -> Tensor:
        bits = tensor("Outer", name, given, (torch.int8,))
        if bits.dim() != 3 or bits.shape[0] != tiles or bits.shape[2] != lines or bits.shape[1] > MOST_POINTS:
            wanted = f"int8 [{tiles}, up to {MOST_POINTS} slots, {lines}]"
            raise InvalidOperation("Outer", f"{name} must be {wanted}, got {seen(bits)}")
        if bits.shape[1] == 0:
            return bits
        least, most = bits.amin(1), bits.amax(1)
        if int(most.max()) > 1 or int(least.min()) < -1:
            raise InvalidOperation("Outer", f"{name} must hold -1, 0 and 1 only")
        if bool(((most > 0) & (least < 0)).any()):
            raise InvalidOperation("Outer", f"a line of {name} changes its sign between slots")
        return bits

    def _points(self, op: Ramp, blocks: Blocks) -> Tensor:
        points = tensor("Ramp", "points", op.points, FLOATS)
        if points.dim() != 1 or not 1 <= points.shape[0] <= MOST_POINTS:
            raise InvalidOperation("Ramp", f"points must be float [1 to {MOST_POINTS} steps], got {seen(points)}")
        if not all(math.isfinite(value) for value in extremes(points)):
            raise InvalidOperation("Ramp", "points hold a value that is not finite")
        if op.knob not in ("volts", "gate"):
            raise InvalidOperation("Ramp", f"knob must be 'volts' or 'gate', got {ascii(op.knob)[:40]}")
        self._limits.steps(op.knob, points, place(blocks))
        return points

    @staticmethod
    def _start(given: object, blocks: Blocks, steps: int) -> int | Tensor:
        if not isinstance(given, Tensor):
            return whole("Ramp", "start", given, 0, steps - 1)
        start = cells("Ramp", "start", given, blocks, INTEGERS)
        first, last = extremes(start)
        if first < 0 or last >= steps:
            raise InvalidOperation("Ramp", f"start must lie between 0 and {steps - 1}, got {first} to {last}")
        return start

    def _ramp_sense(self, op: Ramp, blocks: Blocks) -> None:
        sense = member("Ramp", "sense", op.sense, Sense)
        amps = "form_amps" if op.kind is Kind.FORM else "cell_amps"
        self._limits.sense("Ramp", sense, self._spec.geometry.drive, amps)
        if sense.volts is not None:
            self._limits.cell_volts("Ramp", sense.volts, blocks)
        elif not self._spec.reading.inside_pulse:
            raise InvalidOperation("Ramp", "the board cannot read inside a pulse; give sense.volts")

    def _ramp_shape(self, op: Ramp, points: Tensor, blocks: Blocks, kind: Kind) -> tuple[Shape, float]:
        """Checks the pulse as given, since a board sees that too, and with its knob at the points."""
        shape, unselected = pulse_shape("Ramp", "shape", op.shape, blocks), op.sense.unselected
        if op.knob == "gate":
            self._limits.gate("Ramp", points)
            full = shape if shape.gate is not None else replace(shape, gate=0.0)
            return shape, self._limits.shape("Ramp", full, blocks, unselected, kind)
        given = self._limits.shape("Ramp", shape, blocks, unselected, kind)
        return shape, max(given, self._limits.amplitude("Ramp", points, place(blocks), unselected, kind))

    def _stop(self, given: object, blocks: Blocks, kind: Kind) -> Stop:
        """A private copy of the stop rules; a NaN among them would switch a rule off unseen."""
        stop = member("Ramp", "stop", given, Stop)
        if not number("Ramp", "stop.amps_max", stop.amps_max) > 0:
            raise InvalidOperation("Ramp", f"stop.amps_max must be above 0, got {stop.amps_max}")
        self._limits.at_most("form_amps" if kind is Kind.FORM else "cell_amps", stop.amps_max, place(blocks))
        for name in ("rises", "hits"):
            whole("Ramp", f"stop.{name}", getattr(stop, name))
        after = stop.rise_after
        if after is not None and (type(after) is not tuple or len(after) != 2):
            raise InvalidOperation("Ramp", "stop.rise_after must be a pair of numbers")
        rules = {"jump": stop.jump, "rise": stop.rise, "slope": stop.slope, "flat": stop.flat}
        rules |= {f"rise_after[{i}]": value for i, value in enumerate(after or ())}
        for name, value in rules.items():
            if value is not None:
                _or_endless(f"stop.{name}", value)
        low, high = self._end("low", stop.low, blocks), self._end("high", stop.high, blocks)
        return replace(stop, low=low, high=high)

    @staticmethod
    def _end(name: str, value: object, blocks: Blocks) -> float | Tensor:
        """One end of the stop window: any number but NaN, or a private copy of a tensor of such."""
        if not isinstance(value, Tensor):
            return _or_endless(f"stop.{name}", value)
        copy = cells("Ramp", f"stop.{name}", value, blocks, FLOATS)
        if math.isnan(extremes(copy)[0]):
            raise InvalidOperation("Ramp", f"stop.{name} holds NaN")
        return copy


def _or_endless(name: str, value: object) -> float:
    """Gives a finite number back, or infinity: the bound that is never reached."""
    return value if isinstance(value, float) and math.isinf(value) else number("Ramp", name, value)
