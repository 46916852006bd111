"""What an operator sees while a run goes on: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TextIO

from hil.lab.job import Job
from hil.lab.ledger import Ledger
from hil.lab.record import printable
from hil.protocol import StepRecord
from hil.units import duration

REFRESH = 0.1


class Lines:
    """Plain log lines, for files and pipes.

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
        for name, report in job.network.reports.items():
            self.say(f"programmed {name}: {report}")
        self.say(f"training {job.steps - first} steps on {job.guard.spec.identity.name}")

    def step(self, record: StepRecord, ledger: Ledger, evaluation: Mapping[str, float]) -> None:
        """See ``Observer``."""
        now, done = time.perf_counter(), record.step + 1
        if now < self._next and done != self._steps and not evaluation:
            return
        self._next = now + self._every
        self.say(f"step {done}/{self._steps}: {numbers(record, ledger, evaluation)}, {self._rate(done, now)}")

    def say(self, text: str) -> None:
        """See ``Observer``."""
        print(printable(text), file=self._out, flush=True)

    def end(self) -> None:
        """See ``Observer``."""

    def _rate(self, done: int, now: float) -> str:
        return f"{(done - self._first) / max(now - self._begun, 1e-9):.0f} it/s"


class Bar:
    """A progress bar with the numbers of the run beside it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=Console(),
        )
        self._task = self._progress.add_task("training", total=1, numbers="", start=False)
        self._accuracy = ""
        self._first, self._begun, self._next = 0, 0.0, 0.0
        self._steps = 0

    def begin(self, job: Job, first: int) -> None:
        """See ``Observer``."""
        for name, report in job.network.reports.items():
            self.say(f"programmed {name}: {report}")
        self._first, self._steps, self._begun = first, job.steps, time.perf_counter()
        self._progress.start()
        self._progress.start_task(self._task)
        self._progress.update(self._task, total=job.steps, completed=first, description=job.guard.spec.identity.name)

    def step(self, record: StepRecord, ledger: Ledger, evaluation: Mapping[str, float]) -> None:
        """See ``Observer``."""
        now, done = time.perf_counter(), record.step + 1
        if "test_accuracy" in evaluation:
            self._accuracy = f", test {100 * evaluation['test_accuracy']:.1f} %"
        if now < self._next and done != self._steps:
            return
        self._next = now + REFRESH
        rate = (done - self._first) / max(now - self._begun, 1e-9)
        text = f"{numbers(record, ledger, {})}{self._accuracy}, {rate:.0f} it/s"
        self._progress.update(self._task, completed=done, numbers=text)

    def say(self, text: str) -> None:
        """See ``Observer``."""
        self._progress.console.print(printable(text), markup=False, highlight=False)

    def end(self) -> None:
        """See ``Observer``."""
        self._progress.stop()


def numbers(record: StepRecord, ledger: Ledger, evaluation: Mapping[str, float]) -> str:
    """The numbers of a step in one line."""
    test = f", test {100 * evaluation['test_accuracy']:.1f} %" if "test_accuracy" in evaluation else ""
    return (
        f"loss {record.loss:.3f}, accuracy {100 * record.correct:.1f} %{test}, reads {short(ledger.reads)}, "
        f"pulses {short(ledger.pulses)}, lab time {duration(ledger.lab_seconds)}"
    )


def short(count: int) -> str:
    """A count in at most five characters: 950, 12.3k, 4.56M."""
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= scale:
            return f"{count / scale:.3g}{letter}"
    return str(count)
