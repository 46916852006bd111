"""Throws away what a line holds, in a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable

LONGEST = 1.0
"""s; a line that never falls silent is given up after this, beyond the silence asked for."""


def drained(read: Callable[[float], bytes], quiet: float) -> int:
    """Reads until nothing came for ``quiet`` seconds; gives the number of bytes.

    Args:
        read: gives what is there as soon as there is something, or nothing once the time it is given has passed.
        quiet: s of silence that end it.
    """
    count, end = 0, time.monotonic() + quiet + LONGEST
    while data := read(time.monotonic() + quiet):
        count += len(data)
        if time.monotonic() > end:
            break
    return count
