"""Opens boards by their files or URLs: the simulator, or a driver over a link, each with the wear of its chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hil.contract import Backend, BoardSpec, restorable
from hil.errors import ConfigError
from hil.lab import config
from hil.lab.boardfile import (
    ArcOneBoardFile,
    BoardFile,
    FramedBoardFile,
    ScpiBoardFile,
    SimulatedBoard,
    SmuMatrixBoardFile,
    WireBoardFile,
)
from hil.lab.chipfile import ChipFile
from hil.lab.config import Loaded
from hil.lab.devicefile import with_device
from hil.lab.dryrun import DryBoard, open_dry
from hil.lab.stop import StopToken
from hil.lab.wear import Wear
from sim_backend.board import SimBoard

CHIPS = Path("chips")
"""Where the wear of real chips is kept."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open board.

    Args:
        backend: the driver or simulator; nothing but the guard may use it.
        wear: the counters of its chip.
    """

    backend: Backend
    wear: Wear


def read_board(board: str | Path | Mapping[str, Any], beside: Path | None = None) -> Loaded[BoardFile]:
    """Reads a board file, or asks the board behind a URL what it is; every field of a file's spec knows its line.

    Args:
        board: path of a board file, its content, or the URL of a board that describes itself.
        beside: a file next to which a relative path is looked up.

    Raises:
        ConfigError: the file cannot be used, or the board describes itself in a way that makes no sense.
        LinkTimeout: nobody answers behind the URL.
    """
    if isinstance(board, Mapping):
        loaded = config.from_mapping(dict(board), _schema())
    elif "://" in str(board):
        loaded = _described(str(board))
    else:
        loaded = config.load(config.find(board, beside), _schema(), include=with_device)
    where = {key.removeprefix("spec."): at for key, at in loaded.where.items() if key.startswith("spec.")}
    spec = replace(loaded.value.spec, where=where)
    return replace(loaded, value=replace(loaded.value, spec=spec))


def _schema() -> Any:
    return BoardFile


def _described(url: str) -> Loaded[BoardFile]:
    """What the board behind a URL says it is; its limits are then those it names itself."""
    from hil.lab.drivers import described

    said = described(url)
    known = {key: said[key] for key in ("spec", "simulator") if key in said}
    return config.from_mapping({"kind": "framed", "url": url, **known}, _schema(), name=url)


def open_backend(
    board: Loaded[BoardFile] | Loaded[DryBoard],
    spec: BoardSpec,
    seed: int,
    stop: StopToken,
    run: str,
) -> Opened:
    """Opens a board.

    Args:
        board: its file.
        spec: its spec, with the limits of the run.
        seed: seed of a simulated board whose file names none.
        stop: the run's stop token; a waiting driver looks at it.
        run: name of the run, for whoever else wants the board.

    Raises:
        BoardInUse: another program owns the board.
        BoardMissing: another board answers than the file names.
        LinkTimeout: nobody answers.
    """
    value = board.value
    if isinstance(value, SimulatedBoard):
        return Opened(SimBoard(spec, value.simulator, seed), Wear(spec))
    if isinstance(value, DryBoard):
        return Opened(open_dry(value, spec, seed), Wear(spec))
    from hil.lab import drivers

    keep = drivers.keeper(board.plain, spec.identity.name)  # for boards without a watchdog
    match value:
        case FramedBoardFile():
            return _with_wear(drivers.open_framed(value, spec, stop, run))
        case ScpiBoardFile():
            return _with_wear(drivers.open_scpi(value, spec, stop, run))
        case ArcOneBoardFile():
            return _with_wear(drivers.open_arcone(value, spec, stop, run, keep))
        case SmuMatrixBoardFile():
            return _with_wear(drivers.open_smu_matrix(value, spec, stop, run, keep))


def _with_wear(backend: Backend) -> Opened:
    """A board with the wear of its chip: in its snapshot where it has one, else in the chip's file."""
    spec, is_virtual = backend.spec, restorable(backend)
    if is_virtual:
        return Opened(backend, Wear(spec))
    try:
        return Opened(backend, ChipFile(CHIPS, spec.identity.serial, spec.cells).wear(spec))
    except BaseException:
        backend.close()
        raise


def dtype_of(board: BoardFile) -> str:
    """The number format of a board's currents."""
    return "float32" if board.simulator is None else board.simulator.dtype


def moved(board: Loaded[BoardFile], url: str) -> Loaded[BoardFile]:
    """The same board at another address.

    Raises:
        ConfigError: it has no address, or two.
    """
    if not isinstance(board.value, WireBoardFile | ArcOneBoardFile):
        raise ConfigError.at(url, "board", f"a board of the kind {board.value.kind} is not at one address")
    return replace(board, value=replace(board.value, url=url), plain={**board.plain, "url": url})
