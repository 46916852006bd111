"""What goes wrong on a virtual board's line, and when: a schedule that is the same for the same seed."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

from hil.units import Seconds

ON_REQUEST = ("flipped_request", "duplicate_request")
"""Faults of a message on its way to the board."""

ON_ANSWER = ("no_answer", "late", "truncated", "flipped_bit", "garbage", "duplicate", "slow")
"""Faults of an answer; the command was carried out."""

INSIDE = ("busy", "reset", "firmware", "error", "stuck")
"""Faults that only the wire protocol can make."""

KINDS = (*ON_REQUEST, "lost_request", *ON_ANSWER, "disconnect", *INSIDE)
"""All faults. After ``disconnect`` the command was carried out and its answer is lost with the line."""

SLOW_PIECES = 50
"""A slow answer comes in at most this many pieces; a short one byte by byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSettings:
    """How often each fault happens to a command (a probability), and how large some of them are.

    Args:
        flipped_request: one bit of the message is flipped on its way to the board.
        duplicate_request: the message arrives twice.
        lost_request: the message never arrives.
        no_answer: the command is carried out and the answer lost.
        late: the answer leaves ``late_seconds`` late, and what follows it later still.
        truncated: only the beginning of the answer arrives.
        flipped_bit: one bit of the answer is flipped.
        garbage: noise, at most ``garbage_bytes`` long, comes before the answer.
        duplicate: the answer comes twice.
        slow: the bytes of the answer dribble over ``slow_seconds``.
        disconnect: the command is carried out, and the line is lost with its answer.
        busy: the board says that it is busy.
        reset: the board starts anew.
        firmware: the board says that it has another firmware.
        error: the board puts an error of its own into its queue or answer.
        stuck: a channel of the converter sticks.
        late_seconds: s.
        slow_seconds: s.
        garbage_bytes: most noise bytes.
    """

    flipped_request: float = 0.0
    duplicate_request: float = 0.0
    lost_request: float = 0.0
    no_answer: float = 0.0
    late: float = 0.0
    truncated: float = 0.0
    flipped_bit: float = 0.0
    garbage: float = 0.0
    duplicate: float = 0.0
    slow: float = 0.0
    disconnect: float = 0.0
    busy: float = 0.0
    reset: float = 0.0
    firmware: float = 0.0
    error: float = 0.0
    stuck: float = 0.0
    late_seconds: Seconds = 0.1
    slow_seconds: Seconds = 0.05
    garbage_bytes: int = 16

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{item.name} must be a finite number, got {str(value)[:40]!r}")
        for kind in KINDS:
            if not 0.0 <= getattr(self, kind) <= 1.0:
                raise ValueError(f"{kind} must be a probability between 0 and 1, got {getattr(self, kind)}")
        if sum(self.rates.values()) > 1.0 + 1e-9:
            raise ValueError(f"the probabilities of all faults must add to at most 1, got {sum(self.rates.values())}")
        for name in ("late_seconds", "slow_seconds"):
            if not 0.0 <= getattr(self, name) <= 3600.0:
                raise ValueError(f"{name} must lie between 0 and 3600 s, got {getattr(self, name)}")
        if not isinstance(self.garbage_bytes, int) or not 1 <= self.garbage_bytes <= 65536:
            raise ValueError(f"garbage_bytes must be a whole number between 1 and 65536, got {self.garbage_bytes}")

    @property
    def rates(self) -> dict[str, float]:
        """The probability of each kind that can happen."""
        return {kind: getattr(self, kind) for kind in KINDS if getattr(self, kind) > 0}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of one command.

    Args:
        kind: one of ``KINDS``.
        source: draws where and how.
    """

    kind: str
    source: random.Random


class FaultSchedule:
    """Says what goes wrong with each command.

    A draw depends on seed and command number only. A fault that a test has armed comes before one of the script, and
    that before the rates.

    Args:
        settings: rates and sizes.
        seed: of the draws.
        script: (command number, kind); the first command has the number 1.

    Attributes:
        number: of the last command.
        settings: rates and sizes now.

    Raises:
        ValueError: the script has a kind that there is not.
    """

    def __init__(
        self, settings: FaultSettings | None = None, seed: int = 0, script: Iterable[tuple[int, str]] = ()
    ) -> None:
        self.number = 0
        self.settings = settings or FaultSettings()
        self._rates = self.settings.rates
        self._seed = seed
        self._script = {number: known(kind) for number, kind in script}
        self._armed: deque[str] = deque()

    @property
    def idle(self) -> bool:
        """Whether nothing can go wrong."""
        return not (self._rates or self._script or self._armed)

    def next(self) -> Fault | None:
        """Counts a command and says what goes wrong with it."""
        self.number += 1
        if self.idle:
            return None
        source = random.Random(f"{self._seed}/{self.number}")  # noqa: S311  # faults, not secrets
        drawn = self._draw(source.random())
        planned = self._script.pop(self.number, None)
        kind = self._armed.popleft() if self._armed else planned or drawn
        return Fault(kind, source) if kind else None

    def _draw(self, at: float) -> str | None:
        for kind, rate in self._rates.items():
            if at < rate:
                return kind
            at -= rate
        return None

    def arm(self, kind: str, count: int = 1) -> None:
        """Makes a fault happen to the next commands.

        Raises:
            ValueError: there is no such fault.
        """
        self._armed.extend([known(kind)] * count)

    def change(
        self,
        rates: Mapping[str, float] | None = None,
        script: Iterable[tuple[int, str]] | None = None,
        seed: int | None = None,
    ) -> None:
        """Changes what goes wrong from the next command on.

        Args:
            rates: fields of ``FaultSettings``; a probability that is not named becomes 0, a size is kept.
            script: (command number, kind); takes the place of what was planned.
            seed: of the draws.

        Raises:
            ValueError: a name or a value is wrong; nothing was changed.
        """
        settings, planned = self.settings, self._script
        if seed is not None and not isinstance(seed, int):
            raise ValueError(f"seed must be a whole number, got {str(seed)[:40]!r}")
        if rates is not None:
            names = {item.name for item in fields(FaultSettings)}
            if unknown := sorted(set(rates) - names):
                raise ValueError(f"there is no fault {unknown[0][:40]!r}; there are {', '.join(KINDS)}")
            settings = replace(self.settings, **(dict.fromkeys(KINDS, 0.0) | dict(rates)))
        if script is not None:
            planned = {int(number): known(kind) for number, kind in script}
        self.settings, self._rates, self._script = settings, settings.rates, planned
        self._seed = self._seed if seed is None else seed


def known(kind: str) -> str:
    """Gives back a kind of fault.

    Raises:
        ValueError: there is no such fault.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no fault {str(kind)[:40]!r}; there are {', '.join(KINDS)}")
    return kind


