"""What a run has cost so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from hil.contract import BoardSpec, Flag, Op, Outcome, Outer, Pulse, Ramp, Read, ReadCells
from hil.contract.cost import half_selects

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
        half_selects: half-selected cell events that pulses caused on a passive array, those of lowered writes included.
        joules: energy in the array, J, as far as the board knows it.
    """

    lists: int = 0
    reads: int = 0
    writes: int = 0
    pulses: int = 0
    lab_seconds: float = 0.0
    flagged: int = 0
    half_selects: int = 0
    joules: float = 0.0

    def add(self, ops: Sequence[Op], outcomes: Sequence[Outcome], link_seconds: float, spec: BoardSpec) -> None:
        """Books one list that was sent to a board with this spec."""
        self.lists += 1
        self.lab_seconds += link_seconds
        for op, outcome in zip(ops, outcomes, strict=True):
            self.lab_seconds += outcome.seconds
            if isinstance(op, _READS):
                self.reads += outcome.events
            elif outcome.applied is not None:
                self.writes += outcome.events
                self.pulses += int(outcome.applied.sum())
                self.half_selects += disturbed(op, outcome, spec)
            self.joules += outcome.joules or 0.0
            if outcome.flags is not None:
                self.flagged += int((outcome.flags & _REMARKABLE).count_nonzero())

    def as_dict(self) -> dict[str, float | int]:
        """The totals by name."""
        return asdict(self)


def disturbed(op: Op, outcome: Outcome, spec: BoardSpec) -> int:
    """Half-selected cell events that a writing operation caused."""
    if outcome.applied is None or spec.geometry.selector == "gated":
        return 0
    match op:
        case Pulse() | Outer():
            unselected = op.unselected
        case Ramp():
            unselected = op.sense.unselected
        case _:
            return 0
    return half_selects(int(outcome.applied.sum()), unselected, spec)
