"""Lists of operations at work inside a framed virtual board."""

from __future__ import annotations

from collections.abc import Generator

from hil.contract import Backend, Op, Outcome
from hil.contract.cost import cost
from hil.errors import BoardFault, HilError
from instruments.framed.frame import Status
from instruments.framed.messages import encoded_reason, write_time
from instruments.virtual.outputs import Outputs, peak_volts
from instruments.wire.buffer import Writer
from instruments.wire.outcomes import AmpsStep, write_outcomes

MOST_SECONDS = 1e6
"""s of device time that one operation may take."""

Answer = tuple[int, bytes]
"""Status and payload."""


class ListWork:
    """Carries out lists on a backend, operation by operation, and stops where it is told.

    Args:
        backend: what carries operations out.
        outputs: what the lines were told.
        counters: where lists are counted, under ``executed``.

    Attributes:
        busy: a list is at work.
        fails_next: the next operation fails.
    """

    def __init__(self, backend: Backend, outputs: Outputs, counters: dict[str, int]) -> None:
        self.busy = self.fails_next = False
        self._backend, self._outputs, self._counters = backend, outputs, counters
        self._slice, self._steps = backend.spec.timing.slice, AmpsStep(backend.spec.reading.ranges)
        self._ended = ""

    def end(self, reason: str) -> None:
        """Ends the list at work at once; the lines are the business of whoever ends it."""
        if self.busy:
            self._ended = reason or "it was made safe in the middle"

    def carry_out(self, ops: list[Op]) -> Generator[float, None, Answer]:
        """Carries out a list, or what can be done of it; yields device time, s."""
        peaks = [peak_volts(op) for op in ops]
        if too_high := self._above_lines(peaks):
            return Status.LIMIT, encoded_reason(too_high)
        self.busy, self._ended = True, ""
        self._counters["executed"] += 1
        done: list[Outcome] = []
        try:
            for op, peak in zip(ops, peaks, strict=True):
                trouble = yield from self._one(op, peak, done)
                if trouble:
                    return Status.FAULT, self._outcomes(ops, done, trouble)
            return Status.OK, self._outcomes(ops, done, None)
        finally:
            self.busy = False
            if not self._ended:
                self._outputs.raise_to(0.0)

    def _above_lines(self, peaks: list[float | None]) -> str:
        """The board's own last line of defence: no line above what its drivers may give."""
        limit = self._backend.spec.limits.line_volts
        for peak in peaks:
            if peak is not None and not peak <= limit:
                return f"{peak:g} V is above the {limit:g} V of any line"
        return ""

    def _one(self, op: Op, peak: float | None, done: list[Outcome]) -> Generator[float, None, str]:
        """Carries one operation out and lets its device time pass; gives what went wrong."""
        if self.fails_next:
            self.fails_next = False
            return "an amplifier reports an error"
        try:
            if not 0 <= cost(op, self._backend.spec).seconds <= MOST_SECONDS:
                return f"it would take longer than {MOST_SECONDS:g} s, or no time that can be told"
            self._outputs.drive_to(peak)
            (outcome,) = self._backend.execute([op])
        except BoardFault as fault:
            return fault.text
        except HilError as error:
            return str(error)
        except Exception as error:  # an operation that no guard has seen, such as one of cells that there are not
            return f"the operation makes no sense ({type(error).__name__}: {error})"
        left = outcome.seconds
        while left > 0:
            yield min(left, self._slice)
            left -= self._slice
            if self._ended:
                return self._ended
        done.append(outcome)
        return ""

    def _outcomes(self, ops: list[Op], done: list[Outcome], trouble: str | None) -> bytes:
        out = Writer()
        write_time(out, self._backend.now())
        write_outcomes(out, ops, done, self._steps)
        text = b"" if trouble is None else encoded_reason(trouble)
        return out.done() + text
