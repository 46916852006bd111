"""Run folders: beginning a run, going on with one, and what is left of it on the disk.

A folder holds ``run.yaml`` and ``board.yaml`` (resolved), ``run.db`` (the record), checkpoints, ``result.json`` and
``report.html``. It needs nothing outside itself to go on.
"""

from __future__ import annotations

import errno
import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from hil.errors import CheckpointError, StorageError, UsageError
from hil.lab import checkpoint as checkpoints
from hil.lab import config
from hil.lab.build import Plan, build_job, software_accuracy
from hil.lab.checkpoint import Checkpoint
from hil.lab.claim import LOCK, claimed
from hil.lab.guard import Guard
from hil.lab.job import Job, Observer, RunResult, Silent
from hil.lab.opening import moved, read_board
from hil.lab.plain import printable
from hil.lab.readback import compare
from hil.lab.record import Record
from hil.lab.runfile import RunConfig, tightened
from hil.lab.runner import Desk, Runner
from hil.lab.signals import Interrupted, interruptible, signals
from hil.lab.stop import StopToken

RUN_ROOT = Path("runs")
RESULT, REPORT, CRASH = "result.json", "report.html", "crash.txt"
_MAX_RESULT = 1 << 20


def read_plan(run_file: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Plan:
    """Reads a run file and its board file; the board's path is looked up from here, then beside the run file."""
    if isinstance(run_file, Mapping):
        loaded, beside = config.from_mapping(dict(run_file), RunConfig, overrides=overrides), None
    else:
        beside = config.find(run_file)
        loaded = config.load(beside, RunConfig, overrides)
    board = read_board(loaded.value.board, beside)
    tightened(board.value.spec, loaded.value.limits, loaded.where)  # a looser limit is told before a folder is made
    return Plan(loaded, board)


def read_folder(folder: Path) -> Plan:
    """Reads run file and board file of a run folder.

    Raises:
        CheckpointError: the folder is no run folder, or holds symbolic links where a run keeps its files.
    """
    shown = printable(str(folder))
    for name in ("run.yaml", "board.yaml", "run.db", "run.db-wal", "run.db-shm", LOCK):
        path = folder / name
        if path.is_symlink():
            raise CheckpointError(shown, f"{name} is a symbolic link; a run folder holds its own files")
        wanted = name in ("run.yaml", "board.yaml", "run.db")
        if (wanted or path.exists()) and not path.is_file():
            raise CheckpointError(shown, f"this is not a run folder: it has no {name}")
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
    with claimed(folder):
        checkpoints.store(folder / "board.yaml", config.dump(plan.board.plain))
        record = Record(folder / "run.db")
        checkpoints.store(folder / "run.yaml", config.dump({**plan.run.plain, "board": "board.yaml"}))
        return _conduct(plan, record, None, observer or Silent(), stop or StopToken())


def resume(
    folder: str | Path, *, url: str | None = None, observer: Observer | None = None, stop: StopToken | None = None
) -> RunResult:
    """Goes on with a run from its last checkpoint; a run that is done is left as it is.

    On a simulator the rows after the checkpoint are dropped and the run is bit-identical to an unbroken one. On a chip
    no row is dropped: the run goes on from what is on the chip, and its distance to what was saved is shown.

    Args:
        folder: the run's folder.
        url: where its board is now; None for where it was.
        observer: who watches.
        stop: a stop token, to end the run from another thread.

    Raises:
        CheckpointError: the folder is no run, or its checkpoint is damaged.
        CheckpointMismatch: what the run depends on has changed.
        UsageError: another process runs it.
    """
    folder, observer = Path(folder), observer or Silent()
    plan = read_folder(folder)
    if url is not None:
        plan = replace(plan, board=moved(plan.board, url))
    with claimed(folder):
        newest = checkpoints.latest(folder)
        saved = None if newest is None else checkpoints.read(newest)
        if saved is not None:
            compare(folder, saved, plan.facts)
        done = _done(folder, plan, saved)
        if done is not None:
            observer.say("this run is done")
            return done
        checkpoints.tidy(folder)
        return _conduct(plan, Record(folder / "run.db"), saved, observer, stop or StopToken())


def read_result(folder: Path) -> RunResult | None:
    """The result that a run folder holds; None when there is none, or none that can be read."""
    path = folder / RESULT
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_RESULT:
            return None
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return RunResult.from_dict(cast(dict[str, Any], data), folder) if isinstance(data, dict) else None


def _done(folder: Path, plan: Plan, saved: Checkpoint | None) -> RunResult | None:
    """The result of a run of which nothing is left to do."""
    if saved is None or saved.state.step < plan.run.value.steps or not (folder / REPORT).is_file():
        return None
    result = read_result(folder)
    if result is None or result.status != "done":
        return None
    whole = plan.run.value.software is None or result.software_accuracy is not None
    return result if whole else None


def _conduct(plan: Plan, record: Record, saved: Checkpoint | None, observer: Observer, stop: StopToken) -> RunResult:
    folder = record.path.parent
    desk = Desk(folder, record, stop, observer)

    def open_job(opened: Callable[[Guard], None]) -> Job:
        return build_job(plan, stop, record, opened, program=saved is None)

    with signals(stop, observer.say):
        try:
            result = Runner(desk, open_job, saved).conduct()
        except Exception as error:
            with suppress(StorageError):  # the error is what the operator must see
                checkpoints.store(folder / CRASH, "".join(traceback.format_exception(error)))
                error.add_note(f"traceback: {folder / CRASH}")
            raise
        if saved is not None and result.exit_code == CheckpointError.exit_code:
            return result  # refused: the folder stays as it was
        result = _kept(result)
        if result.status == "done":
            result = _beside_software(result, plan, observer)
        return _reported(_kept(result))


def _beside_software(result: RunResult, plan: Plan, observer: Observer) -> RunResult:
    """Adds the software baseline; it needs no board, so an operator may end it at any moment without losing the run."""
    if plan.run.value.software is None:
        return result
    observer.say("training the software baseline")
    try:
        with interruptible():
            return replace(result, software_accuracy=software_accuracy(plan))
    except (Interrupted, KeyboardInterrupt):
        observer.say("the software baseline was left out; `hil resume` makes up for it")
        return result


def _kept(result: RunResult) -> RunResult:
    """Writes the result beside the record; a full disk at this point does not change what was measured."""
    try:
        checkpoints.store(result.run_dir / RESULT, json.dumps(result.as_dict(), indent=1))
    except StorageError as error:
        return _spoilt(result, error)
    return result


def _reported(result: RunResult) -> RunResult:
    """Writes the report; a run whose report cannot be written is not done, and `hil resume` makes up for it."""
    from hil.lab.report import write_report

    try:
        write_report(result.run_dir)
    except (StorageError, OSError) as error:
        return _spoilt(result, error if isinstance(error, StorageError) else StorageError(REPORT, str(error)))
    return result


def _spoilt(result: RunResult, error: StorageError) -> RunResult:
    if result.exit_code != 0:
        return result
    return replace(result, status="failed", exit_code=error.exit_code, error=str(error))


def _new_folder(name: str, out: Path | None) -> Path:
    """Makes the folder of a run; one under ``runs`` is named after the run and the time."""
    folder = _free_name(name) if out is None else out
    shown = printable(str(folder))
    try:
        if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
            raise UsageError(f"{shown} is there already; give another --out, or go on with `hil resume {shown}`")
        folder.mkdir(parents=True, exist_ok=True)
    except (NotADirectoryError, FileExistsError, ValueError) as error:
        raise UsageError(f"{shown} cannot be the folder of a run ({error})") from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise UsageError(f"{shown} cannot be the folder of a run ({error.strerror})") from error
        raise StorageError(shown, str(error)) from error
    return folder


def _free_name(name: str) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        tail = f"-{stamp}" if number == 1 else f"-{stamp}-{number}"
        folder = config.inside(RUN_ROOT, name[: 64 - len(tail)] + tail)
        if not folder.exists():
            return folder
    raise UsageError(f"there are too many folders named {name}-{stamp}; give --out")
