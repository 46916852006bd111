"""Checkpoints: protocol state, network state and board snapshot in one file, written atomically.

A checkpoint is a safetensors file whose header carries JSON. It is written beside its final name, synced and renamed,
so that a crash leaves the last checkpoint intact.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from hil.errors import CheckpointError, StorageError
from hil.protocol import State

_FORMAT = "crossbar-hil checkpoint 1"
_LARGEST = 1 << 32
_PARTS = ("protocol", "network", "board")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run at the end of a step.

    Args:
        state: the protocol's state; ``state.step`` is the next step.
        network: the network's state dict.
        board: the board's snapshot; empty for a real board.
        facts: what the run depends on (config, serial, geometry, dtype) and its running totals; plain JSON.
    """

    state: State
    network: Mapping[str, Tensor]
    board: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def write(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> Path:
    """Writes a checkpoint and removes old ones.

    Raises:
        StorageError: it could not be written; older checkpoints are untouched.
    """
    from safetensors.torch import save

    groups = {"protocol": checkpoint.state.tensors, "network": checkpoint.network, "board": checkpoint.board}
    tensors = {f"{part}/{name}": t.detach().contiguous() for part in _PARTS for name, t in groups[part].items()}
    header = {"step": checkpoint.state.step, "seed": checkpoint.state.seed, "facts": checkpoint.facts}
    path = folder / f"checkpoint-{checkpoint.state.step:09d}.safetensors"
    try:
        write_atomically(path, save(tensors, {"format": _FORMAT, "json": json.dumps(header)}))
        for old in all_checkpoints(folder)[:-keep]:
            old.unlink()
    except OSError as error:
        raise StorageError(str(path), str(error)) from error
    return path


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        CheckpointError: the file is damaged, or is something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if not path.is_file() or path.is_symlink():
            raise CheckpointError(str(path), "there is no such file")
        if path.stat().st_size > _LARGEST:
            raise CheckpointError(str(path), "the file is too large for a checkpoint")
        with safe_open(str(path), framework="pt") as file:
            meta: dict[str, str] = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(str(path), f"the file is damaged ({error})") from error
    if meta.get("format") != _FORMAT:
        raise CheckpointError(str(path), f"this is not a checkpoint: its format is {meta.get('format')!r}")
    header = _header(path, meta.get("json", ""))
    groups: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        if part not in groups:
            raise CheckpointError(str(path), f"it holds an unknown tensor {name!r}")
        groups[part][rest] = tensor
    state = State(header["step"], header["seed"], groups["protocol"])
    return Checkpoint(state, groups["network"], groups["board"], header["facts"])


def latest(folder: Path) -> Path | None:
    """The newest checkpoint of a run folder, or None."""
    found = all_checkpoints(folder)
    return found[-1] if found else None


def all_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run folder, oldest first."""
    return sorted(folder.glob("checkpoint-*.safetensors"))


def store(path: Path, text: str) -> None:
    """Writes a text file atomically.

    Raises:
        StorageError: it could not be written.
    """
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise StorageError(str(path), str(error)) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that either the old or the whole new content is there: temporary file, sync, rename, sync."""
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _header(path: Path, text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(str(path), f"its header is not JSON ({error})") from error
    good = isinstance(header, dict) and isinstance(header.get("facts"), dict)
    if not good or not all(type(header.get(key)) is int and header[key] >= 0 for key in ("step", "seed")):
        raise CheckpointError(str(path), "its header lacks step, seed or facts")
    return cast("dict[str, Any]", header)
