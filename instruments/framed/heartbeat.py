"""Lets an idle board hear that its host is alive, so that its watchdog stays quiet."""

from __future__ import annotations

import threading
from contextlib import suppress

from hil.errors import HilError
from instruments.framed.frame import Opcode
from instruments.framed.requests import Requests


class Heartbeat:
    """A thread that speaks when nobody else has for a while.

    It ends with the process, however that dies; that is what the board listens for.

    Args:
        requests: the asking side of the link.
        period: s between two words.
    """

    def __init__(self, requests: Requests, period: float) -> None:
        self._requests, self._period = requests, period
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()
        self._thread.join(timeout=2 * self._requests.patience.timeout + 1)

    def _beat(self) -> None:
        while not self._stopped.wait(self._period / 2):
            if self._requests.idle_seconds < self._period / 2:
                continue
            if self._requests.session.lock.acquire(blocking=False):
                try:
                    with suppress(HilError):  # whoever uses the board next sees what is wrong
                        self._requests.ask(Opcode.STATUS, tries=1)
                finally:
                    self._requests.session.lock.release()
