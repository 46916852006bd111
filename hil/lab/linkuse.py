"""How near a run comes to what its link and its board allow."""

from __future__ import annotations

import time
from dataclasses import dataclass

from hil.contract import Backend, Linked, Traffic
from hil.units import duration


@dataclass(frozen=True, slots=True)
class LinkUse:
    """What a run made of its link.

    Args:
        traffic: what went over it.
        steps: training steps in that time.
        seconds: wall time, s.
    """

    traffic: Traffic
    steps: int
    seconds: float

    @property
    def fraction(self) -> float:
        """The share of the wall time that link and board need at least; 1 is as fast as they allow."""
        return min(1.0, self.traffic.least_seconds / self.seconds) if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        steps, traffic = max(self.steps, 1), self.traffic
        least = ", ".join(f"{name} {duration(seconds)}" for name, seconds in traffic.bounds.items() if seconds > 0)
        bound = f"bound by {traffic.bound_by}"
        if self.fraction < 0.5:
            bound = "the rest of the time is this program's or a virtual board's"
        return (
            f"{100 * self.fraction:.0f} % of what link and board allow (at least: {least or 'nothing'}; {bound}); "
            f"{traffic.messages / steps:.1f} frames and {traffic.bytes / steps:,.0f} bytes a step"
        )


class LinkWatch:
    """Looks at a link from the first step of a run to its last.

    Args:
        board: what the guard guards; a board without a link gives no use.
    """

    def __init__(self, board: Backend) -> None:
        self._board = board if isinstance(board, Linked) else None
        self._before = None if self._board is None else self._board.traffic()
        self._began = time.perf_counter()

    def use(self, steps: int) -> LinkUse | None:
        """What was used since, for a number of steps."""
        if self._board is None or self._before is None:
            return None
        return LinkUse(self._board.traffic().since(self._before), steps, time.perf_counter() - self._began)
