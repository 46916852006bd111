"""A client of an instrument that speaks TSP, a dialect of Lua: calls, assignments and printed values only."""

from __future__ import annotations

import re

from hil.errors import UsageError
from instruments.scpi.errors import ErrorEntry, InstrumentErrors, drained
from instruments.scpi.identity import ExpectedInstrument, InstrumentIdentity
from instruments.scpi.lines import TextLines
from instruments.scpi.text import Quoted, quotable, told
from instruments.session import Session

_NAME = re.compile(r"[a-z][A-Za-z0-9_]{0,30}(?:\.[A-Za-z][A-Za-z0-9_]{0,30}){0,4}")

Value = int | str | Quoted
"""What a statement can carry; a plain ``str`` is a name such as ``channel.BREAK_BEFORE_MAKE``."""


def call(name: str, *values: Value) -> bytes:
    """A call of a function, ``channel.open("1A01")``.

    Raises:
        UsageError: a part could be taken for something else; nothing was sent.
    """
    return f"{_name(name)}({', '.join(_value(name, value) for value in values)})".encode("ascii")


def assignment(name: str, value: Value) -> bytes:
    """An assignment, ``localnode.prompts = 0``; raises as ``call``."""
    return f"{_name(name)} = {_value(name, value)}".encode("ascii")


def printed(expression: bytes) -> bytes:
    """Asks for the value of a call or a name."""
    return b"print(" + expression + b")"


def _name(name: str) -> str:
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise UsageError(f"{told(name)} is not a name in a TSP statement; nothing was sent")
    return name


def _value(name: str, value: Value) -> str:
    match value:
        case Quoted():
            text = quotable(value.text, name)
            if "\\" in text:
                raise UsageError(f"{name}: a backslash in {told(text)} is refused; nothing was sent")
            return f'"{text}"'
        case bool():
            raise UsageError(f"{name}: the argument {value} is refused: write 0 or 1; nothing was sent")
        case int():
            return int.__repr__(value)
        case _:
            return _name(value)


class TspClient:
    """Statements and printed values over any link.

    Args:
        session: the session, which the client owns.
        board: what the instrument is called in messages.
        seconds: s, the usual wait for an answer.
        tries: how often a value is asked for at most.
        quiet: s of silence that show that no answer is under way.
        queue: entries that the error queue can hold.
    """

    def __init__(
        self,
        session: Session,
        board: str = "instrument",
        *,
        seconds: float = 2.0,
        tries: int = 3,
        quiet: float = 0.05,
        queue: int = 32,
    ) -> None:
        self.lines = TextLines(session, board, seconds=seconds, tries=tries, quiet=quiet)
        self._queue = queue

    @property
    def board(self) -> str:
        """What the instrument is called in messages."""
        return self.lines.board

    def identify(self, expected: ExpectedInstrument) -> InstrumentIdentity:
        """Asks who is there, and nothing else; see ``TextLines.identify``."""
        return self.lines.identify(expected)

    def run(self, statement: bytes) -> None:
        """Sends a statement made by ``call`` or ``assignment``; never again when it fails."""
        self.lines.send(statement)

    def run_only(self, statement: bytes, seconds: float = 1.0) -> None:
        """Sends a statement at once, with no question before it; for safe states."""
        self.lines.send_only(statement, seconds)

    def value(self, expression: bytes, *, again: bool = True) -> str:
        """Asks for a printed value; raises as ``ScpiClient.query``."""
        return self.lines.ask(printed(expression), self.lines.line, again=again).strip()

    def check(self, what: str) -> None:
        """Takes the error queue and raises all of it.

        Raises:
            InstrumentErrors: it held something.
        """

        def entry(wait: float) -> ErrorEntry:
            line = self.lines.line(wait)
            try:
                return ErrorEntry.parse(line)
            except ValueError as error:
                raise self.lines.wrong(str(error)) from None

        ask = printed(call("errorqueue.next"))
        entries = drained(lambda: self.lines.ask(ask, entry, again=False), self._queue)
        if entries:
            raise InstrumentErrors(self.board, what, entries)

    def close(self) -> None:
        """Lets go of the link."""
        self.lines.close()
