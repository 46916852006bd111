"""A link over a TCP socket of its own."""

from __future__ import annotations

import socket
import time

from hil.errors import LinkLost, LinkTimeout
from instruments.links.draining import drained
from instruments.links.readiness import Readiness
from instruments.links.url import TcpAddress

PATIENCE = 3.0
"""s; the longest wait for one address of a host to take the connection."""

BUFFER = 1 << 18
"""Bytes taken from the socket at once, at most."""


class TcpLink:
    """Bytes over TCP; small messages leave at once, and a peer that vanished without a word is noticed.

    Args:
        address: host and port.
        patience: s to wait for the connection.

    Raises:
        LinkLost: nothing listens there, or the host does not answer.
    """

    def __init__(self, address: TcpAddress, patience: float = PATIENCE) -> None:
        self.url = address.url
        try:
            self._socket = socket.create_connection((address.host, address.port), patience)
        except OSError as error:
            raise LinkLost(self.url, _unreachable(error, patience)) from error
        try:
            undelayed(self._socket)
            self._socket.setblocking(False)  # an own wait per call is cheaper than a time-out of the socket
            self._ready = Readiness(self._socket.fileno())
        except OSError as error:
            self._socket.close()
            raise LinkLost(self.url, lost_because(error)) from error
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)

    def write(self, data: bytes, until: float) -> None:
        """Sends all bytes.

        Raises:
            LinkTimeout: the board did not take them all until then.
            LinkLost: the board closed the connection.
        """
        started, left = time.monotonic(), memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                if not self._ready.writable(until) and time.monotonic() >= until:
                    what = f"room for the last {len(left)} of {len(data)} bytes"
                    raise LinkTimeout(self.url, what, time.monotonic() - started) from None
            except OSError as error:
                raise LinkLost(self.url, lost_because(error)) from error

    def read(self, wanted: int, until: float) -> bytes:
        """Gives what has arrived, as soon as there is something; empty when ``until`` has passed.

        Raises:
            LinkLost: the board closed the connection, and all it had sent was read.
        """
        try:
            if not self._ready.readable(until):
                return b""
            count = self._socket.recv_into(self._buffer)
        except BlockingIOError:  # the kernel dropped a segment with a wrong checksum after it was reported
            return b""
        except (OSError, ValueError) as error:  # ValueError: another thread closed the link
            raise LinkLost(self.url, lost_because(error)) from error
        if not count:
            raise LinkLost(self.url, CLOSED)
        return self._view[:count].tobytes()

    def drain(self, quiet: float = 0.0) -> int:
        """Throws away what has arrived, until the line was silent for ``quiet`` seconds; gives the number of bytes."""
        return drained(lambda until: self.read(BUFFER, until), quiet)

    def close(self) -> None:
        """Closes the connection; again, it does nothing."""
        self._socket.close()


CLOSED = "the board closed the connection; it was switched off, restarted, or serves somebody else"


def undelayed(line: socket.socket) -> None:
    """Sends small messages at once, and probes a silent peer.

    With Nagle's delay, a message of more than one segment waits about 40 ms for the acknowledgement of the segment
    before.
    """
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def lost_because(error: Exception) -> str:
    """Says in words why a connection broke."""
    if isinstance(error, ConnectionError):
        return CLOSED
    reason = error.strerror if isinstance(error, OSError) else None
    return f"the connection broke ({reason or error})"


def _unreachable(error: OSError, patience: float) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there; check address and port, and that the board (or `hil emulate`) is running"
    if isinstance(error, TimeoutError):
        return f"no answer to the connection within {patience:g} s; check address, cable and firewall"
    if isinstance(error, socket.gaierror):
        return f"the host is not known ({error.strerror}); check its name"
    return f"cannot be reached ({error.strerror or error})"
