"""A virtual crossbar board that speaks SCPI: the core of the framed board, in another envelope."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace

from instruments.framed.frame import Decoder, Frame, Opcode, Status
from instruments.framed.messages import StatusReport, Welcome, decoded_json, decoded_safe
from instruments.framed.requests import said
from instruments.scpi.text import definite
from instruments.scpi.wire import idn_field, written_outputs
from instruments.virtual.framed import FramedBoardCore, FramedConversation
from instruments.virtual.personality import Task, Work
from instruments.virtual.scpi_frames import MOST, MessageReader, divided
from instruments.virtual.scpi_text import Call, ScpiError, ScpiServer

MOST_BYTES = MOST - 1024
"""Payload of the largest frame; its message has to be taken whole."""
VERSION = "1999.0"
_WAITING = (Opcode.EXECUTE, Opcode.RESTORE, Opcode.SNAPSHOT)
_IN_TURN = (b"*OPC", b"*WAI")
_ERRORS = {
    Status.FAULT: (-240, "Hardware error"), Status.LIMIT: (-222, "Data out of range"),
    Status.OWNED: (-203, "Command protected"), Status.SAFE_STATE: (-221, "Settings conflict"),
    Status.NO_SESSION: (-221, "Settings conflict"), Status.BAD_PAYLOAD: (-161, "Invalid block data"),
    Status.UNKNOWN_OPCODE: (-161, "Invalid block data"), Status.UNSUPPORTED: (-241, "Hardware missing"),
}  # fmt: skip
"""Entries of the error queue; what only asks for another try makes none."""


class ScpiBoardCore(FramedBoardCore):
    """The board behind the text: that of the frames, with their sessions, tokens, watchdog and safe state."""

    def converse(self, client: str) -> ScpiBoardConversation:
        """See ``Personality``."""
        return ScpiBoardConversation(self, client)


class ScpiBoardConversation(FramedConversation):
    """One client of a board that speaks SCPI, with an error queue of its own.

    Args:
        board: the board.
        name: who it is, for messages.
    """

    def __init__(self, board: ScpiBoardCore, name: str) -> None:
        super().__init__(board, name)
        self._core = board
        self._arrived = 0
        self._reader = MessageReader()
        self._server = ScpiServer(
            {
                "*IDN?": self._identity,
                "*RST": self._safe,
                "SYSTem:VERSion?": lambda call: VERSION,
                "CROSsbar:DESCribe?": self._description,
                "CROSsbar:FRAMe?": self._frame,
                "CROSsbar:SAFE": self._safe,
                "CROSsbar:TIME?": self._time,
                "OUTPut[:STATe]?": self._outputs,
            },
            "",
            lambda: None,
        )

    def receive(self, data: bytes) -> Iterator[Task]:
        """See ``Conversation``; all but state changes overtakes a list that is at work."""
        for message in self._reader.feed(data):
            yield Task(self._work(message, self._core.counters["safe"]), urgent=not _waits(message))

    def silent(self) -> None:
        """See ``Conversation``."""
        self._reader.clear()

    def _work(self, message: bytes | None, arrived: int) -> Work:
        """Carries a message out; its frames came in at its own count of safe commands, whatever overtakes them."""
        work = self._server.work(message)
        while True:
            self._arrived = arrived
            try:
                seconds = next(work)
            except StopIteration as end:
                return end.value
            yield seconds

    # -- commands --------------------------------------------------------------------------------------------------

    def _frame(self, call: Call) -> Generator[float, None, bytes]:
        call.count(1)
        frames = Decoder().feed(call.block())
        if len(frames) != 1:
            raise ScpiError(-161, "Invalid block data")
        found = yield from self._worked(frames[0])
        if found.status in _ERRORS:
            code, text = _ERRORS[Status(found.status)]
            self._server.error(code, text if found.status == Status.FAULT else f"{text}; {_quoted(said(found))}")
        elif found.opcode == Opcode.HELLO:
            found = replace(found, payload=_narrowed(found.payload))
        return definite(found.encoded())

    def _identity(self, call: Call) -> Generator[float, None, str]:
        found = yield from self._asked(Opcode.IDENTIFY)
        who = decoded_json(found.payload)
        return ",".join(idn_field(who[name]) for name in ("vendor", "model", "serial", "firmware"))

    def _description(self, call: Call) -> Generator[float, None, bytes]:
        found = yield from self._asked(Opcode.DESCRIBE)
        return definite(found.payload)

    def _safe(self, call: Call) -> Generator[float, None, None]:
        yield from self._asked(Opcode.SAFE)

    def _time(self, call: Call) -> Generator[float, None, str]:
        found = yield from self._asked(Opcode.STATUS)
        return repr(StatusReport.decoded(found.payload).now)

    def _outputs(self, call: Call) -> Generator[float, None, str]:
        found = yield from self._asked(Opcode.OUTPUTS)
        return written_outputs(decoded_safe(found.payload))

    def _asked(self, opcode: Opcode) -> Generator[float, None, Frame]:
        return self._worked(Frame(opcode, 0))

    def _worked(self, frame: Frame) -> Generator[float, None, Frame]:
        answer = yield from self._core.answer(frame, self, self._arrived)
        (found,) = Decoder().feed(answer)
        return found


def _waits(message: bytes | None) -> bool:
    """Whether a message waits for its turn: it changes the state, or asks when all is done."""
    parts = divided(message or b"", b";")
    frames = (frame for part in parts for frame in Decoder().feed(part))
    return any(part[:4].upper() in _IN_TURN for part in parts) or any(frame.opcode in _WAITING for frame in frames)


def _narrowed(payload: bytes) -> bytes:
    """A welcome without a window: an instrument that has an answer to give need not take the next question."""
    welcome = Welcome.decoded(payload)
    return replace(welcome, window=1, most_bytes=min(welcome.most_bytes, MOST_BYTES)).encoded()


def _quoted(text: str) -> str:
    """Text for the error queue, whose entries stand in double quotes."""
    return text.replace('"', "'").encode("ascii", "replace").decode("ascii")[:160]
