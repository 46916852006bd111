"""Searches: which combination is tried next, proposed by Optuna from what the trials before came to.

The work list is all that a search remembers. For each proposal a study is made anew from its rows, with a sampler whose
seed belongs to the number of the trial, so that a search that was killed goes on as if nothing had been.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from hil.errors import ConfigError, UsageError
from hil.lab.plain import printable
from hil.lab.sweep_space import Range, SearchConfig, as_text
from hil.lab.sweep_work import Row, WorkList, by_combination, point

_FIRST = 10
"""Trials that the sampler ``tpe`` draws at random before it learns."""
_CANDIDATES = 24
"""Candidates of which ``tpe`` proposes the one that promises most."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One combination of a search over its seeds.

    Args:
        number: from 0 on.
        overrides: its settings.
        state: ``open`` while runs are to be done; ``failed`` where a run failed, since a mean without it would deceive.
        value: mean over the seeds of what is maximised; None unless done.
    """

    number: int
    overrides: Mapping[str, Any]
    state: Literal["open", "done", "failed"]
    value: float | None = None


def trials(rows: Sequence[Row], maximise: str) -> list[Trial]:
    """The trials of a search, in order."""
    return [_trial(number, group, maximise) for number, group in by_combination(rows)]


def _trial(number: int, rows: Sequence[Row], maximise: str) -> Trial:
    if any(row.state in ("waiting", "running") for row in rows):
        return Trial(number, rows[0].overrides, "open")
    values = [value for row in rows if row.state == "done" and (value := row.number(maximise)) is not None]
    if len(values) < len(rows):
        return Trial(number, rows[0].overrides, "failed")
    return Trial(number, rows[0].overrides, "done", fmean(values))


def best(found: Sequence[Trial]) -> Trial | None:
    """The trial of the largest value, the first of equals; None when none is done."""
    done = [trial for trial in found if trial.value is not None]
    return max(done, key=lambda trial: trial.value or 0.0, default=None)


@dataclass(frozen=True, slots=True)
class Proposals:
    """The trials of a search, one after the other.

    Args:
        search: the search.
        seeds: seeds of each trial.
        work: where its runs are kept.
        where: ``file:line`` of the key ``search.maximise``.
    """

    search: SearchConfig
    seeds: Sequence[int]
    work: WorkList
    where: str

    def more(self) -> list[Row]:
        """The runs of the next trial, stored; none when all are proposed or the next one waits for earlier ones.

        Raises:
            ConfigError: the runs do not give the number that is to be maximised.
        """
        rows = self.work.rows()
        self._check_number(rows)
        found = trials(rows, self.search.maximise)
        number = len(found)
        settled = found[: max(number - self.search.ahead + 1, 0)]
        if number >= self.search.trials or any(trial.state == "open" for trial in settled):
            return []
        overrides = propose(self.search, number, settled)
        return self.work.add([point(number, seed, overrides) for seed in self.seeds])

    def _check_number(self, rows: Sequence[Row]) -> None:
        done = [row for row in rows if row.state == "done"]
        if done and all(row.number(self.search.maximise) is None for row in done):
            names = ", ".join(sorted({*done[0].numbers, *(n for n in done[0].result if done[0].number(n) is not None)}))
            problem = f"no run gives {printable(self.search.maximise)!r}; their numbers are {printable(names, 500)}"
            raise ConfigError.at(self.where, "search.maximise", problem)


def propose(search: SearchConfig, number: int, settled: Sequence[Trial]) -> dict[str, Any]:
    """The settings of one trial; equal arguments give equal settings.

    Reference: Bergstra, Bardenet, Bengio and Kegl 2011, section 4 (the tree-structured Parzen estimator).

    Args:
        search: the search.
        number: number of the trial, from 0 on.
        settled: trials that have ended, failed ones among them; they teach nothing.

    Raises:
        UsageError: Optuna is not installed.
    """
    optuna = needed()
    seed = _seed(search.seed, number)
    with _quiet(optuna):
        spread = {key: _distribution(optuna, search.space[key]) for key in search.varied}
        known = [
            optuna.trial.create_trial(params=_parameters(search, trial), distributions=spread, value=trial.value)
            for trial in settled
            if trial.value is not None
        ]
        sampler = (
            optuna.samplers.TPESampler(seed=seed, n_startup_trials=_FIRST, n_ei_candidates=_CANDIDATES)
            if search.sampler == "tpe"
            else optuna.samplers.RandomSampler(seed=seed)
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(known)
        drawn = study.ask(spread).params
    return {key: _setting(part, drawn.get(key)) for key, part in search.space.items()}


def needed() -> Any:
    """Optuna.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import optuna  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        problem = "a sweep file with `search` needs Optuna, which is not installed"
        raise UsageError(f"{problem}; install it with: pip install 'crossbar-hil[sweep]', or give a grid") from error
    return optuna


def _distribution(optuna: Any, part: Range | Sequence[Any]) -> Any:
    kinds = optuna.distributions
    if not isinstance(part, Range):
        return kinds.CategoricalDistribution([as_text(choice) for choice in part])
    if part.whole:
        return kinds.IntDistribution(part.low, part.high, log=part.log, step=part.step or 1)
    return kinds.FloatDistribution(float(part.low), float(part.high), log=part.log, step=part.step)


def _parameters(search: SearchConfig, trial: Trial) -> dict[str, Any]:
    """The settings of a trial as Optuna knows them."""
    parts = {key: search.space[key] for key in search.varied}
    return {
        key: part.number(trial.overrides[key]) if isinstance(part, Range) else as_text(trial.overrides[key])
        for key, part in parts.items()
    }


def _setting(part: Range | Sequence[Any], drawn: Any) -> Any:
    """What the run file gets for what Optuna drew."""
    if isinstance(part, Range):
        return part.written(drawn)
    return next((choice for choice in part if as_text(choice) == drawn), part[0])


def _seed(root: int, number: int) -> int:
    from numpy.random import SeedSequence

    return int(SeedSequence((root, number)).generate_state(1)[0])


@contextmanager
def _quiet(optuna: Any) -> Generator[None]:
    """No log lines, and no warnings of another package about its own future."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
