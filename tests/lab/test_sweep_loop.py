"""The loop of a sweep and its executors: deaths, aborts, full disks, and the work list on the disk."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from hil.errors import CheckpointError, StorageError, UsageError
from hil.lab.stop import StopToken
from hil.lab.sweep_executors import Processes, dask
from hil.lab.sweep_jobs import remove
from hil.lab.sweep_loop import Shift, carry_out
from hil.lab.sweep_work import Row, WorkList
from hil.lab.sweep_worker import ABORT, Order, conduct

DONE: dict[str, Any] = {"status": "done", "exit_code": 0, "test_accuracy": 0.5}


class Deaf:
    """A watcher that keeps the runs that ended."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def begin(self, total: int, ended: int) -> None: ...

    def ended(self, row: Row, result: Mapping[str, Any]) -> None:
        self.rows.append(row.id)

    def say(self, text: str) -> None: ...

    def end(self) -> None: ...


@pytest.fixture
def work(tmp_path: Path) -> Generator[WorkList]:
    """A work list of four runs."""
    made = WorkList(tmp_path / "sweep.db")
    made.begin({"a": 1}, [(k // 2, k % 2, {"eta": k // 2}, f"r{k}") for k in range(4)])
    yield made
    made.close()


@pytest.fixture
def shift(work: WorkList, tmp_path: Path) -> Callable[..., Shift]:
    def make(answer: Callable[[Order], dict[str, Any]], retries: int = 2) -> Shift:
        def order(row: Row) -> Order:
            return Order(str(row.id), str(tmp_path / "stop"), {})

        return Shift(work, order, answer, lambda row, result: None, tmp_path / "stop", 2, retries)

    return make


def states(work: WorkList) -> list[str]:
    return [row.state for row in work.rows()]


def test_a_run_over_which_workers_die_fails_after_its_tries_and_the_others_go_on(
    work: WorkList, shift: Callable[..., Shift]
) -> None:
    tried: list[str] = []

    def answer(order: Order) -> dict[str, Any]:
        tried.append(order.folder)
        if order.folder == "2":
            raise BrokenProcessPool("died")
        return DONE

    watcher = Deaf()
    with ThreadPoolExecutor(2) as executor:
        carry_out(shift(answer), executor, watcher, StopToken())
    assert states(work) == ["done", "failed", "done", "done"] and tried.count("2") == 3 and len(tried) == 6
    row = work.rows()[1]
    assert row.deaths == 3 and "given up after 3 tries" in row.result["error"] and row.result["exit_code"] == 1
    assert sorted(watcher.rows) == [1, 2, 3, 4]


def test_a_full_disk_ends_the_sweep_and_nothing_is_marked_as_failed(
    work: WorkList, shift: Callable[..., Shift]
) -> None:
    full = {"status": "failed", "exit_code": 6, "error": "no space"}
    with ThreadPoolExecutor(1) as executor, pytest.raises(StorageError, match="no space"):
        carry_out(shift(lambda order: full), executor, Deaf(), StopToken())
    assert states(work) == ["waiting"] * 4


def test_an_abort_reaches_the_workers_and_their_runs_wait_again(
    work: WorkList, shift: Callable[..., Shift], tmp_path: Path
) -> None:
    stop = StopToken()

    def answer(order: Order) -> dict[str, Any]:
        stop.abort("test")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if Path(order.wish).is_file() and Path(order.wish).read_text() == ABORT:
                return {"status": "aborted", "exit_code": 4}
            time.sleep(0.02)
        return DONE

    with ThreadPoolExecutor(2) as executor:
        carry_out(shift(answer), executor, Deaf(), stop)
    assert states(work) == ["waiting"] * 4 and all(row.deaths == 0 for row in work.rows())


def test_a_dead_process_costs_no_other_its_work() -> None:
    executor: Executor = Processes(2, time.monotonic)
    try:
        slow: Future[Any] = executor.submit(time.sleep, 0.4)
        dead: Future[Any] = executor.submit(os._exit, 9)
        assert isinstance(dead.exception(timeout=20), BrokenProcessPool)
        assert executor.submit(abs, -3).result(timeout=20) == 3
        assert slow.exception(timeout=20) is None
        with pytest.raises(RuntimeError, match="busy"):
            for _ in range(3):
                executor.submit(time.sleep, 0.2)
    finally:
        executor.shutdown(cancel_futures=True)


def test_the_work_list_survives_and_refuses_what_it_is_not(work: WorkList, tmp_path: Path) -> None:
    work.started(1)
    work.finished(2, DONE | {"error": "a\x1bb"}, deaths=1)
    work.close()
    again = WorkList(tmp_path / "sweep.db")
    again.reopen()
    first, second, *_ = again.rows()
    assert (first.state, second.state, second.deaths) == ("waiting", "done", 1)
    assert second.result["test_accuracy"] == 0.5 and second.result["error"] == r"a\x1bb"
    assert again.facts() == {"a": 1} and first.overrides == {"eta": 0}
    again.close()
    db = sqlite3.connect(tmp_path / "other.db")
    db.execute("CREATE TABLE x (y)")
    db.close()
    (tmp_path / "text.db").write_text("hello" * 1000)
    (tmp_path / "link.db").symlink_to(tmp_path / "sweep.db")
    for name in ("other.db", "text.db", "link.db"):
        with pytest.raises(CheckpointError):
            WorkList(tmp_path / name)


def test_a_work_list_of_before_there_were_numbers_goes_on_and_a_later_one_is_refused(
    work: WorkList, tmp_path: Path
) -> None:
    work.finished(1, DONE, deaths=0)
    work.close()
    path = tmp_path / "sweep.db"
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE point DROP COLUMN numbers")
    db.execute("PRAGMA user_version=1")
    db.close()
    again = WorkList(path)
    again.finished(2, DONE | {"numbers": {"mine": 0.25, "not": float("nan"), "text": "x"}}, deaths=0)
    first, second, third, _ = again.rows()
    assert (first.state, first.number("test_accuracy"), first.number("mine")) == ("done", 0.5, None)
    assert second.numbers == {"mine": 0.25} and second.number("mine") == 0.25 and third.number("test_accuracy") is None
    assert [row.id for row in again.add([(9, 1, {"eta": 3}, "r9")])] == [5] and again.facts() == {"a": 1}
    again.close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.execute("PRAGMA user_version=3")
    db.close()
    with pytest.raises(CheckpointError, match="version 3, made by a later Crossbar-HIL"):
        WorkList(path)


def test_a_worker_gives_every_failure_back_and_removes_no_link(tmp_path: Path) -> None:
    found = conduct(Order(str(tmp_path / "r"), str(tmp_path / "stop"), {"name": "x"}))
    assert found["status"] == "failed" and found["exit_code"] == 2 and "is missing" in found["error"]
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="symbolic link"):
        remove(tmp_path / "link")


def test_dask_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"crossbar-hil\[sweep\]"), dask("tcp://127.0.0.1:1"):
        pass
