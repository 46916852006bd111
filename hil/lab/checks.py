"""What the guard checks: every operation of a list, as commanded, before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hil.contract import (
    Bias,
    Blocks,
    BoardSpec,
    Kind,
    Op,
    Outer,
    Probe,
    Pulse,
    Ramp,
    Read,
    ReadCells,
    Sense,
    Shape,
    Side,
    Wait,
)
from hil.contract.cost import coincidences
from hil.errors import InvalidOperation, LimitExceeded
from hil.lab.wear import Wear

_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)
_FLOATS = (torch.float32, torch.float64)
_SHARES = {Bias.HALF: 2.0, Bias.THIRD: 3.0}


@dataclass(frozen=True, slots=True)
class Checked:
    """An operation that may be sent.

    Args:
        op: a private copy.
        peak: V, the largest voltage across a cell.
        counts: worst-case pulses of each cell [T, R, C], charged; None for an operation that does not write.
    """

    op: Op
    peak: float
    counts: Tensor | None = None


class Checks:
    """The checks of one board.

    Args:
        spec: its limits.
        wear: its pulse counters; charged here.
    """

    def __init__(self, spec: BoardSpec, wear: Wear) -> None:
        self._spec, self._wear = spec, wear
        self._seen: dict[Blocks, bool] = {}
        reading, limits = spec.reading, spec.limits
        bound = min(limits.read_array_volts, limits.line_volts)
        self._read_low = max(-bound, reading.volts_low)
        self._read_high = min(bound, reading.volts_high)

    def list(self, ops: Sequence[Op]) -> list[Checked]:
        """Checks a list as a whole and charges its pulses; when one operation is refused, nothing is charged."""
        checked: list[Checked] = []
        try:
            for op in ops:
                checked.append(self._one(op))
        except Exception:
            for done in checked:
                if done.counts is not None and isinstance(done.op, Pulse | Outer | Ramp):
                    self._wear.take_back(done.op.blocks, done.counts)
            raise
        return checked

    def _one(self, op: Op) -> Checked:
        match op:
            case Read():
                return self._read(op)
            case ReadCells():
                return self._read_cells(op)
            case Pulse():
                return self._pulse(op)
            case Outer():
                return self._outer(op)
            case Ramp():
                return self._ramp(op)
            case Wait():
                if not (math.isfinite(op.seconds) and op.seconds >= 0):
                    raise InvalidOperation("Wait", f"seconds must be finite and at least 0, got {op.seconds}")
                return Checked(op, 0.0)
            case Probe():
                unknown = [name for name in op.names if name not in self._spec.abilities.probes]
                if unknown:
                    known = ", ".join(self._spec.abilities.probes) or "none"
                    raise InvalidOperation("Probe", f"the board has no probe {unknown[0]!r}; it has {known}")
                return Checked(op, 0.0)
            case _:
                raise InvalidOperation(type(op).__name__, "this is not an operation of the contract")

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read(self, op: Read) -> Checked:
        blocks, volts = op.blocks, op.volts
        self._blocks(blocks, writing=False)
        if volts.dim() != 3 or volts.dtype not in _FLOATS:
            raise InvalidOperation("Read", f"volts must be float [feeds, batch, driven], got {_seen(volts)}")
        if volts.shape[2] != blocks.lines(op.drive):
            lines = blocks.lines(op.drive)
            raise InvalidOperation("Read", f"volts drive {volts.shape[2]} lines and the blocks have {lines}")
        feeds, tiles = volts.shape[0], len(blocks)
        if op.feed is None:
            if feeds != tiles:
                raise InvalidOperation("Read", f"{feeds} rows of volts for {tiles} blocks, and no feed")
        elif len(op.feed) != tiles or min(op.feed) < 0 or max(op.feed) >= feeds:
            raise InvalidOperation("Read", f"feed must name one of {feeds} rows for each of {tiles} blocks")
        if op.pairs and blocks.lines(op.drive.other) % 2:
            raise InvalidOperation("Read", "pairs need an even number of sensed lines")
        self._sense("Read", op.sense, op.drive)
        if op.sense.volts is not None:
            raise InvalidOperation("Read", "a Read brings its own vectors; leave sense.volts out")
        volts = volts.clone()
        peak = self._vectors(op, volts) if volts.numel() else 0.0
        return Checked(Read(blocks, volts, op.drive, op.sense, op.feed, op.pairs), peak)

    def _vectors(self, op: Read, volts: Tensor) -> float:
        """Compares all input voltages at once; NaN shows in the extremes too. Returns the largest magnitude."""
        low, high = (float(v) for v in torch.aminmax(volts))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InvalidOperation("Read", f"volts hold a value that is not finite ({self._worst(op, volts)})")
        for value, limit, bad in (
            (high, self._read_high, high > _cast(self._read_high, volts.dtype)),
            (low, self._read_low, low < _cast(self._read_low, volts.dtype)),
        ):
            if bad:
                key = "reading.volts_low" if limit == self._spec.reading.volts_low else "limits.read_array_volts"
                self._refuse("read voltage", value, limit, "V", self._worst(op, volts), key)
        return max(high, -low)

    def _worst(self, op: Read, volts: Tensor) -> str:
        where = volts.abs().nan_to_num_(torch.inf, posinf=torch.inf).argmax()
        feed, sample, line = (int(i) for i in torch.unravel_index(where, volts.shape))
        tile = feed if op.feed is None else op.feed.index(feed) if feed in op.feed else 0
        return f"kernel {op.blocks.kernel[tile]}, vector {sample}, line {line}"

    def _read_cells(self, op: ReadCells) -> Checked:
        self._blocks(op.blocks, writing=False)
        if op.mask is not None:
            self._fits("ReadCells", "mask", op.mask, op.blocks, (torch.bool,))
        self._sense("ReadCells", op.sense, op.drive)
        volts = op.sense.volts
        if volts is None:
            raise InvalidOperation("ReadCells", "sense.volts is needed")
        self._cell_volts("ReadCells", volts, op.blocks)
        return Checked(replace(op, mask=None if op.mask is None else op.mask.clone()), abs(volts))

    def _cell_volts(self, op: str, volts: float, blocks: Blocks) -> None:
        if not math.isfinite(volts):
            raise InvalidOperation(op, f"the read voltage is not finite: {volts}")
        reading, where = self._spec.reading, f"kernel {blocks.kernel[0]}" if blocks.kernel else "no block"
        self._at_most("read voltage", abs(volts), self._spec.limits.read_cell_volts, "V", where, "read_cell_volts")
        self._at_most("line voltage", abs(volts), self._spec.limits.line_volts, "V", where, "line_volts")
        if volts < reading.volts_low:
            self._refuse("read voltage", volts, reading.volts_low, "V", where, "reading.volts_low")
        if volts > reading.volts_high:
            self._refuse("read voltage", volts, reading.volts_high, "V", where, "reading.volts_high")

    def _sense(self, op: str, sense: Sense, drive: Side) -> None:
        if drive not in self._spec.reading.sides:
            raise InvalidOperation(op, f"the board cannot drive its {drive.value} in a read")
        if isinstance(sense.averages, bool) or sense.averages < 1 or sense.averages != int(sense.averages):
            raise InvalidOperation(op, f"averages must be a whole number of at least 1, got {sense.averages}")
        if sense.gate is not None:
            self._gate(op, sense.gate)
        if sense.full_scale is not None and not (math.isfinite(sense.full_scale) and sense.full_scale > 0):
            raise InvalidOperation(op, f"full_scale must be finite and above 0, got {sense.full_scale}")
        self._compliance(op, sense.amps, reading=True)

    # -- writing ---------------------------------------------------------------------------------------------------

    def _pulse(self, op: Pulse) -> Checked:
        self._blocks(op.blocks, writing=True)
        self._fits("Pulse", "counts", op.counts, op.blocks, _INTEGERS)
        if isinstance(op.cycles, bool) or op.cycles < 1 or op.cycles != int(op.cycles):
            raise InvalidOperation("Pulse", f"cycles must be a whole number of at least 1, got {op.cycles}")
        counts = op.counts.to(torch.int64, copy=True)
        most = 0
        if counts.numel():
            low, high = (int(v) for v in torch.aminmax(counts))
            most = max(high, -low)
        peak = max(self._shape("Pulse", s, op.blocks, op.unselected, Kind.SET) for s in (op.up, op.down))
        budget, where = self._spec.limits.pulses_per_run, f"kernel {op.blocks.kernel[0]}" if op.blocks.kernel else ""
        self._at_most("pulses per run", most * op.cycles, budget, "", where, "pulses_per_run")
        worst = (counts.abs() * op.cycles).expand(op.blocks.shape)
        self._wear.charge(op.blocks, worst)
        copy = replace(op, counts=counts.to(torch.int32), up=_copy(op.up), down=_copy(op.down))
        return Checked(copy, peak, worst)

    def _outer(self, op: Outer) -> Checked:
        self._blocks(op.blocks, writing=True)
        tiles, rows, cols = op.blocks.shape
        for name, bits, lines in (("row_bits", op.row_bits, rows), ("col_bits", op.col_bits, cols)):
            if bits.dtype != torch.int8 or bits.dim() != 3 or bits.shape[0] != tiles or bits.shape[2] != lines:
                wanted = f"int8 [{tiles}, slots, {lines}]"
                raise InvalidOperation("Outer", f"{name} must be {wanted}, got {_seen(bits)}")
            if bits.numel() and (int(bits.max()) > 1 or int(bits.min()) < -1):
                raise InvalidOperation("Outer", f"{name} must hold -1, 0 and 1 only")
            if bits.numel() and bool(((bits > 0).any(1) & (bits < 0).any(1)).any()):
                raise InvalidOperation("Outer", f"a line of {name} changes its sign between slots")
        if op.row_bits.shape[1] != op.col_bits.shape[1]:
            raise InvalidOperation("Outer", "row_bits and col_bits must have the same number of slots")
        peak = max(self._shape("Outer", s, op.blocks, op.unselected, Kind.SET) for s in (op.up, op.down))
        up, down = _copy(op.up), _copy(op.down)
        copy = replace(op, row_bits=op.row_bits.clone(), col_bits=op.col_bits.clone(), up=up, down=down)
        worst = coincidences(copy).abs().to(torch.int64)
        self._wear.charge(op.blocks, worst)
        return Checked(copy, peak, worst)

    def _ramp(self, op: Ramp) -> Checked:
        self._blocks(op.blocks, writing=True)
        self._fits("Ramp", "sign", op.sign, op.blocks, (torch.int8,))
        if op.sign.numel() and (int(op.sign.max()) > 1 or int(op.sign.min()) < -1):
            raise InvalidOperation("Ramp", "sign must hold -1, 0 and 1 only")
        steps = self._points(op)
        if op.sense.volts is None and not self._spec.reading.inside_pulse:
            raise InvalidOperation("Ramp", "the board cannot read inside a pulse; give sense.volts")
        self._sense("Ramp", op.sense, self._spec.geometry.drive)
        if op.sense.volts is not None:
            self._cell_volts("Ramp", op.sense.volts, op.blocks)
        first = op.start if isinstance(op.start, int) else int(op.start.min())
        last = op.start if isinstance(op.start, int) else int(op.start.max())
        if first < 0 or last >= steps:
            raise InvalidOperation("Ramp", f"start must lie between 0 and {steps - 1}, got {first} to {last}")
        peak = self._ramp_shapes(op)
        self._stop(op)
        begin = op.start if isinstance(op.start, int) else op.start.to(torch.int64)
        worst = ((op.sign != 0).to(torch.int64) * (steps - begin)).expand(op.blocks.shape)
        if op.kind is Kind.FORM:
            self._wear.may_form(op.blocks, op.sign != 0)
        self._wear.charge(op.blocks, worst)
        start = op.start if isinstance(op.start, int) else op.start.clone()
        copy = replace(op, sign=op.sign.clone(), points=op.points.clone(), shape=_copy(op.shape), start=start)
        return Checked(copy, peak, worst)

    def _points(self, op: Ramp) -> int:
        points = op.points
        if points.dim() != 1 or points.dtype not in _FLOATS or not 1 <= points.shape[0] <= 100_000:
            raise InvalidOperation("Ramp", f"points must be float [1 to 100000 steps], got {_seen(points)}")
        if not bool(torch.isfinite(points).all()):
            raise InvalidOperation("Ramp", "points hold a value that is not finite")
        if op.knob not in ("volts", "gate"):
            raise InvalidOperation("Ramp", f"knob must be 'volts' or 'gate', got {op.knob!r}")
        limits = self._spec.limits
        key, limit = ("gate_step", limits.gate_step) if op.knob == "gate" else ("slew", limits.slew)
        if limit is not None and points.shape[0] > 1:
            largest = float(points.diff().abs().max())
            if largest > limit * (1 + 1e-6):  # differences of points carry rounding errors of their own
                self._refuse(f"step of the {op.knob} ramp", largest, limit, "V", self._where(op.blocks), f"limits.{key}")
        return points.shape[0]

    def _ramp_shapes(self, op: Ramp) -> float:
        knob: dict[str, Tensor] = {op.knob: op.points.view(-1)}
        fixed = replace(op.shape, **{op.knob: 0.0})
        peak = self._shape("Ramp", fixed, op.blocks, op.sense.unselected, op.kind)
        points = knob[op.knob]
        if op.knob == "gate":
            self._gate("Ramp", points)
            return peak
        return self._amplitude("Ramp", points, op.blocks, op.sense.unselected, op.kind)

    def _stop(self, op: Ramp) -> None:
        limits, stop = self._spec.limits, op.stop
        form = op.kind is Kind.FORM
        limit, key = (limits.form_amps, "form_amps") if form else (limits.cell_amps, "cell_amps")
        if not stop.amps_max > 0:
            raise InvalidOperation("Ramp", f"stop.amps_max must be above 0, got {stop.amps_max}")
        self._at_most("largest current of the ramp", stop.amps_max, limit, "A", self._where(op.blocks), key)
        for name, value in (("low", stop.low), ("high", stop.high)):
            if isinstance(value, Tensor):
                self._fits("Ramp", f"stop.{name}", value, op.blocks, _FLOATS)
            bad = bool(value.isnan().any()) if isinstance(value, Tensor) else math.isnan(value)
            if bad:
                raise InvalidOperation("Ramp", f"stop.{name} holds NaN")

    # -- shapes and limits -----------------------------------------------------------------------------------------

    def _shape(self, op: str, shape: Shape, blocks: Blocks, unselected: Bias | None, kind: Kind) -> float:
        """Checks one pulse shape and gives its amplitude."""
        limits = self._spec.limits
        if not (math.isfinite(shape.seconds) and shape.seconds > 0):
            raise InvalidOperation(op, f"the pulse width must be finite and above 0, got {shape.seconds}")
        where = self._where(blocks)
        self._at_most("pulse width", shape.seconds, limits.pulse_seconds, "s", where, "pulse_seconds")
        if isinstance(shape.volts, Tensor):
            self._fits(op, "volts", shape.volts, blocks, _FLOATS)
        peak = self._amplitude(op, shape.volts, blocks, unselected, kind)
        if shape.gate is not None:
            if isinstance(shape.gate, Tensor):
                self._fits(op, "gate", shape.gate, blocks, _FLOATS)
            self._gate(op, shape.gate)
        elif self._spec.geometry.selector == "gated":
            raise InvalidOperation(op, "a pulse on a gated array needs a gate voltage")
        self._compliance(op, shape.amps, reading=False)
        return peak

    def _amplitude(
        self, op: str, volts: float | Tensor, blocks: Blocks, unselected: Bias | None, kind: Kind
    ) -> float:
        limits, where = self._spec.limits, self._where(blocks)
        low, high = _extremes(volts)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InvalidOperation(op, f"the pulse amplitude is not finite ({where})")
        if low < 0:
            raise InvalidOperation(op, f"a pulse amplitude is a magnitude, got {low} V; the count gives the direction")
        key, limit = ("form_volts", limits.form_volts) if kind is Kind.FORM else ("write_volts", limits.write_volts)
        dtype = volts.dtype if isinstance(volts, Tensor) else torch.float64
        self._at_most("write voltage", high, limit, "V", where, key, dtype)
        self._at_most("line voltage", high, limits.line_volts, "V", where, "line_volts", dtype)
        if self._spec.geometry.selector == "passive" and limits.half_select_volts is not None:
            share = high / _SHARES.get(unselected, 1.0) if unselected is not None else high / 2.0
            self._at_most("half-select voltage", share, limits.half_select_volts, "V", where, "half_select_volts", dtype)
        return high

    def _gate(self, op: str, gate: float | Tensor) -> None:
        low, high = _extremes(gate)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InvalidOperation(op, "the gate voltage is not finite")
        limit = self._spec.limits.gate_volts
        if self._spec.geometry.selector == "passive" or limit is None:
            raise InvalidOperation(op, "the board has no gates")
        if low < 0:
            raise InvalidOperation(op, f"a gate voltage is counted from ground and at least 0, got {low} V")
        dtype = gate.dtype if isinstance(gate, Tensor) else torch.float64
        self._at_most("gate voltage", high, limit, "V", "gates", "gate_volts", dtype)

    def _compliance(self, op: str, amps: float | None, *, reading: bool) -> None:
        writing, limits = self._spec.writing, self._spec.limits
        if amps is not None:
            if not (math.isfinite(amps) and amps > 0):
                raise InvalidOperation(op, f"the compliance current must be finite and above 0, got {amps}")
            limit, key = (limits.line_amps, "line_amps") if reading else (limits.cell_amps, "cell_amps")
            self._at_most("compliance current", amps, limit, "A", "compliance", key)
        elif writing.compliance == "source":
            raise InvalidOperation(op, "the board's source needs a compliance current; set amps")
        elif writing.compliance == "none" and not reading and not limits.allow_uncompliant:
            raise InvalidOperation(
                op, "nothing holds the cell current on this board; set limits.allow_uncompliant in its board file"
            )

    def _at_most(
        self,
        quantity: str,
        value: float,
        limit: float,
        unit: str,
        where: str,
        key: str,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        if not value <= _cast(limit, dtype):
            self._refuse(quantity, value, limit, unit, where, f"limits.{key}")

    def _refuse(self, quantity: str, value: float, limit: float, unit: str, where: str, key: str) -> None:
        raise LimitExceeded(quantity, value, limit, unit, where, self._spec.source(key))

    # -- form ------------------------------------------------------------------------------------------------------

    def _blocks(self, blocks: Blocks, *, writing: bool) -> None:
        """Checks that blocks lie on the chip and, for writing, that no two share a cell; known blocks pass at once."""
        known = self._seen.get(blocks)
        if known is not None and (known or not writing):
            return
        kernels, rows, cols = self._spec.cells
        if not len(blocks.kernel) == len(blocks.row) == len(blocks.col) or not blocks.kernel:
            raise InvalidOperation("blocks", "kernel, row and col must have one number for each of at least one block")
        if blocks.n_rows < 1 or blocks.n_cols < 1:
            raise InvalidOperation("blocks", f"a block of {blocks.n_rows} x {blocks.n_cols} cells is empty")
        for k, r, c in zip(blocks.kernel, blocks.row, blocks.col, strict=True):
            if not (0 <= k < kernels and 0 <= r <= rows - blocks.n_rows and 0 <= c <= cols - blocks.n_cols):
                block = f"kernel {k}, row {r}, column {c}, {blocks.n_rows} x {blocks.n_cols}"
                raise InvalidOperation("blocks", f"{block} is not on a chip of {kernels} x {rows} x {cols}")
        apart = self._apart(blocks)
        if writing and not apart:
            raise InvalidOperation("blocks", "two blocks of a writing operation share a cell")
        if len(self._seen) > 1024:
            self._seen.clear()
        self._seen[blocks] = apart

    def _apart(self, blocks: Blocks) -> bool:
        taken = torch.zeros(self._spec.cells, dtype=torch.int32)
        for k, r, c in zip(blocks.kernel, blocks.row, blocks.col, strict=True):
            taken[k, r : r + blocks.n_rows, c : c + blocks.n_cols] += 1
        return int(taken.max()) <= 1

    @staticmethod
    def _fits(op: str, name: str, value: Tensor, blocks: Blocks, dtypes: tuple[torch.dtype, ...]) -> None:
        """Checks dtype, and that a tensor broadcasts to [T, R, C]."""
        shape = blocks.shape
        ok = value.dtype in dtypes and value.dim() <= 3
        ok = ok and all(a in (1, b) for a, b in zip(reversed(value.shape), reversed(shape), strict=False))
        if not ok:
            kind = " or ".join(str(d).removeprefix("torch.") for d in dtypes)
            raise InvalidOperation(op, f"{name} must be {kind} and broadcast to {list(shape)}, got {_seen(value)}")

    @staticmethod
    def _where(blocks: Blocks) -> str:
        more = f" and {len(blocks) - 1} more blocks" if len(blocks) > 1 else ""
        return f"kernel {blocks.kernel[0]}{more}"


def _cast(limit: float, dtype: torch.dtype) -> float:
    """A limit as a number of the request's dtype."""
    return float(torch.tensor(limit, dtype=dtype)) if dtype == torch.float32 else limit


def _extremes(value: float | Tensor) -> tuple[float, float]:
    if isinstance(value, Tensor):
        low, high = torch.aminmax(value) if value.numel() else (torch.zeros(()), torch.zeros(()))
        return float(low), float(high)
    return float(value), float(value)


def _copy(shape: Shape) -> Shape:
    """A pulse shape whose tensors are private."""
    if not isinstance(shape.volts, Tensor) and not isinstance(shape.gate, Tensor):
        return shape
    volts = shape.volts.clone() if isinstance(shape.volts, Tensor) else shape.volts
    return replace(shape, volts=volts, gate=shape.gate.clone() if isinstance(shape.gate, Tensor) else shape.gate)


def _seen(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
