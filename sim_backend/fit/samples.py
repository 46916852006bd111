"""Samples of single pulses: the conductance before, how far the pulse moved it, and which pulse it was.

A file of samples is CSV. Its first line names the columns, with their units in brackets:

    G (uS), dG (uS), polarity, volts (V), width (us)
    12.4, 0.31, set, 1.5, 1

``set`` (or ``up``, ``+1``) is the pulse meant to raise the conductance, ``reset`` (``down``, ``-1``) the one meant to
lower it. Columns may come in any order; ``volts`` and ``width`` may be left out; lines that begin with # are comments.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.errors import ConfigError
from hil.units import engineering, parse
from sim_backend.fit.text import cut, floating, opened

Array = NDArray[np.float64]

MOST_SAMPLES = 5_000_000
MOST_BYTES = 1 << 29
FEW = 200
"""Below this many samples per polarity a table says more about the draw than about the device."""

_UNITS = {"g": "S", "dg": "S", "volts": "V", "width": "s"}
_NEEDED = ("g", "dg", "polarity")
_POLARITIES = {"set": 1, "up": 1, "+1": 1, "1": 1, "reset": -1, "down": -1, "-1": -1}
_HEADING = re.compile(r"\s*(\w+)\s*(?:\(([^()]{1,8})\))?\s*")


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Single pulses, n of them.

    Args:
        g: [n] S, conductance before the pulse.
        dg: [n] S, change that the pulse made.
        up: bool [n], the pulse was meant to raise the conductance.
        volts: [n] V, amplitude, a magnitude; NaN where it is not known.
        seconds: [n] s, width; NaN where it is not known.
    """

    g: Array
    dg: Array
    up: NDArray[np.bool_]
    volts: Array
    seconds: Array

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name).shape for name in ("g", "dg", "up", "volts", "seconds")}
        if len(set(sizes.values())) != 1 or self.g.ndim != 1:
            raise ValueError(f"samples need columns of one length, got {sizes}")
        if not (np.isfinite(self.g).all() and np.isfinite(self.dg).all()):
            raise ValueError("g and dg must be finite")

    def __len__(self) -> int:
        return len(self.g)

    @classmethod
    def of(
        cls, g: Array, dg: Array, up: NDArray[np.bool_], *, volts: float = np.nan, seconds: float = np.nan
    ) -> Samples:
        """Samples of one pulse shape."""
        return cls(g, dg, up, np.full(len(g), volts), np.full(len(g), seconds))

    def take(self, chosen: NDArray[Any]) -> Samples:
        """The samples at the given places, or where a mask is true."""
        return Samples(self.g[chosen], self.dg[chosen], self.up[chosen], self.volts[chosen], self.seconds[chosen])

    def of_polarity(self, up: bool) -> Samples:
        """The pulses of one polarity."""
        return self.take(self.up == up)

    def counts(self) -> tuple[int, int]:
        """How many pulses were meant to raise and to lower the conductance."""
        raised = int(self.up.sum())
        return raised, len(self) - raised

    def shapes(self, up: bool) -> list[tuple[float, float, int]]:
        """The pulse shapes of a polarity, most frequent first: amplitude V, width s, and how often."""
        mine = self.of_polarity(up)
        pairs, counts = np.unique(np.stack([mine.volts, mine.seconds], 1), axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return [(float(pairs[k, 0]), float(pairs[k, 1]), int(counts[k])) for k in order]

    def with_shape(self, up: bool, volts: float | None, seconds: float | None) -> Samples:
        """Keeps of one polarity the pulses of an amplitude and a width (None: any); the other polarity stays whole."""
        keep = np.ones(len(self), dtype=bool)
        for column, wanted in ((self.volts, volts), (self.seconds, seconds)):
            if wanted is not None:
                keep &= np.isclose(column, wanted, rtol=1e-6, atol=0.0)
        return self.take(keep | (self.up != up))

    def split(self, share: float, seed: int) -> tuple[Samples, Samples]:
        """Puts a share of each polarity aside, at random: (to fit, held out). The same seed gives the same split."""
        if not 0 < share < 1:
            raise ValueError(f"the share to hold out must lie between 0 and 1, got {share:g}")
        source = np.random.default_rng(seed)
        held = np.zeros(len(self), dtype=bool)
        for up in (True, False):
            mine = np.flatnonzero(self.up == up)
            held[source.permutation(mine)[: round(share * len(mine))]] = True
        return self.take(~held), self.take(held)

    def warnings(self) -> list[str]:
        """What makes a table of these samples doubtful, in sentences."""
        return [
            f"only {count} samples of {name} pulses: below {FEW} a table says more about the draw than about the device"
            for name, count in zip(("set", "reset"), self.counts(), strict=True)
            if count < FEW
        ]


def read_samples(path: Path) -> Samples:
    """Reads a CSV file of samples.

    Raises:
        ConfigError: the file cannot be used; it names file and line.
    """
    with opened(path, "a CSV file of samples", MOST_BYTES) as file:
        lines = _rows(path, csv.reader(file, skipinitialspace=True))
        number, heading = next(lines, (1, None))
        if heading is None:
            raise ConfigError.at(f"{path}:1", "", "expected a line with the names of the columns, the file is empty")
        columns = _columns(f"{path}:{number}", heading)
        found: list[tuple[float, ...]] = []
        for number, row in lines:
            if len(row) != len(heading):
                problem = f"expected {len(heading)} columns as in the heading, got {len(row)}"
                raise ConfigError.at(f"{path}:{number}", "", problem)
            if len(found) >= MOST_SAMPLES:
                raise ConfigError.at(f"{path}:{number}", "", f"more than {MOST_SAMPLES:,} samples are too many")
            found.append(tuple(_value(f"{path}:{number}", name, row[at], scale) for name, at, scale in columns))
    if not found:
        raise ConfigError.at(str(path), "", "expected samples after the heading, there are none")
    values = dict(zip([name for name, _, _ in columns], np.array(found).T, strict=True))
    unknown = np.full(len(found), np.nan)
    return Samples(
        values["g"], values["dg"], values["polarity"] > 0, values.get("volts", unknown), values.get("width", unknown)
    )


def _rows(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows with their line numbers, without empty lines and comments."""
    try:
        for row in reader:
            if row and row != [""] and not row[0].startswith("#"):
                yield reader.line_num, row
    except csv.Error as error:
        raise ConfigError.at(f"{path}:{reader.line_num}", "", f"is not CSV ({cut(str(error))})") from error


def _columns(where: str, heading: Sequence[str]) -> list[tuple[str, int, float]]:
    """Name, place and scale to SI of each column that is known; others are refused."""
    example = "expected columns such as G (uS), dG (uS), polarity, volts (V), width (us)"
    found: list[tuple[str, int, float]] = []
    for at, text in enumerate(heading):
        match = _HEADING.fullmatch(text.lstrip("\ufeff")) if len(text) < 100 else None
        name = match[1].lower() if match else ""
        if match is None or name not in {*_UNITS, *_NEEDED} or name in [known for known, _, _ in found]:
            raise ConfigError.at(where, "", f"{example}; got {cut(text)} where another was expected")
        found.append((name, at, _scale(where, name, match[2])))
    missing = [name for name in _NEEDED if name not in [known for known, _, _ in found]]
    if missing:
        raise ConfigError.at(where, "", f"{example}; there is no column {missing[0]}")
    return found


def _scale(where: str, name: str, unit: str | None) -> float:
    if name not in _UNITS:
        if unit is not None:
            raise ConfigError.at(where, name, f"has no unit, got {cut(unit)}")
        return 1.0
    if unit is None:
        raise ConfigError.at(where, name, f"needs its unit in brackets, such as {name} (u{_UNITS[name]})")
    try:
        return parse(f"1 {unit}", _UNITS[name])
    except ValueError:
        problem = f"has the unit {cut(unit)}, expected {_UNITS[name]} with a prefix such as u or m"
        raise ConfigError.at(where, name, problem) from None


def _value(where: str, name: str, text: str, scale: float) -> float:
    if name == "polarity":
        sign = _POLARITIES.get(text.strip().lower())
        if sign is None:
            raise ConfigError.at(where, name, f"expected set, reset, up, down, +1 or -1, got {cut(text)}")
        return sign
    value = floating(where, text, name) * scale
    if name == "g" and not 0 <= value <= 1:
        raise ConfigError.at(where, name, f"expected a conductance from 0 to 1 S, got {engineering(value, 'S')}")
    if name == "dg" and abs(value) > 1:
        raise ConfigError.at(where, name, f"expected a change of at most 1 S, got {engineering(value, 'S')}")
    if name in ("volts", "width") and value <= 0:
        raise ConfigError.at(where, name, f"expected a value above 0 (polarity says the direction), got {cut(text)}")
    return value
