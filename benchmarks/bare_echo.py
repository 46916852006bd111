"""The bare echo that links are measured against, both sides: fixed bytes come back for so many bytes of a request.

Run it with ``python benchmarks/bare_echo.py BYTES < ANSWER``; it prints its addresses as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tty
from collections.abc import Callable, Mapping
from typing import Any, cast

CHUNK = 1 << 18


class Echo(asyncio.Protocol):
    """One client over TCP.

    Args:
        request: bytes of each request.
        answer: what goes back for each.
    """

    def __init__(self, request: int, answer: bytes) -> None:
        self._request, self._answer = request, answer
        self._got = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Lets small answers go at once."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Counts, and answers each request that is whole."""
        self._got += len(data)
        while self._got >= self._request:
            self._got -= self._request
            self._transport.write(self._answer)


class PtyEcho:
    """The client of a pseudo-terminal; answers must fit into it.

    Args:
        loop: the event loop.
        request: bytes of each request.
        answer: what goes back for each.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, request: int, answer: bytes) -> None:
        self._request, self._answer = request, answer
        self._got = 0
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.device = os.ttyname(self._slave)
        loop.add_reader(self._master, self._readable)

    def _readable(self) -> None:
        self._got += len(os.read(self._master, CHUNK))
        while self._got >= self._request:
            self._got -= self._request
            os.write(self._master, self._answer)


async def serve(request: int, answer: bytes) -> None:
    """Serves TCP and a pseudo-terminal until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(request, answer), "127.0.0.1", 0)
    pty = PtyEcho(loop, request, answer)
    addresses: dict[str, Any] = {"port": server.sockets[0].getsockname()[1], "device": pty.device}
    print(json.dumps(addresses), flush=True)
    await server.serve_forever()


Asking = Callable[[bytes, int, int], None]
"""Sends a request so many times, with at most so many under way, and takes all answers."""


def over_tcp(echo: Mapping[str, Any], size: int) -> Asking:
    """The asking side over a socket; ``size`` is that of an answer."""
    line = socket.create_connection(("127.0.0.1", echo["port"]))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray(CHUNK)

    def taken() -> None:
        left = size
        while left > 0:
            left -= line.recv_into(buffer, min(left, CHUNK))

    return windowed(line.sendall, taken)


def over_serial(echo: Mapping[str, Any], size: int) -> Asking:
    """The asking side over a pseudo-terminal, with pyserial."""
    from serial import Serial

    port = Serial(echo["device"], timeout=5.0)
    return windowed(port.write, lambda: port.read(size))


def over_visa(echo: Mapping[str, Any], size: int) -> Asking:
    """The asking side over a socket, with PyVISA; without Nagle's delay, which PyVISA-py leaves on."""
    import pyvisa

    resource: Any = pyvisa.ResourceManager("@py").open_resource(f"TCPIP::127.0.0.1::{echo['port']}::SOCKET")
    inner: socket.socket = resource.visalib.sessions[resource.session].interface
    inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return windowed(resource.write_raw, lambda: resource.read_bytes(size))


def windowed(send: Callable[[bytes], object], take: Callable[[], object]) -> Asking:
    """Keeps a window of requests under way."""

    def ask(request: bytes, times: int, window: int) -> None:
        for number in range(times + window):
            if number < times:
                send(request)
            if number >= window:
                take()

    return ask


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.stdin.buffer.read()))
