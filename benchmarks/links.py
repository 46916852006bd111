"""What the framed wire costs over real links, against a bare echo of the same bytes in the same run.

Run it with ``python benchmarks/links.py``. Boards and echoes are processes of their own. Measurements are interleaved
in rounds; each figure is the best of the rounds' medians, since other programs only ever make a round slower.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from bare_echo import over_serial, over_tcp, over_visa
from null_board import BOARD

from hil.contract import Blocks, Read, Side
from hil.lab.opening import read_board
from instruments.framed.driver import FramedBoard
from instruments.links.opening import open_link
from instruments.session import Session, Tap

HERE = Path(__file__).resolve().parent
TILES, WINDOW = 9, 8
ROUNDS, CALLS = 9, 300
READS = 32
PACES = {"115200 baud, 2 ms": ("pty", 11520.0, 2e-3), "1 MB/s, 1 ms": ("tcp", 1e6, 1e-3)}
QUERY_GOALS = {"tcp": 100.0, "pty": 150.0, "visa": 150.0}
NAMES = {"tcp": "TCP", "pty": "pyserial, pty", "visa": "PyVISA, TCP"}
STEPS = 300
SETTLED = 24 << 20
"""Bytes; once a block of this size was given back, the C library keeps freed memory up to twice as large, as it does in
every program that has trained for a while. Until then each large list pays for fresh pages."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Args:
        name: what was measured.
        ours: of the framed driver.
        bare: what it is held against.
        value: what the goal is about.
        goal: the goal.
        unit: of ours and bare.
        at_most: the value must not be above the goal; else not below it.
    """

    name: str
    ours: float
    bare: float
    value: float
    goal: float
    unit: str
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def line(self) -> str:
        """One row of the table."""
        shown = f"{self.value:8.0f} us" if self.at_most else f"{100 * self.value:9.0f} %"
        wanted = f"<= {self.goal:.0f} us" if self.at_most else f">= {100 * self.goal:.0f} %"
        verdict = "" if self.met else "   MISSED"
        return f"{self.name:38} {self.ours:9.1f} {self.bare:9.1f} {self.unit:6} {shown}  {wanted:>10}{verdict}"


@contextmanager
def child(*command: str, given: bytes = b"") -> Iterator[dict[str, Any]]:
    """A process of its own, ended afterwards; gives the addresses it prints."""
    process = subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(given)
        process.stdin.close()
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@contextmanager
def driver(url: str, rate: float | None = None, tap: Tap | None = None) -> Iterator[FramedBoard]:
    """A driver of the board behind a URL."""
    board = FramedBoard(Session(open_link(url), tap=tap), read_board(BOARD).value.spec, bytes_per_second=rate)
    try:
        yield board
    finally:
        board.close()


def exchanged(url: str, ops: list[Read]) -> tuple[int, bytes, bytes]:
    """How many frames a list is, and a request and an answer of it."""
    seen: list[tuple[str, bytes]] = []
    with driver(url, tap=lambda direction, data: seen.append((direction, data))) as board:
        seen.clear()
        board.execute(ops)
        requests = [data for direction, data in seen if direction == "sent"]
        answers = b"".join(data for direction, data in seen if direction == "got")
    return len(requests), requests[0], answers[: len(answers) // len(requests)]


def reading(batch: int) -> Read:
    """A read of nine tiles."""
    blocks = Blocks(tuple(range(TILES)), (0,) * TILES, (0,) * TILES, 25, 25)
    return Read(blocks, 0.1 * torch.rand(TILES, batch, 25), Side.COLS)


def median(work: Callable[[], object], calls: int) -> float:
    """Seconds of one call."""
    times: list[float] = []
    for _ in range(calls):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def best(works: Sequence[Callable[[], float]], rounds: int = ROUNDS) -> list[float]:
    """The least of what each piece of work gives, over interleaved rounds."""
    found = [[work() for work in works] for _ in range(rounds)]
    return [min(column) for column in zip(*found, strict=True)]


def url_of(kind: str, addresses: dict[str, Any]) -> str:
    """The URL of a board for a kind of link."""
    host, port = addresses["tcp"].removeprefix("tcp://").rsplit(":", 1)
    return f"visa://TCPIP::{host}::{port}::SOCKET" if kind == "visa" else addresses[kind]


def queries() -> Iterator[Figure]:
    """One framed query of nine tiles and one vector, over each kind of link."""
    op = reading(1)
    with child(str(HERE / "null_board.py"), "--pty") as addresses:
        for kind, opened in {"tcp": over_tcp, "pty": over_serial, "visa": over_visa}.items():
            url = url_of(kind, addresses)
            _, request, answer = exchanged(url, [op])
            with driver(url) as board, child(str(HERE / "bare_echo.py"), str(len(request)), given=answer) as echo:
                bare = opened(echo, len(answer))
                works = [
                    lambda ask=bare, request=request: median(lambda: ask(request, 1, 1), CALLS),
                    lambda board=board: median(lambda: board.execute([op]), CALLS),
                ]
                echoed, ours = (1e6 * seconds for seconds in best(works))
            name = f"query of {TILES} tiles, {NAMES[kind]}"
            yield Figure(name, ours, echoed, ours - echoed, QUERY_GOALS[kind], "us", at_most=True)


def throughput() -> Figure:
    """Many reads of 256 vectors in one list, against an echo that has as many requests under way."""
    op = reading(256)
    with child(str(HERE / "null_board.py")) as addresses:
        frames, request, answer = exchanged(addresses["tcp"], [op] * READS)
        with (
            driver(addresses["tcp"]) as board,
            child(str(HERE / "bare_echo.py"), str(len(request)), given=answer) as echo,
        ):
            bare = over_tcp(echo, len(answer))
            works = [
                lambda: median(lambda: bare(request, frames, WINDOW), 5),
                lambda: median(lambda: board.execute([op] * READS), 5),
            ]
            echoed, ours = best(works)
    moved = frames * (len(request) + len(answer)) / 1e6
    name = f"{READS} reads of {TILES} x 256 vectors, TCP"
    return Figure(name, moved / ours, moved / echoed, echoed / ours, 0.5, "MB/s")


def paced() -> Iterator[Figure]:
    """Lines with the pace of a real board, against what bytes and round trips take at least."""
    for name, (kind, rate, round_trip) in PACES.items():
        command = (str(HERE / "null_board.py"), "--pty", "--rate", str(rate), "--round-trip", str(round_trip))
        with child(*command) as addresses, driver(url_of(kind, addresses), rate) as board:
            for batch in (1, 16):
                op = reading(batch)
                before = board.traffic()
                board.execute([op])
                went = board.traffic().since(before)
                least = went.bytes / rate + went.messages * round_trip
                calls = max(3, min(100, int(0.5 / least)))
                (ours,) = best([lambda op=op, board=board, calls=calls: median(lambda: board.execute([op]), calls)], 3)
                yield Figure(f"paced {name}, {batch} vectors", 1e3 * ours, 1e3 * least, least / ours, 0.8, "ms")


def digits() -> Figure:
    """Training on digits over TCP, against the same simulator in the same process as the trainer."""
    root = BOARD.parent.parent.parent
    settings = {"steps": STEPS, "evaluate_every": STEPS, "checkpoint_every": STEPS}

    def speed(*more: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            chosen = [f"--set={key}={value}" for key, value in settings.items()]
            command = [sys.executable, "-m", "hil", "run", str(root / "config/runs/digits_node.yaml"), *chosen, *more]
            done = subprocess.run(
                [*command, "--json", "--out", f"{folder}/run"], cwd=root, capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise SystemExit(f"a run failed:\n{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])["iterations_per_second"]

    def over_tcp_speed() -> float:
        with child("-m", "hil", "emulate", str(BOARD), "--seed", "7", "--tcp", "127.0.0.1:0") as addresses:
            return speed(f"--set=board={addresses['tcp']}")

    bare, ours = best([lambda: 1 / speed(), lambda: 1 / over_tcp_speed()], rounds=3)
    return Figure("digits over TCP, in-process", 1 / ours, 1 / bare, bare / ours, 0.5, "it/s")


def measured(parts: Sequence[str]) -> Iterator[Figure]:
    """All figures, as they come."""
    if "query" in parts:
        yield from queries()
    if "throughput" in parts:
        yield throughput()
    if "paced" in parts:
        yield from paced()
    if "digits" in parts:
        yield digits()


def main() -> None:
    """Prints one row a figure."""
    every = ("query", "throughput", "paced", "digits")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"what to measure: {', '.join(every)}; all by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.empty(SETTLED, dtype=torch.uint8)
    before = os.getloadavg()[0]
    if not given.json:
        print(f"Best of {ROUNDS} interleaved medians; {os.cpu_count()} cores, load {before:.1f} at the start.")
        print(f"{'':38} {'ours':>9} {'bare':>9} {'':6} {'value':>11}  {'goal':>10}")
    figures: list[Figure] = []
    for figure in measured(given.parts or every):
        figures.append(figure)
        if not given.json:
            print(figure.line(), flush=True)
    if not given.json:
        print(f"Load {os.getloadavg()[0]:.1f} at the end; what else runs on the cores makes every figure worse.")
    else:
        print(json.dumps({"load": before, "figures": [asdict(figure) | {"met": figure.met} for figure in figures]}))


if __name__ == "__main__":
    main()
