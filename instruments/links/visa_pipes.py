"""How bytes go through the VISA libraries: what each of them can promise about deadlines and partial answers.

PyVISA's own ``read`` throws away what came before a time-out, so the pipes below ask one floor deeper and keep it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from instruments.links.readiness import Readiness

SEGMENT = 4096
"""Bytes that PyVISA-py sends to a socket at once."""

PEEK = 1 << 16
"""Bytes looked at ahead of a read from a socket, at most."""

TIMED_OUT = -1073807339
"""VI_ERROR_TMO."""


class PeerClosed(Exception):
    """The other end closed the connection."""


class VisaFailed(Exception):
    """A VISA call ended with an error.

    Args:
        status: the error's number.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = int(status)


class Pipe(Protocol):
    """Bytes through an open VISA resource."""

    def write(self, data: memoryview, until: float) -> int:
        """Sends some bytes and gives their number; 0 when ``until`` passed first."""
        ...

    def read(self, wanted: int, until: float) -> bytes:
        """Gives bytes as soon as there are some; empty when none came until ``until`` (or one VISA time-out later)."""
        ...


class SocketPipe:
    """A TCP socket of PyVISA-py.

    PyVISA-py delays small segments, waits on when the peer has closed, waits for half of its time-out after the last
    byte of a short answer, and waits without an end for room to write. The pipe looks at the socket first, so that
    PyVISA-py is only asked for what is there.

    Args:
        session: the session inside PyVISA-py.
        line: its socket.
    """

    def __init__(self, session: Any, line: socket.socket) -> None:
        self._session, self._line = session, line
        session.max_recv_size = PEEK + 1  # then a read of n bytes takes no byte more from the socket, and keeps none
        self._ready = Readiness(line.fileno())
        self._peeked = bytearray(PEEK)

    def write(self, data: memoryview, until: float) -> int:
        """Sends one segment."""
        if not self._ready.writable(until):
            return 0
        sent, status = self._session.write(data[:SEGMENT].tobytes())
        if status < 0:
            raise VisaFailed(status)
        return sent

    def read(self, wanted: int, until: float) -> bytes:
        """Reads what has arrived.

        Raises:
            PeerClosed: nothing more will come.
        """
        if not self._ready.readable(until):
            return b""
        there = self._line.recv_into(self._peeked, PEEK, socket.MSG_PEEK)
        if not there:
            raise PeerClosed
        data, status = self._session.read(there)
        if status < 0 and not data:
            raise VisaFailed(status)
        return bytes(data)


class PortPipe:
    """A serial port of PyVISA-py, which asks the port for one byte a call.

    Args:
        session: the session inside PyVISA-py.
        port: its pyserial port.
        posix: whether the port has a file descriptor.
    """

    def __init__(self, session: Any, port: Any, posix: bool) -> None:
        self._session, self._port = session, port
        self._ready = Readiness(port.fileno()) if posix else None

    def write(self, data: memoryview, until: float) -> int:
        """Sends one piece; pyserial waits for the line to take it, one VISA time-out at most."""
        if self._ready is not None and not self._ready.writable(until):
            return 0
        sent, status = self._session.write(data[:SEGMENT].tobytes())
        if status < 0 and status != TIMED_OUT:
            raise VisaFailed(status)
        # After a time-out it is not known how much went out: the message is broken, and saying 0 ends it.
        return sent if status >= 0 else 0

    def read(self, wanted: int, until: float) -> bytes:
        """Reads what has arrived."""
        if self._ready is not None and not self._ready.readable(until):
            return b""
        data, status = self._session.read(max(1, self._port.in_waiting))
        if status < 0 and status != TIMED_OUT:
            raise VisaFailed(status)
        return bytes(data)


class PlainPipe:
    """Any other resource, by VISA's own time-out.

    Args:
        send: VISA's write: bytes to number sent and status.
        fetch: VISA's read: number of bytes to data and status, keeping the data of a time-out.
        whole: least number of bytes to ask for. Large for instruments that mark the end of a message (USBTMC, GPIB,
            VXI-11, HiSLIP), since VISA then gives the message at once; 0 for a stream of bytes, where VISA would wait
            for the rest.
    """

    def __init__(
        self, send: Callable[[bytes], tuple[int, int]], fetch: Callable[[int], tuple[bytes, int]], whole: int
    ) -> None:
        self._send, self._fetch, self._whole = send, fetch, whole

    def write(self, data: memoryview, until: float) -> int:
        """Sends the message at once: its end is marked, so it must not be cut."""
        sent, status = self._send(data.tobytes())
        if status < 0 and status != TIMED_OUT:
            raise VisaFailed(status)
        return sent if status >= 0 else 0

    def read(self, wanted: int, until: float) -> bytes:
        """Waits for one message, or for ``wanted`` bytes of a stream."""
        if time.monotonic() > until:
            return b""
        data, status = self._fetch(max(wanted, self._whole))
        if status < 0 and status != TIMED_OUT and not data:
            raise VisaFailed(status)
        return bytes(data)
