"""``hil emulate``: a virtual board in a process of its own, made of a board file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import torch

from hil.contract import BoardSpec
from hil.errors import UsageError
from hil.lab.boardfile import BoardFile, SmuMatrixBoardFile, simulator_of
from hil.lab.config import Loaded
from instruments.virtual.arcone import ArcOne, inside_spec
from instruments.virtual.framed import FramedBoardCore
from instruments.virtual.matrix_707b import Virtual707B
from instruments.virtual.personality import Personality
from instruments.virtual.scpi_board import ScpiBoardCore
from instruments.virtual.shell import ShellSettings, serve, serve_bench
from instruments.virtual.smu_2450 import Virtual2450
from instruments.virtual.smu_bench import SmuBench
from instruments.virtual.tcp_side import split
from sim_backend.board import SimBoard

ABILITIES = {"tokens": True, "watchdog": True, "safe_preempts": True, "reads_back_outputs": True}
"""What a framed board can do beside what its file says."""
PERSONALITIES = {
    "simulated": "framed",
    "framed": "framed",
    "scpi": "scpi",
    "arcone": "arcone",
    "smu_matrix": "smu_matrix",
}
"""The wire protocol of each kind of board file."""


def emulate(
    board: Loaded[BoardFile],
    settings: ShellSettings,
    ready: Callable[[str], None],
    *,
    seed: int = 0,
    baud: int | None = None,
    personality: str | None = None,
) -> None:
    """Serves a virtual board until it is told to end.

    Args:
        board: its file.
        settings: its lines, time and faults.
        ready: called with the addresses, one line of JSON, when clients can come.
        seed: seed of chip and noise where the file names none.
        baud: of a serial line, told in its address; None for a line without pace.
        personality: the wire protocol; None for that of the file's kind.

    Raises:
        UsageError: there is no such wire protocol, or the file does not say what it needs.
        OSError: an address is taken.
    """
    torch.set_num_threads(1)
    name = personality or PERSONALITIES[board.value.kind]

    if name == "smu_matrix":
        bench = _bench(board.value, seed)
        _lines_for_two(settings)
        serve_bench(bench, settings, lambda addresses: ready(json.dumps(_with_baud(addresses, baud))))
    else:
        core = _personality(name, board, seed, settings)
        serve(core, settings, lambda addresses: ready(json.dumps(_with_baud(addresses, baud))))


def _with_baud(addresses: dict[str, Any], baud: int | None) -> dict[str, Any]:
    """The addresses, serial lines with their pace."""
    told: dict[str, Any] = {}
    for name, address in addresses.items():
        if isinstance(address, dict):
            told[name] = _with_baud(cast(dict[str, Any], address), baud)
        else:
            told[name] = f"{address}?baud={baud}" if name == "pty" and baud is not None else address
    return told


def _lines_for_two(settings: ShellSettings) -> None:
    """Refuses lines that two instruments cannot share."""
    for name, address in (("--tcp", settings.tcp), ("--control", settings.control)):
        if address is not None and split(address)[1] != 0:
            raise UsageError(f"{name} must leave the port to the system (port 0): this board is two instruments")
    if settings.pty_link is not None:
        raise UsageError("--pty-link names one serial line, and this board is two instruments with a line each")


def _personality(name: str, board: Loaded[BoardFile], seed: int, settings: ShellSettings) -> Personality:
    match name:
        case "framed":
            return framed_core(board, seed, in_real_time=settings.time == "real")
        case "scpi":
            return framed_core(board, seed, in_real_time=settings.time == "real", make=ScpiBoardCore)
        case "arcone":
            return ArcOne(_inside(board.value, seed, inside_spec(board.value.spec)))
        case _:
            known = ", ".join(dict.fromkeys(PERSONALITIES.values()))
            raise UsageError(f"there is no personality {name!r}; there are {known}")


def framed_core(
    board: Loaded[BoardFile],
    seed: int,
    *,
    in_real_time: bool = False,
    make: type[FramedBoardCore] = FramedBoardCore,
) -> FramedBoardCore:
    """The core of a virtual board that takes frames, as they are or in another envelope."""
    spec: Any = board.plain["spec"]
    said: dict[str, Any] = {"spec": {**spec, "abilities": {**spec.get("abilities", {}), **ABILITIES}}}
    if "simulator" in board.plain:
        said["simulator"] = board.plain["simulator"]
    return make(_inside(board.value, seed, board.value.spec), said, in_real_time=in_real_time)


def _bench(board: BoardFile, seed: int) -> dict[str, Personality]:
    if not isinstance(board, SmuMatrixBoardFile):
        raise UsageError("the personality smu_matrix needs a board file of that kind, which says how it is wired")
    spec = board.spec
    between = 0.5 * (spec.limits.read_cell_volts + min(spec.writing.up_volts, spec.writing.down_volts))
    bench = SmuBench(_inside(board, seed, spec), board.driver, threshold=between)
    return {"source": Virtual2450(bench), "matrix": Virtual707B(bench)}


def _inside(board: BoardFile, seed: int, spec: BoardSpec) -> SimBoard:
    return SimBoard(spec, simulator_of(board), seed)
