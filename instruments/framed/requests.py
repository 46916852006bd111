"""Questions and answers over a stream that loses, repeats and damages bytes.

Every request has a new sequence number, and an answer repeats it, so that a late or doubled answer is known for what it
is and dropped. A question may be asked again as often as wanted; state changes are the business of ``stream``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hil.errors import LinkTimeout, WireError
from instruments.framed.frame import Decoder, Frame, Opcode, Status
from instruments.framed.messages import StatusReport
from instruments.session import Session
from instruments.wire.buffer import PayloadError, Reader

T = TypeVar("T")

IDLE_PULSE = 0.5
"""s without a word from us after which a waiting host lets the board hear that it is alive."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait and how often to try.

    Args:
        timeout: s for an answer that needs no device time.
        tries: how often a question is asked, and how often in a row a frame may get no answer.
    """

    timeout: float = 1.0
    tries: int = 8


class Requests:
    """The asking side of a framed link.

    Args:
        session: the line.
        patience: how long to wait.
        wants_abort: looked at every 50 ms while waiting; once it is true, a safe command is sent at once.
    """

    def __init__(
        self, session: Session, patience: Patience | None = None, wants_abort: Callable[[], bool] = lambda: False
    ) -> None:
        self.session = session
        self.patience = patience or Patience()
        self.wants_abort = wants_abort
        self._decoder = Decoder()
        self._sequence = secrets.randbelow(1 << 16)
        self._spoke = 0.0

    def send(self, opcode: int, payload: bytes = b"") -> int:
        """Sends a request and gives its sequence number."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        self.session.write(Frame(opcode, self._sequence, payload).encoded(), self._writing(len(payload)))
        self._spoke = time.monotonic()
        return self._sequence

    def _writing(self, count: int) -> float:
        """Gives the time that sending may take, s: a slow line carries a kilobyte a second."""
        return self.patience.timeout + count / 1000

    def arrivals(self, until: float) -> list[Frame]:
        """Frames that have come in, after a wait of one poll at most; keeps the board's watchdog quiet."""
        data = self.session.some(self._decoder.missing, until)
        if data:
            return self._decoder.feed(data)
        if self.idle_seconds > IDLE_PULSE:
            self.send(Opcode.STATUS)
        return []

    @property
    def idle_seconds(self) -> float:
        """Time since something was sent, s."""
        return time.monotonic() - self._spoke

    @property
    def missing(self) -> int:
        """Bytes that the frame now arriving still needs; it changes while an answer comes in."""
        return self._decoder.missing

    def forget(self) -> None:
        """Drops what has arrived in part, after a time-out."""
        self.session.counters.timeouts += 1
        self._decoder.forget()

    def ask(self, opcode: Opcode, payload: bytes = b"", what: str = "answer", tries: int | None = None) -> Frame:
        """Asks until there is an answer; for requests that may be repeated.

        A long answer that keeps arriving is waited for.

        Raises:
            LinkTimeout: there was none.
            LinkLost: the other end is gone.
        """
        started = time.monotonic()
        with self.session.exchange():
            for attempt in range(tries or self.patience.tries):
                self.session.counters.retries += attempt > 0
                found = self._answer(self.send(opcode, payload))
                if found is not None:
                    return found
                self.forget()
        raise LinkTimeout(self.session.url, f"{what} ({opcode.name})", time.monotonic() - started)

    def _answer(self, sequence: int) -> Frame | None:
        until = time.monotonic() + self.patience.timeout
        missing = self._decoder.missing
        while time.monotonic() < until:
            for frame in self.arrivals(until):
                if frame.sequence == sequence:
                    return frame
            if self._decoder.missing != missing:  # it is still coming in
                missing = self._decoder.missing
                until = max(until, time.monotonic() + self.patience.timeout)
        return None

    def status(self) -> StatusReport:
        """What the board is doing.

        Raises:
            LinkTimeout: it does not answer.
            WireError: the answer makes no sense.
        """
        return self.decoded(StatusReport.decoded, self.ask(Opcode.STATUS, what="status"))

    def decoded(self, decode: Callable[[bytes], T], frame: Frame) -> T:
        """Takes a good answer apart.

        Raises:
            WireError: the board refused, or the answer makes no sense.
        """
        if frame.status != Status.OK:
            raise self.refusal(frame)
        try:
            return decode(frame.payload)
        except PayloadError as error:
            raise WireError(self.session.url, f"the answer to {_name(frame.opcode)} {error}") from None

    def refusal(self, frame: Frame) -> WireError:
        """The error that a refused request ends with."""
        status = Status(frame.status).name if frame.status in set(Status) else f"status {frame.status}"
        return WireError(self.session.url, f"{_name(frame.opcode)} was refused with {status}: {said(frame)}")


def said(frame: Frame) -> str:
    """The text that a refusal carries, made harmless."""
    try:
        text = Reader(frame.payload).text()
    except PayloadError:
        text = ""
    return printable(text) or "it gave no reason"


def printable(text: str, most: int = 200) -> str:
    """Foreign text on one line: escaped and cut."""
    shown = text[:most].encode("unicode_escape").decode("ascii")
    return shown + ("..." if len(text) > most else "")


def _name(opcode: int) -> str:
    return Opcode(opcode).name if opcode in set(Opcode) else f"opcode {opcode}"
