"""The driver of boards that speak the framed wire protocol."""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from hil.contract import BoardSpec, Op, Outcome, SafeReport, Traffic, lacking
from hil.contract.indexing import cell_index
from hil.contract.ops import Writing
from hil.errors import (
    BoardFault,
    BoardMissing,
    HilError,
    InvalidOperation,
    LinkLost,
    LinkTimeout,
    Unsupported,
    WireError,
)
from instruments.framed.frame import Frame, Opcode, Status
from instruments.framed.heartbeat import Heartbeat
from instruments.framed.introduction import identify
from instruments.framed.messages import Hello, Welcome, decoded_safe, read_tensors, read_time, write_tensors
from instruments.framed.requests import Patience, Requests, said
from instruments.framed.stream import Stream
from instruments.links.link import Link
from instruments.session import Session
from instruments.wire.buffer import PayloadError, Reader, Writer
from instruments.wire.operations import write_op
from instruments.wire.outcomes import read_outcomes

FRAME_BYTES = 1 << 18
"""Payload that one frame is filled up to; more operations go into the next."""
SAFE_TRIES = 3
PINGS = 3
UNREADABLE = SafeReport({"board": "unreadable"}, confirmed=False)
_U16 = struct.Struct("<H")


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
        self._requests = Requests(session, patience, wants_abort)
        self._owner, self._watchdog = owner, watchdog
        self._reopen, self._release = reopen, release
        self._stopped = ""
        self._closed: SafeReport | None = None
        self._step = spec.reading.volts_step
        self._welcome, self._stream = self._begin()
        self._lab, self._heard = self._welcome.now, time.monotonic()
        self._rate, self._board_seconds = bytes_per_second, 0.0
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
        parts = self._packed(ops)
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
        with self._session.exchange():
            try:
                return self._made_safe()
            except LinkLost:
                try:
                    self._reconnect()
                    return self._made_safe()
                except HilError:
                    return UNREADABLE
            except HilError:
                return UNREADABLE

    def close(self) -> None:
        """See ``Backend``."""
        if self._closed is not None:
            return
        report = self.make_safe()
        self._closed = report
        if self._heartbeat is not None:
            self._heartbeat.stop()
        try:
            with self._session.exchange():
                self._requests.ask(Opcode.GOODBYE, tries=1)
        except HilError:
            pass  # it is safe, or nothing more can be done about it
        finally:
            self._session.close()
            self._release()

    def traffic(self) -> Traffic:
        """See ``Linked``."""
        counters, real = self._session.counters, self._welcome.in_real_time
        total = counters.sent + counters.got
        return Traffic(counters.messages, total, self._board_seconds, self._round_trip, self._rate, real)

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
            (frame,) = list(self._stream.carry_out(Opcode.RESTORE, [out.done()]))
            if frame.status != Status.OK:
                self._stream_ended = True
            self._heard_time(self._requests.decoded(lambda payload: read_time(Reader(payload)), frame))

    def _only_virtual(self) -> None:
        if not self._welcome.restorable:
            raise Unsupported("snapshot and restore", self._spec.identity.name, "a chip cannot be copied")

    # -- a list under way ------------------------------------------------------------------------------------------

    def _packed(self, ops: Sequence[Op]) -> list[tuple[Sequence[Op], bytes]]:
        """Operations and payload of each frame."""
        parts: list[tuple[Sequence[Op], bytes]] = []
        first, bodies, size = 0, list[bytes](), 0
        for number, op in enumerate(ops):
            body = self._body(op)
            if bodies and size + len(body) > FRAME_BYTES:
                parts.append((ops[first:number], _U16.pack(len(bodies)) + b"".join(bodies)))
                first, bodies, size = number, [], 0
            bodies.append(body)
            size += len(body)
        parts.append((ops[first:], _U16.pack(len(bodies)) + b"".join(bodies)))
        return parts

    def _body(self, op: Op) -> bytes:
        out = Writer()
        try:
            write_op(out, op, self._step)
        except (struct.error, IndexError) as error:
            raise InvalidOperation(
                type(op).__name__, f"it holds a number that the wire does not carry ({error})"
            ) from None
        body = out.done()
        if len(body) > self._welcome.most_bytes - 64:
            reason = (
                f"it takes {len(body):,} bytes and a frame at most {self._welcome.most_bytes:,}; use smaller batches"
            )
            raise Unsupported(type(op).__name__, self._spec.identity.name, reason)
        return body

    def _sent(self, ops: Sequence[Op], parts: Sequence[tuple[Sequence[Op], bytes]]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        try:
            self._renewed()
            answers = self._stream.carry_out(Opcode.EXECUTE, [body for _, body in parts])
            for (part, _), frame in zip(parts, answers, strict=True):
                outcomes += self._outcomes(frame, part, ops, outcomes)
        except (LinkLost, LinkTimeout, WireError) as error:
            self._stream_ended = True
            doubt = self._doubt(ops[len(outcomes) :])
            raise BoardFault(self._spec.identity.name, str(error), outcomes, len(outcomes), doubt) from error
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
        self._stream_ended = True
        done = before + found
        raise BoardFault(
            self._spec.identity.name, text or "it carried out a part only", done, len(done),
            self._doubt(ops[len(done) : len(done) + 1]),
        )  # fmt: skip

    def _refused(self, frame: Frame, ops: Sequence[Op], before: list[Outcome]) -> None:
        """Ends a list of which a frame was refused, so that nothing of that frame was carried out."""
        self._stream_ended = True
        if frame.status == Status.SAFE_STATE:
            self._stopped = f"{said(frame)}; look at the board, then open it again"
            raise BoardFault(self._spec.identity.name, self._stopped, before, len(before))
        doubt = self._doubt(ops[len(before) :]) if frame.status == Status.NO_SESSION else None
        raise BoardFault(self._spec.identity.name, str(self._requests.refusal(frame)), before, len(before), doubt)

    def _doubt(self, ops: Sequence[Op]) -> Tensor | None:
        """Cells that writing operations may have changed, bool [K, R, C]; None for none."""
        doubt = torch.zeros(self._spec.cells, dtype=torch.bool)
        for op in ops:
            if isinstance(op, Writing):
                doubt.view(-1)[cell_index(op.blocks, *self._spec.cells[1:]).view(-1)] = True
        return doubt if bool(doubt.any()) else None

    def _heard_time(self, seconds: float) -> None:
        self._lab, self._heard = seconds, time.monotonic()

    # -- the session -----------------------------------------------------------------------------------------------

    def _begin(self) -> tuple[Welcome, Stream]:
        """Takes the board in a new session."""
        number = secrets.randbits(63)
        welcome = self._greet(number)
        self._stream_ended = False
        return welcome, Stream(self._requests, number, welcome.window, lambda: self._reconnect(number))

    def _greet(self, number: int) -> Welcome:
        payload = Hello(number, self._watchdog, self._owner).encoded()
        frame = self._requests.ask(Opcode.HELLO, payload, "welcome")
        if frame.status == Status.OWNED:
            raise BoardMissing(self._spec.identity.name, said(frame))
        return self._requests.decoded(Welcome.decoded, frame)

    def _renewed(self) -> None:
        """Begins a new session after one that ended badly; frames of the old one are refused by the board."""
        if self._stream_ended:
            self._welcome, self._stream = self._begin()

    def _reconnect(self, number: int | None = None) -> int:
        """Makes a broken line again; with a number, takes the board in that session and gives its newest token.

        Raises:
            LinkLost: it cannot be made, or another board answers.
        """
        if self._reopen is None:
            raise LinkLost(self._session.url, "the line broke")
        self._session.use(self._opened_again(self._reopen))
        self._requests.forget()
        found = identify(self._session, self._requests.patience)
        if found.serial != self._spec.identity.serial:
            raise LinkLost(self._session.url, f"the line came back with another board ({found.serial})")
        return 0 if number is None else self._greet(number).last

    def _opened_again(self, reopen: Callable[[], Link]) -> Link:
        until = time.monotonic() + self._requests.patience.timeout
        while True:
            try:
                return reopen()
            except HilError:
                if time.monotonic() >= until:
                    raise
                time.sleep(0.02)

    def _made_safe(self) -> SafeReport:
        """Sends the safe command and reads the outputs back."""
        decode, ask = self._requests.decoded, self._requests.ask
        commanded = decode(decoded_safe, ask(Opcode.SAFE, what="safe state", tries=SAFE_TRIES))
        seen = decode(decoded_safe, ask(Opcode.OUTPUTS, what="state of the outputs", tries=SAFE_TRIES))
        return seen if commanded.confirmed else SafeReport(seen.outputs, confirmed=False)
