"""Waits until a file descriptor can be read or written, never longer than asked."""

from __future__ import annotations

import select
import time


class Readiness:
    """One file descriptor to wait for.

    ``select.poll`` is used where there is one: ``select.select`` fails for descriptors above 1023, which a long run
    with many workers reaches.

    Args:
        descriptor: of a socket or a device; it stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._incoming = self._outgoing = None
        if hasattr(select, "poll"):
            # Two objects: one must not be used by two threads, and a stop may be written while another thread reads.
            self._incoming, self._outgoing = select.poll(), select.poll()
            self._incoming.register(descriptor, select.POLLIN)
            self._outgoing.register(descriptor, select.POLLOUT)

    def readable(self, until: float) -> bool:
        """Whether there are bytes, or an end, to read before ``until`` (of ``time.monotonic``)."""
        seconds = max(0.0, until - time.monotonic())
        if self._incoming is not None:
            return bool(self._incoming.poll(1000 * seconds))
        return bool(select.select([self._descriptor], [], [], seconds)[0])

    def writable(self, until: float) -> bool:
        """Whether there is room to write, or an end to notice, before ``until``."""
        seconds = max(0.0, until - time.monotonic())
        if self._outgoing is not None:
            return bool(self._outgoing.poll(1000 * seconds))
        return bool(select.select([], [self._descriptor], [], seconds)[1])
