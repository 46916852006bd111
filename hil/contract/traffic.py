"""What goes over the link of a board, and how long that must take at least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over a link, and what the link can do.

    Args:
        messages: requests sent.
        bytes: both ways.
        board_seconds: s that the board worked.
        round_trip: s, the shortest seen for a request that needs no work.
        bytes_per_second: of the link; None where that is no bound.
        in_real_time: the board's work takes its time; False on a virtual board that only counts it.
    """

    messages: int
    bytes: int
    board_seconds: float
    round_trip: float
    bytes_per_second: float | None
    in_real_time: bool

    def since(self, before: Traffic) -> Traffic:
        """What went over the link after an earlier look."""
        return Traffic(
            self.messages - before.messages,
            self.bytes - before.bytes,
            self.board_seconds - before.board_seconds,
            self.round_trip,
            self.bytes_per_second,
            self.in_real_time,
        )

    @property
    def bounds(self) -> dict[str, float]:
        """The time, s, that each part takes at least: ``round trips``, ``bytes`` and ``board``."""
        rate = self.bytes_per_second
        return {
            "round trips": self.messages * self.round_trip,
            "bytes": self.bytes / rate if rate else 0.0,
            "board": self.board_seconds if self.in_real_time else 0.0,
        }

    @property
    def least_seconds(self) -> float:
        """The time, s, that all of it takes at least."""
        return sum(self.bounds.values())

    @property
    def bound_by(self) -> str:
        """The part that takes longest."""
        return max(self.bounds, key=lambda part: self.bounds[part])


@runtime_checkable
class Linked(Protocol):
    """A board behind a link."""

    def traffic(self) -> Traffic:
        """What went over the link so far."""
        ...
