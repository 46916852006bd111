"""kill -9 at any moment: what `hil resume` makes of it is bit for bit what an unbroken run would have been."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from hil.lab import checkpoint, runs

Contents = Callable[[Path], dict[str, Any]]
LONGEST = 30.0
EVENTS: dict[str, Callable[[Path], bool]] = {
    "set-up": lambda folder: (folder / "run.yaml").exists(),
    "training": lambda folder: (folder / "checkpoint-000000000.safetensors").exists(),
    "writing": lambda folder: any(folder.glob("checkpoint-0000000[1-6]0.safetensors.part")),
    "end": lambda folder: (folder / "result.json").exists(),
}
"""What shows that a phase has begun; a run is killed some time after it."""


def wait_for(process: BaseProcess, happened: Callable[[], bool]) -> None:
    until = time.monotonic() + LONGEST
    while process.is_alive() and not happened():
        assert time.monotonic() < until


def kill(process: BaseProcess, seconds: float) -> None:
    """Kills a process after some time, unless it is done before."""
    process.join(seconds)
    if process.is_alive():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    process.join(LONGEST)
    assert process.exitcode in (0, -signal.SIGKILL)


def durations(forks: ForkServerContext, content: dict[str, Any], folder: Path) -> dict[str, float]:
    """Seconds that each phase takes in one run."""
    process = forks.Process(target=runs.run, args=(content,), kwargs={"out": folder})
    process.start()
    marks: list[float] = []
    for event in ("set-up", "training", "end"):
        wait_for(process, lambda event=event: EVENTS[event](folder))
        marks.append(time.perf_counter())
    process.join(LONGEST)
    marks.append(time.perf_counter())
    set_up, training, end = (b - a for a, b in pairwise(marks))
    return {"set-up": set_up, "training": training, "writing": 0.002, "end": end}


def shortest(forks: ForkServerContext, content: dict[str, Any], folder: Path) -> dict[str, float]:
    """Seconds that each phase takes at least; a run that other work held up would send every cut beyond its phase."""
    timed = [durations(forks, content, folder / f"timed-{number}") for number in range(3)]
    return {phase: min(one[phase] for one in timed) for phase in timed[0]}


def state_of(folder: Path) -> str:
    """What a cut left behind."""
    if (folder / "result.json").exists():
        return "end"
    newest = checkpoint.latest(folder)
    if any(folder.glob("checkpoint-*.part")):
        return "half a checkpoint"
    db = sqlite3.connect(folder / "run.db")
    try:
        intents, steps = (db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("intent", "step"))
    finally:
        db.close()
    if newest is None:
        return "in the set-up" if intents else "before the set-up"
    return "beyond a checkpoint" if steps > int(newest.stem.split("-")[1]) else "at a checkpoint"


def check(
    forks: ForkServerContext, content: dict[str, Any], wanted: dict[str, Any], contents: Contents, folder: Path,
    phases: list[str], seed: int,
) -> Counter[str]:  # fmt: skip
    """Cuts a run in each phase, every third one again while it resumes, and compares what comes of it in the end."""
    draw, seconds = random.Random(seed), shortest(forks, content, folder)
    seen: Counter[str] = Counter()
    for number, phase in enumerate(phases):
        place, delay = folder / str(number), draw.random() * seconds[phase]
        process = forks.Process(target=runs.run, args=(content,), kwargs={"out": place})
        process.start()
        nth = draw.randrange(1, 6)  # which checkpoint is cut while it is written
        if phase == "writing":
            wait_for(process, lambda place=place, nth=nth: (place / f"checkpoint-0000000{nth}0.safetensors").exists())
        wait_for(process, lambda place=place, phase=phase: EVENTS[phase](place))
        kill(process, delay)
        left = state_of(place)
        seen[left] += 1
        if number % 3 == 0:
            process = forks.Process(target=runs.resume, args=(place,))
            process.start()
            kill(process, draw.random() * (seconds["set-up"] + seconds["training"]))
        assert runs.resume(place).exit_code == 0
        found = contents(place)
        for key, value in wanted.items():
            assert found[key] == value, f"{key} after a cut {left}, {delay} s into {phase}"
    return seen


def test_a_killed_run_goes_on_bit_for_bit(
    forks: ForkServerContext, small: Callable[..., dict[str, Any]], unbroken: Path, contents: Contents, tmp_path: Path
) -> None:
    phases = ["training", "set-up", "writing"]
    check(forks, small(), contents(unbroken), contents, tmp_path, phases, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_run_killed_at_20_instants_goes_on_bit_for_bit(
    forks: ForkServerContext, small: Callable[..., dict[str, Any]], unbroken: Path, contents: Contents, tmp_path: Path
) -> None:
    phases = ["set-up"] * 6 + ["training"] * 7 + ["writing"] * 4 + ["end"] * 3
    seen = check(forks, small(), contents(unbroken), contents, tmp_path, phases, seed=2)
    assert {"in the set-up", "beyond a checkpoint", "end"} <= seen.keys(), seen


def test_a_finished_run_is_left_as_it_is(unbroken: Path, contents: Contents) -> None:
    before, stamps = contents(unbroken), {p.name: p.stat().st_mtime_ns for p in unbroken.iterdir() if p.name != "lock"}
    stored = runs.read_result(unbroken)
    for _ in range(2):
        assert runs.resume(unbroken) == stored
    assert contents(unbroken) == before
    after = {p.name: p.stat().st_mtime_ns for p in unbroken.iterdir() if p.name in stamps}
    assert after == stamps
