"""The runner: the ordinary walk, what the operator wishes, and a chip that is met as it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from run_folders import Content, Watch, count, events, fail_at, rows

from hil.errors import BoardFault
from hil.lab import checkpoint, runs
from hil.lab.runner import Runner
from hil.lab.stop import StopToken


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
        time.sleep(0.05)
        return usual(self, job)

    monkeypatch.setattr(Runner, "_evaluate", slow)
    result = runs.run(xor(evaluate_every=1, steps=4), out=tmp_path / "a")
    assert result.iterations_per_second > 1 / 0.05  # with the evaluations in it, it would be less


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
            time.sleep(0.08)
            before = bench.lists
            time.sleep(0.08)
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
