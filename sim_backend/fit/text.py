"""Numbers out of text files that others wrote. Nothing in a file is trusted."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hil.errors import ConfigError

_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?")
_LONGEST = 64


def cut(text: str) -> str:
    """Foreign text as it may be shown: in quotes, escaped and cut."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def floating(where: str, text: str, name: str = "") -> float:
    """Reads one finite number.

    Args:
        where: file and line, for messages.
        text: the number.
        name: what it is, for messages.

    Raises:
        ConfigError: it is not a finite decimal number.
    """
    text = text.strip()
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
        raise ConfigError.at(where, name, f"expected a finite number, got {cut(text)}")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ConfigError.at(where, name, f"expected a finite number, got {cut(text)}")
    return value


@contextmanager
def opened(path: Path, what: str, most: int) -> Generator[IO[str]]:
    """Opens a regular text file of at most ``most`` bytes.

    Raises:
        ConfigError: it is not there, is no regular file, is too large, or is not UTF-8.
    """
    try:
        if not path.is_file():  # a pipe or a device would block, or never end
            there = "no regular file" if path.exists() else "no file"
            raise ConfigError.at(cut(str(path)), "", f"expected {what}, there is {there}")
        size = path.stat().st_size
        if size > most:
            raise ConfigError.at(str(path), "", f"expected {what} of at most {most >> 20} MiB, it has {size:,} bytes")
        with path.open(encoding="utf-8", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise ConfigError.at(str(path), "", f"expected {what} in UTF-8, byte {error.start} is not") from error
    except (OSError, ValueError) as error:
        raise ConfigError.at(cut(str(path)), "", f"expected {what} that can be read ({cut(str(error))})") from error
