"""Text that instruments speak: typed arguments on the way out, numbers and foreign text on the way in. Pure functions.

Nothing free is ever put into a command: an argument is a number, a switch, a word, a quoted name or a block of bytes,
and whatever could end a command or begin another is refused before anything is sent.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from hil.contract import Flag
from hil.errors import UsageError
from instruments.links.showing import shown

OVERFLOW = 9.9e37
"""What instruments answer for a value beyond the range."""
NOT_A_NUMBER = 9.91e37
"""What instruments answer where nothing was measured."""

_HEADER = re.compile(r"(?:\*[A-Z]{2,12}|:?[A-Za-z]+[0-9]{0,4}(?::[A-Za-z]+[0-9]{0,4}){0,11})\??")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_NAME = re.compile(r"[\x20-\x7e]{0,200}")
_FORBIDDEN = frozenset(";#\"'")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Quoted:
    """A name that is sent in double quotes."""

    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes that are sent as a definite-length block."""

    data: bytes


Argument = bool | int | float | str | Quoted | Block
"""What a command can carry; a plain ``str`` is a word such as ``VOLT``."""


def command(header: str, *arguments: Argument) -> bytes:
    """The bytes of one command, without its end.

    Raises:
        UsageError: the header or an argument could be taken for something else; nothing was sent.
    """
    if not isinstance(header, str) or _HEADER.fullmatch(header) is None:
        raise UsageError(f"{told(header)} is not a command header; nothing was sent")
    written = b",".join(_argument(header, value) for value in arguments)
    return header.encode("ascii") + (b" " + written if arguments else b"")


def _argument(header: str, value: Argument) -> bytes:
    match value:
        case bool():
            return b"ON" if value else b"OFF"
        case int():
            return int.__repr__(value).encode("ascii")
        case float():
            if not math.isfinite(value):
                raise _refused(header, value, "it must be finite")
            return float.__repr__(value).encode("ascii")
        case Quoted():
            return b'"' + quotable(value.text, header).encode("ascii") + b'"'
        case Block():
            return definite(value.data)
        case str():
            if _WORD.fullmatch(value) is None:
                raise _refused(header, value, "a word has letters, digits and underscores and begins with a letter")
            return value.encode("ascii")
        case _:
            raise _refused(header, value, "it must be a number, a switch, a word, a quoted name or a block")


def quotable(text: str, where: str) -> str:
    """Gives a text back that can stand between double quotes.

    Raises:
        UsageError: it holds ``;``, ``#``, a quote, a control character or one outside ASCII; nothing was sent.
    """
    if not isinstance(text, str) or _NAME.fullmatch(text) is None or not _FORBIDDEN.isdisjoint(text):
        raise _refused(where, text, "a name has up to 200 plain ASCII characters, without quotes, ';' and '#'")
    return text


def _refused(header: str, value: object, why: str) -> UsageError:
    return UsageError(f"{header}: the argument {told(value)} is refused: {why}; nothing was sent")


def definite(data: bytes) -> bytes:
    """Wraps bytes into a definite-length block: ``#``, the number of digits, the length, the bytes."""
    length = str(len(data)).encode("ascii")
    if len(length) > 9:
        raise UsageError(f"a block of {len(data)} bytes is longer than a definite-length block can say")
    return b"#" + str(len(length)).encode("ascii") + length + data


def told(foreign: object, most: int = 80) -> str:
    """Foreign text between quotes, escaped and cut, so that it can be shown."""
    return f"'{shown(foreign if isinstance(foreign, str | bytes | bytearray) else ascii(foreign), most)}'"


def number(text: str) -> float:
    """Reads a number as instruments write it; infinities and ``nan`` are not numbers.

    Raises:
        ValueError: it is not a number, or one out of range.
    """
    if _NUMBER.fullmatch(text.strip()) is None:
        raise ValueError(f"expected a number, got {told(text)}")
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {told(text)}")
    return value


def measured(value: float) -> tuple[float, Flag]:
    """A reading and what is known about it: the codes that stand for no number become NaN and flags."""
    size = abs(value)
    if math.isnan(value) or math.isclose(size, NOT_A_NUMBER, rel_tol=1e-4):  # single precision does not hold it exactly
        return math.nan, Flag.NOT_MEASURED
    if size >= OVERFLOW * (1 - 1e-4):
        return math.nan, Flag.NOT_MEASURED | (Flag.SAT_HIGH if value > 0 else Flag.SAT_LOW)
    return value, Flag(0)
