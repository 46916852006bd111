"""The payloads of frames other than EXECUTE; both sides of the wire use the same layout."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from hil.contract import SafeReport
from instruments.wire.arrays import a_tensor, read_array, write_array
from instruments.wire.buffer import PayloadError, Reader, Writer

_HELLO = struct.Struct("<Qd")
_WELCOME = struct.Struct("<IHIBd")
_STATUS = struct.Struct("<BId")
_EXECUTE = struct.Struct("<QIB")
_TIME = struct.Struct("<d")
_COUNT = struct.Struct("<H")
_STATES = ("off", "on", "unreadable")
MOST_TEXT = 1 << 20
SHORT = 200
"""Characters of a reason."""
LONGEST_WATCHDOG = 86_400.0


@dataclass(frozen=True, slots=True)
class Hello:
    """A host takes the board.

    Args:
        session: a number drawn at random; the same number after a lost line goes on with the same session.
        watchdog: s of silence after which the board makes itself safe; 0 for never.
        owner: who it is, for messages.
    """

    session: int
    watchdog: float
    owner: str

    def encoded(self) -> bytes:
        """The payload."""
        out = Writer()
        out.pack(_HELLO, self.session, self.watchdog)
        out.text(self.owner)
        return out.done()

    @classmethod
    def decoded(cls, payload: bytes) -> Hello:
        """Takes the payload apart; raises ``PayloadError``."""
        source = Reader(payload)
        session, watchdog = source.unpack(_HELLO)
        if not 0 <= watchdog <= LONGEST_WATCHDOG:
            raise PayloadError(f"asks for a watchdog of {watchdog:g} s, at most {LONGEST_WATCHDOG:g} s are allowed")
        return cls(session, watchdog, source.text())


@dataclass(frozen=True, slots=True)
class Welcome:
    """A board is taken.

    Args:
        last: newest token that the board has handled in this session.
        window: answers that the board keeps, and so the most frames that may be under way.
        most_bytes: largest payload it takes.
        restorable: it can be saved and put back.
        virtual_time: its clock moves only while it works.
        in_real_time: its work takes its time; a virtual board may only count it.
        resumed: the board remembers this session, so that what it has handled is not carried out again.
        now: lab time, s.
    """

    last: int
    window: int
    most_bytes: int
    restorable: bool
    virtual_time: bool
    in_real_time: bool
    resumed: bool
    now: float

    def encoded(self) -> bytes:
        """The payload."""
        flags = self.restorable | self.virtual_time << 1 | self.in_real_time << 2 | self.resumed << 3
        return _WELCOME.pack(self.last, self.window, self.most_bytes, flags, self.now)

    @classmethod
    def decoded(cls, payload: bytes) -> Welcome:
        """Takes the payload apart; raises ``PayloadError``."""
        last, window, most_bytes, flags, now = Reader(payload).unpack(_WELCOME)
        if window < 1 or most_bytes < 64:
            raise PayloadError(f"offers a window of {window} frames of {most_bytes} bytes")
        restorable, virtual_time, in_real_time, resumed = (bool(flags >> bit & 1) for bit in range(4))
        return cls(last, window, most_bytes, restorable, virtual_time, in_real_time, resumed, now)


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What a board is doing.

    Args:
        busy: it works on a list.
        is_safe: it made itself safe and wants a new session.
        owned: the asking client owns it.
        last: newest token that it has handled.
        now: lab time, s.
    """

    busy: bool
    is_safe: bool
    owned: bool
    last: int
    now: float

    def encoded(self) -> bytes:
        """The payload."""
        return _STATUS.pack(self.busy | self.is_safe << 1 | self.owned << 2, self.last, self.now)

    @classmethod
    def decoded(cls, payload: bytes) -> StatusReport:
        """Takes the payload apart; raises ``PayloadError``."""
        flags, last, now = Reader(payload).unpack(_STATUS)
        return cls(bool(flags & 1), bool(flags & 2), bool(flags & 4), last, now)


@dataclass(frozen=True, slots=True)
class Ticket:
    """The head of a state change.

    Args:
        session: the session it belongs to.
        token: its number in the session, 1, 2, 3...; a repeated number is not carried out again.
        first: it begins a list; after a fault the board skips frames up to the next such one.
    """

    session: int
    token: int
    first: bool = True

    def encoded(self) -> bytes:
        """The head."""
        return _EXECUTE.pack(self.session, self.token, self.first)

    @classmethod
    def taken(cls, source: Reader) -> Ticket:
        """Takes the head off a payload; raises ``PayloadError``."""
        session, token, first = source.unpack(_EXECUTE)
        return cls(session, token, bool(first))


def encoded_safe(report: SafeReport) -> bytes:
    """The states of the outputs."""
    out = Writer()
    out.raw(bytes((report.confirmed, len(report.outputs))))
    for name, state in report.outputs.items():
        out.text(name)
        out.raw(bytes((_STATES.index(state),)))
    return out.done()


def decoded_safe(payload: bytes) -> SafeReport:
    """The states of the outputs; raises ``PayloadError``."""
    source = Reader(payload)
    confirmed, count = source.raw(2)
    outputs: dict[str, str] = {}
    for _ in range(count):
        name, state = source.text(), source.raw(1)[0]
        outputs[name] = _STATES[state] if state < len(_STATES) else "unreadable"
    return SafeReport(outputs, bool(confirmed) and bool(outputs) and set(outputs.values()) == {"off"})


def write_tensors(out: Writer, tensors: Mapping[str, Tensor]) -> None:
    """Adds named tensors; integers keep their type."""
    out.pack(_COUNT, len(tensors))
    for name, values in tensors.items():
        out.text(name)
        out.text(str(values.dtype).removeprefix("torch."))
        write_array(out, values)


def read_tensors(source: Reader) -> dict[str, Tensor]:
    """Takes named tensors; raises ``PayloadError``."""
    import torch

    found: dict[str, Tensor] = {}
    for _ in range(source.unpack(_COUNT)[0]):
        name, kind = source.text(), source.text()
        dtype = getattr(torch, kind, None) if kind.isalnum() else None
        if not isinstance(dtype, torch.dtype):
            raise PayloadError(f"holds a tensor of the unknown type {kind[:20]!r}")
        found[name] = a_tensor(read_array(source), "a state").to(dtype).clone()
    return found


def encoded_reason(text: str) -> bytes:
    """A payload or the end of one: why something was refused, in a few words."""
    out = Writer()
    out.text(text[:SHORT])
    return out.done()


def write_time(out: Writer, seconds: float) -> None:
    """Adds a lab time."""
    out.pack(_TIME, seconds)


def read_time(source: Reader) -> float:
    """Takes a lab time; raises ``PayloadError``."""
    return float(source.unpack(_TIME)[0])


def encoded_json(plain: Mapping[str, Any]) -> bytes:
    """Plain values as JSON."""
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode()


def decoded_json(payload: bytes) -> dict[str, Any]:
    """A JSON mapping; raises ``PayloadError``."""
    try:
        plain = json.loads(payload[:MOST_TEXT])
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"holds no JSON ({error})") from None
    if not isinstance(plain, dict):
        raise PayloadError("holds no JSON mapping")
    return cast(dict[str, Any], plain)
