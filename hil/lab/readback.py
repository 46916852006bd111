"""Going on with a run: what was saved, against what the run depends on and what is on the chip now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from hil.errors import CheckpointError, CheckpointMismatch
from hil.lab.checkpoint import Checkpoint
from hil.lab.job import Job
from hil.lab.ledger import Ledger
from hil.lab.wear import Wear
from hil.network import Network
from hil.protocol import State
from hil.twin import read_siemens

AVERAGES = 4


def compare(folder: Path, saved: Checkpoint, facts: Mapping[str, Any]) -> None:
    """Compares what a run depends on with what it depended on at its checkpoint, as far as it is known.

    Args:
        folder: the run's folder.
        saved: the checkpoint.
        facts: what is known now; before the data are loaded they are not among it.

    Raises:
        CheckpointMismatch: config, serial, geometry, dtype or data have changed; the error names the key.
    """
    known = {name: saved.facts.get(name) for name in facts}
    for name, then, now in differences(known, dict(facts)):
        raise CheckpointMismatch(str(folder), name, _short(then), _short(now))


def restore(folder: Path, job: Job, saved: Checkpoint) -> State:
    """Puts a checkpoint back into a freshly opened job.

    Network, protocol and, on a simulator, the board become what they were; a chip stays what it is.

    Raises:
        CheckpointMismatch: what the run depends on has changed.
        CheckpointError: the checkpoint does not fit.
    """
    compare(folder, saved, job.facts)
    fresh = job.protocol.init(job.network, job.seed)
    if saved.state.seed != fresh.seed:
        raise CheckpointMismatch(str(folder), "seed", saved.state.seed, fresh.seed)
    grown = job.protocol.remembered(job.network, job.samples.batch(0).x.shape[0])
    known = {name: torch.empty(shape, dtype=torch.float64) for name, shape in grown.items()}
    expected = fresh.tensors | {name: t for name, t in known.items() if name in saved.state.tensors}
    _fits(folder, "protocol", expected, saved.state.tensors)
    own: dict[str, Tensor] = job.network.state_dict()
    _fits(folder, "network", own, job.network.parameters_of(saved.network))
    totals = ledger(folder, saved.facts.get("ledger"))
    if job.guard.restorable:
        _fits(folder, "board", job.guard.snapshot(), saved.board)
        try:
            job.guard.restore(saved.board)
        except CheckpointError as error:
            raise CheckpointError(str(folder), f"the board's {error}") from error
    try:
        job.network.restore(saved.network)
    except RuntimeError as error:
        raise CheckpointError(str(folder), f"the network: {error}") from error
    job.guard.ledger = totals
    return State(saved.state.step, saved.state.seed, dict(saved.state.tensors))


def ledger(folder: Path, totals: Any) -> Ledger:
    """The running totals of a checkpoint.

    Raises:
        CheckpointError: they are missing, or are no totals.
    """
    wanted = Ledger().as_dict()
    if not isinstance(totals, dict) or cast(dict[str, Any], totals).keys() != wanted.keys():
        raise CheckpointError(str(folder), "the running totals are missing from the checkpoint")
    found = cast(dict[str, Any], totals)
    for name, zero in wanted.items():
        if type(found[name]) is not type(zero) or not 0 <= found[name] < float("inf"):
            raise CheckpointError(str(folder), f"the running total of {name} is {_short(found[name])!r}")
    return Ledger(**found)


def read_network(network: Network) -> dict[str, Tensor]:
    """Conductances of all matrices of a network, S, by ``layer/matrix``; what a chip's checkpoint holds."""
    return {
        f"{layer.name}/{name}": read_siemens(matrix, layer.backend, AVERAGES)
        for layer in network.layers
        for name, matrix in layer.matrices.items()
    }


def distance(saved: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> dict[str, float]:
    """Rms change of each matrix's cells in S; NaN where the checkpoint does not have it."""
    found: dict[str, float] = {}
    for name, value in now.items():
        old = saved.get(name)
        fits = old is not None and old.shape == value.shape
        found[name] = float((value - old).square().mean().sqrt()) if old is not None and fits else float("nan")
    return found


def carry_wear(wear: Wear, saved: Mapping[str, Tensor]) -> None:
    """Goes on counting a chip's pulses in this run; what its life has gained since the checkpoint counts as well."""
    run, life = saved.get("wear.run"), saved.get("wear.life")
    for found in (run, life):
        if found is None or found.shape != wear.run.shape or found.dtype != wear.run.dtype or bool((found < 0).any()):
            raise CheckpointError("checkpoint", "its counts of pulses are missing or do not fit the chip")
    assert run is not None and life is not None
    wear.run.copy_(run + (wear.life - life).clamp(min=0))


def differences(saved: object, now: object, key: str = "") -> list[tuple[str, object, object]]:
    """Dotted keys at which two plain values differ, with both values."""
    same = type(saved) is type(now) and saved == now
    if isinstance(saved, dict) and isinstance(now, dict):
        then, today = cast(dict[str, Any], saved), cast(dict[str, Any], now)
        found: list[tuple[str, object, object]] = []
        for name in sorted({*then, *today}):
            found += differences(then.get(name), today.get(name), f"{key}.{name}" if key else name)
        return found
    return [] if same else [(key, saved, now)]


def _short(value: object) -> object:
    """A foreign value that is fit for a message."""
    try:
        text = repr(value)
    except RecursionError:
        return "deeply nested data"
    return value if len(text) <= 200 else text[:200] + " ..."


def _fits(folder: Path, part: str, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Compares names, shapes and dtypes of tensors."""
    for name in sorted({*wanted, *found}):
        if name not in wanted or name not in found:
            seen = "is unknown" if name in found else "is missing"
            raise CheckpointError(str(folder), f"the tensor '{part}/{name}' of the checkpoint {seen}")
        a, b = wanted[name], found[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            shown = f"{tuple(b.shape)} {b.dtype}, expected {tuple(a.shape)} {a.dtype}"
            raise CheckpointError(str(folder), f"the tensor '{part}/{name}' of the checkpoint is {shown}")
