"""Opens the drivers of boards behind links: locks first, then the link, then the identity, then all else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from typing import Any

from hil.contract import Backend, BoardSpec, Identity
from hil.errors import BoardInUse, BoardMissing
from hil.lab.boardfile import ArcOneBoardFile, FramedBoardFile, ScpiBoardFile, SmuMatrixBoardFile
from hil.lab.held import Held
from hil.lab.stop import StopToken
from instruments.links.opening import open_link
from instruments.links.url import bytes_per_second, parse
from instruments.ownership import Ownership, device_lock, owned
from instruments.session import Session

KEEPERS_TIME = 20.0
"""s that a new owner waits for the keeper of the last one, which makes the board safe."""


def described(url: str) -> dict[str, Any]:
    """What the framed board behind a URL says it is: plain values of a board file, ``spec`` and maybe ``simulator``.

    Raises:
        LinkTimeout: nobody answers.
        BoardInUse: another program holds the line.
    """
    from instruments.framed.introduction import describe, identify
    from instruments.framed.requests import Patience

    with device_lock(url) or nullcontext():
        session = Session(open_link(url))
        try:
            identify(session, Patience(timeout=0.4, tries=4))  # nobody there is told soon
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


def open_scpi(board: ScpiBoardFile, spec: BoardSpec, stop: StopToken, run: str) -> Backend:
    """Opens a crossbar board that speaks SCPI; it has a watchdog of its own."""
    from instruments.framed.requests import Patience
    from instruments.scpi.board import ScpiBoard, met
    from instruments.scpi.client import ScpiClient

    address = parse(board.url)

    def connect() -> ScpiClient:
        session = Session(open_link(address))
        try:
            return met(session, spec, board.timeout)
        except BaseException:
            session.close()
            raise

    with ExitStack() as held:
        held.enter_context(device_lock(board.url, run) or nullcontext())
        client = connect()
        held.callback(client.close)
        ownership = held.enter_context(owned(spec.identity.serial, run))

        def release() -> None:
            kept.close()

        driver = ScpiBoard(
            client,
            spec,
            owner=_name(ownership, run),
            watchdog=board.watchdog,
            patience=Patience(timeout=board.timeout),
            wants_abort=lambda: stop.aborted,
            reopen=connect,
            bytes_per_second=bytes_per_second(address),
            release=release,
        )
        kept = held.pop_all()
        return driver


def open_arcone(board: ArcOneBoardFile, spec: BoardSpec, stop: StopToken, run: str, keep: Keep) -> Backend:
    """Opens an ArC ONE, with a keeper in place of the watchdog it has not."""
    from instruments.arcone.board import ArcOneBoard

    with ExitStack() as held:
        take(held, board.url, spec.identity.serial, run, stop)
        session = Session(open_link(board.url), gap=board.driver.gap)
        held.callback(session.close)
        try:
            driver = ArcOneBoard(session, spec, board.driver, wants_abort=lambda: stop.aborted)
        except BoardMissing as error:
            if session.counters.got:
                raise
            cure = "a job that was cut off leaves the board silent, and `hil safe` with its file resets it"
            raise BoardMissing(error.board, f"{error.problem}; {cure}") from error
        held.callback(driver.close)
        held.callback(keep())
        return Held(driver, held.pop_all().close)


def open_smu_matrix(board: SmuMatrixBoardFile, spec: BoardSpec, stop: StopToken, run: str, keep: Keep) -> Backend:
    """Opens a source-measure unit and a switch matrix, with a keeper in place of the watchdog they have not."""
    from instruments.smu import opening

    with ExitStack() as held:
        sessions: list[Session] = []
        for url in (board.source_url, board.matrix_url):
            take(held, url, "" if sessions else spec.identity.serial, run, stop)
            sessions.append(Session(open_link(url)))
            held.callback(sessions[-1].close)
        source, matrix = sessions
        driver = opening.open_smu_matrix(spec, board.driver, source, matrix, wants_abort=lambda: stop.aborted)
        held.callback(driver.close)
        held.callback(keep())
        return Held(driver, held.pop_all().close)


def take(held: ExitStack, url: str, serial: str, run: str, stop: StopToken) -> None:
    """Takes the device behind a URL and the board of a serial number; waits for a keeper that makes it safe.

    Args:
        held: what lets go of both.
        url: the address.
        serial: of the board; empty to take the device alone.
        run: name of the run it is for.
        stop: the run's stop token.

    Raises:
        BoardInUse: somebody else owns one of them.
        Aborted: the operator ended the wait.
    """
    from hil.lab.keeper import NAME

    until = time.monotonic() + KEEPERS_TIME
    while True:
        try:
            with ExitStack() as taken:
                taken.enter_context(device_lock(url, run) or nullcontext())
                if serial:
                    taken.enter_context(owned(serial, run))
                held.push(taken.pop_all())
                return
        except BoardInUse as error:
            if error.run != NAME or run == NAME or time.monotonic() > until:
                raise
            stop.check()
            time.sleep(0.1)


Keep = Callable[[], Callable[[], None]]
"""Starts a keeper and gives what dismisses it."""


def keeper(plain: Mapping[str, Any], name: str) -> Keep:
    """The keeper of a board, by the content of its file and its name."""

    def start() -> Callable[[], None]:
        from hil.lab import config
        from hil.lab.keeper import Keeper

        return Keeper(config.dump(plain), name).dismiss

    return start


def no_keeper() -> Callable[[], None]:
    """For those who make the board safe themselves at once."""
    return lambda: None


def expect(spec: BoardSpec, found: Identity, sent: str = "nothing else was sent") -> None:
    """Makes sure that the board that answers is the one of the file.

    Args:
        spec: of the file.
        found: who answers.
        sent: what has been done to it.

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
            raise BoardMissing(wanted.name, f"{problem}; {sent}")


def _name(ownership: Ownership, run: str) -> str:
    owner = ownership.owner
    return f"process {owner.pid} of {owner.user} on {owner.host}" + (f", run {run}" if run else "")
