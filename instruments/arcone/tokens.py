"""The jobs of the ArC ONE as bytes: ASCII tokens, each ended by LF, out; little-endian float32 back.

Pure functions. A job is built whole or not at all, and nothing but numbers can get into it: the board has no check of
its own, and a wrong number of tokens puts it out of step until it is reset. Lines count from 1 here, volts are those of
the word line above the bit line.

Volts and widths are written without an exponent: a number that is cut on its way is then never larger than the whole
one, while the first digit of 1e-06 s would be a pulse of one second.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from hil.contract import Bias
from hil.errors import InvalidOperation, LimitExceeded

MOST_LINES = 32
MOST_VOLTS = 12.0
"""V, the most that the board gives, in reads and pulses, of either sign."""
LEAST_SECONDS = 90e-9
"""s, the shortest pulse."""
READY = b"1"
"""The line that answers ``initialise``."""

READ_MODES = {"classic": 0, "tia": 1, "four_point": 2}
NEGATIVE_FOUR_POINT = 3
SESSIONS = {"local": 0, "bnc": 1, "bnc_to_local": 2, "offline": 3}
SNEAK_PATHS = {Bias.THIRD: 0, Bias.HALF: 1, Bias.FLOAT: 2}


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it goes over the wire.

    Args:
        name: what it is, for messages.
        data: its tokens.
        floats: float32 numbers that it answers with.
        seconds: s that the lines are driven, beside commands and conversions.
    """

    name: str
    data: bytes
    floats: int = 0
    seconds: float = 0.0


def reset(times: int = 1, *, ends_token: bool = False) -> Job:
    """Resets the controller.

    Args:
        times: repeated, it also fills up whatever job the board is still waiting for the end of.
        ends_token: begins with an LF, so that it cannot become the last digits of a token that was cut.
    """
    return Job("reset", b"\n" * ends_token + b"00\n" * times)


def firmware() -> Job:
    """Asks for the firmware version: two uint16, which are four bytes; old firmware gives no answer."""
    return Job("firmware version", _tokens("999"), floats=1)


def initialise(cycles: int, words: int, bits: int, *, mode: int, session: int, sneak: int, volts: float) -> Job:
    """Initialises the controller; answers with the line ``READY``."""
    lines = (_line("words", words, MOST_LINES), _line("bits", bits, MOST_LINES))
    whole = (_whole("read cycles", cycles, 1, 10_000), *lines, *_codes(mode, session, sneak))
    return Job("initialisation", _tokens("0", *whole, _volts(volts)))


def set_read(mode: int, volts: float) -> Job:
    """Sets read mode and read voltage."""
    return Job("set read", _tokens("01", _whole("read mode", mode, 0, 3), _volts(volts)))


def update(cycles: int, sneak: int) -> Job:
    """Sets read cycles and what unselected lines do."""
    sneak = _whole("sneak path", sneak, 0, 2)
    return Job("update", _tokens("011", _whole("read cycles", cycles, 1, 10_000), sneak))


def select(word: int, bit: int) -> Job:
    """Closes a cross-point for ``pulse_selected``."""
    return Job("select", _tokens("02", *_cell(word, bit)))


def read_one(word: int, bit: int) -> Job:
    """Reads the resistance of one cell."""
    return Job("resistance of a cell", _tokens("1", *_cell(word, bit)), floats=1)


def read_all(words: int, bits: int) -> Job:
    """Reads the resistances of the first lines, word after word."""
    lines = (_line("words", words, MOST_LINES), _line("bits", bits, MOST_LINES))
    return Job("resistances of an array", _tokens("2", 1, *lines), floats=words * bits)


def read_masked(words: int, bits: int, count: int) -> Job:
    """Begins a read of ``count`` cells; the board then wants as many ``pair``."""
    lines = (_line("words", words, MOST_LINES), _line("bits", bits, MOST_LINES))
    return Job("masked read", _tokens("2", 2, *lines, _whole("count", count, 1, MOST_LINES**2)))


