"""A link through VISA, with PyVISA."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import time
from typing import Any

from hil.errors import LinkLost, LinkTimeout
from instruments.links.draining import drained
from instruments.links.link import POLL
from instruments.links.serial_port import is_virtual
from instruments.links.showing import shown
from instruments.links.tcp import CLOSED, PATIENCE, lost_because, undelayed
from instruments.links.url import Framing, VisaAddress
from instruments.links.visa_pipes import PEEK, PeerClosed, Pipe, PlainPipe, PortPipe, SocketPipe, VisaFailed
from instruments.links.visa_resources import resources

MESSAGE = 1.0
"""s; VISA's time-out for instruments that mark the end of a message. Cutting a wait short there would abort a transfer
that is merely slow, so a read may outlast its deadline by this much."""


class VisaLink:
    """Bytes through a VISA resource, as they are: no end marks added, no reading up to one.

    Args:
        address: resource and library.

    Attributes:
        advice: what the user should know about this way to the board; empty when there is nothing.

    Raises:
        LinkLost: the library or the resource cannot be opened.
    """

    def __init__(self, address: VisaAddress) -> None:
        self.url = address.url
        self.advice = _advice(address)
        self._resource: Any = _opened(address)
        try:
            self._pipe = _pipe(self._resource, address)
        except Exception as error:
            self._resource.close()
            raise LinkLost(self.url, _reason(error)) from error

    def write(self, data: bytes, until: float) -> None:
        """Sends all bytes.

        Raises:
            LinkTimeout: the board did not take them all until then.
            LinkLost: the board is gone.
        """
        started, left = time.monotonic(), memoryview(data)
        try:
            while left:
                left = left[self._pipe.write(left, until) :]
                if left and time.monotonic() >= until:
                    what = f"room for the last {len(left)} of {len(data)} bytes"
                    raise LinkTimeout(self.url, what, time.monotonic() - started)
        except LinkTimeout:
            raise
        except Exception as error:  # PyVISA, pyserial and sockets share no base
            raise LinkLost(self.url, _reason(error)) from error

    def read(self, wanted: int, until: float) -> bytes:
        """Gives bytes as soon as there are some; empty when ``until`` has passed.

        Raises:
            LinkLost: the board is gone.
        """
        try:
            return self._pipe.read(wanted, until)
        except Exception as error:
            raise LinkLost(self.url, _reason(error)) from error

    def drain(self, quiet: float = 0.0) -> int:
        """Throws away what has arrived, until the line was silent for ``quiet`` seconds; gives the number of bytes."""
        return drained(lambda until: self.read(1, until), quiet)

    def close(self) -> None:
        """Closes the resource, not its manager; again, it does nothing."""
        with contextlib.suppress(Exception):  # the board is gone; there is nothing to let go of
            self._resource.close()


def _advice(address: VisaAddress) -> str:
    if address.device is None or not address.backend.endswith("@py"):
        return ""
    framing = address.framing or Framing()
    options = f"?baud={framing.baud}&bits={framing.bits}&parity={framing.parity}&stop={framing.stop:g}"
    return (
        "PyVISA-py reads serial ports byte by byte; "
        f"serial://{shown(address.device)}{options} is the same port, many times faster"
    )


def _opened(address: VisaAddress) -> Any:
    """Opens the resource and sets what does not depend on the library; time-out before framing, parity last.

    A virtual port refuses every change after parity was asked for, and has none: it is left as it is.
    """
    from pyvisa import constants

    try:
        _look_up(address)
        resource: Any = resources(address.backend).open_resource(address.resource, open_timeout=int(1000 * PATIENCE))
    except Exception as error:
        raise LinkLost(address.url, _unopened(error, address)) from error
    try:
        stream = address.framing is not None or address.resource.upper().endswith("::SOCKET")
        resource.timeout = 1000 * (POLL if stream else MESSAGE)
        attribute = constants.ResourceAttribute
        resource.set_visa_attribute(attribute.termchar_enabled, constants.VI_FALSE)
        with contextlib.suppress(Exception):  # not every library and resource has it
            resource.set_visa_attribute(attribute.suppress_end_enabled, constants.VI_FALSE)
        if address.framing is not None:
            _frame(resource, address.framing, is_virtual(address.device or ""))
    except Exception as error:
        resource.close()
        raise LinkLost(address.url, f"the settings of the link are refused ({_reason(error)})") from error
    return resource


def _frame(resource: Any, framing: Framing, virtual: bool) -> None:
    from pyvisa import constants

    attribute = constants.ResourceAttribute
    resource.set_visa_attribute(attribute.asrl_end_in, constants.SerialTermination.none)
    resource.set_visa_attribute(attribute.asrl_end_out, constants.SerialTermination.none)
    resource.set_visa_attribute(attribute.asrl_baud_rate, framing.baud)
    if not virtual:
        stop = constants.StopBits(round(10 * framing.stop))
        resource.set_visa_attribute(attribute.asrl_stop_bits, stop)
        resource.set_visa_attribute(attribute.asrl_data_bits, framing.bits)
        resource.set_visa_attribute(attribute.asrl_parity, constants.Parity("NOEMS".index(framing.parity)))


def _look_up(address: VisaAddress) -> None:
    """Fails for an unknown host before PyVISA-py does, which would leave its socket open."""
    parts = address.resource.split("::")
    if address.backend.endswith("@py") and parts[0].upper().startswith("TCPIP") and len(parts) > 1:
        socket.getaddrinfo(parts[1], None, socket.AF_INET)


def _pipe(resource: Any, address: VisaAddress) -> Pipe:
    library, handle = resource.visalib, resource.session
    sessions = getattr(library, "sessions", None)
    if sessions is None:  # a C library behind ctypes
        whole = 0 if address.framing is not None or address.resource.upper().endswith("::SOCKET") else PEEK
        return PlainPipe(lambda data: library.write(handle, data), lambda most: _fetched(library, handle, most), whole)
    session = sessions[handle]
    inner = getattr(session, "interface", None)
    if isinstance(inner, socket.socket) and address.resource.upper().endswith("::SOCKET"):
        broken = inner.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # PyVISA-py takes a refusal for a connection
        if broken:
            raise OSError(broken, os.strerror(broken))
        undelayed(inner)
        inner.settimeout(MESSAGE)  # bounds what is left of PyVISA-py's waits
        return SocketPipe(session, inner)
    if address.framing is not None and hasattr(inner, "in_waiting"):
        return PortPipe(session, inner, os.name == "posix")
    stream = address.framing is not None or address.resource.upper().endswith("::SOCKET")
    return PlainPipe(session.write, session.read, 0 if stream else PEEK)


def _fetched(library: Any, handle: Any, most: int) -> tuple[bytes, int]:
    """Reads through a C library and keeps what came before a time-out."""
    from pyvisa.errors import VisaIOError

    buffer, count = ctypes.create_string_buffer(most), ctypes.c_uint32()
    try:
        status = int(library.viRead(handle, buffer, most, ctypes.byref(count)))
    except VisaIOError as error:
        status = int(error.error_code)
    return buffer.raw[: count.value], status


def _reason(error: Exception) -> str:
    if isinstance(error, PeerClosed):
        return CLOSED
    if isinstance(error, VisaFailed):
        from pyvisa.errors import VisaIOError

        return shown(str(VisaIOError(error.status)))
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there; check address and port, and that the board (or `hil emulate`) is running"
    if isinstance(error, ConnectionError):
        return lost_because(error)
    return shown(str(error) or type(error).__name__)


def _unopened(error: Exception, address: VisaAddress) -> str:
    reason = _reason(error)
    if isinstance(error, socket.gaierror):
        return f"the host is not known ({error.strerror}); check its name"
    if "No class registered" in reason or "not available" in reason:
        return f"the VISA library {shown(address.backend)} has no such resource ({reason}); try backend=@ivi"
    return f"VISA cannot open it ({reason})"
