"""The runner: whatever happens, the board ends safe, the record is whole and the exit code tells what it was."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hil.contract import Pulse, SafeReport
from hil.errors import BoardFault, BoardMissing, StorageError
from hil.lab import checkpoint, runs
from hil.lab.record import Record, StepRow
from hil.lab.runner import Runner
from hil.lab.stop import StopToken

Content = Callable[..., dict[str, Any]]
Watch = Callable[..., Any]
NOT_SAFE = "SAFE NOT CONFIRMED: switch off by hand"


def rows(folder: Path) -> list[StepRow]:
    record = Record(folder / "run.db")
    try:
        return record.steps()
    finally:
        record.close()


def events(folder: Path, kind: str) -> list[str]:
    record = Record(folder / "run.db")
    try:
        return [text for _, _, found, text in record.events() if found == kind]
    finally:
        record.close()


def count(folder: Path, table: str) -> int:
    db = sqlite3.connect(folder / "run.db")
    try:
        return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    finally:
        db.close()


def fail_at(bench: Any, number: int, error: BaseException) -> None:
    """The board fails once: instead of carrying out the first writing list from ``number`` on."""

    def before(this: int) -> None:
        if this >= number and any(isinstance(op, Pulse) for op in bench.sent):
            bench.before = lambda number: None
            raise error

    bench.before = before


# -- the ordinary walk -------------------------------------------------------------------------------------------------


def test_a_run_from_beginning_to_end(bench: Any, xor: Content, watcher: Watch, tmp_path: Path) -> None:
    watch = watcher()
    result = runs.run(xor(), out=tmp_path / "a", observer=watch)
    assert (result.status, result.exit_code, result.safe, result.error) == ("done", 0, "SAFE confirmed", None)
    assert watch.done == list(range(30)) and watch.first == 0 and watch.ended == 1
    assert (bench.made_safe, bench.closed) == (1, 1)
    states = ["idle -> running", "running -> stopping", "stopping -> safe"]
    assert events(tmp_path / "a", "state") == states
    last = rows(tmp_path / "a")[-1]
    assert (last.lists, last.reads, last.pulses, last.lab_seconds) == (
        bench.lists, result.reads, result.pulses, result.lab_seconds
    )  # fmt: skip
    assert count(tmp_path / "a", "intent") == count(tmp_path / "a", "outcome") == bench.lists
    assert [path.name[-15:] for path in checkpoint.all_checkpoints(tmp_path / "a")] == [
        "020.safetensors",
        "030.safetensors",
    ]


def test_the_rate_is_that_of_the_training(
    bench: Any, xor: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Runner._evaluate

    def slow(self: Runner, job: Any) -> dict[str, float]:
        time.sleep(0.1)
        return usual(self, job)

    monkeypatch.setattr(Runner, "_evaluate", slow)
    result = runs.run(xor(evaluate_every=1, steps=4), out=tmp_path / "a")
    assert result.iterations_per_second > 1 / 0.1  # with the evaluations in it, it would be less


def test_a_hint_when_eta_is_much_too_large(bench: Any, xor: Content, watcher: Watch, tmp_path: Path) -> None:
    content = xor(steps=120)
    content["protocol"]["transforms"][0]["eta"] = 20.0
    content["protocol"]["rule"]["most"] = 1
    watch = watcher()
    runs.run(content, out=tmp_path / "a", observer=watch)
    hints = [text for text in watch.said if "eta is probably too large" in text]
    assert len(hints) == 1 and events(tmp_path / "a", "remark") == hints
    usual = watcher()
    runs.run(xor(steps=120), out=tmp_path / "b", observer=usual)
    assert not usual.said


# -- the operator's wishes ---------------------------------------------------------------------------------------------


def test_stop_ends_at_the_step_and_resumes_bit_for_bit(
    bench: Any, xor: Content, watcher: Watch, comparable: Callable[..., Any], tmp_path: Path
) -> None:
    stop = StopToken()
    stopped = runs.run(xor(), out=tmp_path / "a", observer=watcher({12: stop.stop}), stop=stop)
    assert (stopped.status, stopped.exit_code, stopped.steps, stopped.error) == ("stopped", 4, 13, None)
    watch = watcher()
    again = runs.resume(tmp_path / "a", observer=watch)
    assert watch.first == 13 and watch.done == list(range(13, 30)) and not watch.said
    whole = runs.run(xor(), out=tmp_path / "b")
    assert comparable(again) == comparable(whole)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_abort_sends_nothing_more(bench: Any, xor: Content, watcher: Watch, tmp_path: Path) -> None:
    stop = StopToken()
    sent: list[int] = []

    def abort() -> None:
        stop.abort("the door was opened")
        sent.append(bench.lists)

    result = runs.run(xor(), out=tmp_path / "a", observer=watcher({12: abort}), stop=stop)
    assert (result.status, result.exit_code, result.steps) == ("aborted", 4, 13)
    assert result.error == "aborted: the door was opened" and result.safe == "SAFE confirmed"
    assert sent == [bench.lists]
    assert events(tmp_path / "a", "state")[-2:] == ["running -> aborting", "aborting -> safe"]
    newest = checkpoint.latest(tmp_path / "a")
    assert newest is not None and checkpoint.read(newest).state.step == 10


class Pause:
    """Pauses a run after a step, lets some time pass, and does something else."""

    def __init__(self, stop: StopToken, then: Callable[[], object]) -> None:
        self.stop, self.then = stop, then
        self.lists = (0, 1)

    def __call__(self, bench: Any) -> Callable[[], None]:
        def later() -> None:
            time.sleep(0.15)
            before = bench.lists
            time.sleep(0.15)
            self.lists = before, bench.lists
            self.then()

        def pause() -> None:
            self.stop.pause_wanted = True
            threading.Thread(target=later).start()

        return pause


def test_pause_and_go_on_from_another_thread(bench: Any, xor: Content, watcher: Watch, tmp_path: Path) -> None:
    stop = StopToken()
    pause = Pause(stop, lambda: setattr(stop, "pause_wanted", False))
    result = runs.run(xor(), out=tmp_path / "a", observer=watcher({12: pause(bench)}), stop=stop)
    assert result.status == "done"
    assert pause.lists[0] == pause.lists[1]  # nothing was sent meanwhile
    walk = ["running -> pausing", "pausing -> paused", "paused -> running", "running -> stopping"]
    assert events(tmp_path / "a", "state")[1:5] == walk
    assert len(rows(tmp_path / "a")) == 30


@pytest.mark.parametrize(("wish", "status"), [("stop", "stopped"), ("abort", "aborted")])
def test_the_end_of_a_paused_run(
    bench: Any, xor: Content, watcher: Watch, tmp_path: Path, wish: str, status: str
) -> None:
    stop = StopToken()
    pause = Pause(stop, stop.stop if wish == "stop" else lambda: stop.abort("enough"))
    result = runs.run(xor(), out=tmp_path / "a", observer=watcher({12: pause(bench)}), stop=stop)
    assert (result.status, result.exit_code, result.steps, result.safe) == (status, 4, 13, "SAFE confirmed")
    assert events(tmp_path / "a", "state")[3].startswith("paused -> ")


# -- boards that fail --------------------------------------------------------------------------------------------------


def test_a_board_that_cannot_be_opened(bench: Any, xor: Content, mocker: Any, tmp_path: Path) -> None:
    mocker.patch("hil.lab.build.SimBoard", side_effect=BoardMissing("daffodil", "nothing answers at /dev/ttyUSB0"))
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


# -- storage that fails ------------------------------------------------------------------------------------------------


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


# -- intents before actions --------------------------------------------------------------------------------------------


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


# -- a chip: no snapshot, no way back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["stopped", "fault"])
def test_a_chip_is_met_as_it_is(bench: Any, xor: Content, watcher: Watch, tmp_path: Path, end: str) -> None:
    bench.is_chip = True
    stop = StopToken()
    if end == "fault":
        fail_at(bench, 108, BoardFault("daffodil", "supply dropped out"))
    first = watcher({12: stop.stop} if end == "stopped" else {})
    result = runs.run(xor(), out=tmp_path / "a", observer=first, stop=stop)
    assert result.status == ("stopped" if end == "stopped" else "failed")
    before, done = rows(tmp_path / "a"), len(first.done)
    newest = checkpoint.latest(tmp_path / "a")
    assert newest is not None
    saved = checkpoint.read(newest)
    assert done > saved.state.step if end == "fault" else done == saved.state.step
    assert {"wear.run", "layer1/W", "layer2/W"} <= set(saved.board)

    second = watcher()
    again = runs.resume(tmp_path / "a", observer=second)
    assert (again.status, again.exit_code, again.steps) == ("done", 0, 30)
    assert second.first == done and second.done == list(range(done, 30))
    after = rows(tmp_path / "a")
    assert after[:done] == before  # no row is dropped
    assert [row.step for row in after] == list(range(30))
    assert all(b.lab_seconds > a.lab_seconds and b.reads > a.reads for a, b in pairwise(after))
    told = [text for text in second.said if text.endswith("(rms) from the checkpoint")]
    assert [text.split(":")[0] for text in told] == ["layer1/W", "layer2/W"]
    assert set(told) <= set(events(tmp_path / "a", "remark"))
    doubts = [text for text in second.said if "may have been applied" in text]
    assert len(doubts) == (end == "fault") and not any("simulator" in text for text in doubts)
    newest = checkpoint.latest(tmp_path / "a")
    assert newest is not None
    worn = checkpoint.read(newest).board["wear.run"]
    assert bool((worn >= saved.board["wear.run"]).all())


def test_doubt_is_told_once(bench: Any, xor: Content, watcher: Watch, tmp_path: Path) -> None:
    bench.is_chip = True
    fail_at(bench, 108, BoardFault("daffodil", "supply dropped out"))
    runs.run(xor(), out=tmp_path / "a")
    said: list[str] = []
    for _ in range(2):
        stop = StopToken()
        stop.stop()
        watch = watcher()
        runs.resume(tmp_path / "a", observer=watch, stop=stop)
        said += [text for text in watch.said if "may have been applied" in text]
    assert len(said) == 1


def test_a_chip_whose_set_up_was_cut_off_keeps_its_rows(bench: Any, xor: Content, tmp_path: Path) -> None:
    bench.is_chip = True
    fail_at(bench, 5, BoardFault("daffodil", "supply dropped out"))
    assert runs.run(xor(), out=tmp_path / "a").exit_code == 3
    assert runs.resume(tmp_path / "a").status == "done"
    assert count(tmp_path / "a", "intent") == bench.lists + 1  # the one that failed is kept, and in doubt
