"""Sweeps: the runs of a grid or a search over several seeds, several at once, in one folder that goes on."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hil.errors import CheckpointMismatch, StorageError, UsageError
from hil.lab import config, sweep_figures, tables
from hil.lab.claim import claimed
from hil.lab.plain import printable
from hil.lab.readback import differences
from hil.lab.signals import signals
from hil.lab.stop import StopToken
from hil.lab.sweep_executors import Processes, dask
from hil.lab.sweep_jobs import remove
from hil.lab.sweep_loop import Shift, Watcher, carry_out
from hil.lab.sweep_plans import Combinations
from hil.lab.sweep_results import write_tables
from hil.lab.sweep_search import Proposals, needed
from hil.lab.sweep_work import Row, WorkList, point
from hil.lab.sweep_worker import WISH, Order, conduct, prepare
from hil.lab.sweepfile import SweepConfig
from hil.lab.swept import Swept

ROOT = Path("runs")
WORK, RUNS = "sweep.db", "runs"
_FREE = ("workers", "retries", "keep", "show", "source")
"""Keys of a sweep file that change no result; they may be other ones when it goes on."""


def sweep(
    sweep_file: str | Path,
    watcher: Watcher,
    *,
    out: Path | None = None,
    scheduler: str | None = None,
    retry_failed: bool = False,
    stop: StopToken | None = None,
) -> Swept:
    """Does the runs of a sweep file that are not done yet, and writes tables and a figure.

    Args:
        sweep_file: the sweep file.
        watcher: who watches.
        out: the sweep's folder; None for ``runs/NAME``. When the sweep is there already, it goes on.
        scheduler: address of a Dask scheduler; None for processes of this machine.
        retry_failed: do failed runs again.
        stop: a stop token, to end the sweep from another thread.

    Raises:
        ConfigError: a file or a combination cannot be used; nothing is run then.
        CheckpointMismatch: the sweep, its run file or a board has changed since it was begun.
        UsageError: the folder holds something else, or another process runs this sweep.
        StorageError: something cannot be written.
    """
    path = config.find(sweep_file)
    loaded = config.load(path, SweepConfig)
    value, stop = loaded.value, stop or StopToken()
    if value.search is not None:
        needed()
    combinations = Combinations(config.find(value.run, path), loaded.where)
    for combination in value.probes():
        combinations.check(combination)
    folder = _folder(out or ROOT / value.name)
    _advise(value, combinations, watcher)
    with claimed(folder), _open(folder) as work:
        _begin_or_compare(work, folder, value, _facts(loaded.plain, combinations))
        (folder / WISH).unlink(missing_ok=True)
        work.reopen(failed=retry_failed)
        shift = _shift(work, folder, value, combinations, loaded.where)
        for row in work.rows():
            shift.tidy(row, row.result)  # a session that was killed may have left their folders
        with signals(stop, watcher.say):
            try:
                with _executor(value.workers, scheduler) as executor:
                    carry_out(shift, executor, watcher, stop)
            finally:
                watcher.end()
            found = Swept.of(folder, value, work.rows())
            _write(found)
        (folder / WISH).unlink(missing_ok=True)
    return found


@contextmanager
def _executor(count: int, scheduler: str | None) -> Generator[Executor]:
    if scheduler is not None:
        with dask(scheduler) as executor:
            yield executor
        return
    executor = Processes(count, prepare)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


# -- what is to be done ------------------------------------------------------------------------------------------------


def _advise(value: SweepConfig, combinations: Combinations, watcher: Watcher) -> None:
    if len(value.seed_list) > 1 and combinations.fixed_chip:
        watcher.say(
            "the board file names the seed of its chip (simulator.seed): all seeds of the sweep share that chip"
        )
    if value.search is not None and value.search.ahead * len(value.seed_list) < value.workers:
        busy = value.search.ahead * len(value.seed_list)
        watcher.say(f"search.ahead is {value.search.ahead}: at most {busy} of {value.workers} workers have work")


def _facts(plain: Mapping[str, Any], combinations: Combinations) -> dict[str, Any]:
    """What the results depend on, as plain values."""
    known = {key: value for key, value in plain.items() if key not in _FREE}
    if known.get("search") is not None:  # a search may be given more trials
        known["search"] = {key: value for key, value in known["search"].items() if key != "trials"}
    return {"sweep": known, "run": combinations.run, "board": combinations.boards}


def _begin_or_compare(work: WorkList, folder: Path, value: SweepConfig, facts: Mapping[str, Any]) -> None:
    saved = work.facts()
    if saved is None:
        given = value.combinations() if value.search is None else []
        work.begin(facts, [point(k, seed, one) for k, one in enumerate(given) for seed in value.seed_list])
        return
    for key, then, now in differences(saved, dict(facts)):
        what = f"{printable(key)} (of a sweep that was begun; another one needs another name or --out)"
        raise CheckpointMismatch(str(folder), what, _short(then), _short(now))


def _short(value: object) -> object:
    text = repr(value)
    return value if len(text) <= 200 else text[:200] + " ..."


def _shift(
    work: WorkList, folder: Path, value: SweepConfig, combinations: Combinations, where: Mapping[str, str]
) -> Shift:
    root = folder / RUNS
    try:
        root.mkdir(exist_ok=True)
    except OSError as error:
        raise StorageError(str(folder), str(error)) from error

    def folder_of(row: Row) -> Path:
        return config.inside(root, config.run_name(row.folder, "folder of a run"))

    def order(row: Row) -> Order:
        content = combinations.content(row.overrides, row.seed, folder)
        return Order(str(folder_of(row)), str((folder / WISH).resolve()), content)

    def tidy(row: Row, result: Mapping[str, Any]) -> None:
        status = result.get("status")
        if status is not None and value.keep != "all" and (status == "done" or value.keep == "none"):
            remove(folder_of(row))

    shift = Shift(work, order, conduct, tidy, folder / WISH, value.workers, value.retries)
    if value.search is None:
        return shift
    proposals = Proposals(
        value.search, value.seed_list, work, where.get("search.maximise", where.get("search", value.name))
    )
    return replace(shift, total=value.n_runs, more=proposals.more)


def _write(found: Swept) -> None:
    """Writes tables and figure into the sweep's folder."""
    write_tables(found.folder, found.rows, found.summaries, found.config.shown)
    if found.config.search is None:
        picture = sweep_figures.boxes(found.summaries, found.config.varied, found.config.shown)
    else:
        picture = sweep_figures.course(found.trials, found.summaries, found.config.search.maximise)
    tables.write(found.folder / "sweep.png", picture)


# -- the folder --------------------------------------------------------------------------------------------------------


def _folder(folder: Path) -> Path:
    """The folder of a sweep: a new one, or one that holds a work list."""
    if folder.is_symlink():
        raise UsageError(f"{printable(str(folder))} is a symbolic link; give another --out")
    if folder.is_dir() and (folder / WORK).is_file():
        return folder
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {"lock"}:
        return folder
    return tables.new_folder(folder)


@contextmanager
def _open(folder: Path) -> Generator[WorkList]:
    work = WorkList(folder / WORK)
    try:
        yield work
    finally:
        work.close()
