"""Sweep files: which settings of a run file are varied, over which seeds, and how the work is done."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hil.contract.bounds import at_least_one, not_negative
from hil.lab.config import name_problem
from hil.lab.sweep_space import SearchConfig, as_text, check_key, check_values

MOST_COMBINATIONS = 10_000
MOST_RUNS = 100_000
MOST_WORKERS = 1_000
BOARD = "board."
"""A key that begins with this is one of the board file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """A sweep file.

    Args:
        name: name of the sweep; its folder is ``runs/NAME``.
        source: where the settings come from.
        run: path of the run file; it describes a training run or, with the key ``deployment``, a deployment.
        grid: dotted path of a run file's key -> the values it takes; all combinations are run. A key that begins with
            ``board.`` is one of the board file.
        exclude: combinations of the grid that are left out: all that have the values of an entry.
        search: a search in the place of a grid.
        seeds: a count (seeds 1 to that), or the seeds; each seed is another chip with other first weights.
        show: numbers of a run that table and figure show; empty for the test accuracy, of a search for what it
            maximises.
        workers: runs at once.
        retries: how often a run is begun again after the process that did it has died.
        keep: which run folders stay: those of no run, of failed ones, or of all.
    """

    name: str
    source: str = ""
    run: str
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict[str, tuple[Any, ...]])
    exclude: tuple[Mapping[str, Any], ...] = ()
    search: SearchConfig | None = None
    seeds: int | tuple[int, ...] = 1
    show: tuple[str, ...] = ()
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
        if self.search is not None and (self.grid or self.exclude):
            raise ValueError("search takes the place of grid and exclude; give a single value as a list of one choice")
        if len(set(self.show)) < len(self.show):
            raise ValueError("show names a number twice")
        _check_grid(self.grid, self.exclude)
        if self.search is None and not self.combinations():
            raise ValueError("exclude leaves nothing of the grid")
        seeds = self.seed_list
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise ValueError("seeds must be a count of at least 1, or a list of different whole numbers from 0 on")
        if self.n_runs > MOST_RUNS:
            raise ValueError(f"{self.n_runs:,} runs are more than the {MOST_RUNS:,} of one sweep")

    @property
    def seed_list(self) -> Sequence[int]:
        """The seeds, in order."""
        return range(1, self.seeds + 1) if isinstance(self.seeds, int) else self.seeds

    @property
    def n_combinations(self) -> int:
        """How many combinations are run, or how many trials a search makes."""
        return len(self.combinations()) if self.search is None else self.search.trials

    @property
    def n_runs(self) -> int:
        """Runs altogether."""
        return len(self.seed_list) * self.n_combinations

    @property
    def varied(self) -> tuple[str, ...]:
        """The keys that take more than one value."""
        if self.search is not None:
            return self.search.varied
        return tuple(key for key, values in self.grid.items() if len(values) > 1)

    @property
    def shown(self) -> tuple[str, ...]:
        """Numbers of a run that table and figure show."""
        return self.show or ("test_accuracy" if self.search is None else self.search.maximise,)

    def combinations(self) -> list[dict[str, Any]]:
        """All combinations of the grid but the excluded ones; the last key varies fastest."""
        every = (dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values()))
        left_out = [{key: as_text(value) for key, value in entry.items()} for entry in self.exclude]
        return [one for one in every if not any(_matches(one, entry) for entry in left_out)]

    def probes(self) -> list[dict[str, Any]]:
        """The combinations that are checked before the first run: all of a grid, the outermost of a search."""
        return self.combinations() if self.search is None else self.search.probes()


def _matches(combination: Mapping[str, Any], entry: Mapping[str, str]) -> bool:
    return all(as_text(combination[key]) == text for key, text in entry.items())


def _check_grid(grid: Mapping[str, Sequence[Any]], exclude: Sequence[Mapping[str, Any]]) -> None:
    for key, values in grid.items():
        check_key(key, "grid")
        check_values(key, values, "grid")
    count = math.prod(len(values) for values in grid.values())
    if count > MOST_COMBINATIONS:
        raise ValueError(f"grid has {count:,} combinations, more than {MOST_COMBINATIONS:,}")
    for entry in exclude:
        for key, value in entry.items():
            if key not in grid or as_text(value) not in map(as_text, grid[key]):
                raise ValueError(f"exclude names {key}={as_text(value)}, which the grid does not have")
        if not entry:
            raise ValueError("exclude has an entry without keys, which would leave nothing")


def as_overrides(combination: Mapping[str, Any]) -> list[str]:
    """A combination as ``key.path=value`` texts."""
    return [f"{key}={as_text(value)}" for key, value in combination.items()]


def parted(combination: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a combination for the run file, and those for the board file without their ``board.``."""
    run = {key: value for key, value in combination.items() if not key.startswith(BOARD)}
    board = {key.removeprefix(BOARD): value for key, value in combination.items() if key.startswith(BOARD)}
    return run, board
