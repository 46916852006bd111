"""The pace of a line: bytes take their time, in order, each way on its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from instruments.virtual.clock import Alarm

PIECE = 0.02
"""s; a long message arrives in pieces of this length, as it would on a real line."""


class Way:
    """One direction of a line.

    Bytes follow each other at the line's rate; each then takes the same latency, during which others may follow.

    Args:
        loop: the event loop.
        deliver: takes what has arrived.
        rate: B/s; None when bytes take no time.
        latency: s from the last byte of a piece being sent to its arrival.

    Attributes:
        waiting: bytes on the way.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deliver: Callable[[bytes], None],
        rate: float | None = None,
        latency: float = 0.0,
    ) -> None:
        self._loop, self._deliver, self._rate, self._latency = loop, deliver, rate, latency
        self._straight = rate is None and latency == 0
        self._queue: deque[tuple[float, bytes]] = deque()
        self._alarm = Alarm(loop, self._ring)
        self._free = 0.0
        self._last: Callable[[], None] | None = None
        self.waiting = 0

    def put(self, data: bytes, hold: float = 0.0) -> None:
        """Sends bytes.

        Args:
            data: the bytes.
            hold: s that they, and all that comes after them, leave later than they could.
        """
        if self._straight and not self._queue and not hold:
            self._deliver(data)
            return
        self._free = max(self._free, self._loop.time()) + hold
        size = len(data) if self._rate is None else max(1, int(self._rate * PIECE))
        if not self._queue:
            self._alarm.set(self._free + (min(size, len(data)) / self._rate if self._rate else 0.0) + self._latency)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            self._free += len(piece) / self._rate if self._rate else 0.0
            self._queue.append((self._free + self._latency, piece))
        self.waiting += len(data)

    def after(self, last: Callable[[], None]) -> None:
        """Calls when all that is on the way has arrived."""
        if self._queue:
            self._last = last
        else:
            last()

    def clear(self) -> None:
        """Loses what is on the way."""
        self._queue.clear()
        self._alarm.cancel()
        self.waiting, self._last = 0, None

    def _ring(self) -> None:
        now = self._loop.time()
        while self._queue and self._queue[0][0] <= now:
            _, piece = self._queue.popleft()
            self.waiting -= len(piece)
            self._deliver(piece)
        if self._queue:
            self._alarm.set(self._queue[0][0])
        elif self._last is not None:
            last, self._last = self._last, None
            last()
