"""What a product with converters and noise costs on the simulator, against the bare torch product in the same run.

Run it with ``python benchmarks/reading.py``. The board is Daffodil with arrays of other sizes: input and output codes,
read noise and amplifier noise; each row below adds one effect to it. Medians of interleaved repeats on one thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from hil.contract import Blocks, Range, Read, Side
from hil.lab.opening import read_board
from sim_backend.board import SimBoard
from sim_backend.channels import AmplifierErrors, DriverErrors
from sim_backend.energy import Energy
from sim_backend.supply import Supply

ROOT = Path(__file__).resolve().parent.parent
SIZES = ((1, 512, 1024, 2.2), (1, 512, 32, 2.5), (32, 25, 1024, 5.0))
"""Tiles, rows and columns, batch, and the largest ratio of the IO-complete product that is a goal."""
EFFECTS = {
    "IO-complete": {},
    "+ channel errors": {
        "drivers": DriverErrors(gain=0.01, offset=1e-3),
        "amplifiers": AmplifierErrors(gain=0.01, gain_left=0.001),
    },
    "+ supply droop": {"supply": Supply(ohms=10.0, volts=5.0)},
    "+ energy": {"energy": Energy(read_seconds=1e-3)},
    "+ gate limit": {"gate_limits_reads": True},
}


def medians(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each piece of work; each call is settled by one before it."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            work()
            begun = time.perf_counter()
            work()
            work()
            times[name].append((time.perf_counter() - begun) / 2)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Prints one block a size."""
    torch.set_num_threads(1)
    file = read_board(ROOT / "config/boards/daffodil.yaml").value
    for tiles, size, batch, goal in SIZES:
        geometry = replace(file.spec.geometry, kernels=tiles, rows=size, cols=size)
        ranges = (Range(negative=66e-6 * size, positive=34e-6 * size, step=0.0244e-6 * size),)
        spec = replace(file.spec, geometry=geometry, reading=replace(file.spec.reading, ranges=ranges))
        blocks = Blocks(tuple(range(tiles)), (0,) * tiles, (0,) * tiles, size, size)
        volts, k = 0.1 * torch.rand(tiles, batch, size), torch.rand(tiles, size, size)
        op = Read(blocks, volts, Side.COLS)
        boards = {name: SimBoard(spec, replace(file.simulator, **effect), 1) for name, effect in EFFECTS.items()}
        works: dict[str, Callable[[], object]] = {"bare": lambda volts=volts, k=k: torch.bmm(volts, k)}
        works |= {name: (lambda board=board, op=op: board.execute([op])) for name, board in boards.items()}
        seconds = medians(works, 20)
        print(f"{tiles} x {size} x {size}, batch {batch}: bare {1e3 * seconds['bare']:.2f} ms")
        for name in EFFECTS:
            ratio = seconds[name] / seconds["bare"]
            missed = f"   above the goal of {goal:g}x" if name == "IO-complete" and ratio > goal else ""
            print(f"  {name:18s} {1e3 * seconds[name]:7.2f} ms  {ratio:5.2f}x{missed}")


if __name__ == "__main__":
    main()
