"""A link inside the process: the other end is a conversation with a virtual board."""

from __future__ import annotations

import threading
import time

from hil.errors import LinkLost
from instruments.virtual.personality import Conversation, Work


class MemoryLink:
    """Bytes to a virtual board in the same process, which answers before ``write`` returns.

    Device time does not pass: the board's clock is the caller's business.

    Args:
        conversation: the board's side.
        url: name of the link, for messages.

    Attributes:
        sent: all messages that were written, oldest first.
        seconds: device time that the board asked for so far, s.
    """

    def __init__(self, conversation: Conversation, url: str = "sim:") -> None:
        self.url = url
        self.sent: list[bytes] = []
        self.seconds = 0.0
        self._conversation = conversation
        self._arrived = bytearray()
        self._changed = threading.Condition()
        self._open = True

    def write(self, data: bytes, until: float) -> None:
        """Hands the bytes to the board and lets it do its work.

        Raises:
            LinkLost: the link was closed.
        """
        with self._changed:
            self._check()
            self.sent.append(bytes(data))
            for task in self._conversation.receive(bytes(data)):
                self._arrived += self._done(task.work)
            self._changed.notify_all()

    def _done(self, work: Work) -> bytes:
        while True:
            try:
                self.seconds += next(work)
            except StopIteration as end:
                return end.value or b""

    def read(self, wanted: int, until: float) -> bytes:
        """Gives all that the board has said; waits for it until ``until``.

        Raises:
            LinkLost: the link was closed.
        """
        with self._changed:
            self._check()
            if not self._arrived:
                self._changed.wait(max(0.0, until - time.monotonic()))
            data = bytes(self._arrived)
            self._arrived.clear()
            return data

    def drain(self, quiet: float = 0.0) -> int:
        """Throws away what the board has said, and lets it forget what it has heard in part; gives the bytes.

        The answers are there at once, so there is nothing to wait for.
        """
        with self._changed:
            self._check()
            if quiet:
                self._conversation.silent()
            count = len(self._arrived)
            self._arrived.clear()
            return count

    def close(self) -> None:
        """Ends the conversation; again, it does nothing."""
        with self._changed:
            if self._open:
                self._open = False
                self._conversation.lost()
                self._changed.notify_all()

    def _check(self) -> None:
        if not self._open:
            raise LinkLost(self.url, "the link was closed")
