"""The serial side of a virtual board: a raw pseudo-terminal."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from instruments.virtual.insides import Insides
from instruments.virtual.line import MOST_OUT, Line

KERNEL = 4095
"""Bytes that a pseudo-terminal holds in each direction."""

RETRY = 0.02
"""s after which a full terminal is tried again, should the system not say that it has room."""


class PtyPort:
    """The one client of a pseudo-terminal, whoever has it open.

    The slave stays open in the server, or the line would fail each time a client leaves. So the board cannot know when
    one does, just as on a real serial line.

    Args:
        insides: what all lines share.
        link: a symbolic link that always leads to the terminal. With it, hanging up gives the client an error and
            makes a new terminal; without it the line stays, and only loses what is on it.

    Attributes:
        device: the terminal's present name.
        full: the client does not read as fast as it is answered.
    """

    def __init__(self, insides: Insides, link: Path | None = None) -> None:
        self._insides, self._link = insides, link
        self._kept = bytearray()
        self._writing = self._held = False
        self.full = False
        self._open()

    @property
    def url(self) -> str:
        """How a client opens the line."""
        return f"serial://{self._link or self.device}"

    def write(self, data: bytes) -> None:
        """Sends bytes, or keeps them until the client reads."""
        if self._master < 0:
            return
        self._kept += data
        if not self._writing:
            self._flush()

    def unsent(self) -> int:
        """Bytes that are kept."""
        return len(self._kept)

    def hold(self, held: bool) -> None:
        """Stops taking bytes from the client, or goes on."""
        if held == self._held or self._master < 0:
            return
        self._held = held
        if held:
            self._insides.loop.remove_reader(self._master)
        else:
            self._insides.loop.add_reader(self._master, self._readable)

    def hang_up(self) -> None:
        """Loses what is on the line; with a link, the client gets an error and the line a new terminal."""
        if self._master < 0:
            return
        if self._link is not None:
            self._shut(self._open)  # the link leads to the new terminal before the old one fails
            return
        self._stop_writing()
        self._kept.clear()
        self.full = False
        with suppress(termios.error):
            termios.tcflush(self._slave, termios.TCIOFLUSH)
        self._begin()

    def close(self) -> None:
        """Ends the conversation and closes both sides; again, it does nothing."""
        if self._master < 0:
            return
        self._shut()
        if self._line is not None:
            self._line.close()
        if self._link is not None:
            self._link.unlink(missing_ok=True)

    def _shut(self, then: Callable[[], None] | None = None) -> None:
        """Takes the terminal out of the loop, and closes it when the next one is there."""
        sides = self._master, self._slave
        self._stop_writing()
        self._insides.loop.remove_reader(self._master)
        self._master, self._held = -1, False
        self._kept.clear()
        if then is not None:
            then()
        for side in sides:
            os.close(side)

    def _open(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)  # both sides share these settings
        os.set_blocking(self._master, False)
        self.device = os.ttyname(self._slave)
        self.full = False
        if self._link is not None:
            beside = self._link.with_name(f"{self._link.name}.{os.getpid()}")
            beside.symlink_to(self.device)
            beside.replace(self._link)
        self._insides.loop.add_reader(self._master, self._readable)
        self._begin()

    def _begin(self) -> None:
        """Begins a conversation; a board that cannot leaves the line dead."""
        try:
            self._line: Line | None = Line(self._insides, self, self.device)
        except Exception as problem:
            self._line = None
            self._insides.failed(f"{self.device}: a new connection", problem)
        self.hold(False)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, KERNEL)
        except (BlockingIOError, InterruptedError):
            return
        if data and self._line is not None:
            self._line.arrived(data)

    def _flush(self) -> None:
        """Sends what the terminal has room for."""
        try:
            while self._kept:
                del self._kept[: os.write(self._master, self._kept[:KERNEL])]
        except (BlockingIOError, InterruptedError):
            pass
        if self._kept and not self._writing:
            self._writing = True
            self._insides.loop.add_writer(self._master, self._flush)
            self._again()
        elif not self._kept:
            self._stop_writing()
        full = len(self._kept) > MOST_OUT
        if full != self.full:
            self.full = full
            if self._line is not None:
                self._line.eased()

    def _again(self) -> None:
        """Tries again after a while."""
        self._retry = self._insides.loop.call_later(RETRY, self._tried)

    def _tried(self) -> None:
        self._flush()
        if self._writing:
            self._again()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._retry.cancel()
            self._insides.loop.remove_writer(self._master)
