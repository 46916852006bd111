"""Several run files beside each other: what each reached, and what it cost the chip and the lab."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.errors import HilError, UsageError
from hil.lab import checkpoint as checkpoints
from hil.lab import figures, runs, tables
from hil.lab.build import Plan
from hil.lab.job import Observer, RunResult, Silent
from hil.lab.record import Record
from hil.lab.stop import StopToken
from hil.units import duration

ROOT = Path("runs")
COLUMNS = (
    "run", "status", "test accuracy", "software accuracy", "steps", "read events", "pulses", "pulses of a cell, max",
    "lab time, s", "it/s",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """One look at the test samples.

    Args:
        steps: steps done before.
        lab_seconds: lab time of training up to there, s.
        accuracy: share of the test samples that was right.
    """

    steps: int
    lab_seconds: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One run of a comparison.

    Args:
        name: its name; with a number where two have the same.
        result: what it came to.
        most_pulses: pulses of the cell that got most of them; None when no checkpoint was written.
        curve: all looks at the test samples.
    """

    name: str
    result: RunResult
    most_pulses: int | None
    curve: tuple[Point, ...]

    def row(self) -> tuple[tables.Cell, ...]:
        """Its line of the table."""
        result = self.result
        return (
            self.name, result.status, result.test_accuracy, result.software_accuracy, result.steps, result.reads,
            result.pulses, self.most_pulses, round(result.lab_seconds, 3), round(result.iterations_per_second, 1),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison.

    Args:
        folder: where its files and the folders of its runs are.
        entries: the runs.
        warnings: what makes them hard to compare.
    """

    folder: Path
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 when every run is done, else that of the first that is not."""
        return next((entry.result.exit_code for entry in self.entries if entry.result.exit_code), 0)

    def lines(self) -> list[str]:
        """What a technician sees."""
        rows = [_for_people(entry.row()) for entry in self.entries]
        errors = [f"{entry.name}: {entry.result.error}" for entry in self.entries if entry.result.error]
        warned = [f"warning: {warning}" for warning in self.warnings]
        return [*tables.as_text(_PEOPLE, rows), *errors, *warned, f"table and figure: {self.folder}"]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        found = [
            {**entry.result.as_dict(), "name": entry.name, "most_pulses": entry.most_pulses} for entry in self.entries
        ]
        status = "done" if self.exit_code == 0 else "failed"
        return {
            "status": status, "exit_code": self.exit_code, "folder": str(self.folder),
            "warnings": list(self.warnings), "runs": found,
        }  # fmt: skip


def compare(
    run_files: Sequence[str | Path],
    *,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    observer: Callable[[], Observer] = Silent,
    stop: StopToken | None = None,
) -> Comparison:
    """Runs each run file, one after the other, and writes one table and one figure.

    A run that fails does not keep the others from running; one that its operator ends, ends the comparison.

    Args:
        run_files: the run files.
        out: folder to make; None for a new one under ``runs``.
        overrides: settings that take the place of each file's.
        observer: makes a watcher for each run.
        stop: a stop token, to end the comparison from another thread.

    Raises:
        ConfigError: a file cannot be used; nothing is run then.
        UsageError: the folder is there already, or there is nothing to compare.
        StorageError: the folder cannot be written.
    """
    if not run_files:
        raise UsageError("give at least one run file")
    plans = [runs.read_plan(run_file, overrides) for run_file in run_files]
    names = _names([plan.run.value.name for plan in plans])
    folder = tables.new_folder(out or ROOT / f"compare-{time.strftime('%Y%m%d-%H%M%S')}")
    entries: list[Entry] = []
    for run_file, name in zip(run_files, names, strict=True):
        watcher = observer()
        watcher.say(f"-- {name} ({len(entries) + 1} of {len(names)})")
        result = runs.run(run_file, out=folder / name, overrides=overrides, observer=watcher, stop=stop)
        entries.append(Entry(name, result, _most_pulses(folder / name), _curve(folder / name)))
        if result.status in ("stopped", "aborted"):
            break
    comparison = Comparison(folder, tuple(entries), tuple(_warnings(plans, names)))
    _write(comparison)
    return comparison


def _names(wanted: Sequence[str]) -> list[str]:
    """Names that are all different, in the same order."""
    names: list[str] = []
    for name in wanted:
        number, fresh = 1, name
        while fresh in names:
            number += 1
            fresh = f"{name}-{number}"
        names.append(fresh)
    return names


def _warnings(plans: Sequence[Plan], names: Sequence[str]) -> list[str]:
    """What differs from the first run and should not."""
    first = plans[0]
    found: list[str] = []
    for plan, name in zip(plans[1:], names[1:], strict=True):
        if plan.run.value.task != first.run.value.task:
            found.append(f"{name} learns another task than {names[0]}, or in other batches")
        if plan.board.plain != first.board.plain:
            found.append(f"{name} runs on another board than {names[0]}")
        if plan.run.value.seed != first.run.value.seed:
            found.append(f"{name} has another seed than {names[0]}, so its chip and first weights are others")
    return found


# -- what a run folder holds -------------------------------------------------------------------------------------------


def _most_pulses(folder: Path) -> int | None:
    """Pulses of the most used cell at the last checkpoint."""
    newest = checkpoints.latest(folder)
    if newest is None:
        return None
    try:
        worn = checkpoints.read(newest).board.get("wear.run")
    except HilError:
        return None
    return None if worn is None else int(worn.max())


def _curve(folder: Path) -> tuple[Point, ...]:
    record = Record(folder / "run.db")
    try:
        seconds = {row.step: row.lab_seconds for row in record.steps()}
        looks = record.evaluations("test_accuracy")
    finally:
        record.close()
    return tuple(Point(max(step + 1, 0), seconds.get(step, 0.0), accuracy) for step, accuracy in looks)


# -- what is written ---------------------------------------------------------------------------------------------------

_PEOPLE = ("run", "test", "software", "steps", "read events", "pulses", "a cell, max", "lab time", "it/s", "status")


def _for_people(row: tuple[tables.Cell, ...]) -> tuple[tables.Cell, ...]:
    name, status, test, software, steps, reads, pulses, most, seconds, rate = row
    shares = [f"{100 * share:.1f} %" if isinstance(share, float) else None for share in (test, software)]
    lab = duration(float(seconds)) if isinstance(seconds, int | float) else None
    return (name, *shares, steps, reads, pulses, most, lab, rate, status)


def _write(comparison: Comparison) -> None:
    rows = [entry.row() for entry in comparison.entries]
    looks: list[tuple[tables.Cell, ...]] = [
        (entry.name, point.steps, point.lab_seconds, point.accuracy)
        for entry in comparison.entries
        for point in entry.curve
    ]
    folder = comparison.folder
    tables.write(folder / "comparison.csv", tables.as_csv(COLUMNS, rows))
    tables.write(folder / "curves.csv", tables.as_csv(("run", "steps", "lab time, s", "test accuracy"), looks))
    tables.write(folder / "comparison.png", figure(comparison))
    table = tables.as_markdown(_PEOPLE, [_for_people(row) for row in rows])
    warned = "".join(f"- {warning}\n" for warning in comparison.warnings)
    tables.write(folder / "comparison.md", f"# Comparison\n\n![Test accuracy](comparison.png)\n\n{table}\n{warned}")


def figure(comparison: Comparison) -> bytes:
    """Test accuracy against steps and against lab time, PNG."""
    page = figures.canvas(9.6, 3.8)
    left, right = page.subplots(1, 2, sharey=True)
    longest = max((point.lab_seconds for entry in comparison.entries for point in entry.curve), default=0.0)
    unit, name = (3600.0, "h") if longest > 2 * 3600 else (60.0, "min") if longest > 120 else (1.0, "s")
    for number, entry in enumerate(comparison.entries):
        colour = tables.COLOURS[number % len(tables.COLOURS)]
        percent = [100 * point.accuracy for point in entry.curve]
        for axes, at in (
            (left, [point.steps for point in entry.curve]),
            (right, [point.lab_seconds / unit for point in entry.curve]),
        ):
            axes.plot(at, percent, color=colour, lw=1.6, marker="o", ms=3, label=entry.name)
    left.set(xlabel="step", ylabel="test accuracy, %", ylim=(0, 103))
    right.set(xlabel=f"lab time, {name}")
    for axes in (left, right):
        tables.tidy(axes)
    left.legend(frameon=False, fontsize=8)
    return figures.png(page)
