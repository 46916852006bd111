"""Makes the operations a board lacks out of those it has, where the result is true, and cuts long ones into slices.

A lowered operation gives the same numbers as the native one on a noise-free board. What was lowered is counted in
``notes``, which the record keeps. ``hil.slicing`` does the cutting.
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
    Flag,
    Kind,
    Op,
    Outcome,
    Outer,
    Pulse,
    Ramp,
    Read,
    ReadCells,
    Restorable,
    SafeReport,
    Side,
    lacking,
    restorable,
)
from hil.contract.cost import coincidences, cost
from hil.contract.stopping import RampProgress, ramp_shape
from hil.converters import difference, pair_differences
from hil.errors import BoardFault, Unsupported
from hil.slicing import halves, joined


class Lowering:
    """A backend that accepts every operation and sends a board only what it knows.

    What cannot be lowered is refused before anything of its list is sent. A list with lowered operations goes to the
    board in several lists; when the guard refuses one of them, the earlier ones have been carried out.

    Args:
        inner: the guarded board.

    Attributes:
        notes: how often each lowering was used.
        half_selects: half-selected cell events that lowered writes have caused on a passive array.
    """

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.notes: Counter[str] = Counter()
        self.half_selects = 0
        spec = inner.spec
        self._known = frozenset(spec.abilities.ops)
        self._spec = spec
        self._slice = None if spec.abilities.safe_preempts else spec.timing.slice

    @property
    def spec(self) -> BoardSpec:
        """The spec of the board inside."""
        return self._spec

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        """See ``Backend``; operations the board knows go down unchanged, together.

        Raises:
            Unsupported: an operation can neither be sent nor lowered; nothing was sent.
        """
        native = [self._native(op) for op in ops]
        if all(native):
            return self.inner.execute(ops)
        for op, known in zip(ops, native, strict=True):
            if not known:
                self._check(op)
        outcomes: list[Outcome] = []
        plain: list[Op] = []
        for op, known in zip(ops, native, strict=True):
            if known:
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
    def restorable(self) -> bool:
        """Whether the state of the board inside can be saved and put back."""
        return restorable(self.inner)

    def snapshot(self) -> dict[str, Tensor]:
        """See ``Restorable``."""
        return self._inside().snapshot()

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """See ``Restorable``."""
        self._inside().restore(saved)

    def _inside(self) -> Restorable:
        if not restorable(self.inner):
            raise Unsupported("snapshot and restore", self._spec.identity.name, "a chip cannot be copied")
        return self.inner

    def _send(self, ops: list[Op], before: list[Outcome]) -> list[Outcome]:
        """Sends operations the board knows; a fault tells its place in the whole list."""
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
        return not lacking(op, self._spec) and (self._slice is None or self._short(op, self._slice))

    def _short(self, op: Op, seconds: float) -> bool:
        return cost(op, self._spec).seconds <= seconds or halves(op) is None

    def _check(self, op: Op) -> None:
        """Raises ``Unsupported`` when nothing the board can do gives the same result."""
        limits = self._spec.limits
        match op:
            case Read():
                reason = "" if "Read" in self._known else self._needs("ReadCells") or self._passive(op)
            case Outer() if "Outer" not in self._known:
                reason = self._needs("Pulse")
            case Ramp() if op.sense.volts is None and lacking(op, self._spec):
                reason = "it cannot read inside a pulse, and a read after the pulse is something else"
            case Ramp() if "Ramp" not in self._known and op.kind is Kind.FORM and limits.forming != "free":
                reason = "forming made of plain pulses: the guard could not tell that cells are formed"
            case Ramp() if "Ramp" not in self._known:
                reason = self._needs("Pulse", "ReadCells")
            case _:
                reason = lacking(op, self._spec)
        if reason:
            raise Unsupported(type(op).__name__, self._spec.identity.name, reason)

    def _needs(self, *names: str) -> str:
        missing = [name for name in names if name not in self._known]
        return f"it knows {', '.join(sorted(self._known))}, and not {missing[0]} to make it of" if missing else ""

    def _passive(self, op: Read) -> str:
        """Why a passive array's product is not the sum of its cells; an empty text when it is."""
        if self._spec.geometry.selector == "gated":
            return ""
        if op.sense.unselected in (None, Bias.GROUND) and Bias.GROUND in self._spec.writing.biases:
            return ""
        return "unselected lines that are not grounded add currents of their own"

    def _lowered(self, op: Op) -> Outcome:
        match op:
            case Read() if op.pairs and not ("Read" in self._known and self._spec.reading.pairs):
                return self._pairs(op)
            case Read() if "Read" not in self._known:
                return self._read_from_cells(op)
            case Read() if not self._spec.abilities.signed_read and op.volts.numel() and float(op.volts.min()) < 0:
                return self._signed(op)
            case Outer() if "Outer" not in self._known:
                return self._outer(op)
            case Ramp() if "Ramp" not in self._known:
                return self._ramp(op)
            case _:
                return self._sliced(op)

    def _pairs(self, op: Read) -> Outcome:
        self.notes["pairs: subtracted on the host"] += 1
        (got,) = self.execute([replace(op, pairs=False)])
        assert got.value is not None
        value, flags = pair_differences(got.value, got.flags)
        return replace(got, value=value, flags=flags)

    def _signed(self, op: Read) -> Outcome:
        self.notes["signed read: two unipolar reads"] += 1
        plus, minus = op.volts.clamp(min=0), (-op.volts).clamp(min=0)
        a, b = self.execute([replace(op, volts=plus), replace(op, volts=minus)])
        assert a.value is not None and b.value is not None
        value, flags = difference(a.value, b.value, a.flags, b.flags)
        return replace(joined([a, b]), value=value, flags=flags)

    def _sliced(self, op: Op) -> Outcome:
        """Cuts an operation in halves until each takes at most one slice, or cannot be cut."""
        parts = halves(op)
        assert parts is not None
        self.notes[f"{type(op).__name__}: cut into slices"] += 1
        return joined([self.execute([part])[0] for part in parts.ops], parts.dim)

    def _read_from_cells(self, op: Read) -> Outcome:
        self.notes["Read: made of ReadCells and arithmetic"] += 1
        volts = self._spec.limits.read_cell_volts
        grounded = None if self._spec.geometry.selector == "gated" else Bias.GROUND
        sense = replace(op.sense, volts=volts, unselected=grounded)
        (got,) = self.execute([ReadCells(op.blocks, sense, op.drive)])
        assert got.value is not None
        turned = op.drive is Side.COLS
        g = (got.value.transpose(1, 2) if turned else got.value) / volts
        fed = op.volts if op.feed is None else op.volts[list(op.feed)]
        value, flags = torch.bmm(fed.to(g.dtype), g), None
        if got.flags is not None:  # a cell at a rail spoils every product of its sensed line
            cells = got.flags.transpose(1, 2) if turned else got.flags
            flags = torch.zeros(value.shape, dtype=torch.uint8)
            for flag in (Flag.SAT_LOW, Flag.SAT_HIGH, Flag.COMPLIANCE):
                flags |= ((cells & int(flag)) != 0).any(1, keepdim=True) * int(flag)
        return replace(got, value=value, flags=flags)

    def _outer(self, op: Outer) -> Outcome:
        self.notes["Outer: made of masked Pulses"] += 1
        return self._write(Pulse(op.blocks, coincidences(op), op.up, op.down, unselected=op.unselected))

    def _ramp(self, op: Ramp) -> Outcome:
        """Pulses and reads in turn; the knob rests at zero between pulses, so there is nothing to step back."""
        self.notes["Ramp: made of Pulses and ReadCells"] += 1
        progress = RampProgress(op)
        outcomes: list[Outcome] = []
        for step in range(op.points.shape[0]):
            cells = progress.wanted(step)
            if not bool(cells.any()):
                progress.skip()
                continue
            shape = ramp_shape(op, float(op.points[step]))
            counts = op.sign.to(torch.int32) * cells
            outcomes.append(self._write(Pulse(op.blocks, counts, shape, shape, unselected=op.sense.unselected)))
            (read,) = self.execute([ReadCells(op.blocks, op.sense, self._spec.geometry.drive, cells)])
            assert read.value is not None
            progress.observe(step, read.value, read.flags)
            outcomes.append(read)
        whole = joined(outcomes) if outcomes else Outcome(None, None, None, self.now(), 0.0, 0)
        return replace(whole, value=progress.value, flags=progress.flags, applied=progress.applied)

    def _write(self, op: Pulse) -> Outcome:
        """Sends the pulses of a lowered operation and counts the half-selects they cause."""
        (got,) = self.execute([op])
        self.half_selects += cost(op, self._spec).half_selects
        return got
