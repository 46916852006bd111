"""What a run has cost so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from hil.contract import Flag, Op, Outcome, Read, ReadCells

_READS = (Read, ReadCells)
_REMARKABLE = 0xFF & ~int(Flag.NOT_MEASURED | Flag.STOPPED)


@dataclass(slots=True)
class Ledger:
    """Running totals of a run.

    Args:
        lists: lists of operations sent.
        reads: read events: one kernel with one vector, or one selected line.
        writes: programming events.
        pulses: pulses over all cells.
        lab_seconds: lab time, s.
        flagged: measured values with a flag other than STOPPED, which says that a ramp ended well.
    """

    lists: int = 0
    reads: int = 0
    writes: int = 0
    pulses: int = 0
    lab_seconds: float = 0.0
    flagged: int = 0

    def add(self, ops: Sequence[Op], outcomes: Sequence[Outcome], link_seconds: float) -> None:
        """Books one list."""
        self.lists += 1
        self.lab_seconds += link_seconds
        for op, outcome in zip(ops, outcomes, strict=True):
            self.lab_seconds += outcome.seconds
            if isinstance(op, _READS):
                self.reads += outcome.events
            elif outcome.applied is not None:
                self.writes += outcome.events
                self.pulses += int(outcome.applied.sum())
            if outcome.flags is not None:
                self.flagged += int((outcome.flags & _REMARKABLE).count_nonzero())

    def as_dict(self) -> dict[str, float | int]:
        """The totals by name."""
        return asdict(self)
