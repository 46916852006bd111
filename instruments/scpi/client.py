"""A client of an instrument that speaks SCPI with the common commands of IEEE 488.2."""

from __future__ import annotations

from collections.abc import Sequence

from instruments.scpi.errors import ErrorEntry, InstrumentErrors, drained
from instruments.scpi.identity import ExpectedInstrument, InstrumentIdentity
from instruments.scpi.lines import END, TextLines
from instruments.scpi.text import Argument, command, number, told
from instruments.session import Session


class ScpiClient:
    """Commands and queries over any link.

    Commands are made of a header and typed arguments (``instruments.scpi.text``); what could be taken for another
    command is refused before anything is sent. Queries are asked again after a time-out, commands never.

    Args:
        session: the session, which the client owns.
        board: what the instrument is called in messages.
        seconds: s, the usual wait for an answer.
        tries: how often a query is asked at most.
        quiet: s of silence that show that no answer is under way.
        error_query: the header that gives the next entry of the error queue.
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
        error_query: str = ":SYST:ERR?",
        queue: int = 32,
    ) -> None:
        self.lines = TextLines(session, board, seconds=seconds, tries=tries, quiet=quiet)
        self._error_query, self._queue = command(error_query), queue

    @property
    def board(self) -> str:
        """What the instrument is called in messages."""
        return self.lines.board

    def identify(self, expected: ExpectedInstrument) -> InstrumentIdentity:
        """Asks who is there, and nothing else; see ``TextLines.identify``."""
        return self.lines.identify(expected)

    # -- commands --------------------------------------------------------------------------------------------------

    def write(self, header: str, *arguments: Argument) -> None:
        """Sends a command that has no answer.

        Raises:
            UsageError: it could be taken for something else; nothing was sent.
            LinkTimeout: it could not be sent in time.
            LinkLost: the other end is gone.
        """
        self.lines.send(command(header, *arguments))

    def write_only(self, header: str, *arguments: Argument, seconds: float = 1.0) -> None:
        """Sends a command at once, with no question before it; for safe states."""
        self.lines.send_only(command(header, *arguments), seconds)

    def set_up(self, what: str, *commands: tuple[str | Argument, ...]) -> None:
        """Sends a block of commands and looks at the error queue.

        Args:
            what: the block in words, for messages.
            commands: header and arguments of each.

        Raises:
            UsageError: one of them could be taken for something else; nothing was sent.
            InstrumentErrors: the instrument refused some of it.
        """
        for text in [command(str(header), *arguments) for header, *arguments in commands]:
            self.lines.send(text)
        self.check(what)

    # -- queries ---------------------------------------------------------------------------------------------------

    def query(self, header: str, *arguments: Argument, seconds: float | None = None, again: bool = True) -> str:
        """Asks for a line of text.

        Args:
            header: the query, with its question mark.
            arguments: of the query.
            seconds: s to wait for the answer; None for the usual.
            again: asking twice does no harm.

        Raises:
            UsageError: it could be taken for something else; nothing was sent.
            LinkTimeout: no answer came.
            LinkLost: the other end is gone.
            WireError: the answer is no line of plain text.
        """
        return self.lines.ask(command(header, *arguments), self.lines.line, seconds, again=again)

    def query_numbers(
        self, header: str, *arguments: Argument, count: int | None = None, seconds: float | None = None
    ) -> list[float]:
        """Asks for numbers with commas between them, as they are: codes for "no number" are left (see ``measured``).

        Raises:
            WireError: there is something else, or another count of them; and all that ``query`` raises.
        """

        def numbers(wait: float) -> list[float]:
            line = self.lines.line(wait, None if count is None else 64 + 32 * count)
            try:
                found = [number(part) for part in line.split(",")]
            except ValueError as error:
                raise self.lines.wrong(f"{header}: {error}") from None
            if count is not None and len(found) != count:
                raise self.lines.wrong(f"{header}: expected {count} numbers, got {len(found)}: {told(line)}")
            return found

        return self.lines.ask(command(header, *arguments), numbers, seconds)

    def query_number(self, header: str, *arguments: Argument, seconds: float | None = None) -> float:
        """Asks for one number; see ``query_numbers``."""
        return self.query_numbers(header, *arguments, count=1, seconds=seconds)[0]

    def query_block(self, header: str, *arguments: Argument, count: int, seconds: float | None = None) -> bytes:
        """Asks for a block of a known number of bytes, definite-length or ``#0``, read by length and never by its end.

        Raises:
            WireError: there is no such block; and all that ``query`` raises.
        """
        return self.lines.ask(command(header, *arguments), lambda wait: self._block(header, count, wait), seconds)

    def _block(self, header: str, count: int, seconds: float) -> bytes:
        session = self.lines.session
        start = session.exactly(2, seconds, "block")
        if start[:1] != b"#" or not start[1:].isdigit():
            raise self.lines.wrong(f"{header}: expected a block, which begins with #, got {told(start)}")
        digits = int(start[1:])
        if digits:
            length = session.exactly(digits, seconds, "length of a block")
            if not length.isdigit() or int(length) != count:
                raise self.lines.wrong(f"{header}: expected a block of {count} bytes, got length {told(length)}")
        data = session.exactly(count, seconds, "block")
        end = session.exactly(1, seconds, "end of a block")
        if end == b"\r":
            end = session.exactly(1, seconds, "end of a block")
        if end != END:
            raise self.lines.wrong(f"{header}: expected the end of a block of {count} bytes, got {told(end)}")
        return data

    # -- common commands and the error queue -------------------------------------------------------------------------

    def clear(self) -> None:
        """Empties the error queue and the event registers."""
        self.write("*CLS")

    def reset(self) -> None:
        """Puts the instrument into its start state, with outputs off."""
        self.write("*RST")

    def event_status(self) -> int:
        """The standard event register, which reading clears."""
        return self._whole("*ESR?", 0, 255, None, again=False)

    def completed(self, seconds: float | None = None) -> None:
        """Waits until all that was sent is done."""
        self._whole("*OPC?", 1, 1, seconds, again=True)

    def errors(self) -> list[ErrorEntry]:
        """Takes the whole error queue, oldest first."""

        def entry(wait: float) -> ErrorEntry:
            line = self.lines.line(wait)
            try:
                return ErrorEntry.parse(line)
            except ValueError as error:
                raise self.lines.wrong(str(error)) from None

        # asked once: a lost answer has taken an entry out of the queue, and the next would say that all is well
        return drained(lambda: self.lines.ask(self._error_query, entry, again=False), self._queue)

    def check(self, what: str) -> None:
        """Takes the error queue and raises all of it.

        Raises:
            InstrumentErrors: it held something.
        """
        entries: Sequence[ErrorEntry] = self.errors()
        if entries:
            raise InstrumentErrors(self.board, what, entries)

    def close(self) -> None:
        """Lets go of the link."""
        self.lines.close()

    def _whole(self, header: str, low: int, high: int, seconds: float | None, *, again: bool) -> int:
        def answer(wait: float) -> int:
            line = self.lines.line(wait).strip().removeprefix("+")
            if not (line.isdigit() and len(line) < 9 and low <= int(line) <= high):
                raise self.lines.wrong(f"{header}: expected a whole number from {low} to {high}, got {told(line)}")
            return int(line)

        return self.lines.ask(command(header), answer, seconds, again=again)
