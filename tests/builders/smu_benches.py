"""A crossbar behind a virtual source-measure unit and matrix, with a clock that only moves when somebody waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hil.contract import Backend, Bias, Blocks, BoardSpec, Pulse, Range, ReadCells, Side
from hil.usual import usual_pulse, usual_sense
from instruments.links.memory import MemoryLink
from instruments.session import Session
from instruments.smu.board import SmuMatrixBoard
from instruments.smu.channels import SmuMatrixConfig
from instruments.smu.opening import open_smu_matrix
from instruments.virtual.matrix_707b import Virtual707B
from instruments.virtual.smu_2450 import Virtual2450
from instruments.virtual.smu_bench import SmuBench

WRITING = {"biases": (Bias.FLOAT,), "seconds": 0.01}


class Clock:
    """Seconds that pass only in ``sleep``."""

    def __init__(self) -> None:
        self.now = 0.0
        self.late = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds + self.late


class Bench:
    """Both virtual instruments on a backend, and the lines to them.

    Attributes:
        source: the link to the source-measure unit.
        matrix: the link to the matrix.
    """

    def __init__(self, backend: Backend, **changes: Any) -> None:
        self.backend, self.clock = backend, Clock()
        self.config = wiring(backend.spec, **changes)
        self.bench = SmuBench(backend, self.config, threshold=0.55, clock=self.clock)
        self.smu, self.switch = Virtual2450(self.bench), Virtual707B(self.bench)
        self.source = MemoryLink(self.smu.converse("test"), "sim:source")
        self.matrix = MemoryLink(self.switch.converse("test"), "sim:matrix")

    def open(self, spec: BoardSpec, wants_abort: Callable[[], bool] = lambda: False) -> SmuMatrixBoard:
        sessions = Session(self.source), Session(self.matrix)
        clocks = {"clock": self.clock, "sleep": self.clock.sleep, "now": self.clock}
        return open_smu_matrix(spec, self.config, *sessions, wants_abort=wants_abort, seconds=0.05, **clocks)


def minimum_board(spec_of: Callable[..., BoardSpec], simulated: Callable[..., Backend]) -> SmuMatrixBoard:
    """A board of separate devices behind a bench, for batteries that expect products; pulses of 10 ms move cells."""
    grid = {"volts_step": 1e-3, "pairs": False, "ranges": (Range(negative=2e-4, positive=2e-4, step=1e-7),)}
    writing = {**WRITING, "biases": (Bias.FLOAT, Bias.GROUND)}
    spec = spec_of(selector="passive", ops=("ReadCells", "Pulse", "Wait"), reading=grid, writing=writing)
    return Bench(simulated(spec, seconds=WRITING["seconds"]), discrete=True).open(spec)


def wiring(spec: BoardSpec, **changes: Any) -> SmuMatrixConfig:
    """Rows and columns of each kernel on matrix columns of their own, kernel by kernel."""
    kernels, rows, cols = spec.cells
    names = iter(range(kernels * (rows + cols)))

    def channels(matrix_row: str, count: int) -> tuple[tuple[str, ...], ...]:
        numbers = [[next(names) for _ in range(count)] for _ in range(kernels)]
        return tuple(tuple(f"{n // 12 + 1}{matrix_row}{n % 12 + 1:02d}" for n in kernel) for kernel in numbers)

    return replace(SmuMatrixConfig(rows=channels("A", rows), cols=channels("B", cols)), **changes)


def read(
    spec: BoardSpec, blocks: Blocks, drive: Side = Side.ROWS, mask: Tensor | None = None, **changes: Any
) -> ReadCells:
    """A read at 0.2 V; parts of its sensing are changed by name."""
    return ReadCells(blocks, replace(usual_sense(spec, 0.2), **changes), drive, mask)


def pulse(board: Backend, blocks: Blocks, counts: Tensor, **changes: Any) -> Pulse:
    """The usual pulses."""
    return Pulse(blocks, counts, usual_pulse(board, up=True), usual_pulse(board, up=False), **changes)


def counted(blocks: Blocks, *cells: tuple[int, int, int, int]) -> Tensor:
    """Counts of a few cells: tile, row, column, count."""
    counts = torch.zeros(blocks.shape, dtype=torch.int32)
    for *cell, count in cells:
        counts[tuple(cell)] = count
    return counts
