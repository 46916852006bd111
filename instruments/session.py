"""A session: one owner of a link, who takes turns, keeps the pace, counts, and knows when the line is out of step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from hil.errors import LinkTimeout
from instruments.links.link import POLL, Link

Tap = Callable[[str, bytes], None]
"""Sees all bytes: ``"sent"`` or ``"got"``, and the bytes."""


@dataclass(slots=True)
class Counters:
    """What went over a link.

    Args:
        sent: bytes out.
        got: bytes in.
        messages: messages out.
        timeouts: waits that ended without an answer.
        resyncs: times the line was brought back into step.
        retries: messages sent again.
    """

    sent: int = 0
    got: int = 0
    messages: int = 0
    timeouts: int = 0
    resyncs: int = 0
    retries: int = 0


class Session:
    """Bytes to and from one board, by one thread at a time.

    After a wait that ended without its answer the session is ``dirty``: a late answer may still come, so whoever
    speaks next brings the line back into step first and then calls ``clean``.

    Args:
        link: the pipe; the session owns it.
        gap: s between two writes; slow boards drop what comes sooner.
        tap: sees all bytes, for the audit.

    Attributes:
        counters: what went over the link.
        dirty: an answer may still be under way.
        lock: held around a whole exchange.
    """

    def __init__(self, link: Link, gap: float = 0.0, tap: Tap | None = None) -> None:
        self.link = link
        self.counters = Counters()
        self.dirty = False
        self.lock = threading.RLock()
        self._gap, self._tap = gap, tap
        self._last_write = 0.0
        self._kept = bytearray()

    @property
    def url(self) -> str:
        """How the link was opened."""
        return self.link.url

    @contextmanager
    def exchange(self) -> Generator[None]:
        """Holds the line for a question and its answer."""
        with self.lock:
            yield

    def write(self, data: bytes, seconds: float) -> None:
        """Sends a message within a time.

        Raises:
            LinkTimeout: it could not be sent in time.
            LinkLost: the other end is gone.
        """
        if self._gap:
            pause = self._last_write + self._gap - time.monotonic()
            if pause > 0:
                time.sleep(pause)
        if self._tap is not None:
            self._tap("sent", data)
        self.link.write(data, time.monotonic() + seconds)
        self._last_write = time.monotonic()
        self.counters.sent += len(data)
        self.counters.messages += 1

    def some(self, wanted: int, until: float) -> bytes:
        """Bytes as soon as there are some, at most one poll long; empty when nothing came."""
        if self._kept:
            data = bytes(self._kept)
            self._kept.clear()
            return data
        data = self.link.read(wanted, min(until, time.monotonic() + POLL))
        if data:
            self.counters.got += len(data)
            if self._tap is not None:
                self._tap("got", data)
        return data

    def exactly(self, count: int, seconds: float, waited_for: str = "answer") -> bytes:
        """A known number of bytes.

        Raises:
            LinkTimeout: they did not all come in time; the session is dirty.
        """
        return self._collect(lambda data: count if len(data) >= count else -1, count, seconds, waited_for)

    def line(self, end: bytes, seconds: float, most: int = 4096, waited_for: str = "answer") -> bytes:
        """Bytes up to and without an end mark; a line longer than ``most`` comes back as it is, cut there.

        Raises:
            LinkTimeout: the mark did not come in time; the session is dirty.
        """

        def found(data: bytes) -> int:
            at = data.find(end)
            return at + len(end) if at >= 0 else most if len(data) > most else -1

        data = self._collect(found, 1, seconds, waited_for)
        return data.removesuffix(end)

    def _collect(self, found: Callable[[bytes], int], wanted: int, seconds: float, waited_for: str) -> bytes:
        """Reads until ``found`` gives where the answer ends; what came after it is kept for the next read."""
        started = time.monotonic()
        until, data = started + seconds, bytearray()
        while (end := found(bytes(data))) < 0:
            got = self.some(max(1, wanted - len(data)), until)
            data += got
            if not got and time.monotonic() >= until:
                self.counters.timeouts += 1
                self.dirty = True
                raise LinkTimeout(self.url, waited_for, time.monotonic() - started, len(data))
        self._kept[:0] = data[end:]
        return bytes(data[:end])

    def drain(self, quiet: float = 0.0) -> int:
        """Throws away what has arrived; gives the number of bytes."""
        kept = len(self._kept)
        self._kept.clear()
        return kept + self.link.drain(quiet)

    def clean(self) -> None:
        """Says that the line is in step again."""
        if self.dirty:
            self.counters.resyncs += 1
        self.dirty = False

    def close(self) -> None:
        """Lets go of the link."""
        self.link.close()
