"""Makes the operations a board lacks out of those it has, where the result is true, and cuts long ones into slices.

A lowered operation gives the same numbers as the native one on a noise-free board. What was lowered is counted in
``notes``, which the record keeps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hil.contract import (
    Backend,
    Bias,
    BoardSpec,
    Op,
    Outcome,
    Outer,
    Pulse,
    Ramp,
    Read,
    ReadCells,
    Restorable,
    SafeReport,
    Shape,
    Side,
)
from hil.contract.cost import coincidences, cost
from hil.contract.stopping import RampProgress
from hil.errors import BoardFault, Unsupported


class Lowering:
    """A backend that accepts every operation and sends a board only what it knows.

    Args:
        inner: the guarded board.

    Attributes:
        notes: how often each lowering was used.
    """

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.notes: Counter[str] = Counter()
        spec = inner.spec
        self._known = frozenset(spec.abilities.ops)
        self._spec = spec
        self._slice = None if spec.abilities.safe_preempts else spec.timing.slice

    @property
    def spec(self) -> BoardSpec:
        """The spec of the board inside."""
        return self._spec

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        """See ``Backend``; operations the board knows go down unchanged, together."""
        if all(self._native(op) for op in ops):
            return self.inner.execute(ops)
        outcomes: list[Outcome] = []
        plain: list[Op] = []
        for op in ops:
            if self._native(op):
                plain.append(op)
                continue
            outcomes += self._send(plain, outcomes)
            plain = []
            outcomes.append(self._guarded(op, outcomes))
        return outcomes + self._send(plain, outcomes)

    def now(self) -> float:
        """See ``Backend``."""
        return self.inner.now()

    def make_safe(self) -> SafeReport:
        """See ``Backend``."""
        return self.inner.make_safe()

    def close(self) -> None:
        """See ``Backend``."""
        self.inner.close()

    @property
    def restorable(self) -> Restorable | None:
        """The board inside, when its state can be saved and put back."""
        return self.inner if isinstance(self.inner, Restorable) else None

    def snapshot(self) -> dict[str, Tensor]:
        """See ``Restorable``."""
        return _restorable(self.inner).snapshot()

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """See ``Restorable``."""
        _restorable(self.inner).restore(saved)

    def _send(self, ops: list[Op], before: list[Outcome]) -> list[Outcome]:
        if not ops:
            return []
        try:
            return self.inner.execute(ops)
        except BoardFault as fault:
            fault.done, fault.index = before + fault.done, len(before) + fault.index
            raise

    def _guarded(self, op: Op, before: list[Outcome]) -> Outcome:
        """Runs one lowered operation; a fault inside it is a fault of the whole operation."""
        try:
            return self._lowered(op)
        except BoardFault as fault:
            fault.done, fault.index = before, len(before)
            raise

    def _native(self, op: Op) -> bool:
        if type(op).__name__ not in self._known:
            return False
        if isinstance(op, Read):
            return self._native_read(op) and self._fits(op)
        if isinstance(op, Ramp) and op.sense.volts is None and not self._spec.reading.inside_pulse:
            return False
        return self._slice is None or self._fits(op)

    def _native_read(self, op: Read) -> bool:
        if op.pairs and not self._spec.reading.pairs:
            return False
        return self._spec.abilities.signed_read or op.volts.numel() == 0 or float(op.volts.min()) >= 0

    def _fits(self, op: Op) -> bool:
        most = self._spec.abilities.largest_batch
        if isinstance(op, Read) and most is not None and op.volts.shape[1] > most:
            return False
        if self._slice is None or len(_parts(op)) == 1:
            return True
        return cost(op, self._spec).seconds <= self._slice

    def _lowered(self, op: Op) -> Outcome:
        if isinstance(op, Read) and op.pairs and not self._spec.reading.pairs:
            return self._pairs(op)
        if type(op).__name__ in self._known:
            if isinstance(op, Read) and not self._native_read(op):
                return self._signed(op)
            if not self._fits(op):
                return self._sliced(op)
        match op:
            case Read():
                return self._read_from_cells(op)
            case Outer():
                return self._outer(op)
            case Ramp():
                return self._ramp(op)
            case _:
                known = ", ".join(sorted(self._known))
                raise Unsupported(type(op).__name__, self._spec.identity.name, f"it knows {known}")

    def _pairs(self, op: Read) -> Outcome:
        self.notes["pairs: subtracted on the host"] += 1
        (got,) = self.execute([replace(op, pairs=False)])
        assert got.value is not None
        flags = None if got.flags is None else got.flags[..., 0::2] | got.flags[..., 1::2]
        return replace(got, value=got.value[..., 0::2] - got.value[..., 1::2], flags=flags)

    def _signed(self, op: Read) -> Outcome:
        self.notes["signed read: two unipolar reads"] += 1
        plus, minus = op.volts.clamp(min=0), (-op.volts).clamp(min=0)
        a, b = self.execute([replace(op, volts=plus), replace(op, volts=minus)])
        assert a.value is not None and b.value is not None
        return replace(_joined([a, b], None), value=a.value - b.value, flags=_either(a.flags, b.flags))

    def _sliced(self, op: Op) -> Outcome:
        """Cuts an operation into parts that each take at most one slice (or one part, if that takes longer)."""
        self.notes[f"{type(op).__name__}: cut into slices"] += 1
        outcomes = [self.inner.execute([part])[0] for part in _cut(op, self._spec, self._slice)]
        return _joined(outcomes, 1 if isinstance(op, Read) else 0)

    def _read_from_cells(self, op: Read) -> Outcome:
        geometry = self._spec.geometry
        if geometry.selector == "passive" and op.sense.unselected not in (None, Bias.GROUND):
            raise Unsupported(
                "Read", self._spec.identity.name, "unselected lines that are not grounded add currents of their own"
            )
        self.notes["Read: made of ReadCells and arithmetic"] += 1
        volts = self._spec.limits.read_cell_volts
        (got,) = self.execute([ReadCells(op.blocks, replace(op.sense, volts=volts), op.drive)])
        assert got.value is not None
        g = (got.value if op.drive is Side.ROWS else got.value.transpose(1, 2)) / volts
        fed = op.volts if op.feed is None else op.volts[list(op.feed)]
        return replace(got, value=torch.bmm(fed.to(g.dtype), g), flags=None)

    def _outer(self, op: Outer) -> Outcome:
        self.notes["Outer: made of masked Pulses"] += 1
        (got,) = self.execute([Pulse(op.blocks, coincidences(op), op.up, op.down, unselected=op.unselected)])
        return got

    def _ramp(self, op: Ramp) -> Outcome:
        if op.sense.volts is None:
            raise Unsupported("Ramp", self._spec.identity.name, "it cannot read inside a pulse")
        self.notes["Ramp: made of Pulses and ReadCells"] += 1
        progress = RampProgress(op)
        outcomes: list[Outcome] = []
        for step, point in enumerate(op.points.tolist()):
            cells = progress.wanted(step)
            if not bool(cells.any()):
                continue
            shape = ramp_shape(op, point)
            pulse = Pulse(op.blocks, op.sign.to(torch.int32) * cells, shape, shape, unselected=op.sense.unselected)
            both = self.execute([pulse, ReadCells(op.blocks, op.sense, self._spec.geometry.drive, cells)])
            read = both[1]
            assert read.value is not None
            progress.observe(step, read.value, None if read.flags is None else read.flags * cells)
            outcomes += both
        value = progress.amps if progress.trace is None else progress.trace
        return replace(_joined(outcomes, None), value=value, flags=progress.flags, applied=progress.applied)


def ramp_shape(op: Ramp, point: float) -> Shape:
    """The pulse of a ramp with its knob at a point."""
    shape = op.shape
    return replace(shape, volts=point) if op.knob == "volts" else replace(shape, gate=point)


def _restorable(inner: Backend) -> Restorable:
    if not isinstance(inner, Restorable):
        raise Unsupported("snapshot and restore", inner.spec.identity.name, "a chip cannot be copied")
    return inner


def _parts(op: Op) -> range:
    """What an operation can be cut along: the batch of a read, the blocks of the others; a wait cannot be cut."""
    if isinstance(op, Read):
        return range(op.volts.shape[1])
    return range(len(op.blocks)) if isinstance(op, ReadCells | Pulse | Outer | Ramp) else range(1)


def _cut(op: Op, spec: BoardSpec, seconds: float | None) -> list[Op]:
    parts = len(_parts(op))
    size = parts
    if seconds is not None:
        size = max(1, int(parts * seconds / max(cost(op, spec).seconds, 1e-12)))
    most = spec.abilities.largest_batch
    if isinstance(op, Read):
        size = min(size, most or size)
        return [replace(op, volts=op.volts[:, i : i + size]) for i in range(0, parts, size)]
    return [_some_blocks(op, i, min(i + size, parts)) for i in range(0, parts, size)]


def _some_blocks(op: Op, first: int, last: int) -> Op:
    """The same operation for some of its blocks."""
    shape = op.blocks.shape if isinstance(op, ReadCells | Pulse | Outer | Ramp) else (0, 0, 0)

    def some(value: Tensor) -> Tensor:
        return value.expand(shape)[first:last] if value.dim() else value

    def shaped(s: Shape) -> Shape:
        volts = some(s.volts) if isinstance(s.volts, Tensor) else s.volts
        return replace(s, volts=volts, gate=some(s.gate) if isinstance(s.gate, Tensor) else s.gate)

    match op:
        case ReadCells():
            return replace(op, blocks=op.blocks.take(first, last), mask=None if op.mask is None else some(op.mask))
        case Pulse():
            blocks = op.blocks.take(first, last)
            return replace(op, blocks=blocks, counts=some(op.counts), up=shaped(op.up), down=shaped(op.down))
        case Outer():
            rows, cols = op.row_bits[first:last], op.col_bits[first:last]
            blocks = op.blocks.take(first, last)
            return replace(op, blocks=blocks, row_bits=rows, col_bits=cols, up=shaped(op.up), down=shaped(op.down))
        case Ramp():
            start = some(op.start) if isinstance(op.start, Tensor) else op.start
            ends = [some(v) if isinstance(v, Tensor) else v for v in (op.stop.low, op.stop.high)]
            stop = replace(op.stop, low=ends[0], high=ends[1])
            blocks = op.blocks.take(first, last)
            return replace(op, blocks=blocks, sign=some(op.sign), shape=shaped(op.shape), start=start, stop=stop)
        case _:
            return op


def _joined(outcomes: list[Outcome], dim: int | None) -> Outcome:
    """One outcome for several; values are joined along a dimension, or left out."""
    if not outcomes:
        return Outcome(None, None, None, 0.0, 0.0, 0)
    joules = [o.joules for o in outcomes if o.joules is not None]
    value = flags = applied = None
    if dim is not None:
        values = [o.value for o in outcomes if o.value is not None]
        value = torch.cat(values, dim) if values else None
        if value is not None and any(o.flags is not None for o in outcomes):
            flags = torch.cat([_flags(o) for o in outcomes], dim)
        pulses = [o.applied for o in outcomes if o.applied is not None]
        applied = torch.cat(pulses, dim) if pulses else None
    return Outcome(
        value,
        flags,
        applied,
        outcomes[0].began,
        sum(o.seconds for o in outcomes),
        sum(o.events for o in outcomes),
        sum(joules) if joules else None,
    )


def _flags(outcome: Outcome) -> Tensor:
    assert outcome.value is not None
    return torch.zeros(outcome.value.shape, dtype=torch.uint8) if outcome.flags is None else outcome.flags


def _either(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a | b


