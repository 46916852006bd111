"""Transcripts of links: one JSON line for each piece of bytes, to be replayed against a driver."""

from __future__ import annotations

import binascii
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hil.errors import ConfigError, LinkLost
from instruments.links.link import Link
from instruments.links.script import Answer, Script
from instruments.links.showing import shown

T = TypeVar("T")

LONGEST = 64 << 20
"""Characters of the largest transcript that is read."""


class RecordingLink:
    """A link that writes down what goes through another one.

    Each line is ``{"t": seconds, "dir": "sent" | "got" | "lost", "hex": bytes}``; ``lost`` has a ``problem`` instead.
    What a drain threw away is not in it: a driver did not see it either.

    Args:
        link: the link; closing the recording closes it.
        path: of the transcript; what was there is replaced.
        clock: s; gives the times.

    Raises:
        OSError: the transcript cannot be written.
    """

    def __init__(self, link: Link, path: str | Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = link.url
        self._link, self._clock = link, clock
        self._file = Path(path).open("w", encoding="ascii", newline="\n")
        self._began = clock()

    def write(self, data: bytes, until: float) -> None:
        """Writes the bytes down, then sends them: what fails half-way may have reached the board."""
        self._note("sent", hex=data.hex())
        self._watched(lambda: self._link.write(data, until))

    def read(self, wanted: int, until: float) -> bytes:
        """Reads, and writes down what came."""
        data = self._watched(lambda: self._link.read(wanted, until))
        if data:
            self._note("got", hex=data.hex())
        return data

    def drain(self, quiet: float = 0.0) -> int:
        """Throws away what has arrived; gives the number of bytes."""
        return self._link.drain(quiet)

    def close(self) -> None:
        """Closes the link and the transcript."""
        self._link.close()
        self._file.close()

    def _watched(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except LinkLost as error:
            self._note("lost", problem=error.problem)
            raise

    def _note(self, direction: str, **facts: str) -> None:
        line = {"t": round(self._clock() - self._began, 6), "dir": direction, **facts}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()  # the end of a transcript matters most when the program dies


def replayed(path: str | Path, url: str = "") -> Script:
    """Reads a transcript back as a link that plays the board.

    Args:
        path: of the transcript.
        url: name of the link, for messages; the path when empty.

    Raises:
        ConfigError: the file cannot be read, or a line of it is no line of a transcript.
    """
    where = shown(str(path))
    try:
        with Path(path).open(encoding="ascii") as file:
            text = file.read(LONGEST + 1)
    except (OSError, ValueError) as error:
        raise ConfigError.at(where, "", f"the transcript cannot be read ({shown(str(error))})") from error
    if len(text) > LONGEST:
        raise ConfigError.at(where, "", f"the transcript is longer than {LONGEST} characters")
    url = url or f"replay:{where}"
    pairs: list[tuple[bytes, Answer]] = []
    sent, got = b"", b""
    for number, line in enumerate(text.splitlines(), 1):
        direction, data = _entry(f"{where}:{number}", line)
        if (direction == "sent" and got) or direction == "lost":
            pairs.append((sent, got))
            sent, got = b"", b""
        if direction == "sent":
            sent += data if isinstance(data, bytes) else b""
        elif direction == "got":
            got += data if isinstance(data, bytes) else b""
        else:
            pairs.append((b"", LinkLost(url, str(data))))
    pairs.append((sent, got))
    return Script([pair for pair in pairs if pair[0] or pair[1]], url)


def _entry(where: str, line: str) -> tuple[str, bytes | str]:
    try:
        entry: Any = json.loads(line)
        direction = entry["dir"]
        if direction == "lost":
            return direction, shown(str(entry["problem"]))
        if direction in ("sent", "got"):
            return direction, binascii.unhexlify(entry["hex"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError.at(where, "", f"no line of a transcript: {shown(line)}") from error
    raise ConfigError.at(where, "dir", f"{shown(str(direction))!r} is not one of sent, got, lost")
