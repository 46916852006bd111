"""The runner when board, storage or process fail: the board ends safe and the record is whole."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_folders import NOT_SAFE, Content, Watch, count, events, fail_at, rows

from hil.contract import SafeReport
from hil.errors import BoardFault, BoardMissing, StorageError
from hil.lab import runs
from hil.lab.record import Record
from hil.lab.stop import StopToken


def test_a_board_that_cannot_be_opened(bench: Any, xor: Content, mocker: Any, tmp_path: Path) -> None:
    mocker.patch("hil.lab.opening.SimBoard", side_effect=BoardMissing("daffodil", "nothing answers at /dev/ttyUSB0"))
    result = runs.run(xor(), out=tmp_path / "a")
    assert (result.status, result.exit_code) == ("failed", 3)
    assert result.error == "board daffodil: nothing answers at /dev/ttyUSB0"
    assert result.safe == "no board was opened, nothing was sent"  # and no claim that it is safe
    assert bench.made_safe == 0


@pytest.mark.parametrize("number", [2, 60], ids=["set-up", "training"])
def test_a_fault_in_the_middle(
    bench: Any, xor: Content, watcher: Watch, comparable: Callable[..., Any], tmp_path: Path, number: int
) -> None:
    whole = comparable(runs.run(xor(), out=tmp_path / "whole"))
    bench.lists = bench.made_safe = bench.closed = 0
    fail_at(bench, number, BoardFault("daffodil", "supply dropped out"))
    result = runs.run(xor(), out=tmp_path / "a")
    assert (result.status, result.exit_code, result.safe) == ("failed", 3, "SAFE confirmed")
    assert result.error is not None and "supply dropped out" in result.error
    assert bench.made_safe == 1
    assert events(tmp_path / "a", "error") == [result.error]
    watch = watcher()
    again = runs.resume(tmp_path / "a", observer=watch)
    told = [text for text in watch.said if "may have been applied at the cut-off" in text]
    assert len(told) == 1 and told[0].startswith("one list")
    assert comparable(again) == whole
    assert rows(tmp_path / "a") == rows(tmp_path / "whole")


def test_an_error_of_a_foreign_kind_comes_out_of_a_safe_run(
    bench: Any, xor: Content, comparable: Callable[..., Any], tmp_path: Path
) -> None:
    whole = comparable(runs.run(xor(), out=tmp_path / "whole"))
    bench.lists = bench.made_safe = bench.closed = 0
    fail_at(bench, 60, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug") as caught:
        runs.run(xor(), out=tmp_path / "a")
    assert (bench.made_safe, bench.closed) == (1, 1)
    assert caught.value.__notes__ == ["SAFE confirmed", f"traceback: {tmp_path / 'a' / 'crash.txt'}"]
    assert events(tmp_path / "a", "error") == ["ZeroDivisionError: a bug"]
    assert comparable(runs.resume(tmp_path / "a")) == whole


def still_on() -> SafeReport:
    return SafeReport({"rows": "off", "gates": "on"}, confirmed=False)


def unreadable() -> SafeReport:
    return SafeReport({"rows": "unreadable"}, confirmed=False)


def deaf() -> SafeReport:
    raise TimeoutError("no answer within 2 s")


@pytest.mark.parametrize(
    ("safe", "says"), [(still_on, "gates on"), (unreadable, "rows unreadable"), (deaf, "no answer within 2 s")]
)
@pytest.mark.parametrize("end", ["done", "stopped", "fault"])
def test_a_board_that_is_not_confirmed_safe(
    bench: Any, xor: Content, watcher: Watch, tmp_path: Path, safe: Callable[[], SafeReport], says: str, end: str
) -> None:
    bench.safe = safe
    stop = StopToken()
    if end == "fault":
        fail_at(bench, 60, BoardFault("daffodil", "supply dropped out"))
    watch = watcher({12: stop.stop} if end == "stopped" else {})
    result = runs.run(xor(), out=tmp_path / "a", observer=watch, stop=stop)
    assert result.exit_code == 3 and result.status == ("stopped" if end == "stopped" else "failed")
    assert result.error is not None and NOT_SAFE in result.error and says in result.error
    assert result.safe.startswith(NOT_SAFE)
    assert ("supply dropped out" in result.error) == (end == "fault")
    assert bench.closed == 1  # released all the same
    assert events(tmp_path / "a", "state")[-1].endswith("-> fault")


def test_a_board_that_cannot_be_closed(bench: Any, xor: Content, tmp_path: Path) -> None:
    def stuck() -> None:
        raise OSError("port is gone")

    bench.closing = stuck
    result = runs.run(xor(), out=tmp_path / "a")
    assert (result.status, result.exit_code, result.safe) == ("failed", 3, "SAFE confirmed")
    assert result.error is not None and "port is gone" in result.error


def test_an_observer_that_fails_leaves_a_safe_board(bench: Any, xor: Content, watcher: Watch, tmp_path: Path) -> None:
    def burst() -> None:
        raise RuntimeError("the screen burst")

    with pytest.raises(RuntimeError, match="the screen burst"):
        runs.run(xor(), out=tmp_path / "a", observer=watcher({12: burst}))
    assert bench.made_safe == 1
    watch = watcher()
    watch.end = burst
    assert runs.resume(tmp_path / "a", observer=watch).status == "done"


def test_storage_that_fails_while_the_run_ends(bench: Any, xor: Content, mocker: Any, tmp_path: Path) -> None:
    usual = Record.close

    def close(self: Record) -> None:
        usual(self)
        raise StorageError(str(self.path), "disk is full")

    mocker.patch.object(Record, "close", close)
    result = runs.run(xor(), out=tmp_path / "a")
    assert (result.status, result.exit_code, result.safe) == ("failed", 6, "SAFE confirmed")
    mocker.stopall()
    assert runs.resume(tmp_path / "a").status == "done"


@pytest.mark.parametrize("name", ["intent", "commit_step", "sync"])
def test_storage_that_fails_in_the_middle(
    bench: Any, xor: Content, mocker: Any, comparable: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    whole = comparable(runs.run(xor(), out=tmp_path / "whole"))
    usual, calls = getattr(Record, name), [0]

    def failing(self: Record, *args: Any) -> Any:
        calls[0] += 1
        if calls[0] > 2:
            raise StorageError(str(self.path), "disk is full")
        return usual(self, *args)

    patched = mocker.patch.object(Record, name, failing)
    result = runs.run(xor(), out=tmp_path / "a")
    assert (result.status, result.exit_code, result.safe) == ("failed", 6, "SAFE confirmed")
    mocker.stop(patched)
    assert comparable(runs.resume(tmp_path / "a")) == whole
    assert rows(tmp_path / "a") == rows(tmp_path / "whole")


def test_an_intent_is_there_for_others_to_read_before_its_list_is_sent(
    bench: Any, xor: Content, tmp_path: Path
) -> None:
    seen: list[int] = []
    bench.before = lambda number: seen.append(count(tmp_path / "a", "intent") - number)
    runs.run(xor(steps=5), out=tmp_path / "a")
    assert set(seen) == {1} and len(seen) == bench.lists


def test_a_process_that_dies_in_a_list_leaves_its_intent(bench: Any, xor: Content, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:  # must never come back into pytest
        try:
            bench.before = lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == 60 else None
            runs.run(xor(), out=tmp_path / "a")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert count(tmp_path / "a", "intent") == 61
    record = Record(tmp_path / "a" / "run.db")
    doubt = record.in_doubt()
    record.close()
    assert doubt[-1][0] == 61
