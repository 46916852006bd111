"""A second connection to a virtual board, for tests: it looks inside, and breaks things.

One JSON object a line, one line of answer: ``{"value": ...}`` or ``{"error": "what was wrong"}``. What there is to do:

- ``inspect`` with ``what`` and its arguments: asks the personality;
- ``fault`` with ``kind`` and ``count``: arms a fault for the next commands;
- ``faults`` with ``rates``, ``script``, ``seed``: changes the schedule;
- ``freeze`` with ``seconds``: the board hangs, the lines stay;
- ``disconnect``: all clients are cut off at once;
- ``counters``: what the board has seen.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any, cast

from instruments.virtual.insides import Insides

LONGEST = 1 << 20
"""Bytes of one request; a client that sends more is dropped."""

MOST_ARMED = 100_000
LONGEST_FREEZE = 3600.0


class ControlPort(asyncio.Protocol):
    """One test that looks inside.

    Args:
        insides: the inside of the board's shell.
        transports: where this connection is noted while it lasts.
    """

    def __init__(self, insides: Insides, transports: set[asyncio.Transport]) -> None:
        self._insides, self._transports = insides, transports
        self._part = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Notes the connection."""
        self._transport = cast(asyncio.Transport, transport)
        self._transports.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        if self._transport is not None:
            self._transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        """Answers each line that is whole."""
        self._part += data
        *lines, self._part = self._part.split(b"\n")
        if self._transport is None:
            return
        for line in lines:
            self._transport.write(answer(self._insides, bytes(line)) + b"\n")
        if len(self._part) > LONGEST:
            self._transport.abort()


def answer(insides: Insides, line: bytes) -> bytes:
    """Does what a line asks for; whatever is wrong with it becomes the answer."""
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise ValueError("write one JSON object a line")  # the client's mistake, not the code's
        do = request.pop("do", None)
        if do not in _DOINGS:
            raise ValueError(f"there is no {str(do)[:40]!r} to do; there are {', '.join(_DOINGS)}")
        return json.dumps({"value": _DOINGS[do](insides, **request)}).encode()
    except (ValueError, TypeError, KeyError, RecursionError) as problem:
        return json.dumps({"error": str(problem)[:500]}).encode()
    except Exception as problem:
        insides.failed("the control port", problem)
        return json.dumps({"error": f"{type(problem).__name__}: {str(problem)[:500]}"}).encode()


def _inspect(insides: Insides, what: str, **arguments: Any) -> Any:
    return insides.personality.inspect(what, arguments)


def _fault(insides: Insides, kind: str, count: int = 1) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_ARMED:
        raise ValueError(f"count must be a whole number between 1 and {MOST_ARMED}, got {str(count)[:40]}")
    insides.faults.arm(kind, count)


def _faults(insides: Insides, **changes: Any) -> None:
    insides.faults.change(**changes)


def _freeze(insides: Insides, seconds: float) -> None:
    good = isinstance(seconds, int | float) and math.isfinite(seconds) and 0 <= seconds <= LONGEST_FREEZE
    if not good:
        raise ValueError(f"seconds must lie between 0 and {LONGEST_FREEZE:g}, got {str(seconds)[:40]}")
    insides.turns.freeze(seconds)


def _disconnect(insides: Insides) -> int:
    lines = list(insides.lines)
    for line in lines:
        line.drop()
    return len(lines)


def _counters(insides: Insides) -> dict[str, Any]:
    return insides.tally.plain() | {"connected": len(insides.lines)}


_DOINGS: dict[str, Callable[..., Any]] = {
    "inspect": _inspect,
    "fault": _fault,
    "faults": _faults,
    "freeze": _freeze,
    "disconnect": _disconnect,
    "counters": _counters,
}
