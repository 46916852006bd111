"""What write-verify of the whole simulated Daffodil chip costs, and how much of it is the simulator alone.

Run it with ``python benchmarks/write_verify.py``. All 20,000 cells go to random targets through ``hil.open_board``, so
behind lowering and guard. The lists that a job sends are kept, and sent once more to a fresh bare simulator of the same
seed: its time is the floor. Medians of interleaved repeats on one thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

import hil
from hil.contract import Blocks, Op
from hil.lab.build import guard_of
from hil.lab.opening import read_board
from hil.program import ByPulses, ByRamps, CellState, GateRamp, Method, ProgramReport, Relaxation, VoltsRamp, program
from hil.units import duration
from sim_backend.board import SimBoard

BOARD = Path(__file__).resolve().parent.parent / "config/boards/daffodil.yaml"
GOAL = 5.0
"""s for the whole chip by pulses."""
REPEATS = 5
PULSES = ByPulses(window=8e-6, allowed=1.0)
UP, DOWN = VoltsRamp(low=0.6, high=1.4, step=0.01), VoltsRamp(low=0.6, high=1.4, step=0.01)
IGVVA = ByRamps(window=12e-6, rounds=4, allowed=1.0, set=GateRamp(volts=1.5, low=0.6, high=1.4, step=0.02), reset=DOWN)
METHODS: dict[str, Method] = {
    "pulses": PULSES,
    "pulses, coded": replace(PULSES, coded=True),
    "pulses, all looks": replace(PULSES, delay=0.1, neighbours_every=500, relaxation=Relaxation()),
    "IGVVA": IGVVA,
    "ISPVA": replace(IGVVA, set=UP),
}


class Kept:
    """A board that keeps the lists it is sent."""

    def __init__(self, board: SimBoard) -> None:
        self.board, self.lists = board, list[list[Op]]()
        self.execute_inside = board.execute

    def execute(self, ops: Sequence[Op]):
        self.lists.append(list(ops))
        return self.execute_inside(ops)


def job(method: Method, kept: bool = False) -> tuple[ProgramReport, float, list[list[Op]], float]:
    """Programs the chip: the report, seconds, the lists, lab seconds."""
    board = hil.open_board(BOARD, seed=1)
    bare = guard_of(board).board
    keeper = Kept(bare)
    if kept:
        bare.execute = keeper.execute
    kernels, rows, cols = board.spec.cells
    blocks = Blocks(tuple(range(kernels)), (0,) * kernels, (0,) * kernels, rows, cols)
    target = 40e-6 + 110e-6 * torch.rand(blocks.shape, generator=torch.Generator().manual_seed(3))
    begun = time.perf_counter()
    report = program(board, "chip", blocks, target, method)
    return report, time.perf_counter() - begun, keeper.lists, board.now()


def replayed(lists: list[list[Op]]) -> float:
    """Seconds that the same lists take on the bare simulator."""
    file = read_board(BOARD).value
    board = SimBoard(file.spec, file.simulator, 1)
    begun = time.perf_counter()
    for ops in lists:
        board.execute(ops)
    return time.perf_counter() - begun


def main() -> None:
    """Prints one line a method."""
    torch.set_num_threads(1)
    print(f"{'method':18s} {'cells':>6s} {'seconds':>8s} {'ratio':>6s} {'pulses':>8s} {'hit':>7s} {'lab time':>9s}")
    for name, method in METHODS.items():
        report, _, lists, lab = job(method, kept=True)
        whole, bare = [], []
        for _ in range(REPEATS):
            whole.append(job(method)[1])
            bare.append(replayed(lists))
        seconds, floor = statistics.median(whole), statistics.median(bare)
        cells, hit = report.target.numel(), report.count(CellState.HIT)
        missed = f"   above the goal of {GOAL:g} s" if name == "pulses" and seconds > GOAL else ""
        print(
            f"{name:18s} {cells:6d} {seconds:8.3f} {seconds / floor:6.2f} {int(report.pulses.sum()):8d} "
            f"{hit / cells:7.1%} {duration(lab):>9s}{missed}"
        )


if __name__ == "__main__":
    main()
