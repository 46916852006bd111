"""One owner per physical board, among all programs of the machine.

The owner holds a lock of the operating system on a small file, so a board is free the moment its owner's process is
gone, however it ended. The file tells others who the owner is; it stays when the owner goes, and means nothing then.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import platform
import re
import stat
import time
from dataclasses import asdict, dataclass
from typing import Any

from hil.errors import BoardInUse, LinkLost, UsageError
from instruments.links.showing import shown
from instruments.links.url import SerialAddress, VisaAddress, parse
from instruments.locking import lock_folder, lock_names, open_lock, opened_to_look, try_lock

PATIENCE = 0.5
"""s that a locked board is tried again: a look by ``owners`` locks for an instant."""

LONGEST = 4096
"""Bytes of an owner's facts that are read."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns a board.

    Args:
        board: serial number of the board, or the device it hangs on.
        pid: its process; 0 when it is not known.
        host: its machine.
        user: its user.
        run: its run; empty when there is none.
        since: when it began, as text in local time.
    """

    board: str
    pid: int
    host: str
    user: str
    run: str
    since: str


class Ownership:
    """The right to use a board, until ``close``; a context manager.

    Args:
        owner: this process, as others see it.
        descriptor: of the locked file.
    """

    def __init__(self, owner: Owner, descriptor: int) -> None:
        self.owner = owner
        self._descriptor: int | None = descriptor
        _held.add(self)

    def close(self) -> None:
        """Frees the board; again, it does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        _held.discard(self)
        if descriptor is not None:
            with contextlib.suppress(OSError):  # the facts are only for people; the lock goes with the descriptor
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def leave(self) -> None:
        """Lets go in a forked child, which would keep the board locked after its parent died."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Ownership:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_held: set[Ownership] = set()
"""All of this process: a board stays owned until it is closed, even if its ownership is forgotten."""


def _leave_all() -> None:
    for ownership in _held:
        ownership.leave()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)


def owned(board: str, run: str = "") -> Ownership:
    """Takes a board for this process.

    Args:
        board: its serial number, the same for every name and link it is reached by.
        run: name of the run it is for.

    Raises:
        BoardInUse: somebody owns it, maybe this process; it says who.
        UsageError: the board has no serial number, or the folder of locks is not safe to use.
    """
    if not board.strip():
        raise UsageError("a board without a serial number cannot be owned; give it one in its board file")
    return _locked("board", board.strip(), board.strip(), run)


def device_lock(url: str, run: str = "") -> Ownership | None:
    """Takes the serial device behind an address, before it is opened and anything is sent.

    Two names of one device (links to it, ``serial://`` and ``visa://ASRL``) are one.

    Args:
        url: the address.
        run: name of the run it is for.

    Returns:
        The ownership, or None when the address is no serial device: others can share the way to a board there.

    Raises:
        BoardInUse: somebody owns the device; it says who.
        LinkLost: there is no such device.
        ConfigError: the address is none.
        UsageError: the folder of locks is not safe to use.
    """
    address = parse(url)
    device = address.device if isinstance(address, SerialAddress | VisaAddress) else None
    if device is None:
        return None
    if os.name == "nt":
        return _locked("device", device.removeprefix("\\\\.\\").upper(), device, run)
    try:
        facts = os.stat(device)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LinkLost(shown(url), f"there is no such port ({reason})") from error
    if stat.S_ISCHR(facts.st_mode):
        return _locked("device", f"{os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)}", device, run)
    return _locked("device", f"file {facts.st_dev}:{facts.st_ino}", device, run)


def owners() -> list[Owner]:
    """Everybody who owns a board or a device now; files that nobody holds are passed over.

    Raises:
        UsageError: the folder of locks is not safe to use.
    """
    found: list[Owner] = []
    folder = lock_folder()
    for name in lock_names(folder):
        descriptor = opened_to_look(folder / name)
        if descriptor is None:
            continue
        try:
            if not try_lock(descriptor, shared=True):
                found.append(_facts(descriptor, name))
        finally:
            os.close(descriptor)
    return found


def _locked(kind: str, key: str, board: str, run: str) -> Ownership:
    path = lock_folder() / _file_name(kind, key)
    descriptor = open_lock(path)
    try:
        end = time.monotonic() + PATIENCE
        while not try_lock(descriptor):
            if time.monotonic() > end:
                raise BoardInUse(**asdict(_facts(descriptor, board)))
            time.sleep(0.02)
        owner = Owner(board, os.getpid(), platform.node(), _user(), run, time.strftime("%Y-%m-%d %H:%M:%S"))
        text = json.dumps({**asdict(owner), "board": board[:500], "run": run[:500]}).encode("ascii")
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, text)
    except BaseException:
        os.close(descriptor)
        raise
    return Ownership(owner, descriptor)


def _file_name(kind: str, key: str) -> str:
    """A name that is safe on every file system; the hash keeps apart what the readable part does not."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", key)[:40].strip("._")
    return f"{kind}-{readable}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}.lock"


def _facts(descriptor: int, name: str) -> Owner:
    """What a lock file says; anybody may have written it, so each fact is checked, cut and escaped."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        said: Any = json.loads(os.read(descriptor, LONGEST))
    except (OSError, ValueError, RecursionError):
        said = None
    said = said if isinstance(said, dict) else {}

    def text(key: str, unknown: str) -> str:
        value = said.get(key)
        return shown(value, 80) if isinstance(value, str) else unknown

    pid = said.get("pid")
    return Owner(
        text("board", shown(name, 80)),
        pid if type(pid) is int and 0 < pid < 1 << 32 else 0,
        text("host", "an unknown machine"),
        text("user", "an unknown user"),
        text("run", ""),
        text("since", "an unknown time"),
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in containers
        return str(os.getuid()) if hasattr(os, "getuid") else "an unknown user"
