"""Run folders: where they come to lie, who may write to them, and what ends up in them."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.errors import CheckpointError, ConfigError, StorageError, UsageError
from hil.lab import config, runs
from hil.lab.claim import claimed
from hil.lab.job import RunResult, failure
from hil.lab.signals import Interrupted, interruptible, signals
from hil.lab.stop import StopToken

Content = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All folders of a run lie below a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- folders -----------------------------------------------------------------------------------------------------------


def test_what_a_folder_holds(bench: Any, xor: Content, comparable: Callable[..., Any], here: Path) -> None:
    result = runs.run(xor(steps=2), out="a")
    names = {path.name for path in Path("a").iterdir()}
    assert names == {
        "run.yaml", "board.yaml", "run.db", "result.json", "lock",
        "checkpoint-000000000.safetensors", "checkpoint-000000002.safetensors",
    }  # fmt: skip
    assert json.loads(Path("a/result.json").read_text()) == result.as_dict()
    os.rename("a", "b")  # it needs nothing outside itself
    (here / "b" / "result.json").unlink()
    assert comparable(runs.resume("b")) == comparable(result)


def test_two_runs_in_one_second_get_two_folders(bench: Any, xor: Content, mocker: Any, here: Path) -> None:
    mocker.patch("time.strftime", return_value="20260101-000000")
    one, two = runs.run(xor(steps=1)), runs.run(xor(steps=1))
    root = (here / "runs").resolve()
    assert one.run_dir == root / "xor-20260101-000000" and two.run_dir == root / "xor-20260101-000000-2"


def test_long_names_fit(bench: Any, xor: Content) -> None:
    result = runs.run(xor(steps=1, name="x" * 64))
    assert len(result.run_dir.name) == 64 and result.run_dir.name.startswith("xxxx")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", "a b", "-x", "a\x1b[2J", "x" * 65, "C:\\x", "ü"]
)
def test_names_that_lead_astray(bench: Any, xor: Content, here: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        runs.run(xor(name=name))
    assert str(caught.value).isprintable() and not any(here.iterdir())


def test_a_run_root_that_is_a_link_stays_the_run_root(bench: Any, xor: Content, here: Path) -> None:
    (here / "scratch").mkdir()
    (here / "runs").symlink_to(here / "scratch")  # a disk with more space
    result = runs.run(xor(steps=1))
    assert result.run_dir.parent == (here / "scratch").resolve()


def test_a_folder_that_cannot_be_made(bench: Any, xor: Content, mocker: Any) -> None:
    mocker.patch("pathlib.Path.mkdir", side_effect=PermissionError(13, "Permission denied"))
    with pytest.raises(StorageError, match="Permission denied"):
        runs.run(xor(), out="a/b")


def test_a_file_where_a_folder_should_be(bench: Any, xor: Content, here: Path) -> None:
    (here / "file").write_text("x")
    for out in ("file", "file/below", "\0"):
        with pytest.raises(UsageError):
            runs.run(xor(), out=out)
    assert (here / "file").read_text() == "x"


def test_an_empty_folder_may_be_used(bench: Any, xor: Content, here: Path) -> None:
    (here / "a").mkdir()
    assert runs.run(xor(steps=1), out="a").status == "done"
    with pytest.raises(UsageError, match="there already"):
        runs.run(xor(steps=1), out="a")


def test_a_board_file_beside_the_run_file(bench: Any, xor: Content, here: Path) -> None:
    lab = here / "lab"
    lab.mkdir()
    (lab / "mine.yaml").write_text(Path(xor()["board"]).read_text())
    (lab / "run.yaml").write_text(config.dump(xor(board="mine.yaml", steps=1)))
    assert runs.run("lab/run.yaml", out="a").status == "done"
    (lab / "mine.yaml").unlink()  # the folder has its own copy
    assert runs.resume("a").status == "done"


def test_a_folder_cut_off_while_it_was_made_is_none(bench: Any, xor: Content, mocker: Any) -> None:
    usual = runs.Record

    def record(*args: Any) -> Any:
        raise StorageError("run.db", "disk is full")

    mocker.patch.object(runs, "Record", record)
    with pytest.raises(StorageError):
        runs.run(xor(), out="a")
    mocker.patch.object(runs, "Record", usual)
    with pytest.raises(CheckpointError, match="it has no run.yaml"):
        runs.resume("a")


# -- who may write -----------------------------------------------------------------------------------------------------


def test_a_folder_belongs_to_one_process_at_a_time(bench: Any, xor: Content, watcher: Any) -> None:
    refused: list[str] = []

    def second() -> None:
        try:
            runs.resume("a")
        except UsageError as error:
            refused.append(str(error))

    assert runs.run(xor(), out="a", observer=watcher({5: second})).status == "done"
    assert len(refused) == 1 and "in use" in refused[0]
    with claimed(Path("a")):
        pass
    with claimed(Path("a")):  # let go of again
        pass


def test_a_run_in_another_thread(bench: Any, xor: Content) -> None:
    """Signals belong to the main thread; a program that runs runs in others loses nothing but Ctrl-C."""
    results: list[RunResult] = []
    thread = threading.Thread(target=lambda: results.append(runs.run(xor(), out="a")))
    thread.start()
    thread.join()
    assert results[0].status == "done"


# -- results -----------------------------------------------------------------------------------------------------------


def test_results_come_back_from_their_file(bench: Any, xor: Content) -> None:
    result = runs.run(xor(steps=2), out="a")
    assert runs.read_result(Path("a")) == result


@pytest.mark.parametrize(
    "change", [{"status": None}, {"steps": "2"}, {"steps": True}, {"safe": 1}, {"reads": 2.5}, {"test_accuracy": "0.5"}]
)
def test_results_that_are_none(bench: Any, xor: Content, change: dict[str, Any]) -> None:
    data = runs.run(xor(steps=2), out="a").as_dict()
    assert RunResult.from_dict(data, Path("a")) is not None
    assert RunResult.from_dict(data | change, Path("a")) is None
    del data[next(iter(change))]
    assert RunResult.from_dict(data, Path("a")) is None


def test_a_failure_before_a_run_has_the_keys_of_a_run(bench: Any, xor: Content) -> None:
    assert failure("no", 2).keys() == runs.run(xor(steps=1), out="a").as_dict().keys()


def test_the_software_baseline_stands_beside_the_result(bench: Any, xor: Content) -> None:
    content = xor(steps=2, software={"optimiser": "adam", "eta": 0.05, "steps": 400})
    assert runs.run(content, out="a").software_accuracy == 1.0
    assert runs.run(xor(steps=2), out="b").software_accuracy is None


def test_a_baseline_that_was_left_out_is_made_up_for(
    bench: Any, xor: Content, mocker: Any, watcher: Any, comparable: Callable[..., Any]
) -> None:
    content = xor(steps=2, software={"optimiser": "adam", "eta": 0.05, "steps": 50})
    whole = runs.run(content, out="whole")
    patched = mocker.patch("hil.lab.runs.software_accuracy", side_effect=KeyboardInterrupt)
    watch = watcher()
    cut = runs.run(content, out="a", observer=watch)
    assert (cut.status, cut.exit_code, cut.software_accuracy) == ("done", 0, None)
    assert "`hil resume` makes up for it" in watch.said[-1]
    mocker.stop(patched)
    assert comparable(runs.resume("a")) == comparable(whole)


# -- signals -----------------------------------------------------------------------------------------------------------


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_the_first_ctrl_c_stops_and_the_second_aborts() -> None:
    stop, said = StopToken(), []
    before = signal.getsignal(signal.SIGINT)
    with signals(stop, said.append):
        send(signal.SIGINT)
        assert stop.stop_wanted and not stop.aborted and "Ctrl-C again ends at once" in said[0]
        send(signal.SIGINT)
        assert stop.aborted and len(said) == 2
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_abort(number: signal.Signals) -> None:
    stop = StopToken()
    with signals(stop, lambda text: None):
        send(number)
    assert stop.aborted and not stop.stop_wanted


def test_a_run_under_nohup_does_not_end_with_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopToken()
        with signals(stop, lambda text: None):
            send(signal.SIGHUP)
        assert not stop.aborted
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stream_that_is_busy_does_not_break_the_handler() -> None:
    def tell(text: str) -> None:
        raise RuntimeError("reentrant call")

    stop = StopToken()
    with signals(stop, tell):
        send(signal.SIGINT)
    assert stop.stop_wanted


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_without_a_board_signals_interrupt(number: signal.Signals, name: str) -> None:
    with interruptible():  # an outer one, so that a second signal would be seen
        with pytest.raises(Interrupted, match=name), interruptible():
            try:
                send(number)
            finally:
                send(number)  # while it is ending already
    assert not issubclass(Interrupted, Exception)