def spoil_request(fault: Fault, data: bytes) -> bytes:
    """What arrives at the board instead of a message."""
    return flipped(data, fault.source) if fault.kind == "flipped_request" else data + data


def spoil_answer(fault: Fault, answer: bytes, settings: FaultSettings) -> list[tuple[float, bytes]]:
    """What the board sends instead of an answer, in parts: s to hold each back, and its bytes."""
    source = fault.source
    match fault.kind:
        case "no_answer":
            return []
        case "late":
            return [(settings.late_seconds, answer)]
        case "truncated":
            return [(0.0, answer[: source.randrange(len(answer))])] if answer else []
        case "flipped_bit":
            return [(0.0, flipped(answer, source))]
        case "garbage":
            return [(0.0, source.randbytes(source.randint(1, settings.garbage_bytes)) + answer)]
        case "duplicate":
            return [(0.0, answer + answer)]
        case "slow":
            size = max(1, math.ceil(len(answer) / SLOW_PIECES))
            pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
            return [(settings.slow_seconds / len(pieces), piece) for piece in pieces]
    return [(0.0, answer)]


def flipped(data: bytes, source: random.Random) -> bytes:
    """The bytes with one bit flipped."""
    if not data:
        return data
    changed, at = bytearray(data), source.randrange(8 * len(data))
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)
