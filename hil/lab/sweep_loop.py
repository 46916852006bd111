"""The loop of a sweep: gives runs to workers, stores what comes back, and begins again what died."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hil.errors import StorageError
from hil.lab import tables
from hil.lab.job import failure
from hil.lab.plain import printable
from hil.lab.stop import StopToken
from hil.lab.sweep_work import Row, WorkList
from hil.lab.sweep_worker import ABORT, STOP, Order

_LOOK = 0.2
"""s between two looks for the operator's wish."""
_ABORT = 10.0
"""s in which workers must end after an abort; the executor then ends them."""


class Watcher(Protocol):
    """Sees a sweep go by."""

    def begin(self, total: int, ended: int) -> None:
        """The sweep has ``total`` runs, of which ``ended`` need nothing more."""
        ...

    def ended(self, row: Row, result: Mapping[str, Any]) -> None:
        """A run has come to an end and is stored."""
        ...

    def say(self, text: str) -> None:
        """Something to tell the operator."""
        ...

    def end(self) -> None:
        """Nothing more will come."""
        ...


def _nothing() -> Sequence[Row]:
    return ()


@dataclass(frozen=True, slots=True)
class Shift:
    """What the loop works with.

    Args:
        work: the work list.
        order: makes the order for a row.
        conduct: what a worker does with it.
        tidy: called when a run is stored, with its row and result.
        wish: the file that tells workers to end.
        at_once: runs at once.
        retries: how often a run is begun again after its worker died.
        total: runs altogether; None for those that are in the work list.
        more: gives further runs, already in the work list; asked while workers are free, and again after runs ended.
    """

    work: WorkList
    order: Callable[[Row], Order]
    conduct: Callable[[Order], dict[str, Any]]
    tidy: Callable[[Row, Mapping[str, Any]], None]
    wish: Path
    at_once: int
    retries: int
    total: int | None = None
    more: Callable[[], Sequence[Row]] = _nothing


def carry_out(shift: Shift, executor: Executor, watcher: Watcher, stop: StopToken) -> None:
    """Does all runs that wait; ends early when the operator wants it, and what was not finished waits again.

    Raises:
        StorageError: a worker cannot write, or the work list cannot be written; the other runs end in an orderly way.
    """
    rows = shift.work.rows()
    waiting = deque(row for row in rows if row.state == "waiting")
    watcher.begin(len(rows) if shift.total is None else max(shift.total, len(rows)), len(rows) - len(waiting))
    deaths = {row.id: row.deaths for row in waiting}
    running: dict[Future[dict[str, Any]], Row] = {}
    told, deadline, full = "", float("inf"), ""
    ask = True  # whether there may be further runs
    while ask or waiting or running:
        if stop.stop_wanted or stop.aborted or full:
            waiting.clear()
            ask = False
            wanted = ABORT if stop.aborted else STOP
            if wanted != told and running:
                told = wanted
                tables.write(shift.wish, wanted)
                deadline = time.monotonic() + _ABORT if stop.aborted else float("inf")
            if time.monotonic() > deadline:
                break
        while ask and len(waiting) + len(running) < shift.at_once:
            further = shift.more()
            waiting.extend(further)
            deaths |= {row.id: 0 for row in further}
            ask = bool(further)
        while waiting and len(running) < shift.at_once:
            row = waiting.popleft()
            shift.work.started(row.id)
            running[executor.submit(shift.conduct, shift.order(row))] = row
        for future in wait(running, timeout=_LOOK, return_when=FIRST_COMPLETED).done:
            row = running.pop(future)
            result = _result_of(future)
            if not _is_final(result):  # its worker died, or somebody ended the run
                deaths[row.id] += 0 if told else 1
                if told or deaths[row.id] <= shift.retries:
                    shift.work.put_back(row.id, deaths=deaths[row.id])
                    if not told:
                        watcher.say(f"run {row.id}: {_cause(future, result)}; it is begun again")
                        waiting.append(row)
                    continue
                problem = f"given up after {deaths[row.id]} tries; the last: {_cause(future, result)}"
                result = failure(problem, 1)
            elif result["exit_code"] == StorageError.exit_code:  # so will be the others
                shift.work.put_back(row.id, deaths=deaths[row.id])
                full = str(result["error"])
                continue
            shift.work.finished(row.id, result, deaths=deaths[row.id])
            shift.tidy(row, result)
            watcher.ended(row, result)
            ask = not told
    if full:
        raise StorageError(str(shift.work.path.parent), f"a worker reports: {printable(full, 500)}")


def _result_of(future: Future[dict[str, Any]]) -> dict[str, Any]:
    """What a worker gave back; empty when it died."""
    if future.cancelled() or future.exception() is not None:
        return {}
    return future.result()


def _is_final(result: Mapping[str, Any]) -> bool:
    return result.get("status") in ("done", "failed")


def _cause(future: Future[dict[str, Any]], result: Mapping[str, Any]) -> str:
    if result:
        return f"it was {result.get('status')} from outside"
    error = None if future.cancelled() else future.exception()
    return f"its worker died ({printable(f'{type(error).__name__}: {error}', 200)})"
