"""Crossbar boards that speak SCPI: in this process over a link in memory, or a Daffodil in a process of its own."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import framed_boards

from hil.contract import Backend, BoardSpec
from instruments.framed.requests import Patience
from instruments.links.memory import MemoryLink
from instruments.links.opening import open_link
from instruments.scpi.board import ScpiBoard, met
from instruments.scpi.client import ScpiClient
from instruments.session import Session
from instruments.virtual.scpi_board import ScpiBoardCore
from instruments.virtual.shell import ShellSettings, serve


def scpi(inside: Backend, **options: Any) -> ScpiBoard:
    """A driver whose board is in memory; without a watchdog, since no time passes there."""
    core = ScpiBoardCore(inside, {})
    return over(MemoryLink(core.converse("test")), inside.spec, **options)


def over(link: Any, spec: BoardSpec, **options: Any) -> ScpiBoard:
    """A driver over a link."""
    usual = {"watchdog": 0.0, "patience": Patience(timeout=0.2, tries=3)}
    return ScpiBoard(met(Session(link), spec, 0.2), spec, **usual | options)


def connect(url: str, spec: BoardSpec) -> ScpiClient:
    """A client of the board behind a URL, which was met."""
    session = Session(open_link(url))
    try:
        return met(session, spec)
    except BaseException:
        session.close()
        raise


def connected(url: str, **options: Any) -> ScpiBoard:
    """A driver of a virtual Daffodil; its line is made again when it breaks."""
    spec = framed_boards.twin().spec
    client = connect(url, spec)
    try:
        return ScpiBoard(client, spec, **{"reopen": lambda: connect(url, spec)} | options)
    except BaseException:
        client.close()
        raise


@contextmanager
def daffodil(settings: ShellSettings, seed: int = 7) -> Generator[dict[str, Any]]:
    """A virtual Daffodil that speaks SCPI, in a process of its own; gives its addresses."""
    with framed_boards.served(_served, settings, seed) as addresses:
        yield addresses


def _served(settings: ShellSettings, seed: int, ready: Any) -> None:
    serve(ScpiBoardCore(framed_boards.twin(seed), {}), settings, ready.send)
