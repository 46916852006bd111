"""``hil doctor``: looks at the installation and says what would go wrong."""

from __future__ import annotations

import importlib.metadata
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hil.errors import BoardInUse, HilError

ROOMS = ("hil", "instruments", "sim_backend", "protocols")
PACKAGES = ("torch", "numpy", "pydantic", "PyYAML", "PyVISA", "PyVISA-py", "pyserial", "safetensors", "scikit-learn")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        name: what.
        good: whether it is as it should be.
        text: what was seen, and what to do when it is not good.
    """

    name: str
    good: bool
    text: str


def examine() -> list[Finding]:
    """Looks at everything."""
    looks: list[Callable[[], Finding]] = [_python, _rooms, _sqlite, _storage, _threads, _ports, _visa, _locks]
    return [look() for look in looks] + [_package(name) for name in PACKAGES]


def _python() -> Finding:
    good = sys.version_info >= (3, 11)
    inside = sys.prefix != sys.base_prefix
    where = "in a virtual environment" if inside else "not in a virtual environment; one of its own is safer"
    return Finding("python", good, f"{sys.version.split()[0]}, {where}" + ("" if good else "; 3.11 or newer is needed"))


def _rooms() -> Finding:
    """Two distributions that share a top-level package overwrite each other's files, and pip does not tell."""
    owners = importlib.metadata.packages_distributions()
    shared = {room: sorted(set(owners.get(room, []))) for room in ROOMS}
    bad = {room: names for room, names in shared.items() if len(names) > 1}
    if bad:
        text = "; ".join(f"{room} belongs to {' and '.join(names)}" for room, names in bad.items())
        return Finding("packages", False, f"{text}; install crossbar-hil in a virtual environment of its own")
    return Finding("packages", True, f"{', '.join(ROOMS)} belong to crossbar-hil alone")


def _sqlite() -> Finding:
    good = sqlite3.sqlite_version_info >= (3, 22)
    return Finding("sqlite", good, sqlite3.sqlite_version + ("" if good else "; 3.22 or newer is needed"))


def _storage() -> Finding:
    folder = Path.cwd()
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Finding("storage", False, f"{folder} cannot be written ({error}); runs are kept under ./runs")
    return Finding("storage", True, f"{folder} can be written")


def _threads() -> Finding:
    set_to = os.environ.get("OMP_NUM_THREADS")
    text = f"{os.cpu_count()} cores, OMP_NUM_THREADS={set_to or 'not set'}; a run sets its own number of torch threads"
    return Finding("threads", True, text)


def _ports() -> Finding:
    """Whether this account may use the serial ports that are here."""
    try:
        from serial.tools.list_ports import comports

        ports = sorted(comports(), key=lambda port: port.device)
    except ImportError:
        return Finding("serial ports", False, "pyserial cannot be loaded; install crossbar-hil again")
    if not ports:
        return Finding("serial ports", True, "none is here; one that is plugged in shows up in `hil boards`")
    closed = [port for port in ports if os.path.exists(port.device) and not os.access(port.device, os.R_OK | os.W_OK)]
    if not closed:
        return Finding("serial ports", True, f"{', '.join(port.device for port in ports)} can be used")
    names = ", ".join(port.device for port in closed)
    plugged = any(port.vid is not None for port in closed)  # a port that every machine has need not be a board's
    return Finding("serial ports", not plugged, f"this account may not use {names}; {_cure(closed[0].device)}")


def _cure(port: str) -> str:
    """How an account gets to use a port."""
    try:
        import grp

        group = grp.getgrgid(os.stat(port).st_gid).gr_name
    except (ImportError, KeyError, OSError):
        return "ask whoever looks after this machine"
    return f"it needs the group {group}: sudo usermod -aG {group} $USER, then log in anew"


def _visa() -> Finding:
    """Whether PyVISA finds the library that comes with crossbar-hil."""
    try:
        from instruments.links.visa_resources import resources

        resources("@py")
    except (ImportError, ValueError, OSError) as error:
        text = f"no VISA library can be loaded ({error}); install crossbar-hil again, or use tcp:// and serial://"
        return Finding("visa", False, text)
    return Finding("visa", True, "PyVISA with the library @py; TCPIP and ASRL resources work, USB and GPIB need PyUSB "
                   "or gpib-ctypes beside it")  # fmt: skip


def _locks() -> Finding:
    """Whether boards can be owned: the folder of locks is usable, and safe from other users."""
    from instruments.ownership import owned

    try:
        with owned("hil doctor") as ownership:
            return Finding("board locks", True, f"boards can be owned, as {ownership.owner.user}")
    except BoardInUse:
        return Finding("board locks", True, "boards can be owned")  # another doctor does just that
    except HilError as error:
        return Finding("board locks", False, str(error))


def _package(name: str) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "is not installed; install crossbar-hil again")
    if name == "torch":
        numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
        if not (2, 10) <= numbers < (2, 14):
            return Finding(name, False, f"{version} is outside the tested range 2.10 to 2.13")
    return Finding(name, True, version)
