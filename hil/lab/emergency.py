"""Making a board safe from outside, whoever is using it."""

from __future__ import annotations

from contextlib import nullcontext

from hil.contract import SafeReport
from hil.errors import BoardInUse
from hil.lab.boardfile import BoardFile, FramedBoardFile
from hil.lab.config import Loaded
from hil.lab.opening import open_backend, read_board
from hil.lab.stop import StopToken


def made_safe(board: str) -> tuple[str, SafeReport]:
    """Makes a board safe, and gives its name with what came of it.

    A framed board takes a safe command from anybody; its owner's run ends then. Other boards are opened for it.

    Args:
        board: a board file, or a URL.

    Raises:
        BoardInUse: somebody holds the only line to it; ending that program makes it safe.
        LinkTimeout: nobody answers.
    """
    if "://" in board:
        return board, _by_url(board)
    loaded: Loaded[BoardFile] = read_board(board)
    value = loaded.value
    if isinstance(value, FramedBoardFile):
        return value.spec.identity.name, _by_url(value.url)
    backend = open_backend(loaded, value.spec, 0, StopToken(), "hil safe", watched=False).backend
    try:
        return value.spec.identity.name, backend.make_safe()
    finally:
        backend.close()


def _by_url(url: str) -> SafeReport:
    from instruments.framed.introduction import command_safe
    from instruments.links.opening import open_link
    from instruments.ownership import device_lock
    from instruments.session import Session

    try:
        lock = device_lock(url, "hil safe") or nullcontext()
    except BoardInUse as error:
        error.add_note(f"end that program (kill {error.pid}): it makes the board safe as it ends")
        raise
    with lock:
        session = Session(open_link(url))
        try:
            return command_safe(session)
        finally:
            session.close()
