"""Opens the drivers of boards behind links: locks first, then the link, then the identity, then all else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from typing import Any

from hil.contract import Backend, BoardSpec, Identity
from hil.errors import BoardMissing
from hil.lab.boardfile import ArcOneBoardFile, FramedBoardFile, SmuMatrixBoardFile
from hil.lab.held import Held
from hil.lab.stop import StopToken
from instruments.links.opening import open_link
from instruments.links.url import bytes_per_second, parse
from instruments.ownership import Ownership, device_lock, owned
from instruments.session import Session


def described(url: str) -> dict[str, Any]:
    """What the framed board behind a URL says it is: plain values of a board file, ``spec`` and maybe ``simulator``.

    Raises:
        LinkTimeout: nobody answers.
        BoardInUse: another program holds the line.
    """
    from instruments.framed.introduction import describe, identify

    with device_lock(url) or nullcontext():
        session = Session(open_link(url))
        try:
            identify(session)
            return describe(session)
        finally:
            session.close()


def round_trip(url: str, tries: int = 5) -> float:
    """The shortest time of a question to the framed board behind a URL and its answer, s; only its identity is asked.

    Raises:
        LinkTimeout: nobody answers.
        BoardInUse: another program holds the line.
    """
    from instruments.framed.introduction import identify

    def once(session: Session) -> float:
        started = time.monotonic()
        identify(session)
        return time.monotonic() - started

    with device_lock(url) or nullcontext():
        session = Session(open_link(url))
        try:
            return min(once(session) for _ in range(tries))
        finally:
            session.close()


def open_framed(board: FramedBoardFile, spec: BoardSpec, stop: StopToken, run: str) -> Backend:
    """Opens a board that speaks the framed wire protocol; it has a watchdog of its own."""
    from instruments.framed.driver import FramedBoard
    from instruments.framed.introduction import identify
    from instruments.framed.requests import Patience

    patience, address = Patience(timeout=board.timeout), parse(board.url)
    with ExitStack() as held:  # lets go of everything, unless the driver takes it over
        held.enter_context(device_lock(board.url, run) or nullcontext())
        session = Session(open_link(address))
        held.callback(session.close)
        expect(spec, identify(session, patience))
        ownership = held.enter_context(owned(spec.identity.serial, run))

        def release() -> None:
            kept.close()

        driver = FramedBoard(
            session,
            spec,
            owner=_name(ownership, run),
            watchdog=board.watchdog,
            patience=patience,
            wants_abort=lambda: stop.aborted,
            reopen=lambda: open_link(address),
            bytes_per_second=bytes_per_second(address),
            release=release,
        )
        kept = held.pop_all()
        return driver


def open_arcone(board: ArcOneBoardFile, spec: BoardSpec, stop: StopToken, run: str, keep: Keep) -> Backend:
    """Opens an ArC ONE, with a keeper in place of the watchdog it has not."""
    from instruments.arcone.board import ArcOneBoard

    with ExitStack() as held:
        held.enter_context(device_lock(board.url, run) or nullcontext())
        held.enter_context(owned(spec.identity.serial, run))
        session = Session(open_link(board.url), gap=board.driver.gap)
        held.callback(session.close)
        driver = ArcOneBoard(session, spec, board.driver, wants_abort=lambda: stop.aborted)
        held.callback(keep())
        return Held(driver, held.pop_all().close)


def open_smu_matrix(board: SmuMatrixBoardFile, spec: BoardSpec, stop: StopToken, run: str, keep: Keep) -> Backend:
    """Opens a source-measure unit and a switch matrix, with a keeper in place of the watchdog they have not."""
    from instruments.smu import opening

    with ExitStack() as held:
        held.enter_context(owned(spec.identity.serial, run))
        sessions: list[Session] = []
        for url in (board.source_url, board.matrix_url):
            held.enter_context(device_lock(url, run) or nullcontext())
            sessions.append(Session(open_link(url)))
            held.callback(sessions[-1].close)
        source, matrix = sessions
        driver = opening.open_smu_matrix(spec, board.driver, source, matrix, wants_abort=lambda: stop.aborted)
        held.callback(keep())
        return Held(driver, held.pop_all().close)


Keep = Callable[[], Callable[[], None]]
"""Starts a keeper and gives what dismisses it."""


def keeper(plain: Mapping[str, Any]) -> Keep:
    """The keeper of a board, by the content of its file."""

    def start() -> Callable[[], None]:
        from hil.lab import config
        from hil.lab.keeper import Keeper

        return Keeper(config.dump(plain)).dismiss

    return start


def no_keeper() -> Callable[[], None]:
    """For those who make the board safe themselves at once."""
    return lambda: None


def expect(spec: BoardSpec, found: Identity) -> None:
    """Makes sure that the board that answers is the one of the file.

    Raises:
        BoardMissing: it is another one.
    """
    wanted = spec.identity
    for name in ("vendor", "model", "serial", "firmware"):
        expected, seen = getattr(wanted, name), getattr(found, name)
        if seen != expected and (expected or name != "firmware"):
            at = spec.source(f"identity.{name}")
            place = f", set in {at}" if at else ""
            problem = f"the board that answers has the {name} {seen!r}, expected {expected!r}{place}"
            raise BoardMissing(wanted.name, f"{problem}; nothing else was sent")


def _name(ownership: Ownership, run: str) -> str:
    owner = ownership.owner
    return f"process {owner.pid} of {owner.user} on {owner.host}" + (f", run {run}" if run else "")
