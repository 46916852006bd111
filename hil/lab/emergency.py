"""Making a board safe from outside, whoever is using it.

Nothing here needs the wear of the chip, a run or a folder that can be written: all that may fail is the board itself.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext

from hil.contract import SafeReport
from hil.errors import BoardInUse, BoardMissing, HilError
from hil.lab import drivers
from hil.lab.boardfile import (
    ArcOneBoardFile,
    BoardFile,
    FramedBoardFile,
    ScpiBoardFile,
    SimulatedBoard,
    SmuMatrixBoardFile,
)
from hil.lab.stop import StopToken

UNCONFIRMED = "SAFE NOT CONFIRMED: switch the board off by hand"


def made_safe(board: str) -> tuple[str, SafeReport]:
    """Makes a board safe, and gives its name with what came of it.

    A framed board takes a safe command from anybody; its owner's run ends then. Other boards are opened for it.

    Args:
        board: a board file, or the URL of a framed board.

    Raises:
        BoardInUse: somebody holds the only line to it; ending that program makes it safe.
        LinkTimeout: nobody answers.
        BoardMissing: another board answers than the file names.
    """
    from hil.lab.opening import read_board

    try:
        if "://" in board:
            return board, _frame(board, "hil safe")
        value = read_board(board).value
        return value.spec.identity.name, secure(value, "hil safe")
    except BoardInUse as error:
        error.add_note(f"end that program (kill {error.pid}): it makes the board safe as it ends")
        raise
    except HilError as error:
        if error.exit_code == 3:
            error.add_note(UNCONFIRMED)
        raise


def secure(board: BoardFile, run: str) -> SafeReport:
    """Makes the board of a file safe.

    Args:
        board: the file.
        run: what its owner is called meanwhile.

    Raises:
        BoardInUse: somebody else owns it.
        HilError: it cannot be reached, or is another one.
    """
    match board:
        case SimulatedBoard():
            return SafeReport({"simulator": "off"}, confirmed=True)
        case FramedBoardFile():
            return _frame(board.url, run, board)
        case ScpiBoardFile():
            return _scpi(board, run)
        case ArcOneBoardFile():
            return _arcone(board, run)
        case SmuMatrixBoardFile():
            return _smu_matrix(board, run)


def load() -> None:
    """Loads the drivers ahead of an emergency."""
    from instruments.arcone import board as _arcone_board
    from instruments.links import opening as _links
    from instruments.smu import opening as _smu

    assert _arcone_board and _links and _smu


def _frame(url: str, run: str, board: FramedBoardFile | None = None) -> SafeReport:
    """Commands a framed board first, and then makes sure that it is the one of the file."""
    from instruments.framed.introduction import command_safe, identify
    from instruments.framed.requests import Patience
    from instruments.links.opening import open_link
    from instruments.ownership import device_lock
    from instruments.session import Session

    patience = Patience(timeout=0.25, tries=8)
    with device_lock(url, run) or nullcontext():
        session = Session(open_link(url))
        try:
            report = command_safe(session, patience)
            if board is not None:
                drivers.expect(board.spec, identify(session, patience), "its outputs were switched off")
            return report
        except HilError as error:
            if board is None and not session.counters.got:
                error.add_note("a board that does not speak the framed wire protocol needs its file: hil safe FILE")
            raise
        finally:
            session.close()


def _scpi(board: ScpiBoardFile, run: str) -> SafeReport:
    """Makes sure that the board is the one of the file, and commands it in plain text."""
    from instruments.links.opening import open_link
    from instruments.ownership import device_lock
    from instruments.scpi.board import command_safe, met
    from instruments.session import Session

    with device_lock(board.url, run) or nullcontext():
        session = Session(open_link(board.url))
        try:
            return command_safe(met(session, board.spec, 0.5))
        finally:
            session.close()


def _arcone(board: ArcOneBoardFile, run: str) -> SafeReport:
    """Resets the board; a silent one too, since a job that was cut off makes it silent until then."""
    from instruments.arcone.controller import Controller, sleep
    from instruments.arcone.refusals import CLASSIC_VOLTS, refuse_spec
    from instruments.links.opening import open_link
    from instruments.session import Session

    spec, config = board.spec, board.driver
    refuse_spec(spec)
    name, (_, rows, cols) = spec.identity.name, spec.cells
    volts = CLASSIC_VOLTS if config.read_mode == "classic" else spec.limits.read_cell_volts
    with ExitStack() as held:
        drivers.take(held, board.url, spec.identity.serial, run, StopToken())
        session = Session(open_link(board.url), gap=config.gap)
        held.callback(session.close)
        controller = Controller(session, config, (rows, cols), volts=volts, bias=spec.writing.biases[0])
        try:
            controller.identify(spec.identity.firmware, name)
        except BoardMissing:
            if session.counters.got:
                raise
        controller.restart(sleep)
        controller.identify(spec.identity.firmware, name)
        return SafeReport({"rows": "off", "cols": "off"}, confirmed=True)


def _smu_matrix(board: SmuMatrixBoardFile, run: str) -> SafeReport:
    """Switches the source off before the matrix is even looked for, then both."""
    source_is_off = _source_off(board, run)
    try:
        driver = drivers.open_smu_matrix(board, board.spec, StopToken(), run, drivers.no_keeper)
    except BoardInUse:
        raise
    except HilError:
        if not source_is_off:
            raise
        return SafeReport({"source": "off", "matrix": "unreadable"}, confirmed=False)
    try:
        return driver.make_safe()
    finally:
        driver.close()


def _source_off(board: SmuMatrixBoardFile, run: str) -> bool:
    """Switches the source off by itself; whether it read back as off."""
    from instruments.links.opening import open_link
    from instruments.scpi.client import ScpiClient
    from instruments.session import Session
    from instruments.smu.keithley2450 import Keithley2450

    with ExitStack() as held:
        drivers.take(held, board.source_url, board.spec.identity.serial, run, StopToken())
        try:
            session = Session(open_link(board.source_url))
            held.callback(session.close)
            client = ScpiClient(session, f"{board.spec.identity.name}, source", seconds=0.5)
            source = Keithley2450(client, volts_range=0.0, serial=board.driver.source_serial)
            source.identify()
            source.off()
            return source.is_off()
        except BoardInUse:
            raise
        except HilError:
            return False
