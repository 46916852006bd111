"""A session: one owner of a link, who takes turns, keeps the pace, counts, and knows when the line is out of step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from hil.errors import LinkTimeout
from instruments.links.link import POLL, Link

Tap = Callable[[str, bytes], None]
"""Sees all bytes: ``"sent"``, before they go out, or ``"got"``, and the bytes. If it raises, none is sent or lost."""


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

    Each call takes the lock; a question and its answer are held together by ``exchange``.

    After a wait that ended without its answer the session is ``dirty``: a late answer may still come, so whoever
    speaks next brings the line back into step first and then calls ``clean``. The same holds after a message that
    went out only in part.

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
        self._next_write = 0.0
        self._kept = bytearray()  # arrived, and not yet given to anybody

    @property
    def url(self) -> str:
        """How the link was opened."""
        return self.link.url

    def exchange(self) -> AbstractContextManager[object]:
        """Holds the line for a question and its answer, in a ``with``."""
        return self.lock

    def write(self, data: bytes, seconds: float) -> None:
        """Sends a message within a time; the pause before it does not count.

        Raises:
            LinkTimeout: it could not be sent in time; the session is dirty.
            LinkLost: the other end is gone.
        """
        with self.lock:
            if self._gap:
                pause = self._next_write - time.monotonic()
                if pause > 0:
                    time.sleep(pause)
            if self._tap is not None:
                self._tap("sent", data)
            try:
                self.link.write(data, time.monotonic() + seconds)
            except LinkTimeout:
                self.counters.timeouts += 1
                self.dirty = True
                raise
            finally:  # a part may have gone out, so the pause is kept after a failure too
                if self._gap:
                    self._next_write = time.monotonic() + self._gap
            self.counters.sent += len(data)
            self.counters.messages += 1

    def some(self, wanted: int, until: float) -> bytes:
        """Bytes as soon as there are some, at most one poll long; empty when nothing came.

        Args:
            wanted: how many the caller can use next; there may be more, or fewer.
            until: when to give up, of ``time.monotonic``.

        Raises:
            LinkLost: the other end is gone.
        """
        with self.lock:
            if not self._kept:
                if self._tap is None:  # nothing comes between arrival and caller, so nothing needs to be kept
                    data = self.link.read(wanted, min(until, time.monotonic() + POLL))
                    self.counters.got += len(data)
                    return data
                self._fetch(wanted, until)
            data = bytes(self._kept)
            self._kept.clear()
            return data

    def exactly(self, count: int, seconds: float, waited_for: str = "answer") -> bytes:
        """A known number of bytes; what came after them is kept for the next read.

        Raises:
            LinkTimeout: they did not all come in time; the session is dirty.
            LinkLost: the other end is gone.
        """
        with self.lock:
            kept = self._kept
            if len(kept) < count:
                started = time.monotonic()
                until = started + seconds
                while len(kept) < count:
                    self._fetch_by(until, count - len(kept), started, waited_for)
            return self._taken(count)

    def line(self, end: bytes, seconds: float, most: int = 4096, waited_for: str = "answer") -> bytes:
        """Bytes up to and without an end mark; a line longer than ``most`` comes back as it is, cut there.

        Raises:
            LinkTimeout: the mark did not come in time; the session is dirty.
            LinkLost: the other end is gone.
        """
        with self.lock:
            kept = self._kept
            at = kept.find(end, 0, most + len(end))
            if at < 0 and len(kept) < most + len(end):
                started = time.monotonic()
                until = started + seconds
                while at < 0 and len(kept) < most + len(end):
                    seen = max(0, len(kept) - len(end) + 1)  # the mark may begin in what was looked at already
                    self._fetch_by(until, 1, started, waited_for)
                    at = kept.find(end, seen, most + len(end))
            if at < 0:
                return self._taken(most)
            return self._taken(at + len(end))[:at]

    def _fetch_by(self, until: float, wanted: int, started: float, waited_for: str) -> None:
        """Waits for bytes, one poll long; fails once ``until`` has passed without any."""
        if not self._fetch(wanted, until) and time.monotonic() >= until:
            self.counters.timeouts += 1
            self.dirty = True
            raise LinkTimeout(self.url, waited_for, time.monotonic() - started, len(self._kept))

    def _fetch(self, wanted: int, until: float) -> int:
        """Takes bytes from the link, one poll long; they are kept before anybody is told."""
        data = self.link.read(wanted, min(until, time.monotonic() + POLL))
        if data:
            self._kept += data
            self.counters.got += len(data)
            if self._tap is not None:
                self._tap("got", data)
        return len(data)

    def _taken(self, count: int) -> bytes:
        data = bytes(self._kept[:count])
        del self._kept[:count]
        return data

    def drain(self, quiet: float = 0.0) -> int:
        """Throws away what has arrived; gives the number of bytes.

        Args:
            quiet: s of silence after which the line counts as empty.

        Raises:
            LinkLost: the other end is gone.
        """
        with self.lock:
            kept = len(self._kept)
            self._kept.clear()
            return kept + self.link.drain(quiet)

    def clean(self) -> None:
        """Says that the line is in step again."""
        with self.lock:
            if self.dirty:
                self.counters.resyncs += 1
            self.dirty = False

    def use(self, link: Link) -> None:
        """Goes on over a fresh link to the same board, after the old one broke."""
        with self.lock:
            self.link.close()
            self.link = link
            self._kept.clear()
            self.dirty = False
            self.counters.resyncs += 1

    def close(self) -> None:
        """Lets go of the link; again, it does nothing."""
        self.link.close()
