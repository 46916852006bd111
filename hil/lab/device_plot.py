"""The figure of a jump table: what one pulse does at each conductance, for either polarity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hil.errors import UsageError
from hil.lab import figures, tables
from hil.lab.plain import printable
from hil.units import engineering
from sim_backend.fit.files import read_table
from sim_backend.fit.samples import Samples, read_samples
from sim_backend.fit.table import Jumps, JumpTable

_BANDS = ((0.05, 0.95, 0.18, "5 to 95 %"), (0.25, 0.75, 0.32, "25 to 75 %"))
MOST_MARKS = 2000


@dataclass(frozen=True, slots=True)
class Plotted:
    """What a plot shows.

    Args:
        table: the table.
        path: the picture.
    """

    table: JumpTable
    path: Path

    def lines(self) -> list[str]:
        """What a technician sees."""
        found: list[str] = []
        for name, jumps in (("set", self.table.up), ("reset", self.table.down)):
            rows, columns = jumps.cdf.shape
            g, dg = (f"{engineering(axis[0], 'S')} to {engineering(axis[-1], 'S')}" for axis in (jumps.g, jumps.dg))
            found.append(f"{name}: {rows} levels of G from {g}, {columns} of dG from {dg}")
        return [*found, f"digest {self.table.digest()}", f"figure: {self.path}"]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {"status": "done", "digest": self.table.digest(), "figure": str(self.path)}


def plot_file(path: Path, out: Path, samples: Path | None = None) -> Plotted:
    """Draws a table.

    Args:
        path: the table.
        out: the picture, ``*.png``.
        samples: CSV of samples to show behind it.

    Raises:
        ConfigError: the table or the samples cannot be used.
        UsageError: ``out`` does not end with .png.
        StorageError: the picture cannot be written.
    """
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out must end with .png, got {str(out)!r}")
    table = read_table(path)
    marks = None if samples is None else read_samples(samples)
    tables.write(out, picture(table, printable(str(path), 60), marks))
    return Plotted(table, out)


def picture(table: JumpTable, title: str, samples: Samples | None = None) -> bytes:
    """The figure of a table, PNG."""
    page = figures.canvas(8.4, 3.9)
    for axes, up in zip(page.subplots(1, 2, sharex=True), (True, False), strict=True):
        if samples is not None:
            _marks(axes, samples.of_polarity(up))
        _panel(axes, table.of(up), tables.COLOURS[0 if up else 1])
        axes.set_title("SET" if up else "RESET", loc="left", fontsize=10)
        axes.set(xlabel="G before the pulse, µS", ylabel="dG of one pulse, µS")
        tables.tidy(axes)
        axes.legend(frameon=False, fontsize=8)
    page.suptitle(f"Jump table {title}", fontsize=10, x=0.01, ha="left")
    return figures.png(page)


def _panel(axes: Any, jumps: Jumps, colour: str) -> None:
    g, marker = 1e6 * jumps.g, "." if len(jumps.g) <= 40 else None
    for low, high, alpha, label in _BANDS:
        ends = 1e6 * jumps.quantiles(low), 1e6 * jumps.quantiles(high)
        axes.fill_between(g, *ends, color=colour, alpha=alpha, lw=0, label=label)
    axes.plot(g, 1e6 * jumps.means, color=colour, lw=1.6, marker=marker, label="mean")
    axes.axhline(0.0, color=tables.GREY, lw=0.8)


def _marks(axes: Any, samples: Samples) -> None:
    """At most so many samples, at random, that they can be told apart."""
    chosen = np.random.default_rng(0).permutation(len(samples))[:MOST_MARKS]
    axes.plot(
        1e6 * samples.g[chosen], 1e6 * samples.dg[chosen], ".", ms=2, color=tables.GREY, alpha=0.6, label="samples"
    )
