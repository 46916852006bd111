"""State changes over a stream that loses, repeats and damages bytes: each is carried out exactly once, in order.

Frames of one session carry the tokens 1, 2, 3... Several may be under way (the window). The board carries out only the
token it expects next, and answers a repeated one from memory. So whatever has no answer can be sent again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hil.errors import LinkLost, LinkTimeout, WireError
from instruments.framed.frame import Frame, Opcode, Status
from instruments.framed.messages import StatusReport, Ticket
from instruments.framed.requests import Requests

BUSY_PAUSE = 0.01
UNDER_WAY = 1 << 19
"""Bytes of requests without an answer; while a host sends it takes no answers, and a board holds only so many."""
_AGAIN = (Status.OUT_OF_ORDER, Status.BUSY)


@dataclass(slots=True)
class _Sent:
    """A state change, sent or to be sent.

    Args:
        token: its number in the session.
        ticket: the head of its payload.
        body: the rest of it.
        sequence: number of the request that carried it last; -1 for none.
        answer: what the board answered.
    """

    token: int
    ticket: bytes
    body: bytes
    sequence: int = -1
    answer: Frame | None = None


class Stream:
    """The state changes of one session.

    Args:
        requests: the asking side of the link.
        number: number of the session.
        window: most frames under way.
        reconnect: takes the board again over a fresh line, in the same session; raises ``LinkLost`` when that may be
            tried again, and another error when it is of no use.
    """

    def __init__(self, requests: Requests, number: int, window: int, reconnect: Callable[[], None]) -> None:
        self._number = number
        self._requests = requests
        self._window = window
        self._reconnect = reconnect
        self._token = 0

    def carry_out(self, opcode: Opcode, bodies: Sequence[bytes], most_seconds: Callable[[], float]) -> Iterator[Frame]:
        """Sends the frames of one list and gives their answers in order.

        The caller stops at the first answer that is not good, and then needs a new session. The same after an error.

        Args:
            opcode: EXECUTE or RESTORE.
            bodies: the payload of each frame, without its head.
            most_seconds: s that the board may at most say it is busy with all of them.

        Raises:
            LinkTimeout: the board fell silent, or hangs.
            LinkLost: the line broke and could not be made again.
            WireError: an operator's abort ended the list, or the line came back with another board or session.
        """
        changes = deque[_Sent]()
        for number, body in enumerate(bodies):
            self._token += 1
            changes.append(_Sent(self._token, Ticket(self._number, self._token, number == 0).encoded(), body))
        exchange = _Exchange(
            self._requests, opcode, changes, self._window, reconnect=self._reconnect, most_seconds=most_seconds
        )
        return exchange.answers()


class _Exchange:
    """One list under way."""

    def __init__(
        self,
        requests: Requests,
        opcode: Opcode,
        to_send: deque[_Sent],
        window: int,
        *,
        reconnect: Callable[[], None],
        most_seconds: Callable[[], float],
    ) -> None:
        self._requests, self._opcode, self._to_send = requests, opcode, to_send
        self._window, self._reconnect, self._most_seconds = window, reconnect, most_seconds
        self._sent = deque[_Sent]()
        self._by_sequence: dict[int, _Sent] = {}
        self._probe: int | None = None
        self._breaks, self._is_broken = 0, False
        self._is_aborting = self._is_safe = False
        self._started = self._progress = time.monotonic()
        self._until = 0.0

    def answers(self) -> Iterator[Frame]:
        """Drives the exchange to its end."""
        self._went_on()
        while self._to_send or self._sent:
            try:
                if self._is_broken:
                    self._take_up()
                if not self._is_aborting and self._requests.wants_abort():
                    self._abort()
                self._fill()
                self._take()
            except LinkLost:
                self._is_broken, self._breaks = True, self._breaks + 1
                if self._is_aborting or self._breaks > self._requests.patience.tries:
                    raise
            while self._sent and self._sent[0].answer is not None:
                yield self._sent.popleft().answer  # type: ignore[misc]
            if self._is_safe and not self._sent:
                self._aborted()

    # -- sending ---------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Sends as long as the window is open."""
        while self._to_send and self._has_room() and not self._is_aborting:
            self._sent.append(self._to_send.popleft())
            self._send(self._sent[-1])
            self._went_on()

    def _has_room(self) -> bool:
        """Whether the window is open for the next frame; one is always let through."""
        if not self._sent:
            return True
        size = sum(len(sent.body) for sent in self._sent) + len(self._to_send[0].body)
        return len(self._sent) < self._window and size <= UNDER_WAY

    def _send(self, sent: _Sent) -> None:
        self._by_sequence.pop(sent.sequence, None)
        sent.sequence = self._requests.send(self._opcode, sent.ticket + sent.body)
        self._by_sequence[sent.sequence] = sent

    def _send_again(self, before: _Sent | None = None) -> None:
        """Sends whatever has no answer, in order; after an abort, nothing."""
        for sent in self._sent:
            if sent is before or self._is_aborting:
                return
            if sent.answer is None:
                self._requests.session.counters.retries += 1
                self._send(sent)
                self._wait_anew()

    def _take_up(self) -> None:
        """Goes on over a fresh line."""
        self._reconnect()
        self._is_broken, self._probe = False, None
        self._went_on()
        self._send_again()

    def _abort(self) -> None:
        """Makes the board safe at once; it answers what it has begun, and nothing more is sent."""
        self._is_aborting = True
        self._went_on()
        self._probe = self._requests.send(Opcode.SAFE)

    def _aborted(self) -> None:
        raise WireError(self._requests.session.url, "the operator aborted; the rest of the list was not sent")

    # -- receiving -------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        """Takes in what has arrived, and does something about it when nothing does."""
        for frame in self._requests.arrivals(self._until):
            self._take_frame(frame)
        now, arriving = time.monotonic(), self._requests.arriving_until
        if self._until <= now < arriving:
            self._progress += arriving - self._until  # an answer that comes in slowly is no silence
            self._until = arriving
        elif self._until <= now:
            self._fell_silent()

    def _take_frame(self, frame: Frame) -> None:
        if frame.sequence == self._probe and frame.opcode in (Opcode.STATUS, Opcode.SAFE):
            self._probed(frame)
            return
        sent = self._by_sequence.pop(frame.sequence, None)
        if sent is None or frame.opcode != self._opcode:
            return  # late or repeated
        if frame.status in _AGAIN:
            if frame.status == Status.BUSY:
                time.sleep(BUSY_PAUSE)
            self._failed("turn")
            self._send_again()
            return
        self._went_on()
        self._breaks = 0
        sent.answer = frame
        if sent is not self._sent[0]:
            self._send_again(before=sent)  # answers come in order, so those before it were lost

    def _probed(self, frame: Frame) -> None:
        self._probe = None
        if frame.opcode == Opcode.SAFE:
            self._is_safe = True
            self._wait_anew()
        elif self._requests.decoded(StatusReport.decoded, frame).busy and not self._hangs():
            self._went_on()
        else:
            self._failed("answer")
            self._send_again()

    def _hangs(self) -> bool:
        return time.monotonic() - self._started > self._most_seconds()

    def _fell_silent(self) -> None:
        """Asks the board what it is doing; after an abort, until it has said that it is safe."""
        self._requests.forget()
        self._failed("answer" if self._probe is None else "status")
        if self._is_safe:
            self._aborted()  # and what had no answer by now was lost
        self._probe = self._requests.send(Opcode.SAFE if self._is_aborting else Opcode.STATUS)
        self._wait_anew()

    def _failed(self, what: str) -> None:
        """Gives up when nothing good came for too long."""
        waited = time.monotonic() - self._progress
        if time.monotonic() + waited >= self._requests.deadline(self._requests.patience.tries):
            raise LinkTimeout(self._requests.session.url, what, waited)
        self._wait_anew()

    def _went_on(self) -> None:
        """Notes that something good came, or that the board is at work."""
        self._progress = time.monotonic()
        self._wait_anew()

    def _wait_anew(self) -> None:
        self._until = self._requests.deadline()
