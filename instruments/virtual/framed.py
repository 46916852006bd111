"""A virtual board that speaks the framed wire protocol, with any backend inside."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hil.contract import Backend, restorable
from instruments.framed.frame import MOST_BYTES, Decoder, Frame, Opcode, Status
from instruments.framed.messages import (
    Hello,
    StatusReport,
    Ticket,
    Welcome,
    encoded_json,
    encoded_reason,
    encoded_safe,
)
from instruments.virtual.framed_lists import Answer, ListWork
from instruments.virtual.framed_saving import put_back, snapshot
from instruments.virtual.inspection import inspect
from instruments.virtual.outputs import Outputs
from instruments.virtual.personality import Task, Work
from instruments.wire.buffer import PayloadError, Reader
from instruments.wire.operations import read_ops

WINDOW = 16
WATCHDOG_TICKS = 4


@dataclass(slots=True)
class _Owner:
    """Who holds the board, and how far it has come.

    Args:
        hello: how it took the board.
        client: the conversation it holds it through.
        last: newest token handled.
        halted: a frame of the running list failed; the rest of the list is skipped.
        answers: the last ones, by token, for requests that come again.
    """

    hello: Hello
    client: FramedConversation
    last: int = 0
    halted: bool = False
    answers: dict[int, Answer] = field(default_factory=dict[int, Answer])


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
        self._work = ListWork(backend, self.outputs, self.counters)
        self._in_real_time = in_real_time
        self._owner: _Owner | None = None
        self._safe_reason = ""
        self._heard, self._silent_ticks, self._next_tick = False, 0, 0.0
        self._armed: set[str] = set()

    # -- the personality -------------------------------------------------------------------------------------------

    def converse(self, client: str) -> FramedConversation:
        """See ``Personality``."""
        return FramedConversation(self, client)

    def tick(self, now: float) -> float | None:
        """See ``Personality``; silence is counted in ticks, so that a busy machine is not taken for a silent host."""
        if self._owner is None or self._owner.hello.watchdog <= 0:
            return None
        if now < self._next_tick:  # something else made the shell look
            return self._next_tick
        self._silent_ticks = 0 if self._heard else self._silent_ticks + 1
        self._heard = False
        if self._silent_ticks >= WATCHDOG_TICKS and not self._safe_reason:
            self.counters["watchdog"] += 1
            self.halt("the watchdog made the board safe: its host was silent")
        self._next_tick = now + self._owner.hello.watchdog / (WATCHDOG_TICKS + 1)
        return self._next_tick

    def misbehave(self, fault: str) -> bool:
        """See ``Personality``."""
        if fault == "reset":
            self.halt("")
            self._owner = None
            return True
        if fault == "error":
            self._work.fails_next = True
            return True
        if fault in ("busy", "firmware"):
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
        self._work.end(reason)
        self.backend.make_safe()
        self.outputs.make_safe()
        self.counters["safe"] += 1

    def hear(self, client: FramedConversation) -> None:
        """Hears from a client; what others say is no sign of life of the owner."""
        self._heard |= self._owns(client)

    def lost(self, client: FramedConversation) -> None:
        """Hears that a client is gone."""
        if self._owns(client):
            self.halt("the line to the owner broke")

    def _owns(self, client: FramedConversation) -> bool:
        return self._owner is not None and self._owner.client is client

    # -- requests --------------------------------------------------------------------------------------------------

    def answer(self, frame: Frame, client: FramedConversation, arrived: int) -> Work:
        """Works on one request; ``arrived`` is the count of safe commands when it came in.

        A safe command overtakes lists that still wait for their turn; those are then left undone.
        """
        self.counters["frames"] += 1
        try:
            if frame.opcode in (Opcode.EXECUTE, Opcode.RESTORE):
                status, payload = yield from self._state_change(frame, client, arrived)
            else:
                status, payload = self._plain(frame, client)
        except PayloadError as error:
            status, payload = Status.BAD_PAYLOAD, encoded_reason(f"the payload {error}")
        return Frame(frame.opcode, frame.sequence, payload, status).encoded()

    def _plain(self, frame: Frame, client: FramedConversation) -> Answer:
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
                return snapshot(self.backend)
            case _:
                return Status.UNKNOWN_OPCODE, encoded_reason(f"there is no opcode {frame.opcode}")

    def _hello(self, hello: Hello, client: FramedConversation) -> Answer:
        owner = self._owner
        resumed = owner is not None and owner.hello.session == hello.session
        if owner is not None and not (resumed or owner.client is client or owner.client.is_lost or self._safe_reason):
            return Status.OWNED, encoded_reason(f"the board is in use by {owner.hello.owner or owner.client.name}")
        if owner is None or not resumed:
            if self._work.busy:
                self.halt("")  # a list of a host that is gone
            owner = self._owner = _Owner(hello, client)
        owner.hello, owner.client = hello, client
        self._safe_reason, self._heard, self._next_tick = "", True, 0.0
        is_virtual, now = restorable(self.backend), self.backend.now()
        welcome = Welcome(owner.last, WINDOW, MOST_BYTES, is_virtual, is_virtual, self._in_real_time, resumed, now)
        return Status.OK, welcome.encoded()

    def _status(self, client: FramedConversation) -> StatusReport:
        last = 0 if self._owner is None else self._owner.last
        return StatusReport(self._work.busy, bool(self._safe_reason), self._owns(client), last, self.backend.now())

    def _safe(self, client: FramedConversation) -> bytes:
        """A safe command from the owner ends the list at work; from anybody else it ends the session too."""
        if self._owner is None or self._owns(client):
            self.halt(self._safe_reason)
            if self._owner is not None:
                self._owner.halted = True  # what is left of its list is skipped
        else:
            self.halt(f"another client ({client.name}) made the board safe")
        return encoded_safe(self.outputs.report())

    def _goodbye(self, client: FramedConversation) -> bytes:
        if self._owns(client):
            self.halt("")
            self._owner = None
        return encoded_safe(self.outputs.report())

    def _disarmed(self, fault: str) -> bool:
        """Whether a fault was armed; it happens once."""
        if fault not in self._armed:
            return False
        self._armed.discard(fault)
        return True

    # -- state changes ---------------------------------------------------------------------------------------------

    def _state_change(self, frame: Frame, client: FramedConversation, arrived: int) -> Generator[float, None, Answer]:
        """Carries a state change out once, whatever arrives how often and in which order."""
        source = Reader(frame.payload)
        ticket, owner = Ticket.taken(source), self._owner
        if owner is None or owner.client is not client or owner.hello.session != ticket.session:
            return Status.NO_SESSION, encoded_reason("this session does not own the board")
        if ticket.token <= owner.last:
            self.counters["repeated"] += 1
            return owner.answers.get(
                ticket.token, (Status.OUT_OF_ORDER, encoded_reason("its answer is no longer kept"))
            )
        if self._safe_reason:
            return Status.SAFE_STATE, encoded_reason(self._safe_reason)
        if arrived != self.counters["safe"]:
            return Status.SKIPPED, encoded_reason("the board was made safe before this could begin")
        if ticket.token != owner.last + 1:
            return Status.OUT_OF_ORDER, encoded_reason(f"token {owner.last + 1} is expected")
        if self._disarmed("busy"):
            return Status.BUSY, b""
        if owner.halted and not ticket.first:
            answer: Answer = Status.SKIPPED, b""
        elif frame.opcode == Opcode.RESTORE:
            answer = put_back(self.backend, source)
        else:
            ops = read_ops(source)
            source.end()
            answer = yield from self._work.carry_out(ops)
            if answer[0] == Status.LIMIT:
                return answer
        owner.halted = answer[0] != Status.OK
        owner.last = ticket.token
        owner.answers[ticket.token] = answer
        owner.answers.pop(ticket.token - WINDOW, None)
        return answer


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
        frames = self._decoder.feed(data)
        if frames or self._decoder.arriving:
            self._board.hear(self)
        for frame in frames:
            waits = frame.opcode in (Opcode.EXECUTE, Opcode.RESTORE, Opcode.SNAPSHOT)
            yield Task(self._board.answer(frame, self, self._board.counters["safe"]), urgent=not waits)

    def silent(self) -> None:
        """See ``Conversation``."""
        self._decoder.forget()

    def lost(self) -> None:
        """See ``Conversation``."""
        self.is_lost = True
        self._board.lost(self)
