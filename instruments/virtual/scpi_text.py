"""The instrument's side of SCPI: a tree of headers, chained commands, the common commands and an error queue."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass

from instruments.scpi.text import number
from instruments.virtual.personality import Task, Work
from instruments.virtual.scpi_frames import MessageReader, divided

Answer = str | bytes | None
Handler = Callable[["Call"], Answer | Generator[float, None, Answer]]
"""Carries a command out; a generator yields the device time of each part, s."""

ERRORS = {
    -100: "Command error", -101: "Invalid character", -104: "Data type error", -108: "Parameter not allowed",
    -109: "Missing parameter", -113: "Undefined header", -200: "Execution error", -222: "Data out of range",
    -224: "Illegal parameter value", -350: "Queue overflow", -363: "Input buffer overrun",
}  # fmt: skip
_NODE = re.compile(r"(\[)?:?([A-Z]+)([a-z]*)(#)?\]?")


class ScpiError(Exception):
    """A command cannot be carried out; goes into the error queue.

    Args:
        code: of the standard, or the instrument's own.
        text: None for that of the standard.
    """

    def __init__(self, code: int, text: str | None = None) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text or ERRORS.get(code, ERRORS[-200])


@dataclass(frozen=True, slots=True)
class Call:
    """One command as it came.

    Args:
        suffixes: the numbers behind the headers' parts, 1 where there was none.
        arguments: as they were written.
    """

    suffixes: tuple[int, ...]
    arguments: tuple[bytes, ...]

    def count(self, low: int, high: int | None = None) -> int:
        """Checks the number of arguments, and gives it."""
        found = len(self.arguments)
        if found < low:
            raise ScpiError(-109)
        if found > (low if high is None else high):
            raise ScpiError(-108)
        return found

    def number(self, at: int = 0, low: float = -1e38, high: float = 1e38) -> float:
        """An argument that is a number from ``low`` to ``high``."""
        try:
            value = number(self.arguments[at].decode("ascii"))
        except ValueError:
            raise ScpiError(-104) from None
        if not low <= value <= high:
            raise ScpiError(-222)
        return value

    def whole(self, at: int = 0, low: int = 0, high: int = 2**31 - 1) -> int:
        """An argument that is a whole number."""
        value = self.number(at, low, high)
        if not value.is_integer():
            raise ScpiError(-224)
        return int(value)

    def truth(self, at: int = 0) -> bool:
        """An argument that is ON, OFF, 1 or 0."""
        found = {b"ON": True, b"1": True, b"OFF": False, b"0": False}.get(self.arguments[at].upper())
        if found is None:
            raise ScpiError(-224)
        return found

    def word(self, *choices: str, at: int = 0) -> str:
        """An argument that is one of some words, each written like a header: ``CURRent``."""
        given = self.arguments[at].decode("latin-1").upper()
        for choice in choices:
            if given in (choice.upper(), "".join(char for char in choice if not char.islower())):
                return choice
        raise ScpiError(-224)

    def name(self, at: int = 0) -> str:
        """An argument in quotes."""
        text = self.arguments[at]
        if len(text) < 2 or text[:1] not in b"\"'" or text[-1:] != text[:1]:
            raise ScpiError(-104)
        return text[1:-1].decode("latin-1")

    def block(self, at: int = 0) -> bytes:
        """An argument that is a definite-length block."""
        text = self.arguments[at]
        digits = int(text[1:2]) if text[:1] == b"#" and text[1:2].isdigit() else 0
        if not digits or text[2 : 2 + digits] != str(len(text) - 2 - digits).encode().rjust(digits, b"0"):
            raise ScpiError(-104)
        return text[2 + digits :]


def header_pattern(text: str) -> re.Pattern[str]:
    """Compiles a header such as ``SOURce#:VOLTage[:LEVel]?``: short or long names, ``[]`` optional, ``#`` a number."""
    nodes = ""
    for optional, short, rest, suffix in _NODE.findall(text.rstrip("?")):
        long = f"(?:{rest.upper()})?" if rest else ""
        node = f":{short}{long}" + (r"(\d{0,4})" if suffix else "")
        nodes += f"(?:{node})?" if optional else node
    return re.compile(nodes + (r"\?" if text.endswith("?") else ""))


