"""Questions and answers over a stream that loses, repeats and damages bytes.

Every request has a new sequence number, and an answer repeats it, so that a late or doubled answer is known for what it
is and dropped. A question may be asked again as often as wanted; state changes are the business of ``stream``.
"""

from __future__ import annotations

import math
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hil.errors import LinkTimeout, WireError
from instruments.framed.frame import Decoder, Frame, Opcode, Status
from instruments.framed.messages import StatusReport
from instruments.links.showing import shown
from instruments.session import Session
from instruments.wire.buffer import PayloadError, Reader

T = TypeVar("T")

SLOWEST = 10_000.0
"""B/s that a line whose pace is not known must take at least, or sending is given up."""
_SAFETY = (Opcode.SAFE, Opcode.OUTPUTS)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait and how often to try.

    Args:
        timeout: s for an answer that needs no device time.
        tries: how often a question is asked, and how many time-outs in a row a state change may go without an answer.
    """

    timeout: float = 1.0
    tries: int = 8


class Requests:
    """The asking side of a framed link.

    Args:
        session: the line.
        patience: how long to wait.
        wants_abort: looked at every 50 ms while waiting.
        pulse: s without a word from us after which a waiting host lets the board hear that it is alive; a board that
            is not yet known hears nothing but what is asked.
        rate: B/s of the line; None where bytes take no time.
    """

    def __init__(
        self,
        session: Session,
        patience: Patience | None = None,
        wants_abort: Callable[[], bool] = lambda: False,
        *,
        pulse: float = math.inf,
        rate: float | None = None,
    ) -> None:
        self.session = session
        self.patience = patience or Patience()
        self.wants_abort = wants_abort
        self._pulse = pulse
        self._backlog = None if rate is None else Backlog(rate)
        self._decoder = Decoder()
        self._sequence = secrets.randbelow(1 << 16)
        self._spoke = self._heard = 0.0
        self._begun = math.inf  # when the frame now arriving began to, or was looked into

    def send(self, opcode: int, payload: bytes = b"") -> int:
        """Sends a request and gives its sequence number.

        Raises:
            LinkTimeout: the line does not take it.
            LinkLost: the other end is gone.
        """
        self._sequence = (self._sequence + 1) & 0xFFFF
        data = Frame(opcode, self._sequence, payload).encoded()
        if self._backlog is None:
            seconds = self.patience.timeout + len(data) / SLOWEST
        else:
            self._backlog.sent(self._sequence, len(data))
            seconds = self.patience.timeout + self._backlog.seconds
        self.session.write(data, seconds)
        self._spoke = time.monotonic()
        return self._sequence

    def arrivals(self, until: float) -> list[Frame]:
        """Frames that have come in, after a wait of one poll at most; keeps the board's watchdog quiet.

        Raises:
            LinkLost: the other end is gone.
        """
        data = self.session.some(self._decoder.missing, min(until, self._spoke + self._pulse))
        if self.idle_seconds >= self._pulse:
            self.send(Opcode.STATUS)
        if not data:
            return []
        self._heard = time.monotonic()
        frames = self._decoder.feed(data)
        if not self._decoder.waiting:
            self._begun = math.inf
        elif frames or self._begun == math.inf:
            self._begun = self._heard
        elif self._heard - self._begun > self.patience.timeout:
            self._begun = self._heard
            frames = self._decoder.inner()  # what comes in may be answers that a frame cut short swallows
        if self._backlog is not None:
            for frame in frames:
                self._backlog.answered(frame.sequence)
        return frames

    @property
    def idle_seconds(self) -> float:
        """Time since something was sent, s."""
        return time.monotonic() - self._spoke

    @property
    def arriving_until(self) -> float:
        """How long to wait at least for more of the frame that has arrived in part; 0 when there is none."""
        return self._heard + self.patience.timeout if self._decoder.waiting else 0.0

    def deadline(self, tries: int = 1) -> float:
        """When an answer must be there: what was sent has to get over the line first."""
        backlog = 0.0 if self._backlog is None else self._backlog.seconds
        return time.monotonic() + backlog + tries * self.patience.timeout

    def forget(self) -> None:
        """Drops what has arrived in part, after a time-out."""
        self.session.counters.timeouts += 1
        self.begin_anew()

    def begin_anew(self) -> None:
        """Drops what has arrived in part, on a fresh line."""
        self._decoder.forget()
        self._begun = math.inf
        if self._backlog is not None:
            self._backlog.clear()

    def ask(self, opcode: Opcode, payload: bytes = b"", what: str = "answer", tries: int | None = None) -> Frame:
        """Asks until there is an answer; for requests that may be repeated.

        A long answer that keeps arriving is waited for. An abort ends the repeats, except of what makes safe.

        Raises:
            LinkTimeout: there was none.
            LinkLost: the other end is gone.
        """
        started = time.monotonic()
        with self.session.exchange():
            for attempt in range(tries or self.patience.tries):
                if attempt and opcode not in _SAFETY and self.wants_abort():
                    break
                self.session.counters.retries += attempt > 0
                found = self._answer(self.send(opcode, payload), opcode)
                if found is not None:
                    return found
                self.forget()
        raise LinkTimeout(self.session.url, f"{what} ({opcode.name})", time.monotonic() - started)

    def _answer(self, sequence: int, opcode: Opcode) -> Frame | None:
        until = self.deadline()
        while True:
            for frame in self.arrivals(until):
                if frame.sequence == sequence and frame.opcode == opcode:
                    return frame
            now = time.monotonic()
            if now >= until:
                until = self.arriving_until
                if now >= until:
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
    return shown(text, 200) or "it gave no reason"


class Backlog:
    """Bytes on their way to the board: requests that have no answer, up to the newest that has one.

    Args:
        rate: B/s of the line.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._waiting = deque[tuple[int, int]]()
        self._bytes = 0

    @property
    def seconds(self) -> float:
        """Time that they may take, s; a quarter more than they should."""
        return 1.25 * self._bytes / self._rate

    def sent(self, sequence: int, count: int) -> None:
        """Notes a request."""
        self._waiting.append((sequence, count))
        self._bytes += count

    def answered(self, sequence: int) -> None:
        """Notes an answer: its request, and all before it, have got over the line."""
        if any(number == sequence for number, _ in self._waiting):
            while True:
                number, count = self._waiting.popleft()
                self._bytes -= count
                if number == sequence:
                    return

    def clear(self) -> None:
        """Forgets them all."""
        self._waiting.clear()
        self._bytes = 0


def _name(opcode: int) -> str:
    return Opcode(opcode).name if opcode in set(Opcode) else f"opcode {opcode}"
