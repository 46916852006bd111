"""A link over a serial port, with pyserial."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hil.errors import LinkLost, LinkTimeout
from instruments.links.draining import drained
from instruments.links.link import POLL
from instruments.links.readiness import Readiness
from instruments.links.showing import shown
from instruments.links.url import Framing, SerialAddress

if TYPE_CHECKING:
    from serial import Serial

CHUNK = 1 << 16
"""Bytes asked of the driver at once; it gives what it has."""

POSIX = os.name == "posix"


class SerialLink:
    """Bytes over a serial port that nobody else has open.

    Nothing of the port is changed after it was opened: on a virtual port the kernel refuses every later change once
    parity or 7 bits were asked for. So pyserial never waits (POSIX), and the deadlines are kept here.

    Args:
        address: device and framing.

    Attributes:
        advice: what the user should know about this port; empty when there is nothing.

    Raises:
        LinkLost: there is no such port, it may not be opened, or another program has it.
    """

    def __init__(self, address: SerialAddress) -> None:
        self.url = address.url
        self.advice = ""
        framing = address.framing
        if is_virtual(address.device) and (framing.parity != "N" or framing.bits != 8):
            self.advice = f"{shown(address.device)} is a virtual port; it carries {framing} as 8N1"
            framing = Framing(framing.baud)
        self._port = _opened(self.url, address.device, framing)
        self._ready = Readiness(self._port.fileno()) if POSIX else None

    def write(self, data: bytes, until: float) -> None:
        """Sends all bytes to the port's driver.

        Raises:
            LinkTimeout: the line did not take them all until then.
            LinkLost: the device is gone.
        """
        from serial import SerialException, SerialTimeoutException

        started, left = time.monotonic(), memoryview(data)
        try:
            while left:
                # pyserial's own write spins without an end when a line without a time-out is full.
                left = left[self._write(left, until) :]
                if left and time.monotonic() >= until:
                    raise SerialTimeoutException
        except SerialTimeoutException:
            what = f"room for the last {len(left)} of {len(data)} bytes"
            raise LinkTimeout(self.url, what, time.monotonic() - started) from None
        except (OSError, SerialException, TypeError) as error:  # TypeError: the link was closed, and has no descriptor
            raise LinkLost(self.url, _gone(error)) from error

    def _write(self, data: memoryview, until: float) -> int:
        if self._ready is None:
            return self._port.write(data) or 0
        if not self._ready.writable(until):
            return 0
        try:
            return os.write(self._port.fileno(), data)
        except BlockingIOError:
            return 0

    def read(self, wanted: int, until: float) -> bytes:
        """Gives what has arrived, as soon as there is something; empty when ``until`` has passed.

        Raises:
            LinkLost: the device is gone.
        """
        from serial import SerialException

        try:
            if self._ready is None:  # Windows: pyserial waits for the bytes, one poll at most
                data = self._port.read(min(wanted, CHUNK))
                return data + self._port.read(self._port.in_waiting) if data else data
            return self._port.read(CHUNK) if self._ready.readable(until) else b""
        except (OSError, SerialException, TypeError) as error:
            raise LinkLost(self.url, _gone(error)) from error

    def drain(self, quiet: float = 0.0) -> int:
        """Throws away what has arrived, until the line was silent for ``quiet`` seconds; gives the number of bytes."""
        return drained(lambda until: self.read(CHUNK, until), quiet)

    def close(self) -> None:
        """Closes the port; again, it does nothing."""
        self._port.close()


def is_virtual(device: str) -> bool:
    """Whether a device is a pseudo-terminal: a port without wires, and so without parity and modem lines."""
    return os.path.realpath(device).startswith("/dev/pts/")


def _opened(url: str, device: str, framing: Framing) -> Serial:
    from serial import Serial, SerialException

    wait = 0.0 if POSIX else POLL
    try:
        return Serial(
            device,
            framing.baud,
            framing.bits,
            framing.parity,
            framing.stop,
            timeout=wait,
            write_timeout=None if POSIX else 1.0,
            exclusive=True,
        )
    except SerialException as error:
        raise LinkLost(url, _refused(error, device)) from error
    except Exception as error:  # pyserial lets termios.error and ValueError pass, which share no base
        raise LinkLost(url, f"the port does not take {framing} ({shown(str(error))})") from error


def _refused(error: OSError, device: str) -> str:
    if error.errno in (errno.EAGAIN, errno.EBUSY):
        return "another program has this port open; close it, or see `hil who`"
    if error.errno in (errno.EACCES, errno.EPERM):
        group = "; on Linux your account must be in the group that owns the device (often dialout)"
        return f"this account may not open the port{group if sys.platform == 'linux' else ''}"
    if error.errno == errno.ENOENT or not (os.name == "nt" or Path(device).exists()):
        return f"there is no such port; {ports_seen()}"
    return f"the port cannot be opened ({shown(str(error))})"


def ports_seen() -> str:
    """Names the serial ports of this machine, for messages."""
    from serial.tools.list_ports import comports

    names = sorted(port.device for port in comports())
    return (
        f"ports seen: {', '.join(shown(name) for name in names[:8])}" if names else "this machine shows no serial port"
    )


def _gone(error: Exception) -> str:
    return f"the port is gone ({shown(str(error))}); it was unplugged, or the program behind it ended"
