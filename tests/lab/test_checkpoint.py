"""Checkpoints: they come back bit for bit, and the last one survives whatever happens to the next."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import CheckpointError, StorageError
from hil.lab import checkpoint
from hil.lab.checkpoint import Checkpoint
from hil.protocol import State

DTYPES = [torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool]


def make(step: int = 0, **tensors: torch.Tensor) -> Checkpoint:
    return Checkpoint(State(step, 5, {"a": torch.arange(3.0)}), {"w": torch.ones(2)}, tensors, {"ledger": {}, "x": [1]})


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    dtype = draw(st.sampled_from(DTYPES))
    source = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    values = torch.randint(0, 2 if dtype is torch.bool else 200, shape, generator=source).to(dtype)
    return values.transpose(0, -1) if len(shape) > 1 and draw(st.booleans()) else values


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    protocol=st.dictionaries(st.text(min_size=1, max_size=8), tensors(), max_size=3),
    board=st.dictionaries(st.from_regex(r"[a-z./]{1,12}", fullmatch=True), tensors(), max_size=3),
    step=st.integers(0, 10**12),
    facts=st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.floats(allow_nan=False) | st.text()),
)
def test_a_checkpoint_comes_back_bit_for_bit(
    protocol: dict[str, torch.Tensor], board: dict[str, torch.Tensor], step: int, facts: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint.write(Path(folder), Checkpoint(State(step, 3, protocol), {}, board, facts))
        assert checkpoint.latest(Path(folder)) == path
        back = checkpoint.read(path)
    assert (back.state.step, back.state.seed, back.facts) == (step, 3, facts)
    for wrote, found in ((protocol, back.state.tensors), (board, back.board)):
        assert wrote.keys() == found.keys()
        for name, tensor in wrote.items():
            assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_the_last_two_are_kept_by_number(tmp_path: Path) -> None:
    for step in (5, 999_999_999, 1_000_000_000, 12_000_000_000):
        checkpoint.write(tmp_path, make(step))
    kept = [path.name for path in checkpoint.all_checkpoints(tmp_path)]
    assert kept == ["checkpoint-1000000000.safetensors", "checkpoint-12000000000.safetensors"]
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".safetensors"] == []


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    path = checkpoint.write(tmp_path, make(3))
    for name in ("checkpoint-zzz.safetensors", "checkpoint-000000009.safetensors.part", "checkpoint-1.safetensors"):
        (tmp_path / name).write_text("x")
    assert checkpoint.all_checkpoints(tmp_path) == [path]
    assert checkpoint.latest(tmp_path / "..") is None


def test_a_checkpoint_holds_its_own_memory(tmp_path: Path) -> None:
    """What was read does not change with the file: a map of the file would."""
    path = checkpoint.write(tmp_path, make(3, g=torch.ones(100_000)))
    back = checkpoint.read(path)
    with path.open("r+b") as file:
        file.truncate(100)
    assert bool((back.board["g"] == 1).all())


FAILURES = {
    "sync": ("os.fsync", OSError(errno.ENOSPC, "No space left on device")),
    "rename": ("pathlib.Path.replace", OSError(errno.EIO, "Input/output error")),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_checkpoint_that_fails_leaves_the_last_one(tmp_path: Path, mocker: Any, name: str) -> None:
    first = checkpoint.write(tmp_path, make(1))
    before = first.read_bytes()
    where, error = FAILURES[name]
    patched = mocker.patch(where, side_effect=error)
    for step in (1, 2):  # the same step again, and the next
        with pytest.raises(StorageError, match="free some space"):
            checkpoint.write(tmp_path, make(step, g=torch.zeros(9)))
    mocker.stop(patched)
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    assert first.read_bytes() == before


def test_a_text_file_is_replaced_as_a_whole(tmp_path: Path, mocker: Any) -> None:
    path = tmp_path / "result.json"
    checkpoint.store(path, "old")
    synced: list[str] = []
    usual = os.fsync

    def fsync(file: int) -> None:
        synced.append(path.read_text())
        usual(file)

    mocker.patch("os.fsync", fsync)
    checkpoint.store(path, "new and longer")
    assert synced == ["old", "new and longer"]  # the new text was on the disk before its name was, then the name


def test_a_checkpoint_of_the_same_step_replaces_it(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, make(3, g=torch.zeros(2)))
    path = checkpoint.write(tmp_path, make(3, g=torch.ones(2)))
    assert bool((checkpoint.read(path).board["g"] == 1).all())
    assert len(checkpoint.all_checkpoints(tmp_path)) == 1


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoint.read(tmp_path / "checkpoint-000000001.safetensors")
