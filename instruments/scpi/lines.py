"""Questions and answers in lines of text, kept in step: what SCPI and TSP instruments have in common."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from hil.errors import BoardMissing, LinkTimeout, WireError
from instruments.scpi.identity import LONGEST, ExpectedInstrument, InstrumentIdentity
from instruments.scpi.text import told
from instruments.session import Session

T = TypeVar("T")

END = b"\n"
_LOG = logging.getLogger("hil.instruments")


class TextLines:
    """The lines of one instrument.

    After an answer that did not come, or one that nobody asked for, the next exchange begins with a resync: what has
    arrived is thrown away, and ``*IDN?`` is asked until the known identity comes back. Questions are asked again a few
    times; what is sent without a question never is.

    Args:
        session: the session, which this object owns.
        board: what the instrument is called in messages.
        seconds: s, the usual wait for an answer.
        tries: how often a question is asked at most.
        quiet: s of silence that show that no answer is under way.
        most: bytes of the longest line.
    """

    def __init__(
        self,
        session: Session,
        board: str,
        *,
        seconds: float = 2.0,
        tries: int = 3,
        quiet: float = 0.05,
        most: int = 4096,
    ) -> None:
        self.session = session
        self.board = board
        self.seconds = seconds
        self._tries, self._quiet, self._most = tries, quiet, most
        self._identity = ""
        self._lost_identity = False

    def identify(self, expected: ExpectedInstrument) -> InstrumentIdentity:
        """Asks who is there, and nothing else.

        Raises:
            BoardMissing: it is another instrument, or says nothing sensible; this is logged in one line.
            LinkTimeout: nobody answered.
        """
        with self.session.exchange():
            self.session.drain(self._quiet)
            self.session.clean()
            try:
                line = self.ask(b"*IDN?", lambda wait: self.line(wait, LONGEST + 2))
                found = InstrumentIdentity.parse(line)
            except ValueError as error:
                raise self._missing(str(error)) from None
            except WireError as error:
                raise self._missing(error.problem) from None
            if problem := expected.refusal(found):
                raise self._missing(problem)
            self._identity = line
            return found

    def send(self, text: bytes) -> None:
        """Sends a line that has no answer; never again when it fails.

        Raises:
            LinkTimeout: it could not be sent in time, or the line could not be brought into step before.
            LinkLost: the other end is gone.
        """
        with self.session.exchange():
            self._in_step()
            self._write(text)

    def send_only(self, text: bytes, seconds: float) -> None:
        """Sends a line at once and asks nothing before it, so that a line out of step cannot hold it up."""
        with self.session.exchange():
            # what was cut off in the middle must not be the beginning of this line
            self._write(END + text if self.session.dirty else text, seconds)

    def ask(self, text: bytes, answer: Callable[[float], T], seconds: float | None = None, *, again: bool = True) -> T:
        """Asks a question until it is answered, a bounded number of times.

        Args:
            text: the question.
            answer: takes the answer from the session within the s it is given; raises ``WireError`` where it is wrong.
            seconds: s to wait for the answer; None for the usual.
            again: asking twice does no harm.

        Raises:
            LinkTimeout: no answer came.
            LinkLost: the other end is gone.
            WireError: the answers made no sense.
        """
        wait = self.seconds if seconds is None else seconds
        with self.session.exchange():
            left = self._tries if again else 1
            while True:
                try:
                    self._in_step()
                    self._write(text)
                    return answer(wait)
                except (LinkTimeout, WireError):
                    self.session.dirty = True
                    left -= 1
                    if not left:
                        raise
                    self.session.counters.retries += 1

    def line(self, seconds: float, most: int | None = None) -> str:
        """Takes one line of plain text.

        Raises:
            WireError: it is too long, or not text; the session is dirty.
        """
        most = most or self._most
        data = self.session.line(END, seconds, most)
        if len(data) >= most:
            raise self.wrong(f"expected a line of less than {most} bytes, got {told(data)}")
        if not data.isascii():
            raise self.wrong(f"expected plain text, got {told(data)}")
        return data.removesuffix(b"\r").decode("ascii")

    def wrong(self, problem: str) -> WireError:
        """The error for an answer that makes no sense; more of it may be under way, so the session is dirty."""
        self.session.dirty = True
        return WireError(self.session.url, problem)

    def close(self) -> None:
        """Lets go of the link."""
        self.session.close()

    def _write(self, text: bytes, seconds: float | None = None) -> None:
        self.session.write(text + END, self.seconds if seconds is None else seconds)

    def _missing(self, problem: str) -> BoardMissing:
        missing = BoardMissing(self.board, f"{problem} ({self.session.url}); nothing else was sent to it")
        _LOG.warning("%s", missing)
        return missing

    def _in_step(self) -> None:
        if self.session.drain():  # an answer that came late or twice
            self.session.dirty = True
        if self.session.dirty:
            self._resync()

    def _resync(self) -> None:
        """Brings the line back into step: silence, then the known identity.

        When an earlier ``*IDN?`` stayed unanswered its answer could be taken for the new one, so the silence before the
        next is a whole wait long.
        """
        self.session.drain(self.seconds if self._lost_identity else self._quiet)
        if not self._identity:
            self.session.clean()
            return
        self._lost_identity = True
        self._write(END + b"*IDN?")
        until = time.monotonic() + self.seconds
        while True:
            line = self.session.line(END, max(until - time.monotonic(), 0.0), self._most, "identity after a time-out")
            if line.removesuffix(b"\r") == self._identity.encode("ascii"):
                break
        self._lost_identity = False
        self.session.drain(self._quiet)
        self.session.clean()
