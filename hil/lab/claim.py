"""One process at a time may write to a run folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from hil.errors import StorageError, UsageError

LOCK = "lock"


@contextmanager
def claimed(folder: Path) -> Generator[None]:
    """Holds a run folder while the body runs; the system lets go of it when the process dies, however it dies.

    Raises:
        UsageError: another process holds it.
        StorageError: the lock file cannot be made.
    """
    path = folder / LOCK
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        file = os.open(path, flags, 0o644)
    except OSError as error:
        raise StorageError(str(path), str(error)) from error
    try:
        _lock(file, folder)
        yield
    finally:
        os.close(file)


def _lock(file: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UsageError(f"{folder} is in use: another process runs it; wait for its end, or end it") from error
        # some network file systems know no locks; a run there is no worse off than before
