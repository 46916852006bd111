"""Sweep files: which settings of a run file are varied, over which seeds, and how the work is done."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hil.contract.bounds import at_least_one, not_negative
from hil.lab.config import name_problem

MOST_COMBINATIONS = 10_000
MOST_RUNS = 100_000
MOST_WORKERS = 1_000
OWN_KEYS = ("name", "seed", "threads")
"""Keys of a run that belong to the sweep: seeds have their own key, a worker has one thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """A sweep file.

    Args:
        name: name of the sweep; its folder is ``runs/NAME``.
        source: where the settings come from.
        run: path of the run file.
        grid: dotted path of a run file's key -> the values it takes; all combinations are run.
        seeds: a count (seeds 1 to that), or the seeds; each seed is another chip with other first weights.
        workers: runs at once.
        retries: how often a run is begun again after the process that did it has died.
        keep: which run folders stay: those of no run, of failed ones, or of all.
    """

    name: str
    source: str = ""
    run: str
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict[str, tuple[Any, ...]])
    seeds: int | tuple[int, ...] = 1
    workers: int = 2
    retries: int = 2
    keep: Literal["none", "failed", "all"] = "failed"

    def __post_init__(self) -> None:
        if problem := name_problem(self.name):
            raise ValueError(f"name {problem}")
        at_least_one(self, "workers")
        not_negative(self, "retries")
        if self.workers > MOST_WORKERS:
            raise ValueError(f"workers must be at most {MOST_WORKERS}, got {self.workers}")
        _check_grid(self.grid)
        seeds = self.seed_list
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise ValueError("seeds must be a count of at least 1, or a list of different whole numbers from 0 on")
        if len(seeds) * self.n_combinations > MOST_RUNS:
            raise ValueError(f"{len(seeds) * self.n_combinations:,} runs are more than the {MOST_RUNS:,} of one sweep")

    @property
    def seed_list(self) -> Sequence[int]:
        """The seeds, in order."""
        return range(1, self.seeds + 1) if isinstance(self.seeds, int) else self.seeds

    @property
    def n_combinations(self) -> int:
        """How many combinations the grid has."""
        count = 1
        for values in self.grid.values():
            count *= len(values)
        return count

    @property
    def varied(self) -> tuple[str, ...]:
        """The keys that take more than one value."""
        return tuple(key for key, values in self.grid.items() if len(values) > 1)

    def combinations(self) -> list[dict[str, Any]]:
        """All combinations of the grid; the last key varies fastest."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


def _check_grid(grid: Mapping[str, Sequence[Any]]) -> None:
    count = 1
    for key, values in grid.items():
        first = key.split(".", 1)[0]
        if first in OWN_KEYS:
            instead = "; list them under `seeds`" if first == "seed" else ""
            raise ValueError(f"grid cannot vary {key!r}, which a sweep sets itself{instead}")
        texts = [as_text(value) for value in values]
        if not texts or len(set(texts)) < len(texts):
            raise ValueError(f"grid needs for {key!r} a list of different values")
        count *= len(texts)
    if count > MOST_COMBINATIONS:
        raise ValueError(f"grid has {count:,} combinations, more than {MOST_COMBINATIONS:,}")


def as_text(value: Any) -> str:
    """One value as it is written in YAML on one line."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def as_overrides(combination: Mapping[str, Any]) -> list[str]:
    """A combination as ``key.path=value`` texts."""
    return [f"{key}={as_text(value)}" for key, value in combination.items()]
