"""Framed boards: in this process over a link in memory, good or lossy, or in a process of their own."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import torch

from hil.contract import Backend, Blocks, BoardSpec, Pulse, Read
from hil.errors import LinkLost
from hil.usual import usual_pulse, usual_sense
from instruments.framed.driver import FramedBoard
from instruments.framed.introduction import identify
from instruments.framed.requests import Patience
from instruments.links.memory import MemoryLink
from instruments.links.opening import open_link
from instruments.session import Session
from instruments.virtual.faults import flipped
from instruments.virtual.framed import FramedBoardCore
from instruments.virtual.personality import Conversation
from instruments.virtual.shell import ShellSettings, serve

DAFFODIL = Path(__file__).parents[2] / "config" / "boards" / "daffodil.yaml"
KINDS = ("drop", "duplicate", "late", "flip", "truncate", "garbage")


# -- in memory ---------------------------------------------------------------------------------------------------------


def framed(inside: Backend, **options: Any) -> FramedBoard:
    """A driver whose board is in memory; without a watchdog, since no time passes there."""
    return driver(FramedBoardCore(inside, {}), **options)


def driver(core: FramedBoardCore, client: str = "test", **options: Any) -> FramedBoard:
    """A driver of a board in memory."""
    return over(MemoryLink(core.converse(client)), core.backend.spec, **options)


def over(link: Any, spec: BoardSpec, **options: Any) -> FramedBoard:
    """A driver over a link."""
    usual = {"watchdog": 0.0, "patience": Patience(timeout=0.2, tries=3)}
    return FramedBoard(Session(link), spec, **usual | options)


class LossyLink:
    """A link in memory that loses, doubles, delays and damages what goes over it, each way; the order stays.

    Args:
        conversation: the board's side.
        seed: of the faults.
        rate: probability that something befalls a message.

    Attributes:
        faults: how often each kind happened.
    """

    url = "lossy:"

    def __init__(self, conversation: Conversation, seed: int, rate: float) -> None:
        self.faults = dict.fromkeys(KINDS, 0)
        self.rate = rate
        self._conversation, self._chance = conversation, random.Random(seed)
        self._out: list[bytes] = []  # requests that are late
        self._arrived, self._late = bytearray(), bytearray()
        self._open = True

    def write(self, data: bytes, until: float) -> None:
        if not self._open:
            raise LinkLost(self.url, "the link was closed")
        ready, self._out = self._out, []
        for part in (*ready, *self._befallen(data, self._out)):
            for task in self._conversation.receive(part):
                if answer := _result(task.work):  # plain text may have none
                    self._answered(answer)

    def _answered(self, answer: bytes) -> None:
        late: list[bytes] = []
        for part in self._befallen(answer, late):
            (self._late if self._late else self._arrived).extend(part)
        for part in late:
            self._late += part

    def _befallen(self, data: bytes, late: list[bytes]) -> list[bytes]:
        kind = self._chance.choice(KINDS) if self._chance.random() < self.rate else ""
        if kind:
            self.faults[kind] += 1
        match kind:
            case "drop":
                return []
            case "duplicate":
                return [data, data]
            case "late":
                late.append(data)
                return []
            case "flip":
                return [flipped(data, self._chance)]
            case "truncate":
                return [data[: self._chance.randrange(len(data))]]
            case "garbage":
                return [self._chance.randbytes(20) + data]
        return [data]

    def read(self, wanted: int, until: float) -> bytes:
        if not self._open:
            raise LinkLost(self.url, "the link was closed")
        if not self._arrived:
            time.sleep(max(0.0, until - time.monotonic()))
            self._conversation.silent()
            self._arrived, self._late = self._late, bytearray()
            return b""
        data, self._arrived = bytes(self._arrived), bytearray()
        return data

    def drain(self, quiet: float = 0.0) -> int:
        return len(self.read(1, 0.0))

    def close(self) -> None:
        if self._open:
            self._open = False
            self._conversation.lost()


def _result(work: Generator[float, None, bytes]) -> bytes:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


# -- in processes of their own -----------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def forks() -> ForkServerContext:
    """Real processes that start in milliseconds, since the packages are loaded already; made to be killed."""
    context = get_context("forkserver")
    names = ["hil.lab.runs", "hil.lab.report", "sklearn.datasets", "safetensors.torch", "framed_boards"]
    names += ["matplotlib.figure", "matplotlib.backends.backend_agg"]
    context.set_forkserver_preload(names)
    return context


@contextmanager
def daffodil(settings: ShellSettings, seed: int = 7) -> Generator[dict[str, Any]]:
    """A virtual Daffodil in a process of its own; gives its addresses."""
    with served(_served, settings, seed) as addresses:
        yield addresses


@contextmanager
def served(serving: Callable[..., None], settings: ShellSettings, seed: int) -> Generator[dict[str, Any]]:
    """Runs ``serving(settings, seed, ready)`` in a process of its own; gives what it sends when it is ready."""
    here, there = forks().Pipe(duplex=False)
    process = forks().Process(target=serving, args=(settings, seed, there), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(30.0):
            raise RuntimeError("the virtual board is not ready")
        yield here.recv()
    finally:
        process.terminate()
        process.join(5.0)
        process.kill()
        process.join()
        here.close()


def _served(settings: ShellSettings, seed: int, ready: Connection) -> None:
    from hil.lab.emulate import framed_core
    from hil.lab.opening import read_board

    torch.set_num_threads(1)
    serve(framed_core(read_board(DAFFODIL), seed, in_real_time=settings.time == "real"), settings, ready.send)


def twin(seed: int = 7) -> Any:
    """The same Daffodil in this process."""
    from hil.lab.boardfile import simulator_of
    from hil.lab.opening import read_board
    from sim_backend.board import SimBoard

    board = read_board(DAFFODIL).value
    return SimBoard(board.spec, simulator_of(board), seed)


def connected(url: str, **options: Any) -> FramedBoard:
    """A driver of a virtual Daffodil; its line is made again when it breaks."""
    session = Session(open_link(url))
    patience = options.get("patience", Patience())
    try:
        identify(session, patience)
        return FramedBoard(session, twin().spec, **{"reopen": lambda: open_link(url)} | options)
    except BaseException:
        session.close()
        raise


def host(url: str, watchdog: float, ready: Connection) -> None:
    """A program that works with a board until it is killed; for ``forks().Process``."""
    torch.set_num_threads(1)
    board = connected(url, watchdog=watchdog, owner="a host to be killed")
    board.execute([pulses(board)])
    ready.send("works")
    while True:
        board.execute([read(board)])


def run(content: dict[str, Any], folder: Path, locks: str) -> None:
    """A run in a process of its own, to be killed; for ``forks().Process``."""
    from hil.lab import runs

    torch.set_num_threads(1)
    os.environ["HIL_LOCKS"] = locks
    runs.run(content, out=folder)


# -- operations --------------------------------------------------------------------------------------------------------


def pulses(board: Backend, count: int = 1, kernel: int = 0, at: tuple[int, int, int, int] = (0, 0, 2, 3)) -> Pulse:
    """The same number of pulses to each cell of a small block: first row, first column, rows, columns."""
    row, col, rows, cols = at
    blocks = Blocks((kernel,), (row,), (col,), rows, cols)
    counts = torch.full((1, rows, cols), count, dtype=torch.int32)
    return Pulse(blocks, counts, *(usual_pulse(board, up) for up in (True, False)))


def read(board: Backend, kernel: int = 0, batch: int = 1) -> Read:
    """Multiplies a few vectors with a kernel."""
    spec = board.spec
    blocks = Blocks((kernel,), (0,), (0,), spec.geometry.rows, spec.geometry.cols)
    driven = blocks.lines(spec.geometry.drive)
    volts = torch.linspace(-0.1, 0.1, batch * driven).view(1, batch, driven)
    return Read(blocks, volts, spec.geometry.drive, usual_sense(spec))
