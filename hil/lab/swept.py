"""A sweep after a session: what was done, what is left, and what an operator and a program are told of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.lab import sweep_results, tables
from hil.lab.plain import printable
from hil.lab.sweep_results import Summary
from hil.lab.sweep_search import Trial, best, trials
from hil.lab.sweep_work import Row
from hil.lab.sweepfile import SweepConfig, as_overrides, parted

_MOST_LINES = 10
"""Failed runs, and trials of a search, that are told one by one."""


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep after a session.

    Args:
        folder: where its files are.
        config: the sweep file.
        rows: all runs so far.
        summaries: one for each combination.
        trials: those of a search; none of a grid.
    """

    folder: Path
    config: SweepConfig
    rows: tuple[Row, ...]
    summaries: tuple[Summary, ...]
    trials: tuple[Trial, ...] = ()

    @classmethod
    def of(cls, folder: Path, config: SweepConfig, rows: Sequence[Row]) -> Swept:
        """What the rows of a work list come to."""
        found = sweep_results.summaries(rows, config.varied, config.shown)
        tried = trials(rows, config.search.maximise) if config.search is not None else []
        return cls(folder, config, tuple(rows), tuple(found), tuple(tried))

    @property
    def total(self) -> int:
        """Runs altogether, those that a search has not proposed yet among them."""
        return max(self.config.n_runs, len(self.rows))

    @property
    def left(self) -> int:
        """Runs that are still to be done."""
        return self.total - sum(row.state in ("done", "failed") for row in self.rows)

    @property
    def failed(self) -> tuple[Row, ...]:
        """Runs that ended without a result."""
        return tuple(row for row in self.rows if row.state == "failed")

    @property
    def best(self) -> Trial | None:
        """The best trial of a search; None when there is none."""
        return best(self.trials)

    @property
    def exit_code(self) -> int:
        """0 when every run is done, 4 when the operator ended the sweep, else that of the first run that failed.

        A search may try combinations that cannot be used; it has failed when no trial is done.
        """
        if self.left:
            return 4
        if not self.failed or self.best is not None:
            return 0
        return int(self.failed[0].result["exit_code"] or 1)

    def lines(self) -> list[str]:
        """What a technician sees."""
        shown = [f"run {row.id} (seed {row.seed}): {row.result['error']}" for row in self.failed[:_MOST_LINES]]
        more = [f"and {len(self.failed) - _MOST_LINES} more that failed"] if len(self.failed) > _MOST_LINES else []
        left = [f"{self.left} runs are left; the same command goes on"] if self.left else []
        again = ["failed runs are done again with --retry-failed"] if self.failed else []
        where = f"tables and figure: {self.folder}"
        return [*self._table(), *self._unknown(), *shown, *more, *again, *left, *self._of_the_best(), where]

    def _table(self) -> list[str]:
        """The combinations of a grid, or the best trials of a search."""
        summaries = self.summaries
        if self.config.search is not None:
            ranked = sorted((trial for trial in self.trials if trial.value is not None), key=_worst_last)
            summaries = tuple(self.summaries[trial.number] for trial in ranked[:_MOST_LINES])
        return sweep_results.as_lines(summaries, self.config.shown)

    def _unknown(self) -> list[str]:
        """Names under ``show`` that no run knows."""
        done = [row for row in self.rows if row.state == "done"]
        missing = [name for name in self.config.shown if done and all(row.number(name) is None for row in done)]
        known = sorted({name for row in done for name in row.numbers})
        own = f"; their own numbers are {', '.join(known)}" if known else ""
        return [printable(f"no run gives {name!r}{own}", 500) for name in missing]

    def _of_the_best(self) -> list[str]:
        search, found = self.config.search, self.best
        if search is None or found is None or found.value is None:
            return ["no trial is done"] if search is not None else []
        value = tables.shown(found.value)
        run, board = (as_overrides(part) for part in parted(found.overrides))
        settings = " ".join(f"--set {shlex.quote(text)}" for text in run)
        of_board = f"; in the board file {', '.join(board)}" if board else ""
        return [
            f"best of {len(self.trials)} trials: trial {found.number + 1}, {search.maximise} {value}, mean over "
            f"{len(self.config.seed_list)} seeds",
            printable(f"its settings: {settings}{of_board}", 2000),
        ]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        status = "stopped" if self.left else "failed" if self.exit_code else "done"
        found: dict[str, Any] = {
            "status": status, "exit_code": self.exit_code, "folder": str(self.folder), "runs": self.total,
            "done": self.total - self.left - len(self.failed), "failed": len(self.failed), "left": self.left,
            "points": [{"settings": dict(one.overrides), **one.values} for one in self.summaries],
        }  # fmt: skip
        if self.config.search is not None:
            top = self.best
            found["best"] = None if top is None else {
                "trial": top.number + 1, "value": top.value, "settings": dict(top.overrides)
            }  # fmt: skip
        return found


def _worst_last(trial: Trial) -> tuple[float, int]:
    return -(trial.value or 0.0), trial.number
