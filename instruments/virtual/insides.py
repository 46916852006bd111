"""What all lines of a virtual board share, what it counts, and how it says that something inside it failed."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from instruments.virtual.clock import Watch
from instruments.virtual.faults import FaultSchedule
from instruments.virtual.personality import Personality

if TYPE_CHECKING:
    from instruments.virtual.line import Line
    from instruments.virtual.turns import Turns

MOST_COMPLAINTS = 200
"""Lines on standard error; a full pipe that nobody reads would hang the board."""


@dataclass(slots=True)
class Tally:
    """What a virtual board has seen.

    Args:
        commands: commands that arrived whole, lost ones too.
        bytes_in: bytes that arrived.
        bytes_out: bytes that were sent, as they left.
        clients: conversations begun.
        dropped: clients that were dropped because of an error or because they did not read.
        errors: exceptions that came out of the personality.
        device_seconds: s of device time that all work has taken.
        faults: faults that happened, by kind.
    """

    commands: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    clients: int = 0
    dropped: int = 0
    errors: int = 0
    device_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter[str])

    def plain(self) -> dict[str, Any]:
        """All numbers by name."""
        names = ("commands", "bytes_in", "bytes_out", "clients", "dropped", "errors", "device_seconds")
        return {name: getattr(self, name) for name in names} | {"faults": dict(self.faults)}


@dataclass(slots=True)
class Insides:
    """The inside of a virtual board's shell.

    Args:
        loop: the event loop that everything runs on.
        personality: the board.
        turns: carries out the commands.
        faults: what goes wrong.
        watch: the watchdog's clock.
        tally: what was seen.
        rate: B/s of the lines, or None.
        round_trip: s.
        silence: s after which a message that has arrived in part is forgotten.
        lines: the clients there are.
    """

    loop: asyncio.AbstractEventLoop
    personality: Personality
    turns: Turns
    faults: FaultSchedule
    watch: Watch
    tally: Tally
    rate: float | None = None
    round_trip: float = 0.0
    silence: float = 0.05
    lines: set[Line] = field(default_factory=set)

    def failed(self, where: str, problem: BaseException) -> None:
        """Says on one line of standard error that the personality raised an error."""
        complain(self.tally, where, problem)


def complain(tally: Tally, where: str, problem: BaseException) -> None:
    """Counts an error and writes it as one line; its text may hold foreign bytes, so it is escaped and cut."""
    tally.errors += 1
    if tally.errors <= MOST_COMPLAINTS:
        text = str(problem)[:300].encode("unicode_escape").decode("ascii")
        print(f"virtual board: {where}: {type(problem).__name__}: {text}", file=sys.stderr, flush=True)
