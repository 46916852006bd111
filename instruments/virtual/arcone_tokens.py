"""The parser of a virtual ArC ONE: tokens in, whole commands out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isinf

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_LONGEST = 40
_PARAMETERS = {"0": 7, "01": 2, "011": 2, "02": 2, "1": 2, "2": 3, "3": 4, "04": 2, "50": 6, "999": 0, "00": 0}
_MASKED, _MULTI_BIAS, _RESET = "2", "50", "00"
MOST_VOLTS, LEAST_SECONDS, MOST_SECONDS = 12.0, 90e-9, 100.0


@dataclass(frozen=True, slots=True)
class Command:
    """One job that has arrived whole.

    Args:
        job: its code; ``"pair"`` for one cell of a masked read.
        numbers: its parameters.
    """

    job: str
    numbers: tuple[float, ...] = ()

    @property
    def whole(self) -> tuple[int, ...]:
        """The parameters as whole numbers."""
        return tuple(int(number) for number in self.numbers)


class TokenParser:
    """Cuts bytes into commands, whatever the way they are split.

    A job code that is none, a parameter that is no number or is out of range, or a token too long, and the board is out
    of step: it does nothing and is silent until a reset. A token that is missing is made up for by the next job's
    first one, even when that is a reset: how the real board sees this is not documented, so the worst is assumed.

    Args:
        words: word lines of the array.
        bits: bit lines of the array.

    Attributes:
        is_lost: out of step.
    """

    def __init__(self, words: int, bits: int) -> None:
        self._words, self._bits = words, bits
        self.is_lost = False
        self.forget()

    def forget(self) -> None:
        """Forgets what has arrived in part, as a reset does."""
        self._token = bytearray()
        self._job = ""
        self._numbers: list[float] = []
        self._pairs = 0

    def feed(self, data: bytes) -> Iterator[Command]:
        """Takes bytes and gives the commands they complete."""
        for byte in data:
            if byte != 0x0A:
                if len(self._token) <= _LONGEST:
                    self._token.append(byte)
                continue
            token = self._token.decode("ascii", "replace")
            self._token.clear()
            if (command := self._take(token)) is not None:
                yield command

    def _take(self, token: str) -> Command | None:
        if self.is_lost:
            if token != _RESET:
                return None
            self.is_lost = False
        if not self._job:
            if token not in _PARAMETERS and not self._pairs:
                return self._lose()
            if not self._pairs:
                self._job = token
                return self._complete()
            self._job = "pair"
        if len(token) > _LONGEST or not _NUMBER.fullmatch(token):
            return self._lose()
        number = float(token)
        if isinf(number):
            return self._lose()
        self._numbers.append(number)
        return self._complete()

    def _complete(self) -> Command | None:
        """The command, once it is whole and makes sense."""
        numbers = self._numbers
        if len(numbers) < self._wanted():
            return None
        if not self._makes_sense():
            return self._lose()
        command = Command(self._job, tuple(numbers))
        self._job, self._numbers = "", []
        if command.job == "pair":
            self._pairs -= 1
        elif command.job == _MASKED and numbers[0] == 2:
            self._pairs = int(numbers[3])
        return command

    def _wanted(self) -> int:
        """How many parameters the job has, as far as can be told by now."""
        numbers = self._numbers
        if self._job == "pair":
            return 2
        if self._job == _MASKED and numbers and numbers[0] == 2:
            return 4
        if self._job == _MULTI_BIAS and len(numbers) >= 6:
            return 6 + (int(numbers[3]) if 0 <= numbers[3] <= self._words else 0)
        return _PARAMETERS[self._job]

    def _makes_sense(self) -> bool:
        n = self._numbers
        match self._job:
            case "0":
                codes = _codes(n[3], 3) and _codes(n[4], 3) and _codes(n[5], 2)
                return n[0] >= 1 and self._cell(n[1], n[2]) and codes and _volts(n[6])
            case "01":
                return _codes(n[0], 3) and _volts(n[1])
            case "011":
                return n[0] >= 1 and _codes(n[1], 2)
            case "02" | "1" | "pair":
                return self._cell(n[0], n[1])
            case "2":
                fits = self._cell(n[1], n[2])
                return fits and (n[0] == 1 or (n[0] == 2 and 1 <= n[3] <= self._words * self._bits))
            case "3":
                return self._cell(n[0], n[1]) and _volts(n[2]) and _width(n[3])
            case "04":
                return _volts(n[0]) and _width(n[1])
            case "50":
                words = n[6:]
                ways = n[5] == 1 and _volts(n[0]) and _volts(n[2])  # writing by this job is not modelled
                return ways and bool(words) and all(self._cell(word, n[4]) for word in words)
            case _:
                return True

    def _cell(self, word: float, bit: float) -> bool:
        return word in range(1, self._words + 1) and bit in range(1, self._bits + 1)

    def _lose(self) -> None:
        self.forget()
        self.is_lost = True


def _codes(number: float, most: int) -> bool:
    return number in range(most + 1)


def _volts(number: float) -> bool:
    return abs(number) <= MOST_VOLTS


def _width(number: float) -> bool:
    return LEAST_SECONDS <= number <= MOST_SECONDS
