"""The main job over real lines: the same losses as in this process, over TCP, a serial line and PyVISA."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from framed_boards import DAFFODIL, connected, daffodil, forks, pulses, run

from hil.lab import runs
from hil.lab.job import Silent
from hil.lab.ledger import Ledger
from hil.lab.stop import StopToken
from hil.protocol import StepRecord
from instruments.virtual.control_client import Control
from instruments.virtual.shell import ShellSettings

LOCAL = "127.0.0.1:0"
DIGITS = Path(__file__).parents[2] / "config" / "runs" / "digits_node.yaml"
LINES = ("tcp", "pty", "visa tcp", "visa pty")
STEPS = 4


@pytest.fixture(scope="module")
def running():
    with daffodil(ShellSettings(tcp=LOCAL, pty=True, control=LOCAL)) as addresses:
        port, device = addresses["tcp"].rpartition(":")[2], addresses["pty"].removeprefix("serial://")
        visa = {"visa tcp": f"visa://TCPIP::127.0.0.1::{port}::SOCKET", "visa pty": f"visa://ASRL{device}::INSTR"}
        yield addresses | visa


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch) -> str:
    """Locks of this test alone; a board of the same serial number may be in use elsewhere on this machine."""
    folder = tmp_path / "locks"
    monkeypatch.setenv("HIL_LOCKS", str(folder))
    return str(folder)


@pytest.fixture
def made_anew(running):
    """The virtual board as it was made."""
    with daffodil(ShellSettings(tcp=LOCAL)) as other:
        source = connected(other["tcp"])
        board = connected(running["tcp"])
        board.restore(source.snapshot())
        board.close()
        source.close()


class Watching(Silent):
    """Counts the lists that the board has carried out by the end of each step, and may stop the run."""

    def __init__(self, control: Control, stop: StopToken | None = None, last: int = -1) -> None:
        self.lists: list[int] = []
        self._control, self._stop, self._last = control, stop, last

    def step(self, record: StepRecord, ledger: Ledger, evaluation: Mapping[str, float]) -> None:
        self.lists.append(self._control.inspect("counters")["executed"])
        if self._stop is not None and record.step == self._last:
            self._stop.stop()


def settings(board: object, steps: int = STEPS) -> list[str]:
    changes = {"steps": steps, "evaluate_every": 2, "checkpoint_every": 4, "software": "null", "board": board}
    return [f"{key}={value}" for key, value in changes.items()]


def losses(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """What the record says of each step, and of each evaluation."""
    with sqlite3.connect(folder / "run.db") as db:
        found = {name: db.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in ("step", "evaluation")}
    db.close()
    assert found["step"] and found["evaluation"]
    return found


@pytest.fixture(scope="module")
def near(tmp_path_factory) -> Path:
    """The run on the simulator in this process."""
    folder = tmp_path_factory.mktemp("near") / "run"
    assert runs.run(DIGITS, out=folder, overrides=settings(DAFFODIL)).exit_code == 0
    return folder


@pytest.mark.parametrize("line", [LINES[0], *(pytest.param(line, marks=pytest.mark.slow) for line in LINES[1:])])
def test_losses_are_those_of_the_simulator_in_this_process(running, made_anew, near, line, tmp_path):
    with Control(running["control"]) as control:
        seen = Watching(control)
        result = runs.run(DIGITS, out=tmp_path / "far", overrides=settings(running[line]), observer=seen)
        assert result.exit_code == 0, result.error
        assert losses(tmp_path / "far") == losses(near)
        a_step = [b - a for a, b in zip(seen.lists, seen.lists[1:], strict=False)]
        assert 2 <= min(a_step) <= 3  # two layers: at most L + 1 frames, where no evaluation lies between
        assert control.inspect("outputs") == {"on": False, "volts": 0.0}
        assert control.inspect("history", last=1) == [["outputs", "off"]]


@pytest.mark.slow
def test_a_run_goes_on_over_the_wire_bit_for_bit(running, made_anew, near, tmp_path):
    """What the board did in between does not matter: its state is put back."""
    stop = StopToken()
    with Control(running["control"]) as control:
        watching = Watching(control, stop, 2)
        first = runs.run(DIGITS, out=tmp_path / "run", overrides=settings(running["tcp"]), observer=watching, stop=stop)
    assert first.exit_code == 4 and first.steps == 3, first
    board = connected(running["tcp"])
    board.execute([pulses(board, 3, kernel) for kernel in range(8)])
    board.close()
    assert runs.resume(tmp_path / "run").exit_code == 0
    assert losses(tmp_path / "run") == losses(near)


@pytest.mark.slow
def test_a_second_program_is_refused_and_a_killed_one_leaves_the_board_free(running, made_anew, locks, tmp_path):
    plan = runs.read_plan(DIGITS, settings(running["tcp"], 100_000)).run.plain
    process = forks().Process(target=run, args=(plan, tmp_path / "first", locks), daemon=True)
    process.start()
    until = time.monotonic() + 30
    while not (tmp_path / "first" / "checkpoint-000000000.safetensors").exists():
        assert process.is_alive() and time.monotonic() < until
        time.sleep(0.05)
    started = time.monotonic()
    refused = runs.run(DIGITS, out=tmp_path / "second", overrides=settings(running["tcp"]))
    assert time.monotonic() - started < 2.0
    assert (
        refused.exit_code == 3
        and f"process {process.pid} " in str(refused.error)
        and "run digits_node" in str(refused.error)
    )
    with Control(running["control"]) as control:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        started = time.monotonic()
        while control.inspect("outputs")["on"]:
            assert time.monotonic() - started < 0.5
    third = runs.run(DIGITS, out=tmp_path / "third", overrides=settings(running["tcp"], 2))
    assert third.exit_code == 0, third.error
