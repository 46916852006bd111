"""Between the shell of a virtual board and the wire protocol it speaks.

The shell moves bytes, keeps time and injects faults. A personality knows one wire protocol and has a backend inside. It
does no input or output and looks at no clock: what takes device time says so, and the shell decides whether to sleep.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Work = Generator[float, None, bytes]
"""Work on one command: yields the device time of each part, s, before it goes on, and returns the answer's bytes."""


@dataclass(frozen=True, slots=True)
class Task:
    """One command that has arrived whole.

    Args:
        work: what it takes; nothing is done before the first ``next``.
        urgent: done at once, even while another task waits for its device time to pass (a safe command, a heartbeat).
    """

    work: Work
    urgent: bool = False


class Conversation(Protocol):
    """One client of a virtual board."""

    def receive(self, data: bytes) -> Iterable[Task]:
        """Takes bytes as they arrive, split anywhere, and gives the commands they complete; never raises."""
        ...

    def silent(self) -> None:
        """The line was silent for a while: what has arrived in part is forgotten."""
        ...

    def lost(self) -> None:
        """The client is gone; a board that has an owner and loses it makes itself safe."""
        ...


class Personality(Protocol):
    """A virtual board that speaks one wire protocol."""

    def converse(self, client: str) -> Conversation:
        """Begins with a new client; the name is for messages."""
        ...

    def tick(self, now: float) -> float | None:
        """Lets the board-side watchdog look at the clock, s; gives when to be called next, or None."""
        ...

    def misbehave(self, fault: str) -> bool:
        """Arms a fault that only the protocol can make (``busy``, ``reset``, ``firmware``, ``error``, ``stuck``).

        Returns:
            Whether this personality knows the fault.
        """
        ...

    def inspect(self, what: str, arguments: Mapping[str, Any]) -> Any:
        """Tells tests about the inside, as plain JSON values.

        Args:
            what: ``outputs`` (states and volts), ``history`` (the last changes of lines and outputs, oldest first),
                ``pulses`` (applied to each cell), ``cells`` (siemens), ``counters``, or ``stick`` (a change).
            arguments: of ``what``, by name.

        Raises:
            ValueError: there is no such thing.
        """
        ...
