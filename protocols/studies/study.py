"""What a study found: a table, curves for a figure, and the papers' figures beside them, as plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

Cell = str | int | float | None
"""One entry of a table; None where there is no value."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Args:
        title: what it shows; of published numbers with their source.
        columns: names of the columns, with units.
        rows: the entries.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """A curve of the figure.

    Args:
        name: what it is.
        x: abscissae.
        y: ordinates.
        kind: ``measured`` here, a ``law``, or ``published``.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    kind: str = "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis of the figure.

    Args:
        label: quantity and unit.
        log: logarithmic.
    """

    label: str
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study.

    Args:
        name: one word.
        title: what was asked, in a sentence.
        table: what was measured.
        published: the papers' numbers.
        x: horizontal axis of the figure.
        y: vertical axis.
        series: its curves.
        notes: what follows, in sentences with numbers.
    """

    name: str
    title: str
    table: Table
    published: tuple[Table, ...] = ()
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    notes: tuple[str, ...] = ()


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of a straight line through the logarithms, by least squares; NaN for fewer than two points."""
    if len(x) < 2:
        return math.nan
    u, v = [math.log(value) for value in x], [math.log(value) for value in y]
    mean_u, mean_v = fmean(u), fmean(v)
    return sum((a - mean_u) * (b - mean_v) for a, b in zip(u, v, strict=True)) / sum((a - mean_u) ** 2 for a in u)


def curve(name: str, x: Sequence[float], y: Sequence[float | None], kind: str = "measured") -> Series:
    """A series without the points that have no value."""
    points = [(a, b) for a, b in zip(x, y, strict=True) if b is not None]
    return Series(name, tuple(a for a, _ in points), tuple(b for _, b in points), kind)


def rounded(value: float | None) -> int | None:
    """A count as a whole number; None stays None."""
    return None if value is None else round(value)
