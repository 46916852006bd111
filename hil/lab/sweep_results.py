"""What a sweep came to: one line for each combination over its seeds, as a table for people and as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from hil.lab import tables, tukey
from hil.lab.plain import printable
from hil.lab.sweep_space import as_text
from hil.lab.sweep_work import RESULTS, Row, by_combination
from hil.units import duration

_LONGEST_LABEL = 80
_MEANS = ("steps", "reads", "pulses", "lab_seconds", "joules", "seconds")
SUMMARY = (
    "finished", "failed", "mean_test_accuracy", "lowest_test_accuracy", "highest_test_accuracy",
    "mean_software_accuracy", *(f"mean_{name}" for name in _MEANS),
)  # fmt: skip
"""Columns of ``summary.csv`` after those of the settings, which are named ``set.KEY``."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One combination over its seeds.

    Args:
        overrides: its settings.
        label: those settings that vary, for people.
        done: its finished runs.
        values: by the names of ``SUMMARY``, and of what is shown besides; None where no run tells.
    """

    overrides: Mapping[str, Any]
    label: str
    done: tuple[Row, ...]
    values: Mapping[str, float | int | None]

    def numbers(self, name: str) -> list[float]:
        """One number of each finished run that has it."""
        return [value for row in self.done if (value := row.number(name)) is not None]


def summaries(rows: Sequence[Row], varied: Sequence[str], shown: Sequence[str]) -> list[Summary]:
    """One summary for each combination, in order."""
    return [_summary(group, varied, shown) for _, group in by_combination(rows)]


def _summary(rows: Sequence[Row], varied: Sequence[str], shown: Sequence[str]) -> Summary:
    done = tuple(row for row in rows if row.state == "done")
    found = Summary(rows[0].overrides, label(rows[0].overrides, varied), done, {})
    values: dict[str, float | int | None] = {
        "finished": len(done),
        "failed": sum(row.state == "failed" for row in rows),
        "mean_software_accuracy": _mean(found.numbers("software_accuracy")),
    }
    values |= {f"mean_{name}": _mean(found.numbers(name)) for name in _MEANS}
    for name in ("test_accuracy", *shown):
        numbers = found.numbers(name)
        values |= {
            f"mean_{name}": _mean(numbers),
            f"lowest_{name}": min(numbers, default=None),
            f"highest_{name}": max(numbers, default=None),
        }
    ordered = {name: values[name] for name in dict.fromkeys((*SUMMARY, *values))}
    return Summary(found.overrides, found.label, done, ordered)


def label(overrides: Mapping[str, Any], varied: Sequence[str]) -> str:
    """The settings of a combination that vary: ``eta=0.1, hidden=[32]``."""
    parts = [f"{short(key, varied)}={_in_brackets(overrides[key])}" for key in varied]
    return printable(", ".join(parts), _LONGEST_LABEL) or "all"


def short(key: str, keys: Sequence[str]) -> str:
    """The shortest end of a dotted key that no other key has."""
    parts = key.split(".")
    for first in range(len(parts) - 1, -1, -1):
        tail = ".".join(parts[first:])
        if sum(other == tail or other.endswith(f".{tail}") for other in keys) == 1:
            return tail
    return key


def for_people(value: Any) -> str:
    """A setting as people read it: no quotes, no more than six digits."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return " ".join(f"{key} {for_people(item)}" for key, item in cast(Mapping[str, Any], value).items())
    return value if isinstance(value, str) else as_text(value)


def _in_brackets(value: Any) -> str:
    return f"({for_people(value)})" if isinstance(value, Mapping) else for_people(value)


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


# -- what is shown and written -----------------------------------------------------------------------------------------


def as_lines(found: Sequence[Summary], shown: Sequence[str]) -> list[str]:
    """The table that a technician sees; of several numbers it has mean (lowest to highest) of each."""
    one = len(shown) == 1
    names = ("mean", "lowest", "highest") if one else tuple(shown)
    columns = ("settings", "runs", "failed", *names, "software", "pulses", "lab time")
    rows: list[tuple[tables.Cell, ...]] = []
    for summary in found:
        values = summary.values
        three = {
            name: [written(values[f"{part}_{name}"], name) for part in ("mean", "lowest", "highest")] for name in shown
        }
        numbers = three[shown[0]] if one else [_in_one(*three[name]) for name in shown]
        pulses, lab = values["mean_pulses"], values["mean_lab_seconds"]
        rows.append((
            summary.label, values["finished"], values["failed"], *numbers,
            written(values["mean_software_accuracy"], "software_accuracy"),
            None if pulses is None else round(pulses), None if lab is None else duration(lab),
        ))  # fmt: skip
    return tables.as_text(columns, rows)


def _in_one(mean: str | None, lowest: str | None, highest: str | None) -> str | None:
    return None if mean is None else f"{mean} ({lowest} to {highest})"


def is_share(name: str) -> bool:
    """Whether a number is a share that people know in per cent."""
    return name == "accuracy" or name.endswith("_accuracy")


def written(value: float | None, name: str) -> str | None:
    """A number as people read it."""
    if value is None:
        return None
    return f"{100 * value:.1f} %" if is_share(name) else tables.shown(int(value) if value.is_integer() else value)


def write_tables(folder: Path, rows: Sequence[Row], found: Sequence[Summary], shown: Sequence[str]) -> None:
    """Writes ``sweep.csv`` (a line for each finished run), ``summary.csv`` and, of enough runs, ``quartiles.csv``.

    Raises:
        StorageError: a file cannot be written.
    """
    keys = list(rows[0].overrides) if rows else []
    columns = [f"set.{key}" for key in keys]  # a setting may have the name of a result, and so may a number
    names = sorted({name for row in rows for name in row.numbers})
    ended = [row for row in rows if row.state in ("done", "failed")]
    lines = [
        (
            row.id, *(_cell(row.overrides[key]) for key in keys), row.seed, *(row.result[name] for name in RESULTS),
            *(row.numbers.get(name) for name in names),
        )
        for row in ended
    ]  # fmt: skip
    numbers = [f"number.{name}" for name in names]
    tables.write(folder / "sweep.csv", tables.as_csv(("run", *columns, "seed", *RESULTS, *numbers), lines))
    of_summary = list(found[0].values) if found else SUMMARY
    settings = [[_cell(summary.overrides[key]) for key in keys] for summary in found]
    filled = [(*given, *one.values.values()) for given, one in zip(settings, found, strict=True)]
    tables.write(folder / "summary.csv", tables.as_csv((*columns, *of_summary), filled))
    boxes = [
        (*given, name, *tukey.box(one.numbers(name)).row())
        for name in shown
        for given, one in zip(settings, found, strict=True)
        if len(one.numbers(name)) >= tukey.FEWEST
    ]
    if boxes:
        tables.write(folder / "quartiles.csv", tables.as_csv((*columns, "number", *tukey.COLUMNS), boxes))


def _cell(value: Any) -> tables.Cell:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else as_text(value)
