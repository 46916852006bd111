"""Sweeps: the runs of a grid over settings and seeds, several at once, in one folder that goes on where it ended."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.errors import CheckpointMismatch, ConfigError, StorageError, UsageError
from hil.lab import config, sweep_results, tables, yaml_text
from hil.lab.boardfile import SimulatedBoard
from hil.lab.build import Plan
from hil.lab.claim import claimed
from hil.lab.plain import printable
from hil.lab.readback import differences
from hil.lab.runs import read_plan
from hil.lab.signals import signals
from hil.lab.stop import StopToken
from hil.lab.sweep_executors import Processes, dask
from hil.lab.sweep_loop import Shift, Watcher, carry_out
from hil.lab.sweep_results import Summary
from hil.lab.sweep_work import Row, WorkList
from hil.lab.sweep_worker import WISH, Order, conduct, prepare, remove
from hil.lab.sweepfile import SweepConfig, as_overrides

ROOT = Path("runs")
WORK, RUNS, BOARDS = "sweep.db", "runs", "boards"
_FREE = ("workers", "retries", "keep", "source")
"""Keys of a sweep file that change no result; they may be other ones when it goes on."""


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep after a session.

    Args:
        folder: where its files are.
        rows: all runs.
        summaries: one for each combination.
    """

    folder: Path
    rows: tuple[Row, ...]
    summaries: tuple[Summary, ...]

    @property
    def left(self) -> int:
        """Runs that are still to be done."""
        return sum(row.state in ("waiting", "running") for row in self.rows)

    @property
    def failed(self) -> tuple[Row, ...]:
        """Runs that ended without a result."""
        return tuple(row for row in self.rows if row.state == "failed")

    @property
    def exit_code(self) -> int:
        """0 when every run is done, 4 when the operator ended the sweep, else that of the first run that failed."""
        if self.left:
            return 4
        return int(self.failed[0].result["exit_code"] or 1) if self.failed else 0

    def lines(self) -> list[str]:
        """What a technician sees."""
        shown = [f"run {row.id} (seed {row.seed}): {row.result['error']}" for row in self.failed[:10]]
        more = [f"and {len(self.failed) - 10} more that failed"] if len(self.failed) > 10 else []
        left = [f"{self.left} runs are left; the same command goes on"] if self.left else []
        again = ["failed runs are done again with --retry-failed"] if self.failed else []
        where = f"tables and figure: {self.folder}"
        return [*sweep_results.as_lines(self.summaries), *shown, *more, *again, *left, where]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        status = "stopped" if self.left else "failed" if self.failed else "done"
        return {
            "status": status, "exit_code": self.exit_code, "folder": str(self.folder), "runs": len(self.rows),
            "done": len(self.rows) - self.left - len(self.failed), "failed": len(self.failed), "left": self.left,
            "points": [{"settings": dict(found.overrides), **found.values} for found in self.summaries],
        }  # fmt: skip


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
    run_path = config.find(value.run, path)
    plans = [_plan(run_path, combination, loaded.where) for combination in value.combinations()]
    folder = _folder(out or ROOT / value.name)
    if len(value.seed_list) > 1 and any(_names_its_chip(plan) for plan in plans):
        watcher.say(
            "the board file names the seed of its chip (simulator.seed): all seeds of the sweep share that chip"
        )
    with claimed(folder), _open(folder) as work:
        _begin_or_compare(work, folder, value, _facts(loaded.plain, run_path, plans))
        (folder / WISH).unlink(missing_ok=True)
        work.reopen(failed=retry_failed)
        shift = _shift(work, folder, value, _stored_boards(folder, plans), plans)
        for row in work.rows():
            shift.tidy(row, row.result)  # a session that was killed may have left their folders
        with signals(stop, watcher.say):
            try:
                with _executor(value.workers, scheduler) as executor:
                    carry_out(shift, executor, watcher, stop)
            finally:
                watcher.end()
            rows = work.rows()
            found = sweep_results.summaries(rows, value.varied)
            sweep_results.write(folder, rows, found)
        (folder / WISH).unlink(missing_ok=True)
    return Swept(folder, tuple(rows), tuple(found))


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


def _plan(run_path: Path, combination: Mapping[str, Any], where: Mapping[str, str]) -> Plan:
    """Run file and board of one combination, so that what cannot be used is told before anything is run."""
    try:
        plan = read_plan(run_path, ["threads=1", *as_overrides(combination)])
    except ConfigError as error:
        error.add_note(f"in the combination {printable(', '.join(as_overrides(combination)), 500)}")
        raise
    if not isinstance(plan.board.value, SimulatedBoard):
        problem = "names a board that is not simulated; a chip has one owner, and is worn by every run of a sweep"
        raise ConfigError.at(where.get("run", str(run_path)), "run", problem)
    return plan


def _names_its_chip(plan: Plan) -> bool:
    simulator = plan.board.value.simulator
    return simulator is not None and simulator.seed is not None


def _facts(plain: Mapping[str, Any], run_path: Path, plans: Sequence[Plan]) -> dict[str, Any]:
    """What the results depend on, as plain values."""
    return {
        "sweep": {key: value for key, value in plain.items() if key not in _FREE},
        "run": yaml_text.read_file(run_path).value,
        "board": {plan.run.value.board: plan.board.plain for plan in plans},
    }


def _begin_or_compare(work: WorkList, folder: Path, value: SweepConfig, facts: Mapping[str, Any]) -> None:
    saved = work.facts()
    if saved is None:
        points = [
            (number, seed, combination, f"{number + 1:05d}-s{seed}")
            for number, combination in enumerate(value.combinations())
            for seed in value.seed_list
        ]
        work.begin(facts, points)
        return
    for key, then, now in differences(saved, dict(facts)):
        what = f"{printable(key)} (of a sweep that was begun; another one needs another name or --out)"
        raise CheckpointMismatch(str(folder), what, _short(then), _short(now))


def _short(value: object) -> object:
    text = repr(value)
    return value if len(text) <= 200 else text[:200] + " ..."


def _stored_boards(folder: Path, plans: Sequence[Plan]) -> dict[str, str]:
    """Writes each board file, complete, into the sweep's folder; gives its path there by its name in the run file."""
    named = {plan.run.value.board: plan.board.plain for plan in plans}
    stored: dict[str, str] = {}
    try:
        (folder / BOARDS).mkdir(exist_ok=True)
        (folder / RUNS).mkdir(exist_ok=True)
    except OSError as error:
        raise StorageError(str(folder), str(error)) from error
    for number, (name, plain) in enumerate(named.items(), start=1):
        path = config.inside(folder, f"{BOARDS}/board-{number}.yaml")
        tables.write(path, config.dump(plain))
        stored[name] = str(path)
    return stored


def _shift(work: WorkList, folder: Path, value: SweepConfig, boards: Mapping[str, str], plans: Sequence[Plan]) -> Shift:
    root = folder / RUNS

    def folder_of(row: Row) -> Path:
        return config.inside(root, config.run_name(row.folder, "folder of a run"))

    def order(row: Row) -> Order:
        plain = plans[row.combination].run.plain
        content = {**plain, "seed": row.seed, "board": boards[plans[row.combination].run.value.board]}
        return Order(str(folder_of(row)), str((folder / WISH).resolve()), content)

    def tidy(row: Row, result: Mapping[str, Any]) -> None:
        status = result.get("status")
        if status is not None and value.keep != "all" and (status == "done" or value.keep == "none"):
            remove(folder_of(row))

    return Shift(work, order, conduct, tidy, folder / WISH, value.workers, value.retries)


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
