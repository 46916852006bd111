"""The command as a technician starts it, and a small run that takes half a second."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from virtual_lab import Lab, virtual_lab

from hil.lab import checkpoint, cli, config, runs
from hil.lab.job import Silent
from hil.lab.ledger import Ledger
from hil.lab.stop import StopToken
from hil.protocol import StepRecord

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "task": {"kind": "digits", "batch": 50},
    "network": {"hidden": [12], "w_max": 2.0, "program": {"kind": "pulses", "window": "30 uS"}},
    "protocol": {
        "source": {"kind": "node_perturbation", "norm": 1.0},
        "transforms": [{"kind": "sgd", "eta": 0.2}, {"kind": "residual"}],
        "rule": {"kind": "signed_pulses"},
    },
    "steps": 60,
    "evaluate_every": 20,
    "checkpoint_every": 10,
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> dict[str, Any]:
        """The last line of stdout, as JSON."""
        return json.loads(self.out.rstrip("\n").rsplit("\n", 1)[-1])


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "default",
        "COLUMNS": "100",
    }


@pytest.fixture(scope="session")
def command() -> list[str]:
    """How ``hil`` is started."""
    return [sys.executable, "-m", "hil"]


@pytest.fixture
def hil(command: list[str], tmp_path: Path) -> Callable[..., Ended]:
    """``hil("run", file, ...)``: runs the command to its end in an empty folder; no traceback may show, ever."""

    def call(*args: object, cwd: Path = tmp_path) -> Ended:
        done = subprocess.run(
            [*command, *map(str, args)],
            cwd=cwd,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        assert "Warning" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """``here("run", file, ...)``: the command in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(arg) for arg in args])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def drawn() -> None:
    """For tests of the report: its figures are drawn."""


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of this process have empty figures: to draw them takes longer than most of these runs."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("hil.lab.report.png", lambda figure: b"")


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The noisy board's file."""
    path = tmp_path_factory.mktemp("boards") / "daffodil.yaml"
    shutil.copyfile(ROOT / "config" / "boards" / "daffodil.yaml", path)
    return path


@pytest.fixture(scope="session")
def small(board: Path) -> Callable[..., dict[str, Any]]:
    """``small(steps=20)``: a run file's content: 8 x 8 digits, 12 hidden units, 60 steps on the noisy board."""
    return lambda **changes: copy.deepcopy(SMALL) | {"board": str(board)} | changes


@pytest.fixture
def run_file(tmp_path: Path, small: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """``run_file(steps=20)``: the same as a file."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "small.yaml"
        path.write_text(config.dump(small(**changes)))
        return path

    return write


@pytest.fixture(scope="session")
def forks() -> ForkServerContext:
    """Real processes that start in milliseconds, since the packages are loaded already; made to be killed."""
    context = multiprocessing.get_context("forkserver")
    drawing = ["matplotlib.figure", "matplotlib.backends.backend_agg"]
    context.set_forkserver_preload(
        ["hil.lab.runs", "hil.lab.report", "sklearn.datasets", "safetensors.torch", *drawing]
    )
    first = context.Process(target=os.getpid)  # waits for the packages, so that the others do not
    first.start()
    first.join()
    return context


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory, small: Callable[..., dict[str, Any]]) -> Path:
    """The folder of the small run, done without a break. Not to be changed."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert runs.run(small(), out=folder).exit_code == 0
    return folder


@pytest.fixture(scope="session")
def halted(tmp_path_factory: pytest.TempPathFactory, small: Callable[..., dict[str, Any]]) -> Path:
    """The folder of the small run, stopped by its operator after 25 of 60 steps. Not to be changed; to be copied."""
    folder, stop = tmp_path_factory.mktemp("halted") / "run", StopToken()
    assert runs.run(small(), out=folder, observer=StopAfter(stop, 25), stop=stop).exit_code == 4
    return folder


class StopAfter(Silent):
    """Stops a run after some steps."""

    def __init__(self, stop: StopToken, steps: int) -> None:
        self._stop, self._steps = stop, steps

    def step(self, record: StepRecord, ledger: Ledger, evaluation: Mapping[str, float]) -> None:
        if record.step + 1 == self._steps:
            self._stop.stop()


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, Any]]:
    """``contents(folder)``: all that must not depend on how often a run was cut off."""
    return _contents


def _contents(folder: Path) -> dict[str, Any]:
    newest = checkpoint.latest(folder)
    assert newest is not None
    saved = checkpoint.read(newest)
    groups = {"protocol": saved.state.tensors, "network": saved.network, "board": saved.board}
    tensors = {
        f"{part}/{name}": (str(t.dtype), tuple(t.shape), t.numpy().tobytes())
        for part, group in groups.items()
        for name, t in group.items()
    }
    result = json.loads((folder / "result.json").read_text())
    volatile = ("run_dir", "iterations_per_second")
    with sqlite3.connect(folder / "run.db") as db:
        tables = {
            name: db.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            for name in ("intent", "outcome", "step", "evaluation", "blocks")
        }
    db.close()
    return {
        "names": sorted(path.name for path in folder.iterdir() if path.name not in ("run.db-wal", "run.db-shm")),
        "step": saved.state.step,
        "facts": dict(saved.facts),
        "tensors": tensors,
        "result": {key: value for key, value in result.items() if key not in volatile},
        **tables,
    }


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, forks: ForkServerContext) -> Generator[Lab]:
    """A folder with a virtual board of each kind."""
    with virtual_lab(tmp_path_factory.mktemp("lab"), forks) as found:
        yield found


@pytest.fixture
def call(
    lab: Lab, here: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """``call("boards", ...)``: the command in this process, in the folder of the lab."""
    monkeypatch.chdir(lab.folder)
    monkeypatch.setenv("HIL_LOCKS", str(lab.folder / "locks"))
    return here
