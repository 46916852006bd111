"""kill -9 at any moment: what `hil resume` makes of it is bit for bit what an unbroken run would have been."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from hil.errors import CheckpointError
from hil.lab import runs

Contents = Callable[[Path], dict[str, Any]]
LONGEST = 30.0


def kill_after(forks: ForkServerContext, seconds: float, target: Callable[..., Any], *args: Any, **named: Any) -> bool:
    """Runs a function in a process of its own and kills it after some time; False when it was done before."""
    process = forks.Process(target=target, args=args, kwargs=named)
    process.start()
    process.join(seconds)
    cut = process.is_alive()
    if cut:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    process.join(LONGEST)
    assert process.exitcode == (-signal.SIGKILL if cut else 0)
    return cut


def whole_time(forks: ForkServerContext, small: dict[str, Any], folder: Path) -> float:
    """Seconds from the start of a process to the end of the run in it."""
    began = time.perf_counter()
    assert not kill_after(forks, LONGEST, runs.run, small, out=folder)
    return time.perf_counter() - began


def cut_and_resume(forks: ForkServerContext, small: dict[str, Any], folder: Path, cuts: list[float]) -> bool:
    """Runs, is killed, resumes, is killed again, and resumes to the end; False when it came to nothing."""
    if not kill_after(forks, cuts[0], runs.run, small, out=folder) and len(cuts) == 1:
        return True
    for seconds in cuts[1:]:
        if (folder / "run.yaml").exists():
            process = forks.Process(target=runs.resume, args=(folder,))
            process.start()
            process.join(seconds)
            process.kill()
            process.join(LONGEST)
    if not (folder / "run.yaml").exists():
        with pytest.raises(CheckpointError, match="not a run folder"):
            runs.resume(folder)
        return False
    assert runs.resume(folder).exit_code == 0
    return True


def check(forks: ForkServerContext, small: dict[str, Any], unbroken: Path, contents: Contents, folder: Path,
          instants: int, seed: int) -> None:  # fmt: skip
    wanted, draw = contents(unbroken), random.Random(seed)
    whole = whole_time(forks, small, folder / "timed")
    assert contents(folder / "timed") == wanted
    tried = 0
    for number in range(instants):
        place = (number + draw.random()) / instants  # spread over set-up, training, checkpoints and clean-up
        cuts = [place * whole] + ([draw.random() * whole] if number % 3 == 0 else [])
        name = folder / f"{number}"
        if cut_and_resume(forks, small, name, cuts):
            tried += 1
            found = contents(name)
            for key, value in wanted.items():
                assert found[key] == value, f"{key} after cuts at {cuts} of {whole} s"
    assert tried >= instants - 1 - instants // 8


def test_a_killed_run_goes_on_bit_for_bit(
    forks: ForkServerContext, small: Callable[..., dict[str, Any]], unbroken: Path, contents: Contents, tmp_path: Path
) -> None:
    check(forks, small(), unbroken, contents, tmp_path, instants=4, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_run_killed_at_20_instants_goes_on_bit_for_bit(
    forks: ForkServerContext, small: Callable[..., dict[str, Any]], unbroken: Path, contents: Contents, tmp_path: Path
) -> None:
    check(forks, small(), unbroken, contents, tmp_path, instants=20, seed=2)


def test_a_finished_run_is_left_as_it_is(unbroken: Path, contents: Contents) -> None:
    before, stamps = contents(unbroken), {p.name: p.stat().st_mtime_ns for p in unbroken.iterdir() if p.name != "lock"}
    stored = runs.read_result(unbroken)
    for _ in range(2):
        assert runs.resume(unbroken) == stored
    assert contents(unbroken) == before
    after = {p.name: p.stat().st_mtime_ns for p in unbroken.iterdir() if p.name in stamps}
    assert after == stamps
