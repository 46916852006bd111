"""A small process that makes a board safe when its host dies; for boards without a watchdog of their own.

The host holds the writing end of a pipe. When it is done it says so; when the pipe ends without a word, the host is
dead, the system has freed its locks, and the keeper opens the board and makes it safe.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from hil.errors import BoardInUse, BoardMissing, HilError

if TYPE_CHECKING:
    from hil.lab.boardfile import BoardFile

NAME = "keeper"
"""What it is called where a board's owner is named."""
PATIENCE = 15.0
"""s in which the keeper tries to get hold of the board and to make it safe."""
START = 20.0
"""s in which it must have started."""
_DONE, _READY = b"done\n", b"ready\n"
_LONGEST_BOARD = 1 << 20
_PAUSE = 0.1


class Keeper:
    """The host's end of a keeper.

    Args:
        board: content of the board's file, as YAML.
        name: of the board, for messages.

    Raises:
        BoardMissing: the keeper does not start, so nobody would make the board safe.
    """

    def __init__(self, board: str, name: str) -> None:
        command = [sys.executable, "-P", "-m", "hil.lab.keeper"]  # -P: no module comes from the working folder
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C in the host's terminal is not meant for it
        )
        _let_go_after_fork(self)
        data = board.encode()
        self._tell(len(data).to_bytes(4, "big") + data)
        if not self._is_ready():
            self.dismiss()
            raise BoardMissing(name, "its keeper, which makes it safe should this program die, does not start")

    def dismiss(self) -> None:
        """Tells the keeper that the board is safe and let go, and waits for its end."""
        self._tell(_DONE)
        self.leave()
        try:
            self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def leave(self) -> None:
        """Lets go of the pipes."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _is_ready(self) -> bool:
        """Waits until it says so; in a thread, because not every system can wait for a pipe with a deadline."""
        said: list[bytes] = []
        out = self._process.stdout
        reader = threading.Thread(target=lambda: said.append(out.readline() if out else b""), daemon=True)
        reader.start()
        reader.join(START)
        if reader.is_alive():
            self._process.kill()
            reader.join()
        return said == [_READY]

    def _tell(self, data: bytes) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):  # it died before us, or was let go of: the host is alive
                self._process.stdin.write(data)
                self._process.stdin.flush()


def _let_go_after_fork(keeper: Keeper) -> None:
    """A forked child of the host would hold the pipe open after the host's death."""
    found = weakref.ref(keeper)

    def leave() -> None:
        if (alive := found()) is not None:
            alive.leave()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=leave)


# -- the other end of the pipe -----------------------------------------------------------------------------------------


def keep() -> str | None:
    """Waits for the host; gives what came of making the board safe when the host died, None when it did not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source = sys.stdin.buffer
    size = int.from_bytes(source.read(4), "big")
    text = source.read(size) if 0 < size <= _LONGEST_BOARD else b""
    if not text or len(text) != size:
        return None
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()
    threading.Thread(target=_prepared, args=(text.decode(),), daemon=True).start()  # no time is lost when it counts
    if source.read() == _DONE:
        return None
    return secured(_prepared(text.decode()))


def _prepared(text: str) -> BoardFile:
    """Loads all that it takes, and reads the board's file."""
    from hil.lab import config, emergency
    from hil.lab.boardfile import BoardFile

    schema: Any = BoardFile
    emergency.load()
    return config.parse(text, schema, "the keeper's board").value


def secured(board: BoardFile, patience: float = PATIENCE) -> str:
    """Makes a board safe that nobody owns any more, trying until it is, and says what came of it."""
    from hil.lab.emergency import secure

    until = time.monotonic() + patience
    while True:
        try:
            report = secure(board, NAME)
            if report.confirmed or time.monotonic() > until:
                return str(report)
        except BoardInUse as error:
            if time.monotonic() > until:
                return f"{error}; it is left to that program"
        except HilError as error:
            if time.monotonic() > until:
                return f"SAFE NOT CONFIRMED: switch off by hand ({error})"
        time.sleep(_PAUSE)


if __name__ == "__main__":
    came_of_it = keep()
    if came_of_it is not None:
        with contextlib.suppress(OSError):  # the terminal may be gone with the host
            sys.stderr.write(f"the host of a board died; its keeper: {came_of_it}\n")
            sys.stderr.flush()
    os._exit(0)  # the thread may still be loading packages
