"""From samples to a jump table: pulses are sorted into bins by the conductance they met, each bin becomes a row.

* ``equal``: bins of one width from the lowest to the highest conductance.
* ``quantile``: bins of one count.
* ``optimised``: number and place of the edges are chosen on held-out samples, see ``optimising``.

A row stands at the mean conductance of its samples, so that interpolation between rows is not biased. A bin without
samples makes no row; its neighbours answer for it. These choices, and those below, are this project's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sim_backend.fit.samples import Samples
from sim_backend.fit.table import Array, Jumps, JumpTable

Method = Literal["equal", "quantile", "optimised"]
LEVELS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Binning:
    """How samples are binned.

    Args:
        method: see above.
        bins: number of bins; None for the cube root of the samples of a polarity, at least 2. ``optimised`` finds its
            own and begins with this one.
        levels: most levels of the axis of changes.
        seed: draws of ``optimised``.
        trials: binnings that ``optimised`` tries.
    """

    method: Method = "quantile"
    bins: int | None = None
    levels: int = LEVELS
    seed: int = 0
    trials: int = 100

    def __post_init__(self) -> None:
        for name, least in (("bins", 1), ("levels", 2), ("trials", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")

    def bins_for(self, count: int) -> int:
        """The bins of this many samples."""
        return self.bins or max(2, round(count ** (1 / 3)))


def fit(samples: Samples, binning: Binning | None = None) -> JumpTable:
    """Makes a table of samples.

    Args:
        samples: pulses of one shape per polarity.
        binning: how; quantile bins when None.

    Raises:
        ValueError: a polarity has no samples.
        UsageError: ``optimised`` is asked for and optuna is not installed.
    """
    binning = binning or Binning()
    return JumpTable(fit_jumps(samples.of_polarity(True), binning), fit_jumps(samples.of_polarity(False), binning))


def fit_jumps(samples: Samples, binning: Binning) -> Jumps:
    """The jumps of one polarity; arguments as in ``fit``."""
    if not len(samples):
        raise ValueError("a table needs samples of both polarities, set and reset; one of them has none")
    bins = binning.bins_for(len(samples))
    if binning.method == "optimised":
        from sim_backend.fit.optimising import optimised_edges

        edges = optimised_edges(samples, binning)
    elif binning.method == "equal":
        edges = equal_edges(samples.g, bins)
    else:
        edges = quantile_edges(samples.g, bins)
    return binned(samples.g, samples.dg, edges, binning.levels)


def equal_edges(g: Array, bins: int) -> Array:
    """Inner edges [bins - 1] of bins of one width."""
    return np.linspace(g.min(), g.max(), bins + 1)[1:-1]


def quantile_edges(g: Array, bins: int) -> Array:
    """Inner edges [bins - 1] of bins whose counts differ by at most one, as long as conductances differ."""
    ordered = np.sort(g)
    first = np.arange(1, bins) * len(ordered) // bins  # the first sample of each bin but the lowest
    lower, upper = ordered[np.maximum(first - 1, 0)], ordered[first]
    return lower + 0.5 * (upper - lower)


def binned(g: Array, dg: Array, edges: Array, levels: int = LEVELS) -> Jumps:
    """Makes the rows of a table.

    Args:
        g: [n] S, conductances.
        dg: [n] S, changes.
        edges: inner edges of the bins, S, rising; equal ones make an empty bin.
        levels: most levels of the axis of changes.
    """
    axis = change_levels(dg, levels)
    bins = np.searchsorted(edges, g, side="right")
    order = np.argsort(bins, kind="stable")
    _, first = np.unique(bins[order], return_index=True)
    rows = [(g[chosen].mean(), _distribution(dg[chosen], axis)) for chosen in np.split(order, first[1:])]
    at = np.array([mean for mean, _ in rows])
    rising = np.concatenate([[True], np.diff(at) > 0])  # means of neighbours can meet by rounding alone
    return Jumps(at[rising], axis, np.stack([row for _, row in rows])[rising])


def change_levels(dg: Array, levels: int = LEVELS) -> Array:
    """An axis of changes: half of the levels evenly spread, half at equal counts, fewer where they coincide."""
    even = np.linspace(dg.min(), dg.max(), max(2, levels // 2))
    counted = np.quantile(dg, np.linspace(0.0, 1.0, levels - len(even)), method="nearest") if levels > 2 else even
    return np.unique(np.concatenate([even, counted]))


def _distribution(dg: Array, axis: Array) -> Array:
    """The share of changes below each level, those at the level counted half (Parzen's mid-distribution).

    Probability is spread evenly between levels later; half of what lies at a level is then spread to either side of it,
    and the mean is kept. The last level has all.
    """
    ordered = np.sort(dg)
    below = np.searchsorted(ordered, axis, side="left") + np.searchsorted(ordered, axis, side="right")
    share = below / (2.0 * len(ordered))
    share[-1] = 1.0
    return share
