"""An ArC ONE on an in-process link whose messages and answers can be lost or changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hil.contract import Bias, BoardSpec, Side
from hil.lab import config
from instruments.arcone.board import ArcOneBoard
from instruments.arcone.config import ArcOneConfig
from instruments.session import Session
from instruments.virtual.arcone import ArcOne, inside_spec
from sim_backend.board import SimBoard
from sim_backend.config import SimulatorConfig

BOARDS = Path(__file__).parents[2] / "config" / "boards"
QUICK = ArcOneConfig(gap=0.0, reset_wait=0.0, margin=0.01, conversion=1e-4)


def arcone_spec(spec_of: Callable[..., BoardSpec], *, up: Side = Side.ROWS, firmware: str = "1.0") -> BoardSpec:
    """A tiny ArC ONE of 6 x 5 cells."""
    spec = spec_of(
        drive=Side.ROWS, selector="passive", kernels=1, ops=("Read", "ReadCells", "Pulse", "Wait"),
        reading={"sides": (Side.ROWS,), "input_levels": 2, "pairs": False},
        writing={
            "compliance": "none", "compliance_low": None, "compliance_high": None,
            "biases": (Bias.THIRD, Bias.HALF, Bias.FLOAT),
        },
        limits={"allow_uncompliant": True}, abilities={"safe_preempts": False, "probes": ()},
    )  # fmt: skip
    identity = replace(spec.identity, firmware=firmware)
    return replace(spec, identity=identity, geometry=replace(spec.geometry, up=up))


class Loop:
    """A link to a personality in this process; keeps what was sent.

    Attributes:
        sent: all messages.
        changed: gives what arrives of answer number n; empty: it is lost.
        arrives: gives what the board gets of message number n.
    """

    url = "loop:arcone"

    def __init__(self, board: Any) -> None:
        self._client = board.converse("test")
        self.sent: list[bytes] = []
        self.answers = 0
        self.changed: Callable[[int, bytes], bytes] = lambda _, data: data
        self.arrives: Callable[[int, bytes], bytes] = lambda _, data: data
        self.seconds = 0.0
        self.is_closed = False
        self._waiting = bytearray()

    def write(self, data: bytes, until: float) -> None:
        self.sent.append(data)
        for task in self._client.receive(self.arrives(len(self.sent) - 1, data)):
            work = task.work
            while True:
                try:
                    self.seconds += next(work)
                except StopIteration as end:
                    answer = end.value
                    break
            if answer:
                self._waiting += self.changed(self.answers, answer)
                self.answers += 1

    def read(self, wanted: int, until: float) -> bytes:
        if not self._waiting:
            time.sleep(max(0.0, until - time.monotonic()))
        data = bytes(self._waiting[:wanted])
        del self._waiting[:wanted]
        return data

    def drain(self, quiet: float = 0.0) -> int:
        count = len(self._waiting)
        self._waiting.clear()
        return count

    def close(self) -> None:
        self.is_closed = True


class Bench:
    """A driver, the link and the virtual board behind it."""

    def __init__(
        self, spec: BoardSpec, inside: Callable[[BoardSpec], Any], settings: ArcOneConfig = QUICK, **more: Any
    ) -> None:
        self.inside = inside(inside_spec(spec))
        self.virtual = ArcOne(self.inside)
        self.link = Loop(self.virtual)
        self.session = Session(self.link, gap=settings.gap)
        self.board = ArcOneBoard(self.session, spec, settings, **more)

    def sent_since(self, number: int) -> bytes:
        """All bytes after message ``number``."""
        return b"".join(self.link.sent[number:])

    @property
    def pulses(self) -> list[list[int]]:
        """Pulses that each cell of the board got."""
        return self.virtual.inspect("pulses", {"kernel": 0})


@dataclass(frozen=True, slots=True, kw_only=True)
class ArcOneFile:
    """The parts of config/boards/arcone.yaml."""

    kind: Literal["arcone"]
    url: str
    driver: ArcOneConfig = field(default_factory=ArcOneConfig)
    spec: BoardSpec
    simulator: SimulatorConfig


def board_file() -> ArcOneFile:
    """config/boards/arcone.yaml, loaded."""
    return config.load(BOARDS / "arcone.yaml", ArcOneFile).value


def from_file(seed: int = 0) -> ArcOne:
    """The virtual board of config/boards/arcone.yaml."""
    file = board_file()
    return ArcOne(SimBoard(inside_spec(file.spec), file.simulator, seed))
