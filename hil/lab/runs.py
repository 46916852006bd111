"""Run folders: beginning a run, going on with one, and what is left of it on the disk.

A folder holds ``run.yaml`` and ``board.yaml`` (resolved), ``run.db`` (the record), checkpoints, ``result.json`` and
``report.html``. It needs nothing outside itself to go on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hil.contract import Backend
from hil.errors import CheckpointError, StorageError, UsageError
from hil.lab import checkpoint as checkpoints
from hil.lab import config
from hil.lab.build import Plan, build_job, read_board, software_accuracy
from hil.lab.checkpoint import Checkpoint
from hil.lab.job import Job, Observer, RunResult, Silent
from hil.lab.record import SETUP_STEP, Record
from hil.lab.runfile import RunConfig
from hil.lab.runner import Desk, Runner
from hil.lab.stop import StopToken

RUN_ROOT = Path("runs")


def read_plan(run_file: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Plan:
    """Reads a run file and its board file; the board's path is looked up from here, then beside the run file."""
    if isinstance(run_file, Mapping):
        loaded, beside = config.from_mapping(dict(run_file), RunConfig, overrides=overrides), None
    else:
        beside = config.find(run_file)
        loaded = config.load(beside, RunConfig, overrides)
    config.run_name(loaded.value.name)
    return Plan(loaded, read_board(loaded.value.board, beside))


def read_folder(folder: Path) -> Plan:
    """Reads run file and board file of a run folder.

    Raises:
        CheckpointError: a file is missing.
    """
    for name in ("run.yaml", "board.yaml", "run.db"):
        if not (folder / name).is_file():
            raise CheckpointError(str(folder), f"this is not a run folder: it has no {name}")
    return Plan(config.load(folder / "run.yaml", RunConfig), read_board(folder / "board.yaml"))


def run(
    run_file: str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    observer: Observer | None = None,
    stop: StopToken | None = None,
) -> RunResult:
    """Runs a run file from beginning to end and writes its folder.

    Args:
        run_file: path of the run file, or its content.
        out: folder to make for the run; None for a new one under ``runs``.
        overrides: ``key.path=value`` settings that take the place of the file's.
        observer: who watches.
        stop: a stop token, to end the run from another thread.

    Returns:
        The result; ``result.exit_code`` is 0 when the run is done.

    Raises:
        ConfigError: run file or board file cannot be used.
        UsageError: the folder is there already.
        StorageError: the folder cannot be written.
    """
    plan = read_plan(run_file, overrides)
    folder = _new_folder(plan.run.value.name, None if out is None else Path(out))
    checkpoints.store(folder / "board.yaml", config.dump(plan.board.plain))
    checkpoints.store(folder / "run.yaml", config.dump({**plan.run.plain, "board": "board.yaml"}))
    return _conduct(plan, Record(folder / "run.db"), None, observer or Silent(), stop or StopToken())


def resume(folder: str | Path, *, observer: Observer | None = None, stop: StopToken | None = None) -> RunResult:
    """Goes on with a run from its last checkpoint.

    On a simulator the rows after the checkpoint are dropped and the run is bit-identical to an unbroken one. On a chip
    no row is dropped: the run goes on from what is on the chip, and its distance to what was saved is shown.

    Raises:
        CheckpointError: the folder is no run, or its checkpoint is damaged.
        CheckpointMismatch: what the run depends on has changed.
    """
    folder = Path(folder)
    plan = read_folder(folder)
    newest = checkpoints.latest(folder)
    saved = None if newest is None else checkpoints.read(newest)
    observer = observer or Silent()
    record = Record(folder / "run.db")
    doubt = record.in_doubt()
    if doubt:
        lists = f"{len(doubt)} lists of operations" if len(doubt) > 1 else "one list of operations"
        observer.say(f"{lists} may have been applied when the run was cut off (first: {doubt[0][2]})")
    if saved is None:
        record.drop_after(SETUP_STEP)  # it was cut off in its set-up, which is done anew
    return _conduct(plan, record, saved, observer, stop or StopToken())


def _conduct(plan: Plan, record: Record, saved: Checkpoint | None, observer: Observer, stop: StopToken) -> RunResult:
    folder = record.path.parent
    desk = Desk(folder, record, stop, observer)

    def open_job(opened: Callable[[Backend], None]) -> Job:
        return build_job(plan, stop, record, opened, program=saved is None)

    result = Runner(desk, open_job, saved).conduct()
    if result.status == "done":
        result = replace(result, software_accuracy=software_accuracy(plan))
    return _finished(result, folder)


def _finished(result: RunResult, folder: Path) -> RunResult:
    """Writes result and report beside the record; a full disk at this point does not change what was measured."""
    from hil.lab.report import write_report

    try:
        checkpoints.store(folder / "result.json", json.dumps(result.as_dict(), indent=1))
        write_report(folder)
    except StorageError as error:
        if result.exit_code == 0:
            return replace(result, status="failed", exit_code=error.exit_code, error=str(error))
    return result


def _new_folder(name: str, out: Path | None) -> Path:
    """Makes the folder of a run; one under ``runs`` is named after the run and the time."""
    folder = _free_name(name) if out is None else out
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise UsageError(f"{folder} is there already; give another --out, or go on with `hil resume {folder}`")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(str(folder), str(error)) from error
    return folder


def _free_name(name: str) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        tail = f"-{stamp}" if number == 1 else f"-{stamp}-{number}"
        folder = config.inside(RUN_ROOT, name[: 64 - len(tail)] + tail)
        if not folder.exists():
            return folder
    raise UsageError(f"there are too many folders named {name}-{stamp}; give --out")
