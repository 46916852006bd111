"""Ctrl-C, SIGTERM and a closed terminal in every phase of a run, sent to real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from hil.lab import checkpoint, cli, config, runs

Small = Callable[..., dict[str, Any]]
LONGEST = 30.0
ENDLESS = 1_000_000
SLOW_SET_UP = {"hidden": [12], "w_max": 2.0, "program": {"kind": "pulses", "window": "0.1 uS", "rounds": 20000}}


@pytest.fixture
def begin(forks: ForkServerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BaseProcess]:
    """``begin(content)``: starts ``hil run`` with folder ``tmp_path / "run"`` in a process of its own."""

    def call(content: dict[str, Any]) -> BaseProcess:
        file = tmp_path / "file.yaml"
        file.write_text(config.dump(content))
        process = forks.Process(target=cli.main, args=(["run", str(file), "--out", str(tmp_path / "run"), "--json"],))
        process.start()
        return process

    return call


def wait_for(process: BaseProcess, happened: Callable[[], bool]) -> None:
    until = time.monotonic() + LONGEST
    while not happened():
        assert process.is_alive() and time.monotonic() < until
        time.sleep(0.002)


def send(process: BaseProcess, number: int) -> None:
    assert process.pid is not None
    os.kill(process.pid, number)


def code_of(process: BaseProcess) -> int | None:
    process.join(LONGEST)
    return process.exitcode


def training(folder: Path) -> Callable[[], bool]:
    """Whether the first steps are done."""
    return (folder / "checkpoint-000000010.safetensors").exists


def test_first_ctrl_c_ends_in_an_orderly_way_and_the_run_can_go_on(
    begin: Callable[..., BaseProcess], small: Small, contents: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    content = small(steps=300, evaluate_every=100)
    process = begin(content)
    wait_for(process, training(folder))
    send(process, signal.SIGINT)
    assert code_of(process) == 4
    stopped = runs.read_result(folder)
    assert stopped is not None and stopped.status == "stopped" and stopped.safe == "SAFE confirmed"
    assert 0 < stopped.steps < 300 and stopped.error is None
    newest = checkpoint.latest(folder)
    assert newest is not None and checkpoint.read(newest).state.step == stopped.steps  # nothing that was done is lost
    assert runs.resume(folder).status == "done"
    assert runs.run(content, out=tmp_path / "whole").status == "done"
    one, other = contents(folder), contents(tmp_path / "whole")
    del one["names"], other["names"]  # the checkpoint before the last is that of the stop
    assert one == other


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)], ids=lambda s: s.name
)
def test_sigterm_and_a_closed_terminal_end_at_once(
    begin: Callable[..., BaseProcess], small: Small, tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    process = begin(small(steps=ENDLESS))
    wait_for(process, training(folder))
    send(process, number)
    assert code_of(process) == 4
    result = runs.read_result(folder)
    assert result is not None and result.status == "aborted" and result.safe == "SAFE confirmed"
    assert result.error == f"aborted: {'SIGTERM' if number is signal.SIGTERM else 'terminal closed'}"


def test_second_ctrl_c_in_the_set_up_ends_at_once(
    begin: Callable[..., BaseProcess], small: Small, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = begin(small(network=SLOW_SET_UP))
    wait_for(process, (folder / "run.yaml").exists)
    time.sleep(0.2)
    send(process, signal.SIGINT)
    time.sleep(0.2)
    assert process.is_alive()  # the first one waits for the end of the set-up
    send(process, signal.SIGINT)
    assert code_of(process) == 4
    result = runs.read_result(folder)
    assert result is not None and result.status == "aborted" and result.error == "aborted: second Ctrl-C"
    assert result.safe == "SAFE confirmed" and result.steps == 0 and result.pulses > 0
    assert checkpoint.latest(folder) is None


def test_ctrl_c_in_the_software_baseline_keeps_the_run(
    begin: Callable[..., BaseProcess], small: Small, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = begin(small(steps=5, software={"optimiser": "sgd", "eta": 0.1, "steps": ENDLESS}))
    wait_for(process, (folder / "result.json").exists)
    time.sleep(0.2)
    send(process, signal.SIGINT)
    assert code_of(process) == 0
    result = runs.read_result(folder)
    assert result is not None and result.status == "done" and result.software_accuracy is None
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=lambda s: s.name
)
def test_signals_in_the_clean_up_change_nothing(
    begin: Callable[..., BaseProcess], small: Small, tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    process = begin(small(steps=5))
    wait_for(process, (folder / "result.json").exists)
    for _ in range(20):
        if not (folder / "report.html").exists():
            send(process, number)
            time.sleep(0.005)
    assert code_of(process) == 0
    result = runs.read_result(folder)
    assert result is not None and result.status == "done" and (folder / "report.html").is_file()
