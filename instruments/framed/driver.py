"""The driver of boards that speak the framed wire protocol."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from torch import Tensor

from hil.contract import BoardSpec, Op, Outcome, SafeReport, Traffic, lacking
from hil.errors import (
    BoardFault,
    BoardMissing,
    HilError,
    LinkLost,
    LinkTimeout,
    Unsupported,
    WireError,
)
from instruments.framed.frame import Frame, Opcode, Status
from instruments.framed.heartbeat import Heartbeat
from instruments.framed.introduction import made_safe, meet_again
from instruments.framed.lists import Part, in_doubt, longest, packed
from instruments.framed.messages import Hello, Welcome, read_tensors, read_time, write_tensors
from instruments.framed.requests import Patience, Requests, said
from instruments.framed.stream import Stream
from instruments.links.link import Link
from instruments.session import Session
from instruments.wire.buffer import PayloadError, Reader, Writer
from instruments.wire.outcomes import read_outcomes

SAFE_TRIES = 3
PINGS = 3
PULSE = 0.5
"""s; a waiting host lets the board hear from it this often, or three times within the watchdog's time."""
RESTORING = 60.0
"""s; the longest that a virtual board may take to put a state back."""
LOOK = "look at the board, then open it again"
UNREADABLE = SafeReport({"board": "unreadable"}, confirmed=False)


