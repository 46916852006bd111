"""A virtual Keithley 707B on a bench: the few TSP statements that switching needs."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from instruments.smu.channels import channel
from instruments.virtual.personality import Conversation, Task, Work
from instruments.virtual.smu_bench import SmuBench

_MOST = 4096
_QUEUE = 32
_RELAY_SECONDS = 4e-3
_CALL = re.compile(r"([a-z][A-Za-z0-9_.]{0,60})\s*\(\s*(.*?)\s*\)")
_ASSIGNMENT = re.compile(r"([a-z][A-Za-z0-9_.]{0,60})\s*=\s*([A-Za-z0-9_.]{1,60})")
_TEXT = re.compile(r'"([^"\\]*)"')
_SYNTAX, _RUNTIME = (-285, "TSP Syntax error"), (-286, "TSP Runtime error")


class TspError(Exception):
    """A statement cannot be carried out; goes into the error queue."""


class Virtual707B:
    """Plays ``Personality``.

    Args:
        bench: what its relays join.
        serial: its serial number.
    """

    def __init__(self, bench: SmuBench, serial: str = "1300001") -> None:
        self.identity = f"Keithley Instruments Inc., Model 707B, {serial}, 01.20a"
        self._bench = bench
        self._errors: deque[tuple[int, str]] = deque()
        self._forbidden: frozenset[str] = frozenset()
        self._stuck: frozenset[str] = frozenset()

    def converse(self, client: str) -> Conversation:
        """See ``Personality``; an instrument does nothing when a client goes."""
        return TspConversation(self)

    def tick(self, now: float) -> float | None:
        """See ``Personality``; it has no watchdog."""
        return None

    def misbehave(self, fault: str) -> bool:
        """See ``Personality``: ``error``, ``reset``, ``firmware``, and ``stuck`` (closed relays stay closed)."""
        match fault:
            case "error":
                self._error(*_RUNTIME)
            case "reset":
                self._reset()
            case "firmware":
                self.identity = self.identity.rpartition(",")[0] + ", 00.00"
            case "stuck":
                self._stuck = self._bench.closed
            case _:
                return False
        return True

    def inspect(self, what: str, arguments: Mapping[str, Any]) -> Any:
        """See ``Personality``."""
        return self._bench.inspect(what, arguments)

    def work(self, line: bytes | None) -> Work:
        """Carries one line out; None stands for one that was too long."""
        if line is None or not line.isascii():
            self._error(*_SYNTAX)
            return b""
        text = line.decode("ascii").strip()
        before = self._bench.closed
        try:
            answer = self._done(text)
        except TspError:
            self._error(*_RUNTIME)
            return b""
        except ValueError:
            self._error(*_SYNTAX)
            return b""
        if self._bench.closed != before:
            yield _RELAY_SECONDS
        return b"" if answer is None else answer.encode("ascii") + b"\n"

    def _done(self, text: str) -> str | None:
        """Carries a statement out.

        Raises:
            ValueError: it is not one that is known.
            TspError: it cannot be carried out.
        """
        match text:
            case "":
                return None
            case "*IDN?":
                return self.identity
            case "*CLS":
                return self._errors.clear()
            case "*RST":
                return self._reset()
        if (found := _CALL.fullmatch(text)) is not None:
            name, inner = found[1], found[2]
            return self._value(inner) if name == "print" else self._call(name, inner)
        found = _ASSIGNMENT.fullmatch(text)
        if found is None or found[1] not in ("localnode.prompts", "localnode.showerrors", "channel.connectrule"):
            raise ValueError(text)
        return None

    def _call(self, name: str, inner: str) -> None:
        match name:
            case "reset" | "errorqueue.clear" if inner:
                raise ValueError(inner)
            case "reset":
                self._reset()
            case "errorqueue.clear":
                self._errors.clear()
            case "channel.exclusiveclose":
                self._move(self._channels(inner))
            case "channel.close":
                self._move(self._bench.closed | self._channels(inner))
            case "channel.open":
                self._move(self._bench.closed - self._channels(inner))
            case "channel.setforbidden":
                self._forbidden |= self._channels(inner)
            case _:
                raise ValueError(name)

    def _value(self, inner: str) -> str:
        match inner:
            case "errorqueue.count":
                return f"{len(self._errors):.5e}"
            case "errorqueue.next()":
                code, text = self._errors.popleft() if self._errors else (0, "Queue Is Empty")
                return f"{code:.5e}\t{text}\t{20 if code else 0:.5e}\t{1:.5e}"
            case 'channel.getclose("allslots")':
                return ";".join(sorted(self._bench.closed)) or "nil"
            case _:
                raise ValueError(inner)

    def _channels(self, inner: str) -> frozenset[str]:
        """The channels of a list in quotes, with ranges along a row: ``"1A01:1A05;1B07"``."""
        found = _TEXT.fullmatch(inner)
        if found is None:
            raise ValueError(inner)
        names: set[str] = set()
        try:
            for part in re.split("[,;]", found[1]) if found[1].strip() else ():
                first, _, last = part.strip().partition(":")
                names |= {channel(first)} if not last else _range(channel(first), channel(last))
        except ValueError:
            raise TspError(inner) from None
        return frozenset(names)

    def _move(self, closed: frozenset[str]) -> None:
        """Moves relays, or none when one of them is forbidden."""
        if closed & self._forbidden:
            raise TspError("forbidden")
        self._bench.move(closed | self._stuck)

    def _reset(self) -> None:
        self._forbidden = frozenset()
        self._bench.move(self._stuck)

    def _error(self, code: int, text: str) -> None:
        if len(self._errors) >= _QUEUE:
            self._errors.pop()
            code, text = -350, "Queue overflow"
        self._errors.append((code, text))


class TspConversation:
    """One client of a virtual instrument that speaks TSP."""

    def __init__(self, board: Virtual707B) -> None:
        self._board = board
        self._kept = bytearray()
        self._too_long = False

    def receive(self, data: bytes) -> Iterable[Task]:
        """See ``Conversation``."""
        tasks: list[Task] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._keep(line)
            tasks.append(Task(self._board.work(None if self._too_long else bytes(self._kept))))
            self.silent()
        self._keep(rest)
        return tasks

    def silent(self) -> None:
        """See ``Conversation``."""
        self._kept.clear()
        self._too_long = False

    def lost(self) -> None:
        """See ``Conversation``."""

    def _keep(self, part: bytes) -> None:
        self._too_long = self._too_long or len(self._kept) + len(part) > _MOST
        if self._too_long:
            self._kept.clear()
        else:
            self._kept += part


def _range(first: str, last: str) -> set[str]:
    """All channels of one row from a column to another."""
    if first[:2] != last[:2] or first[2:] > last[2:]:
        raise ValueError(f"{first}:{last}")
    return {f"{first[:2]}{col:02d}" for col in range(int(first[2:]), int(last[2:]) + 1)}
