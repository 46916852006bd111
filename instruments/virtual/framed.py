"""A virtual board that speaks the framed wire protocol, with any backend inside."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hil.contract import Backend, Op, Outcome, restorable
from hil.errors import BoardFault, HilError
from instruments.framed.frame import MOST_BYTES, Decoder, Frame, Opcode, Status
from instruments.framed.messages import (
    Hello,
    StatusReport,
    Ticket,
    Welcome,
    encoded_json,
    encoded_safe,
    read_tensors,
    write_tensors,
    write_time,
)
from instruments.virtual.inspection import inspect
from instruments.virtual.outputs import Outputs, peak_volts
from instruments.virtual.personality import Task, Work
from instruments.wire.buffer import PayloadError, Reader, Writer
from instruments.wire.operations import read_ops
from instruments.wire.outcomes import AmpsStep, write_outcomes

WINDOW = 16
WATCHDOG_TICKS = 4
_SHORT = 200


@dataclass(slots=True)
class _Owner:
    """Who holds the board, and how far it has come.

    Args:
        hello: how it took the board.
        client: the conversation it holds it through.
        last: newest token handled.
        halted: a frame of the running list failed; the rest of the list is skipped.
    """

    hello: Hello
    client: FramedConversation
    last: int = 0
    halted: bool = False


class FramedBoardCore:
    """The board behind the frames: sessions, tokens, the watchdog and the backend.

    Args:
        backend: what carries operations out.
        description: what the board says it is: ``spec`` and maybe ``simulator`` of a board file, as plain values.
        in_real_time: whoever drives the board lets device time pass.
    """

    def __init__(self, backend: Backend, description: Mapping[str, Any], *, in_real_time: bool = False) -> None:
        self.backend = backend
        self.outputs = Outputs()
        self.counters = {"frames": 0, "executed": 0, "repeated": 0, "safe": 0, "watchdog": 0}
        self._description = encoded_json(description)
        identity = backend.spec.identity
        self._identity: dict[str, Any] = {
            "vendor": identity.vendor, "model": identity.model, "serial": identity.serial,
            "firmware": identity.firmware, "name": identity.name, "wire": 1,
        }  # fmt: skip
        self._steps, self._slice = AmpsStep(backend.spec.reading.ranges), backend.spec.timing.slice
        self._in_real_time = in_real_time
        self._owner: _Owner | None = None
        self._answers: dict[int, tuple[int, bytes]] = {}
        self._safe_reason = ""
        self._working = self._preempted = False
        self._heard, self._silent_ticks = False, 0
        self._armed: set[str] = set()

    # -- the personality -------------------------------------------------------------------------------------------

    def converse(self, client: str) -> FramedConversation:
        """See ``Personality``."""
        return FramedConversation(self, client)

    def tick(self, now: float) -> float | None:
        """See ``Personality``; silence is counted in ticks, so that a busy machine is not taken for a silent host."""
        if self._owner is None or self._owner.hello.watchdog <= 0:
            return None
        interval = self._owner.hello.watchdog / (WATCHDOG_TICKS + 1)
        self._silent_ticks = 0 if self._heard else self._silent_ticks + 1
        self._heard = False
        if self._silent_ticks >= WATCHDOG_TICKS and not self._safe_reason:
            self.counters["watchdog"] += 1
            self.halt("the watchdog made the board safe: its host was silent")
        return now + interval

    def misbehave(self, fault: str) -> bool:
        """See ``Personality``."""
        if fault == "reset":
            self.halt("")
            self._owner = None
            self._answers.clear()
            return True
        if fault in ("busy", "firmware", "error"):
            self._armed.add(fault)
            return True
        return False

    def inspect(self, what: str, arguments: Mapping[str, Any]) -> Any:
        """See ``Personality``."""
        return inspect(self.backend, self.outputs, self.counters, what, arguments)

    # -- safety ----------------------------------------------------------------------------------------------------

    def halt(self, reason: str) -> None:
        """Makes the board safe on its own account; its owner has to begin a new session."""
        self._safe_reason = reason
        self._preempted = self._working
        self.backend.make_safe()
        self.outputs.make_safe()
        self.counters["safe"] += 1

    def lost(self, client: FramedConversation) -> None:
        """Hears that a client is gone."""
        if self._owner is not None and self._owner.client is client:
            self.halt("the line to the owner broke")

    # -- requests --------------------------------------------------------------------------------------------------

    def answer(self, frame: Frame, client: FramedConversation, arrived: int) -> Work:
        """Works on one request; ``arrived`` is the count of safe commands when it came in.

        A safe command overtakes lists that still wait for their turn; those are then left undone.
        """
        self._heard = True
        self.counters["frames"] += 1
        try:
            if frame.opcode in (Opcode.EXECUTE, Opcode.RESTORE) and arrived != self.counters["safe"]:
                status, payload = Status.SKIPPED, _text("the board was made safe before this could begin")
            elif frame.opcode in (Opcode.EXECUTE, Opcode.RESTORE):
                status, payload = yield from self._state_change(frame, client)
            else:
                status, payload = self._plain(frame, client)
        except PayloadError as error:
            status, payload = Status.BAD_PAYLOAD, _text(f"the payload {error}")
        return Frame(frame.opcode, frame.sequence, payload, status).encoded()

    def _plain(self, frame: Frame, client: FramedConversation) -> tuple[int, bytes]:
        match frame.opcode:
            case Opcode.IDENTIFY:
                firmware = {"firmware": "0.0-mismatch"} if self._disarmed("firmware") else {}
                return Status.OK, encoded_json(self._identity | firmware)
            case Opcode.DESCRIBE:
                return Status.OK, self._description
            case Opcode.HELLO:
                return self._hello(Hello.decoded(frame.payload), client)
            case Opcode.STATUS:
                return Status.OK, self._status(client).encoded()
            case Opcode.SAFE:
                return Status.OK, self._safe(client)
            case Opcode.OUTPUTS:
                return Status.OK, encoded_safe(self.outputs.report())
            case Opcode.GOODBYE:
                return Status.OK, self._goodbye(client)
            case Opcode.SNAPSHOT:
                return self._snapshot()
            case _:
                return Status.UNKNOWN_OPCODE, _text(f"there is no opcode {frame.opcode}")

    def _hello(self, hello: Hello, client: FramedConversation) -> tuple[int, bytes]:
        owner = self._owner
        if owner is not None and owner.client is not client and not owner.client.is_lost and not self._safe_reason:
            return Status.OWNED, _text(f"the board is in use by {owner.hello.owner}")
        if owner is None or owner.hello.session != hello.session:
            self._answers.clear()
            owner = self._owner = _Owner(hello, client)
        owner.hello, owner.client = hello, client
        self._safe_reason, self._silent_ticks = "", 0
        is_virtual, now = restorable(self.backend), self.backend.now()
        welcome = Welcome(owner.last, WINDOW, MOST_BYTES, is_virtual, is_virtual, self._in_real_time, now)
        return Status.OK, welcome.encoded()

    def _status(self, client: FramedConversation) -> StatusReport:
        owner = self._owner
        mine = owner is not None and owner.client is client
        last = 0 if owner is None else owner.last
        return StatusReport(self._working, bool(self._safe_reason), mine, last, self.backend.now())

    def _safe(self, client: FramedConversation) -> bytes:
        """A safe command from the owner ends the list at work; from anybody else it ends the session too."""
        mine = self._owner is not None and self._owner.client is client
        self.halt("" if mine or self._owner is None else f"another client ({client.name}) made the board safe")
        return encoded_safe(self.outputs.report())

    def _goodbye(self, client: FramedConversation) -> bytes:
        if self._owner is not None and self._owner.client is client:
            self.halt("")
            self._owner = None
        return encoded_safe(self.outputs.report())

    def _snapshot(self) -> tuple[int, bytes]:
        if not restorable(self.backend):
            return Status.UNSUPPORTED, _text("a chip cannot be copied")
        out = Writer()
        write_tensors(out, self.backend.snapshot())
        return Status.OK, out.done()

    def _disarmed(self, fault: str) -> bool:
        """Whether a fault was armed; it happens once."""
        if fault not in self._armed:
            return False
        self._armed.discard(fault)
        return True

    # -- state changes ---------------------------------------------------------------------------------------------

    def _state_change(self, frame: Frame, client: FramedConversation) -> Generator[float, None, tuple[int, bytes]]:
        """Carries a state change out once, whatever arrives how often and in which order."""
        source = Reader(frame.payload)
        ticket, owner = Ticket.taken(source), self._owner
        if self._safe_reason:
            return Status.SAFE_STATE, _text(self._safe_reason)
        if owner is None or owner.client is not client or owner.hello.session != ticket.session:
            return Status.NO_SESSION, _text("this session does not own the board")
        if ticket.token <= owner.last:
            self.counters["repeated"] += 1
            return self._answers.get(ticket.token, (Status.OUT_OF_ORDER, _text("its answer is no longer kept")))
        if ticket.token != owner.last + 1:
            return Status.OUT_OF_ORDER, _text(f"token {owner.last + 1} is expected")
        if self._disarmed("busy"):
            return Status.BUSY, b""
        if owner.halted and not ticket.first:
            answer: tuple[int, bytes] = Status.SKIPPED, b""
        elif frame.opcode == Opcode.RESTORE:
            answer = self._restored(source)
        else:
            ops = read_ops(source)
            source.end()
            if too_high := self._above_lines(ops):
                return Status.LIMIT, _text(too_high)
            answer = yield from self._execute(ops)
        owner.halted = answer[0] != Status.OK
        owner.last = ticket.token
        self._answers[ticket.token] = answer
        self._answers.pop(ticket.token - WINDOW, None)
        return answer

    def _above_lines(self, ops: list[Op]) -> str:
        """The board's own last line of defence: no line above what its drivers may give."""
        limit = self.backend.spec.limits.line_volts
        peak = max((peak_volts(op) or 0.0 for op in ops), default=0.0)
        return f"{peak:g} V is above the {limit:g} V of any line" if peak > limit else ""

    def _restored(self, source: Reader) -> tuple[int, bytes]:
        backend = self.backend
        if not restorable(backend):
            return Status.UNSUPPORTED, _text("a chip cannot be copied")
        try:
            backend.restore(read_tensors(source))
        except HilError as error:
            return Status.BAD_PAYLOAD, _text(str(error))
        out = Writer()
        write_time(out, self.backend.now())
        return Status.OK, out.done()

    def _execute(self, ops: list[Op]) -> Generator[float, None, tuple[int, bytes]]:
        self._working, self._preempted = True, False
        self.counters["executed"] += 1
        done: list[Outcome] = []
        try:
            for op in ops:
                trouble = yield from self._one(op, done)
                if trouble:
                    return Status.FAULT, self._outcomes(ops, done, trouble)
            return Status.OK, self._outcomes(ops, done, None)
        finally:
            self._working = False
            if not self._preempted:
                self.outputs.raise_to(0.0)

    def _one(self, op: Op, done: list[Outcome]) -> Generator[float, None, str]:
        """Carries one operation out and lets its device time pass; gives what went wrong."""
        if self._disarmed("error"):
            return "an amplifier reports an error"
        self.outputs.drive(op)
        try:
            (outcome,) = self.backend.execute([op])
        except BoardFault as fault:
            return fault.text
        except HilError as error:
            return str(error)
        left = outcome.seconds
        while left > 0:
            yield min(left, self._slice)
            left -= self._slice
            if self._preempted:
                return "it was made safe in the middle"
        done.append(outcome)
        return ""

    def _outcomes(self, ops: list[Op], done: list[Outcome], trouble: str | None) -> bytes:
        out = Writer()
        write_time(out, self.backend.now())
        write_outcomes(out, ops, done, self._steps)
        if trouble is not None:
            out.text(trouble[:_SHORT])
        return out.done()


class FramedConversation:
    """One client of a framed board.

    Args:
        board: the board.
        name: who it is, for messages.

    Attributes:
        is_lost: the client is gone.
    """

    def __init__(self, board: FramedBoardCore, name: str) -> None:
        self.name = name
        self.is_lost = False
        self._board = board
        self._decoder = Decoder()

    def receive(self, data: bytes) -> Iterator[Task]:
        """See ``Conversation``."""
        for frame in self._decoder.feed(data):
            waits = frame.opcode in (Opcode.EXECUTE, Opcode.RESTORE, Opcode.SNAPSHOT)
            yield Task(self._board.answer(frame, self, self._board.counters["safe"]), urgent=not waits)

    def silent(self) -> None:
        """See ``Conversation``."""
        self._decoder.forget()

    def lost(self) -> None:
        """See ``Conversation``."""
        self.is_lost = True
        self._board.lost(self)


def _text(text: str) -> bytes:
    out = Writer()
    out.text(text[:_SHORT])
    return out.done()