class FramedBoard:
    """A board behind a framed link.

    Args:
        session: the line; its identity has been checked.
        spec: what the board is.
        owner: who we are, for other programs.
        watchdog: s of silence after which the board makes itself safe; 0 for never.
        patience: how long to wait and how often to try.
        wants_abort: looked at every 50 ms while waiting.
        reopen: opens the line again when it broke; None to give up.
        release: called once, after the board was let go.
        bytes_per_second: of the link; None where that is no bound.
    """

    def __init__(
        self,
        session: Session,
        spec: BoardSpec,
        *,
        owner: str = "",
        watchdog: float = 5.0,
        patience: Patience | None = None,
        wants_abort: Callable[[], bool] = lambda: False,
        reopen: Callable[[], Link] | None = None,
        release: Callable[[], None] = lambda: None,
        bytes_per_second: float | None = None,
    ) -> None:
        self._spec = spec
        self._session = session
        rate = bytes_per_second or spec.timing.bytes_per_second
        pulse = min(PULSE, watchdog / 3) if watchdog > 0 else math.inf
        self._requests = Requests(session, patience, wants_abort, pulse=pulse, rate=rate)
        self._owner, self._watchdog = owner, watchdog
        self._reopen, self._release = reopen, release
        self._stopped = ""
        self._closed: SafeReport | None = None
        self._step = spec.reading.volts_step
        self._welcome, self._stream = self._begin()
        self._lab, self._heard = self._welcome.now, time.monotonic()
        self._rate, self._board_seconds = rate, 0.0
        self._round_trip = min(self._ping() for _ in range(PINGS))
        self._heartbeat = Heartbeat(self._requests, watchdog / 3) if watchdog > 0 else None

    @property
    def spec(self) -> BoardSpec:
        """What the board is and what it may do."""
        return self._spec

    @property
    def session(self) -> Session:
        """The line, with its counters."""
        return self._session

    # -- the contract ----------------------------------------------------------------------------------------------

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        """See ``Backend``; a list is one frame, or a few where it is large."""
        name = self._spec.identity.name
        if self._closed is not None:
            raise BoardMissing(name, "it was closed; open it again")
        for op in ops:
            if reason := lacking(op, self._spec):
                raise Unsupported(type(op).__name__, name, reason)
        if self._stopped:
            raise BoardFault(name, self._stopped)
        if not ops:
            return []
        parts = packed(ops, self._spec, self._welcome.most_bytes)
        with self._session.exchange():
            return self._sent(ops, parts)

    def now(self) -> float:
        """Lab time, s; on a virtual board that of the last answer, since its clock moves only while it works."""
        passed = 0.0 if self._welcome.virtual_time else time.monotonic() - self._heard
        return self._lab + passed

    def make_safe(self) -> SafeReport:
        """See ``Backend``: the safe command first, then the outputs are read back."""
        if self._closed is not None:
            return self._closed
        with self._session.exchange(), suppress(HilError):
            try:
                return made_safe(self._requests, SAFE_TRIES)
            except LinkLost:
                self._reconnect()
                return made_safe(self._requests, SAFE_TRIES)
        return UNREADABLE

    def close(self) -> None:
        """See ``Backend``."""
        if self._closed is not None:
            return
        try:
            self._closed = self.make_safe()
            if self._heartbeat is not None:
                self._heartbeat.stop()
            if self._closed is not UNREADABLE:
                with suppress(HilError):  # it is safe
                    self._requests.ask(Opcode.GOODBYE, tries=1)
        finally:
            self._closed = self._closed or UNREADABLE
            self._session.close()
            self._release()

    def traffic(self) -> Traffic:
        """See ``Linked``."""
        seen, real = self._session.counters, self._welcome.in_real_time
        return Traffic(seen.messages, seen.sent + seen.got, self._board_seconds, self._round_trip, self._rate, real)

    def _ping(self) -> float:
        started = time.monotonic()
        self._requests.status()
        return time.monotonic() - started

    # -- saving and restoring --------------------------------------------------------------------------------------

    @property
    def restorable(self) -> bool:
        """See ``Restorable``; only virtual boards are."""
        return self._welcome.restorable

    def snapshot(self) -> dict[str, Tensor]:
        """See ``Restorable``."""
        self._only_virtual()
        frame = self._requests.ask(Opcode.SNAPSHOT, what="snapshot")
        return self._requests.decoded(lambda payload: read_tensors(Reader(payload)), frame)

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """See ``Restorable``."""
        self._only_virtual()
        out = Writer()
        write_tensors(out, saved)
        with self._session.exchange():
            self._renewed()
            self._stream_ended = True  # unless all goes well
            (frame,) = self._stream.carry_out(Opcode.RESTORE, [out.done()], lambda: RESTORING)
            self._heard_time(self._requests.decoded(lambda payload: read_time(Reader(payload)), frame))
            self._stream_ended = False

    def _only_virtual(self) -> None:
        if not self._welcome.restorable:
            raise Unsupported("snapshot and restore", self._spec.identity.name, "a chip cannot be copied")

    # -- a list under way ------------------------------------------------------------------------------------------

    def _sent(self, ops: Sequence[Op], parts: Sequence[Part]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        name = self._spec.identity.name
        try:
            self._renewed()
        except (LinkLost, LinkTimeout, WireError) as error:
            raise BoardFault(name, f"{error}; nothing was sent") from error
        self._stream_ended = True  # unless all goes well
        try:
            bodies = [body for _, body in parts]
            answers = self._stream.carry_out(Opcode.EXECUTE, bodies, lambda: longest(ops, self._spec))
            for (part, _), frame in zip(parts, answers, strict=True):
                outcomes += self._outcomes(frame, part, ops, outcomes)
        except (LinkLost, LinkTimeout, WireError) as error:
            doubt = in_doubt(ops[len(outcomes) :], self._spec)
            raise BoardFault(name, str(error), outcomes, len(outcomes), doubt) from error
        self._stream_ended = False
        return outcomes

    def _outcomes(self, frame: Frame, part: Sequence[Op], ops: Sequence[Op], before: list[Outcome]) -> list[Outcome]:
        """Outcomes of one frame; raises ``BoardFault`` when it was not carried out whole."""
        if frame.status not in (Status.OK, Status.FAULT):
            self._refused(frame, ops, before)
        source = Reader(frame.payload)
        try:
            self._heard_time(read_time(source))
            found = read_outcomes(source, part)
            text = source.text() if frame.status == Status.FAULT else ""
            source.end()
        except PayloadError as error:
            raise WireError(self._session.url, f"the answer to EXECUTE {error}") from None
        self._board_seconds += sum(outcome.seconds for outcome in found)
        if frame.status == Status.OK and len(found) == len(part):
            return found
        done = before + found
        raise BoardFault(
            self._spec.identity.name, text or "it carried out a part only", done, len(done),
            in_doubt(ops[len(done) : len(done) + 1], self._spec),
        )  # fmt: skip

    def _refused(self, frame: Frame, ops: Sequence[Op], before: list[Outcome]) -> None:
        """Ends a list of which a frame was refused, so that nothing of that frame was carried out."""
        if frame.status == Status.SAFE_STATE:
            self._stopped = f"{said(frame)}; {LOOK}"
            raise BoardFault(self._spec.identity.name, self._stopped, before, len(before))
        doubt = in_doubt(ops[len(before) :], self._spec) if frame.status == Status.NO_SESSION else None
        raise BoardFault(self._spec.identity.name, str(self._requests.refusal(frame)), before, len(before), doubt)

    def _heard_time(self, seconds: float) -> None:
        self._lab, self._heard = seconds, time.monotonic()

    # -- the session -----------------------------------------------------------------------------------------------

    def _begin(self) -> tuple[Welcome, Stream]:
        """Takes the board in a new session."""
        number = secrets.randbits(63)
        welcome = self._greet(number)
        self._stream_ended = False
        return welcome, Stream(self._requests, number, welcome.window, lambda: self._resume(number))

    def _greet(self, number: int) -> Welcome:
        payload = Hello(number, self._watchdog, self._owner).encoded()
        frame = self._requests.ask(Opcode.HELLO, payload, "welcome")
        if frame.status == Status.OWNED:
            raise BoardMissing(self._spec.identity.name, said(frame))
        return self._requests.decoded(Welcome.decoded, frame)

    def _renewed(self) -> None:
        """Begins a new session after one that ended badly; frames of the old one are refused by the board.

        A board that somebody else, or its watchdog, has made safe in between is left alone.
        """
        if not self._stream_ended:
            return
        try:
            status = self._requests.status()
        except LinkLost:
            self._reconnect()
            status = self._requests.status()
        if status.is_safe and status.owned:
            self._stopped = f"it was made safe in the middle of a list, by its watchdog or another client; {LOOK}"
            raise BoardFault(self._spec.identity.name, self._stopped)
        self._welcome, self._stream = self._begin()

    def _resume(self, number: int) -> None:
        """Takes the board again in the same session, over a fresh line.

        Raises:
            LinkLost: there is none.
            WireError: another board answers, or it was reset or taken in between.
        """
        self._reconnect()
        try:
            is_known = self._greet(number).resumed
        except BoardMissing as error:
            raise WireError(self._session.url, error.problem) from None
        if not is_known:
            raise WireError(self._session.url, "the board was reset and does not remember what it has done")

    def _reconnect(self) -> None:
        """Makes a broken line again.

        Raises:
            LinkLost: it cannot be made.
            WireError: another board answers.
        """
        if self._reopen is None:
            raise LinkLost(self._session.url, "the line broke")
        self._requests.begin_anew()
        meet_again(self._session, self._reopen, self._spec.identity, self._requests.patience)
