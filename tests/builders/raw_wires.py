"""The bare client end of a TCP or serial line: bytes with deadlines, and no library in between."""

from __future__ import annotations

import os
import select
import socket
import time
import tty


class Wire:
    """Bytes to and from a file descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._kept = bytearray()

    @classmethod
    def tcp(cls, address: tuple[str, int]) -> Wire:
        client = socket.create_connection(address, timeout=5.0)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(client.detach())

    @classmethod
    def pty(cls, device: str) -> Wire:
        fd = os.open(device, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(fd)
        return cls(fd)

    def send(self, data: bytes, seconds: float = 5.0) -> None:
        """Sends all bytes; raises TimeoutError when they are not taken."""
        os.set_blocking(self._fd, False)
        until = time.monotonic() + seconds
        while data:
            if not select.select([], [self._fd], [], max(0.0, until - time.monotonic()))[1]:
                raise TimeoutError(f"{len(data)} bytes were not taken")
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                continue

    def some(self, seconds: float) -> bytes | None:
        """Bytes as soon as there are some; None when there were none in time; b"" at the end of the line."""
        if not select.select([self._fd], [], [], max(0.0, seconds))[0]:
            return None
        try:
            return os.read(self._fd, 1 << 16)
        except OSError:
            return b""

    def exactly(self, count: int, seconds: float = 5.0) -> bytes:
        until = time.monotonic() + seconds
        while len(self._kept) < count:
            got = self.some(until - time.monotonic())
            if not got:
                raise TimeoutError(f"{len(self._kept)} of {count} bytes came: {self._kept[:80]!r}, then {got!r}")
            self._kept += got
        data = bytes(self._kept[:count])
        del self._kept[:count]
        return data

    def line(self, seconds: float = 5.0) -> bytes:
        until = time.monotonic() + seconds
        while b"\n" not in self._kept:
            got = self.some(until - time.monotonic())
            if not got:
                raise TimeoutError(f"no line came: {self._kept[:80]!r}, then {got!r}")
            self._kept += got
        data, _, self._kept = self._kept.partition(b"\n")
        return bytes(data)

    def rest(self, quiet: float = 0.05) -> bytes:
        """All that comes until the line is silent or ends."""
        data = bytes(self._kept)
        self._kept.clear()
        while got := self.some(quiet):
            data += got
        return data

    def ask(self, line: bytes, seconds: float = 5.0) -> bytes:
        self.send(line + b"\n")
        return self.line(seconds)

    def ended(self, seconds: float = 2.0) -> bool:
        """Whether the line ends in time; what comes before is thrown away."""
        until = time.monotonic() + seconds
        while (got := self.some(until - time.monotonic())) is not None:
            if got == b"":
                return True
        return False

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
