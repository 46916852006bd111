"""State changes over a stream that loses, repeats and damages bytes: each is carried out exactly once, in order.

Frames of one session carry the tokens 1, 2, 3... Several may be under way (the window). The board carries out only the
token it expects next, and answers a repeated one from memory. So whatever has no answer can be sent again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hil.errors import LinkLost, LinkTimeout
from instruments.framed.frame import Frame, Opcode, Status
from instruments.framed.messages import StatusReport, Ticket
from instruments.framed.requests import Requests

BUSY_PAUSE = 0.01
_AGAIN = (Status.OUT_OF_ORDER, Status.BUSY)


@dataclass(slots=True)
class _Sent:
    """A state change that was sent and not yet answered."""

    token: int
    payload: bytes
    sequence: int
    answer: Frame | None = None


class Stream:
    """The state changes of one session.

    Args:
        requests: the asking side of the link.
        number: number of the session.
        window: most frames under way.
        reconnect: takes the board again over a fresh line, in the same session, and gives the newest token that the
            board has handled; raises ``LinkLost`` when it cannot.
    """

    def __init__(self, requests: Requests, number: int, window: int, reconnect: Callable[[], int]) -> None:
        self.number = number
        self._requests = requests
        self._window = window
        self._reconnect = reconnect
        self._token = 0

    def carry_out(self, opcode: Opcode, bodies: Sequence[bytes]) -> Iterator[Frame]:
        """Sends the frames of one list and gives their answers in order.

        The caller stops at the first answer that is not good, and then needs a new session.

        Args:
            opcode: EXECUTE or RESTORE.
            bodies: the payload of each frame, without its head.

        Raises:
            LinkTimeout: the board fell silent.
            LinkLost: the line broke and could not be made again.
        """
        changes = deque[_Sent]()
        for number, body in enumerate(bodies):
            self._token += 1
            changes.append(_Sent(self._token, Ticket(self.number, self._token, number == 0).encoded() + body, -1))
        return _Exchange(self._requests, opcode, changes, self._window, self._reconnect).answers()


class _Exchange:
    """One list under way."""

    def __init__(
        self, requests: Requests, opcode: Opcode, to_send: deque[_Sent], window: int, reconnect: Callable[[], int]
    ) -> None:
        self._requests, self._opcode, self._to_send = requests, opcode, to_send
        self._window, self._reconnect = window, reconnect
        self._sent = deque[_Sent]()
        self._by_sequence: dict[int, _Sent] = {}
        self._probe: int | None = None
        self._is_aborting = False
        self._failures = self._broken = 0
        self._missing = 0
        self._until = 0.0

    def answers(self) -> Iterator[Frame]:
        """Drives the exchange to its end."""
        self._wait_anew()
        while self._to_send or self._sent:
            try:
                self._fill()
                self._take()
            except LinkLost:
                self._broken += 1
                if self._broken > self._requests.patience.tries:
                    raise
                self._take_up()
            while self._sent and self._sent[0].answer is not None:
                yield self._sent.popleft().answer  # type: ignore[misc]

    def _take_up(self) -> None:
        """Goes on over a fresh line; a board that has forgotten what it did cannot be asked about it."""
        if self._reconnect() < min(sent.token for sent in (*self._sent, *self._to_send)) - 1:
            raise LinkTimeout(self._requests.session.url, "memory of this session: the board was reset", 0.0)
        self._wait_anew()
        self._send_again()

    def _fill(self) -> None:
        """Sends as long as the window is open."""
        while self._to_send and len(self._sent) < self._window:
            self._sent.append(self._to_send.popleft())
            self._send(self._sent[-1])

    def _send(self, sent: _Sent) -> None:
        self._by_sequence.pop(sent.sequence, None)
        sent.sequence = self._requests.send(self._opcode, sent.payload)
        self._by_sequence[sent.sequence] = sent

    def _take(self) -> None:
        """Takes in what has arrived, and does something about it when nothing does."""
        if not self._is_aborting and self._requests.wants_abort():
            self._is_aborting = True
            self._requests.send(Opcode.SAFE)
        for frame in self._requests.arrivals(self._until):
            self._take_frame(frame)
        if time.monotonic() >= self._until:
            self._fell_silent()

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode == Opcode.STATUS and frame.sequence == self._probe:
            self._probed(frame)
            return
        sent = self._by_sequence.pop(frame.sequence, None)
        if sent is None or frame.opcode != self._opcode:
            return  # late or repeated
        self._wait_anew()
        if frame.status in _AGAIN:
            if frame.status == Status.BUSY:
                time.sleep(BUSY_PAUSE)
            self._failed("turn")
            self._send_again()
            return
        self._failures = 0
        sent.answer = frame
        if sent is not self._sent[0]:
            self._send_again(before=sent)  # answers come in order, so those before it were lost

    def _probed(self, frame: Frame) -> None:
        self._probe = None
        self._wait_anew()
        if not self._requests.decoded(StatusReport.decoded, frame).busy:
            self._failed("answer")
            self._send_again()

    def _fell_silent(self) -> None:
        """Waits on while an answer is coming in; else asks the board what it is doing."""
        if self._requests.missing != self._missing and self._missing:
            self._wait_anew()
            return
        self._requests.forget()
        if self._probe is not None:
            self._failed("status")
        self._wait_anew()
        self._probe = self._requests.send(Opcode.STATUS)

    def _failed(self, what: str) -> None:
        self._failures += 1
        if self._failures > self._requests.patience.tries:
            patience = self._requests.patience
            raise LinkTimeout(self._requests.session.url, what, patience.timeout * patience.tries)

    def _send_again(self, before: _Sent | None = None) -> None:
        """Sends whatever has no answer, in order."""
        for sent in self._sent:
            if sent is before:
                return
            if sent.answer is None:
                self._requests.session.counters.retries += 1
                self._send(sent)

    def _wait_anew(self) -> None:
        self._missing = self._requests.missing
        self._until = time.monotonic() + self._requests.patience.timeout
