"""The network side of a virtual board: any number of clients over TCP."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from instruments.virtual.insides import Insides
from instruments.virtual.line import MOST_OUT, Line

BUFFER = 1 << 18
"""Bytes taken from a client at once, at most."""


def split(address: str) -> tuple[str, int]:
    """Takes ``host:port`` apart; an IPv6 host stands in brackets.

    Raises:
        ValueError: there is no host, or no port between 0 and 65535.
    """
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address[:80]!r} is no address; write host:port, such as 127.0.0.1:0")
    return host, int(port)


def url_of(server: asyncio.Server) -> str:
    """The URL that a server listens at."""
    host, port = server.sockets[0].getsockname()[:2]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


class TcpPort(asyncio.BufferedProtocol):
    """One client over TCP.

    Bytes come into one buffer that is kept: asyncio's other kind of protocol takes fresh memory for each message.
    """

    def __init__(self, insides: Insides) -> None:
        self._insides = insides
        self._arriving = memoryview(bytearray(BUFFER))
        self._transport: asyncio.Transport | None = None
        self._line: Line | None = None
        self.full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins a conversation."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=MOST_OUT)
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host, port = self._transport.get_extra_info("peername")[:2]
        try:
            self._line = Line(self._insides, self, f"{host}:{port}")
        except Exception as problem:
            self._insides.failed(f"{host}:{port}: a new connection", problem)
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._arriving

    def buffer_updated(self, nbytes: int) -> None:
        """Takes bytes; on a fast board the answer has been written when this returns."""
        if self._line is not None:
            self._line.arrived(self._arriving[:nbytes].tobytes())

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the conversation."""
        self._transport = None
        if self._line is not None:
            self._line.ended()

    def pause_writing(self) -> None:
        """The client does not read."""
        self.full = True
        if self._line is not None:
            self._line.eased()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.full = False
        if self._line is not None:
            self._line.eased()

    def write(self, data: bytes) -> None:
        """Sends bytes, or keeps them until the client reads."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def unsent(self) -> int:
        """Bytes that are kept."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def hold(self, held: bool) -> None:
        """Stops taking bytes from the client, or goes on."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.pause_reading if held else self._transport.resume_reading)()

    def hang_up(self) -> None:
        """Ends the connection and loses what is kept."""
        if self._transport is not None:
            self._transport.abort()
