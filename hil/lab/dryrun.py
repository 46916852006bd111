"""Boards for dry runs: the simulator in place of a board behind a link, with the same bytes on a link in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hil.contract import Backend, BoardSpec
from hil.lab.boardfile import BoardFile, SimulatedBoard, WireBoardFile, simulator_of
from hil.lab.config import Loaded
from sim_backend.board import SimBoard
from sim_backend.config import SimulatorConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class DryBoard:
    """What takes the place of a board behind a link; there is no file of this kind.

    Args:
        spec: that of the board.
        simulator: the physics.
        is_framed: operations cross a link in memory as frames, so that frames and bytes are counted, not estimated.
    """

    kind: str = "dry"
    spec: BoardSpec
    simulator: SimulatorConfig
    is_framed: bool = False


def dry(board: Loaded[BoardFile]) -> Loaded[Any]:
    """The same board for a dry run; nothing is opened and nothing is sent."""
    value = board.value
    if isinstance(value, SimulatedBoard):
        return board
    framed = isinstance(value, WireBoardFile)
    return replace(board, value=DryBoard(spec=value.spec, simulator=simulator_of(value), is_framed=framed))


def open_dry(board: DryBoard, spec: BoardSpec, seed: int) -> Backend:
    """Opens a board for a dry run."""
    inside = SimBoard(spec, board.simulator, seed)
    if not board.is_framed:
        return inside
    from instruments.framed.driver import FramedBoard
    from instruments.links.memory import MemoryLink
    from instruments.session import Session
    from instruments.virtual.framed import FramedBoardCore

    core = FramedBoardCore(inside, {})
    return FramedBoard(Session(MemoryLink(core.converse("dry run"))), spec, watchdog=0)
