"""The other ends of real wires: a TCP server and a pseudo-terminal, each served by a thread."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def tcp_board(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serves each client in turn with ``serve``; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client, contextlib.suppress(OSError):
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    client.settimeout(10)
                    serve(client)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept
            thread.join(12)
            assert not thread.is_alive()


def echo(client: socket.socket) -> None:
    """Sends back what comes."""
    while data := client.recv(1 << 16):
        client.sendall(data)


class PtyBoard:
    """A pseudo-terminal whose board side is read and written by the test, or echoed by a thread.

    Attributes:
        name: of the device that a host opens.
        board: descriptor of the board's side; None once it was unplugged.
    """

    def __init__(self) -> None:
        import tty

        self.board: int | None
        self.board, self._kept_open = os.openpty()
        tty.setraw(self._kept_open)
        self.name = os.ttyname(self._kept_open)
        self._stop, self._thread = threading.Event(), None

    def echo(self) -> None:
        """Begins to send back what comes."""
        self._thread = threading.Thread(target=self._echo, daemon=True)
        self._thread.start()

    def _echo(self) -> None:
        assert self.board is not None
        while not self._stop.is_set():
            if select.select([self.board], [], [], 0.02)[0]:
                data = os.read(self.board, 4096)
                while data:
                    data = data[os.write(self.board, data) :]

    def unplug(self) -> None:
        """The board goes away."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)
        if self.board is not None:
            os.close(self.board)
            self.board = None

    def __enter__(self) -> PtyBoard:
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()
        os.close(self._kept_open)
