"""``hil emulate``: a virtual board in a process of its own, made of a board file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch

from hil.contract import BoardSpec
from hil.errors import UsageError
from hil.lab.boardfile import BoardFile, SmuMatrixBoardFile, simulator_of
from hil.lab.config import Loaded
from instruments.virtual.arcone import ArcOne, inside_spec
from instruments.virtual.framed import FramedBoardCore
from instruments.virtual.matrix_707b import Virtual707B
from instruments.virtual.personality import Personality
from instruments.virtual.shell import ShellSettings, serve, serve_bench
from instruments.virtual.smu_2450 import Virtual2450
from instruments.virtual.smu_bench import SmuBench
from sim_backend.board import SimBoard

ABILITIES = {"tokens": True, "watchdog": True, "safe_preempts": True, "reads_back_outputs": True}
"""What a framed board can do beside what its file says."""
PERSONALITIES = {"simulated": "framed", "framed": "framed", "arcone": "arcone", "smu_matrix": "smu_matrix"}
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

    def tell(addresses: dict[str, Any]) -> None:
        if baud is not None and "pty" in addresses:
            addresses = {**addresses, "pty": f"{addresses['pty']}?baud={baud}"}
        ready(json.dumps(addresses))

    if name == "smu_matrix":
        serve_bench(_bench(board.value, seed), settings, tell)
    else:
        serve(_personality(name, board, seed, settings), settings, tell)


def _personality(name: str, board: Loaded[BoardFile], seed: int, settings: ShellSettings) -> Personality:
    match name:
        case "framed":
            return framed_core(board, seed, in_real_time=settings.time == "real")
        case "arcone":
            return ArcOne(_inside(board.value, seed, inside_spec(board.value.spec)))
        case _:
            known = ", ".join(dict.fromkeys(PERSONALITIES.values()))
            raise UsageError(f"there is no personality {name!r}; there are {known}")


def framed_core(board: Loaded[BoardFile], seed: int, *, in_real_time: bool = False) -> FramedBoardCore:
    """The core of a framed virtual board."""
    spec: Any = board.plain["spec"]
    said: dict[str, Any] = {"spec": {**spec, "abilities": {**spec.get("abilities", {}), **ABILITIES}}}
    if "simulator" in board.plain:
        said["simulator"] = board.plain["simulator"]
    return FramedBoardCore(_inside(board.value, seed, board.value.spec), said, in_real_time=in_real_time)


def _bench(board: BoardFile, seed: int) -> dict[str, Personality]:
    if not isinstance(board, SmuMatrixBoardFile):
        raise UsageError("the personality smu_matrix needs a board file of that kind, which says how it is wired")
    spec = board.spec
    between = 0.5 * (spec.limits.read_cell_volts + min(spec.writing.up_volts, spec.writing.down_volts))
    bench = SmuBench(_inside(board, seed, spec), board.driver, threshold=between)
    return {"source": Virtual2450(bench), "matrix": Virtual707B(bench)}


def _inside(board: BoardFile, seed: int, spec: BoardSpec) -> SimBoard:
    return SimBoard(spec, simulator_of(board), seed)
