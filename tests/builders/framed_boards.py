"""Framed boards in this process: the driver, a link in memory, the board's core, and any backend inside."""

from __future__ import annotations

from typing import Any

from hil.contract import Backend
from instruments.framed.driver import FramedBoard
from instruments.framed.requests import Patience
from instruments.links.memory import MemoryLink
from instruments.session import Session
from instruments.virtual.framed import FramedBoardCore


def framed(inside: Backend, **options: Any) -> FramedBoard:
    """A driver whose board is in memory; without a watchdog, since no time passes there."""
    core = FramedBoardCore(inside, {})
    return driver(core, **options)


def driver(core: FramedBoardCore, **options: Any) -> FramedBoard:
    """A driver of a board in memory."""
    session = Session(MemoryLink(core.converse("test")))
    patience = options.pop("patience", Patience(timeout=0.2, tries=3))
    return FramedBoard(session, core.backend.spec, watchdog=0, patience=patience, **options)
