"""Jump tables: how far one pulse moves a cell, as a distribution at each of several conductances.

For each polarity a table has an axis of conductances, an axis of changes, and the cumulative probability

    cdf[i, j] = P(dG <= dg[j] | G = g[i])

Reference: IBM's work on PCM and PCMO synapses tabulates dG in this way, at each G for SET and for RESET; Yousuf et al.,
arXiv 2211.15925, for tables as device models and the bias they bring. Between levels: ``sampling``; as text: ``files``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST_LEVELS = 4096
MOST_VALUES = 4_000_000
ENDS_AT = 0.99
"""A row must reach this; what is left of the probability belongs to its last level."""


@dataclass(frozen=True, slots=True, eq=False)
class Jumps:
    """The jumps of one polarity.

    Args:
        g: [n] S, conductances, rising.
        dg: [m] S, changes, rising.
        cdf: [n, m], cumulative probability of each change at each conductance.

    Raises:
        ValueError: it is not such a table; the text says where.
    """

    g: Array
    dg: Array
    cdf: Array

    def __post_init__(self) -> None:
        _check_axis("G", self.g, least=0.0)
        _check_axis("dG", self.dg, least=-1.0)
        if self.cdf.shape != (len(self.g), len(self.dg)):
            seen, wanted = list(self.cdf.shape), [len(self.g), len(self.dg)]
            raise ValueError(f"cdf must have a row for each G and a column for each dG, {wanted}, got {seen}")
        if self.cdf.size > MOST_VALUES:
            raise ValueError(f"cdf has {self.cdf.size:,} values, more than {MOST_VALUES:,} are too many")
        if not np.isfinite(self.cdf).all():
            raise ValueError(f"cdf holds a value that is not finite, in row {_first(~np.isfinite(self.cdf))}")
        falls = np.diff(self.cdf, axis=1) < 0
        if falls.any():
            raise ValueError(f"cdf must not fall along a row, it does in row {_first(falls)}")
        outside = (self.cdf < 0) | (self.cdf > 1)
        if outside.any():
            raise ValueError(f"cdf must lie between 0 and 1, it does not in row {_first(outside)}")
        short = self.cdf[:, -1:] < ENDS_AT
        if short.any():
            row = _first(short)
            raise ValueError(f"cdf must reach 1 at the end of a row, row {row} ends at {self.cdf[row - 1, -1]:g}")

    @property
    def means(self) -> Array:
        """The mean change at each conductance, [n] S; evenly spread between neighbouring levels."""
        steps = np.diff(self.whole, axis=1, prepend=0.0)
        middle = np.concatenate([self.dg[:1], 0.5 * (self.dg[:-1] + self.dg[1:])])
        return steps @ middle

    @property
    def whole(self) -> Array:
        """The cdf with rows that end at exactly 1."""
        whole = self.cdf.copy()
        whole[:, -1] = 1.0
        return whole

    @property
    def reach(self) -> tuple[float, float]:
        """The axis of conductances, one usual gap longer on either side, S; a single level serves everywhere."""
        if len(self.g) == 1:
            return 0.0, 1.0
        gap = float(self.g[-1] - self.g[0]) / (len(self.g) - 1)
        return max(0.0, float(self.g[0]) - gap), min(1.0, float(self.g[-1]) + gap)

    def quantiles(self, u: float) -> Array:
        """The change below which a share ``u`` of the jumps lies, at each conductance, [n] S."""
        return np.array([np.interp(u, row, self.dg) for row in self.whole])


@dataclass(frozen=True, slots=True, eq=False)
class JumpTable:
    """A device as its jumps.

    Args:
        up: jumps of pulses meant to raise the conductance (SET).
        down: jumps of pulses meant to lower it (RESET).
    """

    up: Jumps
    down: Jumps

    def of(self, up: bool) -> Jumps:
        """The jumps of one polarity."""
        return self.up if up else self.down

    @property
    def reach(self) -> tuple[float, float]:
        """The widest window that the table can serve, S: no further out than one usual gap of both axes."""
        lows, highs = zip(*(jumps.reach for jumps in (self.up, self.down)), strict=True)
        return max(lows), min(highs)

    def digest(self) -> str:
        """A fingerprint of all its numbers, ``sha256:`` and 16 digits; equal tables have one, wherever they lie."""
        total = hashlib.sha256()
        for jumps in (self.up, self.down):
            for values in (jumps.g, jumps.dg, jumps.cdf):
                total.update(repr(values.shape).encode())
                total.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
        return f"sha256:{total.hexdigest()[:16]}"  # the word keeps YAML from reading a number


def _check_axis(name: str, values: Array, least: float) -> None:
    if values.ndim != 1 or not 1 <= len(values) <= MOST_LEVELS:
        raise ValueError(f"the axis of {name} must have 1 to {MOST_LEVELS} levels, got the shape {list(values.shape)}")
    if not np.isfinite(values).all():
        raise ValueError(
            f"the axis of {name} holds a value that is not finite, at level {_first(~np.isfinite(values))}"
        )
    if (np.diff(values) <= 0).any():
        level = _first(np.diff(values) <= 0) + 1
        raise ValueError(f"the axis of {name} must rise, it does not at level {level}")
    if values[0] < least or values[-1] > 1:
        seen = f"{values[0]:g} to {values[-1]:g}"
        raise ValueError(f"the axis of {name} must lie between {least:g} and 1 S, got {seen}; values are in siemens")


def _first(wrong: NDArray[np.bool_]) -> int:
    """The row of the first true value, counted from 1 as lines are."""
    return int(np.argwhere(wrong)[0][0]) + 1