class ScpiServer:
    """Carries messages out for one instrument; all its clients share one error queue.

    Args:
        commands: header patterns and what they do.
        identity: the answer to ``*IDN?``.
        reset: what ``*RST`` does.
        queue: entries that the error queue can hold.
    """

    def __init__(
        self, commands: Mapping[str, Handler], identity: str, reset: Callable[[], None], *, queue: int = 32
    ) -> None:
        self.identity = identity
        self.events = 0
        self._errors: deque[tuple[int, str]] = deque()
        self._most = queue
        common: dict[str, Handler] = {
            "*IDN?": lambda call: self.identity,
            "*RST": lambda call: reset(),
            "*CLS": lambda call: self.clear(),
            "*ESR?": lambda call: str(self._events_read()),
            "*OPC?": lambda call: "1",
            "*OPC": lambda call: self._event(1),
            "*WAI": lambda call: None,
            "*TST?": lambda call: "0",
        }
        standard: dict[str, Handler] = {
            "SYSTem:ERRor[:NEXT]?": lambda call: self._next(),
            "SYSTem:ERRor:COUNt?": lambda call: str(len(self._errors)),
        }
        self._common = common | {key: value for key, value in commands.items() if key.startswith("*")}
        tree = standard | {key: value for key, value in commands.items() if not key.startswith("*")}
        self._tree = [(header_pattern(key), value) for key, value in tree.items()]

    def error(self, code: int, text: str | None = None) -> None:
        """Puts an entry into the error queue; when it is full, the last one says so."""
        if len(self._errors) >= self._most:
            code, text = -350, None
            self._errors.pop()
        self._errors.append((code, text or ERRORS.get(code, ERRORS[-200])))
        self._event(32 if -200 < code <= -100 else 16 if -300 < code <= -200 else 8)

    def clear(self) -> None:
        """Empties the error queue and the event register."""
        self._errors.clear()
        self.events = 0

    def work(self, message: bytes | None) -> Work:
        """Carries one message out; None stands for one that was too long."""
        answers: list[bytes] = []
        path = ""
        if message is None:
            self.error(-363)
            return b""
        for text in divided(message, b";"):
            if not text:
                continue
            head, _, rest = text.partition(b" ")
            try:
                handler, suffixes, path = self._found(head, path)
                answer = handler(Call(suffixes, tuple(divided(rest, b",")) if rest.strip() else ()))
                if isinstance(answer, Generator):
                    answer = yield from answer
            except ScpiError as error:
                self.error(error.code, error.text)
                continue
            if answer is not None:
                answers.append(answer if isinstance(answer, bytes) else answer.encode("ascii"))
        return b";".join(answers) + b"\n" if answers else b""

    def _found(self, head: bytes, path: str) -> tuple[Handler, tuple[int, ...], str]:
        """The handler of a header, the numbers in it, and the path that the next header may continue."""
        if not head.isascii():
            raise ScpiError(-101)
        header = head.decode("ascii").upper()
        if header.startswith("*"):
            if header not in self._common:
                raise ScpiError(-113)
            return self._common[header], (), path
        tries = [header] if header.startswith(":") else [f"{path}:{header}", f":{header}"]
        for full in tries:
            for pattern, handler in self._tree:
                found = pattern.fullmatch(full)
                if found:
                    numbers = tuple(int(group or 1) for group in found.groups())
                    return handler, numbers, full.rpartition(":")[0]
        raise ScpiError(-113)

    def _next(self) -> str:
        code, text = self._errors.popleft() if self._errors else (0, "No error")
        return f'{code},"{text}"'

    def _event(self, bit: int) -> None:
        self.events |= bit

    def _events_read(self) -> int:
        events, self.events = self.events, 0
        return events


class ScpiConversation:
    """One client of a virtual instrument that speaks SCPI.

    Args:
        server: the instrument's side.
        lost: what it does when the client goes; None for nothing.
    """

    def __init__(self, server: ScpiServer, lost: Callable[[], None] | None = None) -> None:
        self._server, self._lost = server, lost
        self._reader = MessageReader()

    def receive(self, data: bytes) -> Iterable[Task]:
        """See ``Conversation``."""
        return [Task(self._server.work(message)) for message in self._reader.feed(data)]

    def silent(self) -> None:
        """See ``Conversation``."""
        self._reader.clear()

    def lost(self) -> None:
        """See ``Conversation``."""
        if self._lost is not None:
            self._lost()
