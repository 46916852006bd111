"""The command that does a sweep, and what an operator sees meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from hil.lab.telling import Json, tell

if TYPE_CHECKING:
    from hil.lab.sweep_work import Row

_LONGEST = 500


def sweep(
    config: Annotated[Path, typer.Argument(metavar="SWEEP", help="A sweep file, e.g. config/sweeps/digits_eta.yaml.")],
    *,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the sweep; runs/NAME by default.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of a Dask scheduler, e.g. tcp://lab:8786.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Does failed runs again.")] = False,
    as_json: Json = False,
) -> None:
    """Runs a grid of settings over several seeds, several runs at once; the same command goes on with it."""
    from hil.lab.sweep import sweep as swept

    watcher = Progress(sys.stderr if as_json else sys.stdout)
    found = swept(config, watcher, out=out, scheduler=scheduler, retry_failed=retry_failed)
    tell(found.lines(), found.as_dict(), as_json)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


class Progress:
    """A line for each run that ends; on a terminal with a bar below them. A reader that goes away disturbs nothing.

    Args:
        out: where to write.
    """

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(file=out)
        columns = (TextColumn("[bold]sweep"), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, expand=True) if out.isatty() else None
        self._task = None if self._bar is None else self._bar.add_task("sweep", total=1)
        self._total, self._ended, self._first, self._failed, self._begun = 0, 0, 0, 0, 0.0

    def begin(self, total: int, ended: int) -> None:
        """See ``Watcher``."""
        self._total, self._ended, self._first, self._begun = total, ended, ended, time.monotonic()
        again = f", {ended} ended before" if ended else ""
        self.say(f"{total} runs{again}")
        if self._bar is not None and self._task is not None:
            with suppress(OSError, ValueError):
                self._bar.update(self._task, total=total, completed=ended)
                self._bar.start()

    def ended(self, row: Row, result: Mapping[str, Any]) -> None:
        """See ``Watcher``."""
        from hil.lab.sweepfile import as_overrides
        from hil.units import duration

        self._ended += 1
        self._failed += result["status"] != "done"
        each = (time.monotonic() - self._begun) / max(self._ended - self._first, 1)
        left = (self._total - self._ended) * each
        share = result["test_accuracy"]
        came_to = f"test {100 * share:.1f} %" if share is not None else result["error"] or result["status"]
        rest = f", about {duration(left)} left" if self._ended < self._total else ""
        bad = f", {self._failed} failed" if self._failed else ""
        what = ", ".join([*as_overrides(row.overrides), f"seed {row.seed}"])
        self.say(f"{self._ended}/{self._total}{bad}{rest}: {what}: {came_to}")
        if self._bar is not None and self._task is not None:
            with suppress(OSError, ValueError):
                self._bar.update(self._task, completed=self._ended)

    def say(self, text: str) -> None:
        """See ``Watcher``."""
        from hil.lab.plain import printable

        with suppress(OSError, ValueError):
            self._console.print(printable(text, _LONGEST), markup=False, highlight=False, soft_wrap=True)
            self._console.file.flush()

    def end(self) -> None:
        """See ``Watcher``."""
        if self._bar is not None:
            with suppress(OSError, ValueError):
                self._bar.stop()


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(sweep)
