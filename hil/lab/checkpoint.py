"""Checkpoints: protocol state, network state and board snapshot in one file, written atomically.

A checkpoint is a safetensors file whose header carries JSON. It is written beside its final name, synced and renamed,
so that a crash leaves the last checkpoint intact.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from hil.errors import CheckpointError, StorageError
from hil.protocol import State

_FORMAT = "crossbar-hil checkpoint 1"
_LARGEST = 1 << 32
_LARGEST_HEADER = 1 << 24
_PARTS = ("protocol", "network", "board")
_NAME = re.compile(r"checkpoint-([0-9]{9,18})\.safetensors")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run at the end of a step.

    Args:
        state: the protocol's state; ``state.step`` is the next step.
        network: the network's state dict.
        board: the board's snapshot; of a real board the conductances that were read, S, and the wear of this run.
        facts: what the run depends on (config, serial, geometry, dtype) and its running totals; plain JSON.
    """

    state: State
    network: Mapping[str, Tensor]
    board: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def write(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> Path:
    """Writes a checkpoint and removes old ones; ``keep`` of them stay.

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
    except OSError as error:
        raise StorageError(str(path), str(error)) from error
    tidy(folder, keep=keep)
    return path


def tidy(folder: Path, *, keep: int = 2) -> None:
    """Removes all but the last checkpoints, and what a process that was killed has left half written.

    Raises:
        StorageError: something could not be removed.
    """
    try:
        for old in [*all_checkpoints(folder)[:-keep], *folder.glob("checkpoint-*.part")]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(str(folder), str(error)) from error


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        CheckpointError: the file is damaged, or is something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        _look(path)
        with cast(Any, safe_open)(str(path), framework="pt") as file:
            meta: dict[str, str] = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (SafetensorError, OSError, ValueError, OverflowError, AttributeError) as error:
        raise CheckpointError(str(path), f"the file is damaged ({error}){_instead(path)}") from error
    if meta.get("format") != _FORMAT:
        raise CheckpointError(str(path), f"this is not a checkpoint: its format is {meta.get('format')!r}")
    header = _header(path, meta.get("json", ""))
    groups: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        if part not in groups:
            raise CheckpointError(str(path), f"it holds an unknown tensor {name!r}")
        if part != "board" and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(str(path), f"the tensor {name!r} holds values that are not finite")
        groups[part][rest] = tensor
    state = State(header["step"], header["seed"], groups["protocol"])
    return Checkpoint(state, groups["network"], groups["board"], header["facts"])


def latest(folder: Path) -> Path | None:
    """The newest checkpoint of a run folder, or None."""
    found = all_checkpoints(folder)
    return found[-1] if found else None


def all_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run folder, oldest first."""
    named = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted((int(match[1]), path) for match, path in named)]


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
    """Writes a file so that either the old or the whole new content is there: temporary file, sync, rename, sync.

    What stands at the temporary name, be it a symbolic link, is removed and never written through.
    """
    partial = path.with_name(path.name + ".part")
    try:
        partial.unlink(missing_ok=True)
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with suppress(OSError):  # the first error is the one to see
            partial.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _look(path: Path) -> None:
    """Looks at the file from outside, before anything of it is read."""
    if path.is_symlink() or not path.is_file():
        raise CheckpointError(
            str(path), "it is no regular file" if path.exists() or path.is_symlink() else "no such file"
        )
    size = path.stat().st_size
    if size > _LARGEST:
        raise CheckpointError(str(path), f"the file is too large for a checkpoint: {size} bytes")
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if size < 8 or header > size - 8:
        raise CheckpointError(str(path), f"the file is damaged: it ends after {size} bytes{_instead(path)}")
    if header > _LARGEST_HEADER:
        raise CheckpointError(str(path), f"its header is too large for a checkpoint: {header} bytes")


def _instead(path: Path) -> str:
    """What to do about a damaged file: the checkpoint before it is kept for this."""
    older = [other.name for other in all_checkpoints(path.parent) if other.name < path.name]
    return f"; move it away to go on from {older[-1]}" if older else ""


def _header(path: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(str(path), f"its header is not JSON ({error})") from error
    header = cast(dict[str, Any], found) if isinstance(found, dict) else {}
    numbers = [header.get(key) for key in ("step", "seed")]
    if not isinstance(header.get("facts"), dict) or not all(type(n) is int and n >= 0 for n in numbers):
        raise CheckpointError(str(path), "its header lacks step, seed or facts")
    named = _NAME.fullmatch(path.name)
    if named is not None and int(named[1]) != header["step"]:
        raise CheckpointError(str(path), f"its header says step {header['step']}, its name another")
    return header
