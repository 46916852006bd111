"""What an operator sees while a run goes on: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

from hil.lab.job import Job
from hil.lab.ledger import Ledger
from hil.lab.plain import printable
from hil.protocol import StepRecord
from hil.units import duration

REFRESH = 0.1
LONGEST = 2000


class Lines:
    """Plain log lines, for files and pipes. A reader that goes away does not disturb the run.

    Args:
        out: where to write.
        every: seconds between two lines.
    """

    def __init__(self, out: TextIO, every: float = 1.0) -> None:
        self._out, self._every = out, every
        self._steps, self._first, self._begun, self._next = 0, 0, 0.0, 0.0

    def begin(self, job: Job, first: int) -> None:
        """See ``Observer``."""
        self._steps, self._first = job.steps, first
        self._begun = time.perf_counter()
        for line in opening(job, first):
            self.say(line)

    def step(self, record: StepRecord, ledger: Ledger, evaluation: Mapping[str, float]) -> None:
        """See ``Observer``."""
        now, done = time.perf_counter(), record.step + 1
        if now < self._next and done != self._steps and not evaluation:
            return
        self._next = now + self._every
        rate = (done - self._first) / max(now - self._begun, 1e-9)
        test = f", {tested(evaluation)}" if "test_accuracy" in evaluation else ""
        self.say(f"step {done}/{self._steps}: {learnt(record)}{test}, {used(ledger)}, {rate:.0f} it/s")

    def say(self, text: str) -> None:
        """See ``Observer``."""
        with suppress(OSError, ValueError):  # the pipe was closed
            print(printable(text, LONGEST), file=self._out, flush=True)

    def end(self) -> None:
        """See ``Observer``."""


class Bar:
    """A progress bar with the numbers of the run below it."""

    def __init__(self) -> None:
        from rich.console import Group
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.text import Text

        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            expand=True,
        )
        self._task = self._progress.add_task("training", total=1, rate="", start=False)
        self._learnt, self._used = Text(overflow="ellipsis"), Text(overflow="ellipsis", style="dim")
        self._live = Live(Group(self._progress, self._learnt, self._used), refresh_per_second=1 / REFRESH)
        self._accuracy = ""
        self._steps, self._first, self._begun, self._next = 0, 0, 0.0, 0.0

    def begin(self, job: Job, first: int) -> None:
        """See ``Observer``."""
        for line in opening(job, first):
            self.say(line)
        self._first, self._steps, self._begun = first, job.steps, time.perf_counter()
        with suppress(OSError, ValueError):
            self._progress.start_task(self._task)
            self._progress.update(self._task, total=job.steps, completed=first)
            self._live.start()

    def step(self, record: StepRecord, ledger: Ledger, evaluation: Mapping[str, float]) -> None:
        """See ``Observer``."""
        now, done = time.perf_counter(), record.step + 1
        if "test_accuracy" in evaluation:
            self._accuracy = f", {tested(evaluation)}"
        if now < self._next and done != self._steps:
            return
        self._next = now + REFRESH
        rate = (done - self._first) / max(now - self._begun, 1e-9)
        self._progress.update(self._task, completed=done, rate=f"{rate:.0f} it/s")
        self._learnt.plain = f"{learnt(record)}{self._accuracy}"
        self._used.plain = used(ledger)

    def say(self, text: str) -> None:
        """See ``Observer``."""
        with suppress(OSError, ValueError):
            self._live.console.print(printable(text, LONGEST), markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """See ``Observer``."""
        with suppress(OSError, ValueError):
            self._live.stop()


def opening(job: Job, first: int) -> list[str]:
    """What is said before the first step of a session."""
    lines = [f"programmed {name}: {report}" for name, report in job.network.reports.items()]
    left, board = job.steps - first, job.guard.spec.identity.name
    if left == 0:
        return [*lines, f"all {job.steps} steps are done"]
    again = f", going on after step {first}" if first else ""
    return [*lines, f"training {left} steps on {board}{again}"]


def learnt(record: StepRecord) -> str:
    """How well the batch of a step was done."""
    return f"loss {record.loss:.3f}, accuracy {100 * record.correct:.1f} %"


def tested(evaluation: Mapping[str, float]) -> str:
    """The accuracy on the test samples."""
    return f"test {100 * evaluation['test_accuracy']:.1f} %"


def used(ledger: Ledger) -> str:
    """What the run has cost so far."""
    return f"reads {short(ledger.reads)}, pulses {short(ledger.pulses)}, lab time {duration(ledger.lab_seconds)}"


def short(count: int) -> str:
    """A count in at most five characters: 950, 12.3k, 4.56M."""
    if count < 1000:
        return str(count)
    for scale, letter in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        if count < 999.5 * scale:
            return f"{count / scale:.3g}{letter}"
    return f"{count / 1e12:.3g}T"
