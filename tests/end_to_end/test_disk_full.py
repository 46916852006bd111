"""A disk that fills up: the run ends safe with exit code 6, and goes on when there is space again."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable, Generator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from hil.lab import checkpoint, runs
from hil.lab.stop import StopToken

Small = Callable[..., dict[str, Any]]
Limited = Callable[..., dict[str, Any]]
Contents = Callable[[Path], dict[str, Any]]


@pytest.fixture
def limited(forks: ForkServerContext) -> Callable[..., dict[str, Any]]:
    """``limited(content, folder, most)``: runs in a process none of whose files can grow beyond ``most`` bytes."""

    def call(content: dict[str, Any], folder: Path, most: int) -> dict[str, Any]:
        process = forks.Process(target=runs.run, args=(content,), kwargs={"out": folder})
        process.start()
        assert process.pid is not None
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        process.join(50)
        assert process.exitcode == 0
        return json.loads((folder / "result.json").read_text())

    return call


@pytest.fixture
def size(unbroken: Path) -> int:
    """Bytes of one checkpoint of the small run."""
    newest = checkpoint.latest(unbroken)
    assert newest is not None
    return newest.stat().st_size


def ended_safe(result: dict[str, Any], what: str) -> None:
    assert result["exit_code"] == 6 and result["status"] == "failed"
    assert result["safe"] == "SAFE confirmed" and what in result["error"] and "hil resume" in result["error"]


def test_a_checkpoint_that_cannot_be_written(
    limited: Limited, small: Small, unbroken: Path, contents: Contents, tmp_path: Path, size: int
) -> None:
    folder = tmp_path / "run"
    ended_safe(limited(small(), folder, size // 2), "safetensors")
    assert checkpoint.latest(folder) is None and not list(folder.glob("*.part"))
    assert runs.resume(folder).exit_code == 0
    assert contents(folder) == contents(unbroken)


def test_a_record_that_cannot_grow(limited: Limited, small: Small, tmp_path: Path, size: int) -> None:
    """A checkpoint fits, the log of thousands of steps does not."""
    folder = tmp_path / "run"
    result = limited(small(checkpoint_every=5000, steps=5000), folder, size * 3 // 2)
    ended_safe(result, "run.db")
    newest = checkpoint.latest(folder)
    assert result["steps"] > 0 and newest is not None and checkpoint.read(newest).state.step == 0
    stopped = StopToken()
    stopped.stop()
    again = runs.resume(folder, stop=stopped)
    assert again.exit_code == 4 and again.steps == 0 and again.safe == "SAFE confirmed"


@pytest.fixture
def tiny_disk(tmp_path: Path, size: int) -> Generator[Path]:
    """A file system of its own that holds five checkpoints."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={5 * size}", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, timeout=10, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("mounting needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True, timeout=10)


def test_a_disk_that_is_full_and_has_space_again(
    small: Small, unbroken: Path, contents: Contents, tiny_disk: Path, size: int
) -> None:
    """Two checkpoints fit beside the record; the third does not while something else takes the rest."""
    other = tiny_disk / "other"
    folder = tiny_disk / "run"
    other.write_bytes(bytes(2 * size))
    failed = runs.run(small(), out=folder)
    assert failed.exit_code == 6 and failed.status == "failed" and failed.safe == "SAFE confirmed"
    assert failed.error is not None and "No space left" in failed.error
    newest = checkpoint.latest(folder)
    assert newest is not None and checkpoint.read(newest).state.step < 60
    assert not list(folder.glob("*.part"))
    again = runs.resume(folder)  # still full
    assert again.exit_code == 6 and again.safe == "SAFE confirmed"
    other.unlink()
    assert runs.resume(folder).exit_code == 0
    assert contents(folder) == contents(unbroken)
