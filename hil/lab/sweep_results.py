"""What a sweep came to: one line for each combination over its seeds, as table, CSV and figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from hil.lab import figures, tables
from hil.lab.plain import printable
from hil.lab.sweep_work import RESULTS, Row
from hil.lab.sweepfile import as_text
from hil.units import duration

MOST_BOXES = 100
_LONGEST_LABEL = 60
_MEANS = ("steps", "reads", "pulses", "lab_seconds", "joules", "seconds")
SUMMARY = (
    "finished", "failed", "mean_test_accuracy", "lowest_test_accuracy", "highest_test_accuracy",
    "mean_software_accuracy", *(f"mean_{name}" for name in _MEANS),
)  # fmt: skip
"""Columns of ``summary.csv`` after those of the grid, which are named ``set.KEY``."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One combination of the grid over its seeds.

    Args:
        overrides: its settings.
        label: those settings that vary, for people.
        accuracies: test accuracy of each finished run.
        values: by the names of ``SUMMARY``; None where no run tells.
    """

    overrides: Mapping[str, Any]
    label: str
    accuracies: tuple[float, ...]
    values: Mapping[str, float | int | None]


def summaries(rows: Sequence[Row], varied: Sequence[str]) -> list[Summary]:
    """One summary for each combination, in order."""
    grouped: dict[int, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.combination, []).append(row)
    return [_summary(group, varied) for _, group in sorted(grouped.items())]


def _summary(rows: Sequence[Row], varied: Sequence[str]) -> Summary:
    done = [row for row in rows if row.state == "done"]
    accuracies = _numbers(done, "test_accuracy")
    values: dict[str, float | int | None] = {
        "finished": len(done),
        "failed": sum(row.state == "failed" for row in rows),
        "mean_test_accuracy": _mean(accuracies),
        "lowest_test_accuracy": min(accuracies, default=None),
        "highest_test_accuracy": max(accuracies, default=None),
        "mean_software_accuracy": _mean(_numbers(done, "software_accuracy")),
    }
    values |= {f"mean_{name}": _mean(_numbers(done, name)) for name in _MEANS}
    return Summary(rows[0].overrides, label(rows[0].overrides, varied), tuple(accuracies), values)


def label(overrides: Mapping[str, Any], varied: Sequence[str]) -> str:
    """The settings of a combination that vary: ``eta=0.1, hidden=[32]``; keys are cut to what tells them apart."""
    parts = [f"{_short(key, varied)}={as_text(overrides[key])}" for key in varied]
    return printable(", ".join(parts), _LONGEST_LABEL) or "all"


def _short(key: str, keys: Sequence[str]) -> str:
    """The shortest end of a dotted key that no other key has."""
    parts = key.split(".")
    for first in range(len(parts) - 1, -1, -1):
        tail = ".".join(parts[first:])
        if sum(other == tail or other.endswith(f".{tail}") for other in keys) == 1:
            return tail
    return key


def _numbers(rows: Sequence[Row], name: str) -> list[float]:
    return [float(row.result[name]) for row in rows if row.result[name] is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


# -- what is shown and written -----------------------------------------------------------------------------------------


def as_lines(found: Sequence[Summary]) -> list[str]:
    """The table that a technician sees."""
    columns = ("settings", "runs", "failed", "mean", "lowest", "highest", "software", "pulses", "lab time")
    return tables.as_text(columns, [_for_people(summary) for summary in found])


def _for_people(summary: Summary) -> tuple[tables.Cell, ...]:
    values = summary.values
    names = ("mean", "lowest", "highest")
    shares = [values[f"{name}_test_accuracy"] for name in names] + [values["mean_software_accuracy"]]
    pulses, lab = values["mean_pulses"], values["mean_lab_seconds"]
    return (
        summary.label, values["finished"], values["failed"],
        *(None if share is None else f"{100 * share:.1f} %" for share in shares),
        None if pulses is None else round(pulses), None if lab is None else duration(lab),
    )  # fmt: skip


def write(folder: Path, rows: Sequence[Row], found: Sequence[Summary]) -> None:
    """Writes ``sweep.csv`` (a line for each finished run), ``summary.csv`` and ``sweep.png``.

    Raises:
        StorageError: a file cannot be written.
    """
    keys = list(rows[0].overrides) if rows else []
    columns = [f"set.{key}" for key in keys]  # a key of the grid may have the name of a result
    ended = [row for row in rows if row.state in ("done", "failed")]
    lines = [
        (row.id, *(_cell(row.overrides[key]) for key in keys), row.seed, *(row.result[name] for name in RESULTS))
        for row in ended
    ]
    tables.write(folder / "sweep.csv", tables.as_csv(("run", *columns, "seed", *RESULTS), lines))
    short = [
        (*(_cell(summary.overrides[key]) for key in keys), *(summary.values[name] for name in SUMMARY))
        for summary in found
    ]
    tables.write(folder / "summary.csv", tables.as_csv((*columns, *SUMMARY), short))
    tables.write(folder / "sweep.png", figure(found))


def _cell(value: Any) -> tables.Cell:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else as_text(value)


def figure(found: Sequence[Summary]) -> bytes:
    """Test accuracy over the seeds of each combination, PNG.

    The boxes are Tukey's (Exploratory Data Analysis, 1977): from the lower to the upper quartile with a line at the
    median; whiskers reach to the last run within 1.5 box heights, and runs beyond are drawn one by one. A dash marks
    the mean of the software baseline.
    """
    shown = found[:MOST_BOXES]
    page = figures.canvas(min(2.4 + 0.55 * max(len(shown), 4), 48.0), 4.4)
    axes = page.subplots()
    drawn = [(at, summary) for at, summary in enumerate(shown, start=1) if summary.accuracies]
    if drawn:
        axes.boxplot(
            [[100 * share for share in summary.accuracies] for _, summary in drawn],
            positions=[at for at, _ in drawn], whis=1.5, widths=0.55, patch_artist=True,
            boxprops={"facecolor": "#dbe7f5", "edgecolor": tables.COLOURS[0]},
            medianprops={"color": tables.COLOURS[1], "lw": 1.6},
            flierprops={"marker": "o", "ms": 3.5, "mec": tables.COLOURS[0]},
        )  # fmt: skip
    for at, summary in drawn:
        software = summary.values["mean_software_accuracy"]
        if software is not None:
            axes.plot([at - 0.35, at + 0.35], [100 * software] * 2, color=tables.GREY, lw=1.4, ls="--")
    labels = [_plain_text(summary.label) for summary in shown]
    axes.set_xticks(range(1, len(shown) + 1), labels, rotation=35, ha="right", fontsize=8)
    axes.set(ylabel="test accuracy, %", xlim=(0.4, max(len(shown), 1) + 0.6))
    cut = f" (the first {MOST_BOXES} of {len(found)} combinations)" if len(found) > len(shown) else ""
    axes.set_title(f"Test accuracy over the seeds{cut}", loc="left", fontsize=10)
    tables.tidy(axes)
    return figures.png(page)


def _plain_text(text: str) -> str:
    """Text that the figure does not take for a formula."""
    return text.replace("$", r"\$")
