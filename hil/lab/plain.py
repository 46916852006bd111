"""Plain data, where each value comes from, and the rules that hold for a single value.

The rules are those of YAML 1.2, made strict: ``010`` and numbers that are not finite are refused, as are characters
that a reader of the file would not see. ``on`` and ``2024-01-01`` are text, ``1e-3`` is a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from hil.errors import ConfigError, ConfigProblem

Plain = str | int | float | bool | None | list["Plain"] | dict[str, "Plain"]

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 20_000
MAX_KEY = 100
MAX_NUMBER = 64
MAX_PATH = 1024
MAX_PROBLEMS = 100
TOO_MANY = f"more than {MAX_VALUES} values are too many for a configuration"
TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels"
TOO_LARGE = f"is larger than {MAX_BYTES >> 20} MiB, too large for a configuration"

_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULLS = {"", "~", "null", "Null", "NULL"}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# Control characters, line and direction marks, half characters: who reads the file does not see them.
HIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")


class Place(NamedTuple):
    """Where a value comes from; ``line`` and ``column`` count from 1 and are 0 for a source without lines."""

    name: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name

    @property
    def in_file(self) -> str:
        """The place without its column, as records and messages about limits quote it."""
        return f"{self.name}:{self.line}" if self.line else self.name


@dataclass(frozen=True, slots=True)
class Tree:
    """Plain data, and the place of each value by its dotted path ("" for the whole)."""

    value: Plain
    places: dict[str, Place]


def scalar(text: str) -> str | int | float | bool | None:
    """Reads an unquoted scalar by the core rules of YAML 1.2.

    Raises:
        ValueError: a number that is ambiguous, too long or not finite.
    """
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number")
    is_int = _INT.fullmatch(text) is not None
    if not is_int and not _FLOAT.fullmatch(text):
        return text
    if len(text) > MAX_NUMBER:
        raise ValueError(f"a number of {len(text)} characters is too long")
    if not is_int:
        return checked_float(float(text), text)
    digits = text.lstrip("+-")
    if digits[0] == "0" and digits.isdigit() and len(digits) > 1:
        raise ValueError(f"{text} is ambiguous; write {int(text)} for the number or '{text}' in quotes for text")
    return checked_int(int(text, 0))


def printable(text: str, most: int = 120) -> str:
    """Makes foreign text fit to be printed: cut, with its control characters escaped."""
    text = text if len(text) <= most else text[:most] + "..."
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def shown(value: Plain) -> str:
    """Names a value as the reader of the file knows it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return str({None: "nothing", True: "true", False: "false"}[value])
    return f'"{printable(value, 60)}"' if isinstance(value, str) else str(value)


def error_of(problems: Sequence[ConfigProblem]) -> ConfigError:
    """Makes the error that lists the problems found; a hostile file does not get more than a hundred lines."""
    if len(problems) > MAX_PROBLEMS:
        more = f"and {len(problems) - MAX_PROBLEMS} more problems"
        problems = [*problems[:MAX_PROBLEMS], ConfigProblem(problems[MAX_PROBLEMS].where, "", more)]
    return ConfigError(problems)


def join(path: str, key: str | int) -> str:
    """Writes the dotted path of a key or list index below a path."""
    return f"{path}.{key}" if path else str(key)


def checked_key(key: object) -> str:
    """Gives the key back, if it is text of a sensible length."""
    if not isinstance(key, str):
        raise ValueError(f"the key {shown(cast(Plain, key))} is not text; put it in quotes")
    if not key or len(key) > MAX_KEY:
        raise ValueError(f"a key has 1 to {MAX_KEY} characters")
    return checked_text(key)


def checked_text(text: str) -> str:
    """Gives text back, if it holds no hidden characters."""
    hidden = HIDDEN.search(text)
    if hidden is not None:
        raise ValueError(not_allowed(hidden[0]))
    return text


def checked_int(value: int) -> int:
    """Gives a whole number back, if it has at most 18 digits."""
    if abs(value) >= 10**18:
        raise ValueError("a whole number of more than 18 digits is too long; put it in quotes if it is a name")
    return value


def checked_float(value: float, text: str) -> float:
    """Gives a number back, if it is finite; ``text`` is how it was written."""
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def not_allowed(char: str) -> str:
    """Says which hidden character was found."""
    return f"the character U+{ord(char):04X} is not allowed; remove it"


def end_of(before: str, name: str) -> Place:
    """The place just behind some text."""
    lines = re.split("\r\n|\r|\n", before)
    return Place(name, len(lines), len(lines[-1]) + 1)
