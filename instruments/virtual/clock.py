"""Time of a virtual board: device time made into wall time, alarms that ring on time, and the watchdog's clock."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

EARLY = 1.5e-3
"""s; an event loop's timers ring up to 1 ms late, so an alarm wakes this much earlier and watches the clock itself."""

SOONEST = 1e-3
"""s; the watchdog is not looked at more often than this on its own account."""


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """How much of a board's device time really passes.

    Args:
        scale: s of wall time per s of device time; 0 when device time is only reported.
    """

    scale: float

    @classmethod
    def of(cls, text: str) -> DeviceTime:
        """Reads ``asap`` (only reported), ``real``, or a speed such as ``x10``.

        Raises:
            ValueError: it is none of these.
        """
        if text in ("asap", "real"):
            return cls(float(text == "real"))
        match = re.fullmatch(r"x([0-9]+(?:\.[0-9]+)?)", text)
        speed = float(match[1]) if match else 0.0
        if not 0.0 < speed < math.inf:
            raise ValueError(f"time must be asap, real or a speed such as x10, got {text[:40]!r}")
        return cls(1.0 / speed)


class Alarm:
    """Rings once at a moment of the loop's clock, true to a fraction of a millisecond.

    Args:
        loop: the event loop.
        ring: what to call.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop, self._ring = loop, ring
        self._when = 0.0
        self._handle: asyncio.Handle | None = None

    def set(self, when: float) -> None:
        """Rings then, and not at the moment set before."""
        self.cancel()
        self._when = when
        if when - self._loop.time() > EARLY:
            self._handle = self._loop.call_at(when - EARLY, self._near)
        else:
            self._handle = self._loop.call_soon(self._near)

    def cancel(self) -> None:
        """Does not ring."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _near(self) -> None:
        """Watches the clock; the loop still serves everybody else in between."""
        if self._loop.time() < self._when:
            self._handle = self._loop.call_soon(self._near)
            return
        self._handle = None
        self._ring()


class Watch:
    """Lets a board's watchdog look at the clock when it asked to, and after each command.

    Args:
        loop: the event loop.
        tick: looks at the clock and gives when to be called next, or None.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, tick: Callable[[float], float | None]) -> None:
        self._loop, self._tick = loop, tick
        self._at = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Looks now. A later moment than the one that is set is left for then: heartbeats move it all the time."""
        now = self._loop.time()
        asked = self._tick(now)
        if asked is None or not asked < self._at:  # NaN is no moment
            return
        self.stop()
        self._at = max(asked, now + SOONEST)
        self._handle = self._loop.call_at(self._at, self._due)

    def stop(self) -> None:
        """Does not look again by itself."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._at = None, math.inf

    def _due(self) -> None:
        self.stop()
        self.look()
