"""A small process that makes a board safe when its host dies; for boards without a watchdog of their own.

The host holds the writing end of a pipe. When it is done it says so; when the pipe ends without a word, the host is
dead, the system has freed its locks, and the keeper opens the board and makes it safe.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from hil.contract import SafeReport
from hil.errors import BoardInUse, HilError

_DONE = b"done\n"
_LONGEST_BOARD = 1 << 20
PATIENCE = 10.0
"""s in which the keeper tries to get hold of the board."""


class Keeper:
    """The host's end of a keeper.

    Args:
        board: content of the board's file, as YAML.
    """

    def __init__(self, board: str) -> None:
        command = [sys.executable, "-m", "hil.lab.keeper"]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        self._tell(len(board.encode()).to_bytes(4, "big") + board.encode())

    def dismiss(self) -> None:
        """Tells the keeper that the board is safe and let go."""
        self._tell(_DONE)
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, data: bytes) -> None:
        if self._process.stdin is not None:
            try:
                self._process.stdin.write(data)
                self._process.stdin.flush()
            except BrokenPipeError:  # it died before us; the host is alive and makes the board safe itself
                return


def keep() -> SafeReport | None:
    """The keeper's end: waits for the host and, when that died, makes the board safe; None when it did not."""
    source = sys.stdin.buffer
    size = int.from_bytes(source.read(4), "big")
    if not 0 < size <= _LONGEST_BOARD:
        return None
    board = source.read(size).decode()
    if source.read() == _DONE:
        return None
    return _made_safe(board)


def _made_safe(board: str) -> SafeReport:
    from hil.lab import config
    from hil.lab.boardfile import BoardFile
    from hil.lab.config import Loaded
    from hil.lab.opening import open_backend
    from hil.lab.stop import StopToken

    schema: Any = BoardFile
    loaded: Loaded[BoardFile] = config.parse(board, schema, "the keeper's board")
    until = time.monotonic() + PATIENCE
    while True:
        try:
            opened = open_backend(loaded, loaded.value.spec, 0, StopToken(), "keeper", watched=False)
            break
        except (BoardInUse, HilError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    try:
        return opened.backend.make_safe()
    finally:
        opened.backend.close()


if __name__ == "__main__":
    report = keep()
    if report is not None:
        sys.stderr.write(f"the host of a board died; keeper: {report}\n")
