"""What the contract costs: guard, audit and simulated boards against the bare torch product, in the same run.

Run it with ``python benchmarks/contract.py``. Every figure is the median of interleaved repeats on one thread, and
every ratio is against the bare batched product of the same shapes measured beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from hil.contract import Blocks, BoardSpec, Op, Outcome, Read, SafeReport, Side
from hil.lab.guard import Guard
from hil.lab.opening import read_board
from hil.lab.record import Record
from hil.protocol import StepRecord
from sim_backend.board import SimBoard

ROOT = Path(__file__).resolve().parent.parent
TILES, BATCHES = (1, 9, 32), (1, 32, 1024)
CALLS = 5


class Null:
    """A board that does nothing: what is left is the cost of what stands in front of it."""

    def __init__(self, spec: BoardSpec) -> None:
        self.spec = spec

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        return [Outcome(None, None, None, 0.0, 0.0, 0) for _ in ops]

    def now(self) -> float:
        return 0.0

    def make_safe(self) -> SafeReport:
        return SafeReport({}, confirmed=True)

    def close(self) -> None:
        pass


def medians(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each piece of work: the median of repeats that are interleaved, so that all see the same machine.

    A repeat is one call to settle the memory that the work before gave back, then the mean of ``CALLS`` calls.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            work()
            begun = time.perf_counter()
            for _ in range(CALLS):
                work()
            times[name].append((time.perf_counter() - begun) / CALLS)
    return {name: statistics.median(values) for name, values in times.items()}


def audited(guard: Guard, record: Record, op: Read) -> Callable[[], object]:
    """Work that runs lists of one step each three lists, as training does."""
    step = iter(range(10**9))

    def work() -> None:
        for _ in range(3):
            guard.execute([op])
        record.step = number = next(step)
        record.commit_step(StepRecord(number, 1.0, 0.5), guard.ledger, {})

    return work


def measure(tiles: int, batch: int, folder: Path) -> dict[str, float]:
    """All figures for one size, in microseconds and ratios."""
    blocks = Blocks(tuple(range(tiles)), (0,) * tiles, (0,) * tiles, 25, 25)
    volts = 0.1 * torch.rand(tiles, batch, 25)
    op = Read(blocks, volts, Side.COLS)
    boards = {name: read_board(ROOT / f"config/boards/{name}.yaml").value for name in ("ideal", "daffodil")}
    simulated = {name: SimBoard(file.spec, file.simulator, 1) for name, file in boards.items()}
    null = Null(boards["daffodil"].spec)
    record = Record(folder / f"audit-{tiles}-{batch}.db")
    plain, recorded = Guard(null), Guard(null, audit=record)
    k = torch.rand(tiles, 25, 25)
    works: dict[str, Callable[[], object]] = {
        "bare": lambda: torch.bmm(volts, k),
        "null": lambda: null.execute([op]),
        "guard": lambda: plain.execute([op]),
        "audit": audited(recorded, record, op),
        "ideal": lambda: simulated["ideal"].execute([op]),
        "daffodil": lambda: simulated["daffodil"].execute([op]),
    }
    seconds = medians(works, max(15, min(400, 12000 // (tiles * batch))))
    record.close()
    bare = seconds["bare"]
    return {
        "tiles": tiles,
        "batch": batch,
        "bare_us": 1e6 * bare,
        "guard_us": 1e6 * (seconds["guard"] - seconds["null"]),
        "guard_share": (seconds["guard"] - seconds["null"]) / bare,
        "audit_us": 1e6 * (seconds["audit"] / 3 - seconds["guard"]),
        "ideal_ratio": seconds["ideal"] / bare,
        "daffodil_ratio": seconds["daffodil"] / bare,
    }


def goals(row: dict[str, float]) -> list[str]:
    """Which goals of the project a row misses."""
    missed: list[str] = []
    if row["batch"] == 1 and row["guard_us"] > 10:
        missed.append("guard > 10 us")
    if row["batch"] == 1024 and row["tiles"] >= 9 and row["guard_share"] > 0.3:
        missed.append("guard > 30 %")
    if row["audit_us"] > 60:
        missed.append("audit > 60 us")
    if row["batch"] == 1024 and row["tiles"] == 32:
        most = {"ideal": 1.5, "daffodil": 6.0}
        missed += [f"{name} > {limit}x" for name, limit in most.items() if row[f"{name}_ratio"] > limit]
    return missed


def main() -> None:
    """Prints one row a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    json_wanted = parser.parse_args().json
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        rows = [measure(tiles, batch, Path(folder)) for tiles in TILES for batch in BATCHES]
    if json_wanted:
        print(json.dumps({"rows": rows, "missed": [goals(row) for row in rows]}))
        return
    print("tiles  batch   bare us   guard us  of bare   audit us   ideal   daffodil")
    for row in rows:
        print(
            f"{row['tiles']:5.0f}  {row['batch']:5.0f}  {row['bare_us']:8.1f}  {row['guard_us']:9.1f}"
            f"  {100 * row['guard_share']:6.0f} %  {row['audit_us']:9.1f}  {row['ideal_ratio']:5.2f}x"
            f"  {row['daffodil_ratio']:8.2f}x   {'; '.join(goals(row))}"
        )


if __name__ == "__main__":
    main()
