"""Lock files in a folder that all users of a machine share."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from hil.errors import UsageError
from instruments.links.showing import shown

FOLDER = "crossbar-hil-locks"
"""Name of the folder below the machine's folder for temporary files."""

VARIABLE = "HIL_LOCKS"
"""Environment variable that names another folder."""

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


def lock_folder() -> Path:
    """The folder of locks, made when there is none: open to all users, each of whom can remove only his own files.

    Raises:
        UsageError: it is no folder of its own, or one whose files other users can replace.
    """
    named = os.environ.get(VARIABLE)
    folder = Path(named) if named else Path(tempfile.gettempdir()) / FOLDER
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(0o1777)  # mkdir's own mode is cut by the umask
        facts, above = folder.lstat(), folder.parent.stat()
    except OSError as error:
        raise _unsafe(folder, f"cannot be made ({error.strerror or error})") from error
    if not stat.S_ISDIR(facts.st_mode):
        raise _unsafe(folder, "is not a folder of its own, but a link or a file")
    if os.name == "posix":
        if above.st_uid not in (0, os.getuid()):
            raise _unsafe(folder, "the folder above belongs to another user")
        for path, mode in ((folder, facts.st_mode), (folder.parent, above.st_mode)):
            if mode & 0o022 and not mode & stat.S_ISVTX:
                raise _unsafe(
                    folder, f"other users can replace what is in {shown(str(path))} (it lacks the sticky bit)"
                )
    return folder


def _unsafe(folder: Path, problem: str) -> UsageError:
    return UsageError(
        f"the folder of board locks {shown(str(folder))}: {problem}; mend it, or name another in ${VARIABLE}"
    )


def lock_names(folder: Path) -> list[str]:
    """Names of the lock files there."""
    return sorted(path.name for path in folder.glob("*.lock"))


def open_lock(path: Path) -> int:
    """Opens a lock file, made when there is none; the caller closes the descriptor.

    Raises:
        UsageError: it is a link or no plain file, or this account may not open it.
    """
    try:
        # Linux refuses to open another user's file in such a folder when asked to create it, even if it is there.
        for flags in (0, os.O_CREAT | os.O_EXCL, 0):
            try:
                descriptor = os.open(path, os.O_RDWR | flags | _NO_LINKS, 0o666)
                break
            except (FileNotFoundError, FileExistsError) as error:
                problem = error
        else:
            raise problem  # it comes and goes
    except OSError as error:
        raise _unsafe(path.parent, f"{shown(path.name)} cannot be opened ({error.strerror or error})") from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
        os.close(descriptor)
        raise _unsafe(path.parent, f"{shown(path.name)} is not a plain file of its own")
    if os.name == "posix" and facts.st_uid == os.getuid():
        os.fchmod(descriptor, 0o666)  # other users lock it too, whatever the umask of the first
    return descriptor


def opened_to_look(path: Path) -> int | None:
    """Opens a lock file for a look at who holds it; None when it cannot be."""
    try:
        return os.open(path, os.O_RDONLY | _NO_LINKS)
    except OSError:
        return None


def try_lock(descriptor: int, shared: bool = False) -> bool:
    """Takes the lock if nobody holds it; it goes with the descriptor, also when the process is killed.

    Args:
        descriptor: of the lock file.
        shared: does not stand in the way of others who look.
    """
    if sys.platform == "win32":
        return _try_lock_windows(descriptor)
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _try_lock_windows(descriptor: int) -> bool:
    """Locks one byte far behind the text, since a locked byte cannot be read by others."""
    import msvcrt

    try:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    except OSError:
        return False
    return True