def pair(word: int, bit: int) -> Job:
    """Names one cell of a masked read; the board answers with its resistance."""
    return Job("resistance of a cell", _tokens(*_cell(word, bit)), floats=1)


def pulse_then_read(word: int, bit: int, volts: float, seconds: float) -> Job:
    """Pulses one cell, then reads its resistance."""
    data = _tokens("3", *_cell(word, bit), _volts(volts), _width(seconds))
    return Job("resistance after a pulse", data, floats=1, seconds=seconds)


def pulse_selected(volts: float, seconds: float) -> Job:
    """Pulses the selected cell; nothing comes back."""
    return Job("pulse", _tokens("04", _volts(volts), _width(seconds)), seconds=seconds)


def read_line(words: Sequence[int], bit: int, volts: float) -> Job:
    """Reads one bit line with one common voltage on several word lines; answers with three numbers.

    The write voltage and width that the job carries, too, are 0 V and the shortest pulse; a read does not use them.
    """
    if not words or len(set(words)) != len(words):
        raise InvalidOperation("read of a bit line", "it needs at least one word line, and each only once")
    lines = [_line("word line", word, MOST_LINES) for word in words]
    bit = _line("bit line", bit, MOST_LINES)
    data = _tokens("50", 0, _width(LEAST_SECONDS), _volts(volts), len(lines), bit, 1, *lines)
    return Job("current of a bit line", data, floats=3)


def resistances(raw: bytes) -> tuple[float, ...]:
    """The numbers of an answer."""
    return struct.unpack(f"<{len(raw) // 4}f", raw)


def version(raw: bytes) -> str:
    """The answer to ``firmware``, as ``"1.2"``."""
    first, second = struct.unpack("<2H", raw)
    return f"{first}.{second}"


def mode_for(read_mode: str, volts: float) -> int:
    """The code of a read mode; the four-point mode has one for each sign of the read voltage."""
    return NEGATIVE_FOUR_POINT if read_mode == "four_point" and volts < 0 else READ_MODES[read_mode]


def _tokens(*tokens: str | int) -> bytes:
    """Tokens as bytes; the only texts are job codes of this module and numbers it has written."""
    return b"".join(str(token).encode("ascii") + b"\n" for token in tokens)


def _written(value: float, places: int) -> str:
    """A number with up to so many decimal places; there is no -0."""
    return f"{round(value, places) + 0.0:.{places}f}".rstrip("0").rstrip(".")


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidOperation("ArC ONE job", f"{name} must be a finite number, got {ascii(value)[:40]}")
    return float(value)


def _whole(name: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        wanted = f"a whole number from {low} to {high}"
        raise InvalidOperation("ArC ONE job", f"{name} must be {wanted}, got {ascii(value)[:40]}")
    return value


def _line(name: str, value: object, most: int) -> int:
    return _whole(name, value, 1, most)


def _cell(word: object, bit: object) -> tuple[int, int]:
    return _line("word line", word, MOST_LINES), _line("bit line", bit, MOST_LINES)


def _codes(mode: object, session: object, sneak: object) -> tuple[int, int, int]:
    return _whole("read mode", mode, 0, 3), _whole("session", session, 0, 3), _whole("sneak path", sneak, 0, 2)


def _volts(value: object) -> str:
    """A voltage to 1 nV."""
    volts = _number("the voltage", value)
    if abs(volts) > MOST_VOLTS:
        raise LimitExceeded("voltage", abs(volts), MOST_VOLTS, "V", "ArC ONE")
    return _written(volts, 9)


def _width(value: object) -> str:
    """A pulse width to 1 fs."""
    seconds = _number("the pulse width", value)
    if seconds < LEAST_SECONDS:
        raise LimitExceeded("pulse width", seconds, LEAST_SECONDS, "s", "ArC ONE")
    return _written(seconds, 15)
