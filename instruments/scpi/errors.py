"""The error queue of an instrument, and the one error that shows all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from hil.errors import HilError
from instruments.scpi.text import number, told


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """One entry of an error queue; ``code`` 0 says that the queue is empty."""

    code: int
    text: str

    @classmethod
    def parse(cls, line: str) -> ErrorEntry:
        """Reads ``-113,"Undefined header"`` or, with tabs, ``-2.85000e+02 TAB TSP syntax error TAB 20 TAB 1``.

        Raises:
            ValueError: it is no entry of an error queue.
        """
        tab = "\t" in line
        code, _, text = line.partition("\t" if tab else ",")
        try:
            value = number(code)
        except ValueError:
            value = 0.5
        if not (value.is_integer() and abs(value) < 1e6):
            raise ValueError(f"expected an entry of the error queue, got {told(line)}")
        return cls(int(value), (text.split("\t")[0] if tab else text).strip().strip('"'))

    def __str__(self) -> str:
        return f"{self.code} {told(self.text)}"


@dataclass(eq=False)
class InstrumentErrors(HilError):
    """An instrument refused something: all that its error queue held.

    Args:
        board: which instrument.
        what: what it was told, in words.
        entries: the queue, oldest first.
    """

    board: str
    what: str
    entries: Sequence[ErrorEntry]
    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        return f"{self.board} refused a part of {self.what}: {'; '.join(map(str, self.entries))}"


def drained(next_entry: Callable[[], ErrorEntry], most: int) -> list[ErrorEntry]:
    """Takes entries until the queue is empty, or until more came than it can hold."""
    entries: list[ErrorEntry] = []
    while len(entries) <= most:
        entry = next_entry()
        if entry.code == 0:
            break
        entries.append(entry)
    return entries
