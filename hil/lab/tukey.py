"""Tukey's boxes of a number over chips: quartiles, whiskers and outliers, as a row of a table and as a picture.

Reference: Tukey 1977, Exploratory Data Analysis, sections 2C and 2D, with 1.5 box heights for the whiskers. Quartiles
between two values are interpolated linearly (Hyndman and Fan 1996, definition 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hil.lab import tables

FEWEST = 5
"""Fewer values than these are drawn one by one; a box of them would claim more than they tell."""
WHISKERS = 1.5
COLUMNS = (
    "runs", "lowest", "whisker_low", "quartile_1", "median", "quartile_3", "whisker_high", "highest", "outliers",
)  # fmt: skip
"""Columns of ``Box.row``."""


@dataclass(frozen=True, slots=True)
class Box:
    """One box.

    Args:
        values: all values, in order of size.
        low: end of the lower whisker: the lowest value within 1.5 box heights of the box.
        quartile_1: lower edge of the box.
        median: the line in the box.
        quartile_3: upper edge of the box.
        high: end of the upper whisker.
        outliers: values beyond the whiskers.
    """

    values: tuple[float, ...]
    low: float
    quartile_1: float
    median: float
    quartile_3: float
    high: float
    outliers: tuple[float, ...]

    def row(self) -> tuple[tables.Cell, ...]:
        """The box as a line of a table, by ``COLUMNS``."""
        return (
            len(self.values), self.values[0], self.low, self.quartile_1, self.median, self.quartile_3, self.high,
            self.values[-1], len(self.outliers),
        )  # fmt: skip


def box(values: Sequence[float]) -> Box:
    """The box of at least one value.

    Raises:
        ValueError: there are no values.
    """
    from matplotlib.cbook import boxplot_stats

    if not values:
        raise ValueError("a box needs at least one value")
    (found,) = boxplot_stats([list(values)], whis=WHISKERS)
    return Box(
        tuple(sorted(values)), float(found["whislo"]), float(found["q1"]), float(found["med"]), float(found["q3"]),
        float(found["whishi"]), tuple(float(value) for value in found["fliers"]),
    )  # fmt: skip


def draw(axes: Any, groups: Sequence[tuple[float, Sequence[float]]], width: float, colour: str) -> None:
    """Draws a box for each group of values, or its values with a dash at their median where they are few.

    Args:
        axes: matplotlib's axes.
        groups: position along the axis and values.
        width: width of a box.
        colour: of boxes and points.
    """
    full = [(at, list(values)) for at, values in groups if len(values) >= FEWEST]
    if full:
        axes.boxplot(
            [values for _, values in full], positions=[at for at, _ in full], whis=WHISKERS, widths=width,
            patch_artist=True, manage_ticks=False,
            boxprops={"facecolor": pale(colour), "edgecolor": colour, "lw": 1.0},
            medianprops={"color": colour, "lw": 2.0}, whiskerprops={"color": colour, "lw": 1.0},
            capprops={"color": colour, "lw": 1.0},
            flierprops={"marker": "o", "ms": 3.5, "mec": colour, "mfc": "none", "mew": 0.8},
        )  # fmt: skip
    for at, values in groups:
        if 0 < len(values) < FEWEST:
            middle = box(values).median
            axes.plot([at] * len(values), values, "o", ms=4, mec=colour, mfc="none")
            axes.plot([at - width / 2, at + width / 2], [middle] * 2, color=colour, lw=2.0)


def pale(colour: str) -> tuple[float, float, float]:
    """A colour mixed with white, for the inside of boxes."""
    from matplotlib.colors import to_rgb

    red, green, blue = (0.2 * part + 0.8 for part in to_rgb(colour))
    return red, green, blue
