"""Sweeps from file to figure, with real runs in worker processes."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweep_sessions import RESULT, Watched

from hil.errors import CheckpointMismatch, ConfigError, UsageError
from hil.lab import config
from hil.lab import sweep as sweeps
from hil.lab.cli import main
from hil.lab.sweep import sweep
from hil.lab.sweep_work import WorkList

Content = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sweep_file(here: Path, xor: Content) -> Callable[..., Path]:
    """``sweep_file(seeds=2)``: a sweep file beside the run file of a small run."""

    def write(**changes: Any) -> Path:
        (here / "xor.yaml").write_text(config.dump(xor(steps=20)))
        plain = {"name": "tiny", "run": "xor.yaml", "grid": {"protocol.transforms.0.eta": [0.5, 1.0]}, "seeds": 2}
        (here / "tiny.yaml").write_text(config.dump(plain | changes))
        return here / "tiny.yaml"

    return write


@pytest.fixture
def at_once(mocker: Any) -> list[Any]:
    """Runs are done in this process, in no time; gives the orders."""
    from concurrent.futures import ThreadPoolExecutor

    orders: list[Any] = []

    def conduct(order: Any) -> dict[str, Any]:
        orders.append(order)
        Path(order.folder).mkdir(parents=True)
        return RESULT | {"test_accuracy": order.run["seed"] / 10}

    mocker.patch("hil.lab.sweep.conduct", conduct)
    mocker.patch("hil.lab.sweep.Processes", lambda count, prepare: ThreadPoolExecutor(1))
    return orders


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_the_sweep_is_as_if_nothing_had_been(
    sweep_file: Callable[..., Path], here: Path
) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        deadline = time.monotonic() + 20
        while not killed and time.monotonic() < deadline:
            time.sleep(0.02)
            if (here / "runs" / "tiny" / "runs").is_dir() and any((here / "runs/tiny/runs").glob("*/run.db")):
                child = next(iter(multiprocessing.active_children()))
                os.kill(child.pid or 0, signal.SIGKILL)
                killed.append(child.pid or 0)

    thread = threading.Thread(target=kill_one)
    thread.start()
    watched = Watched()
    found = sweep(sweep_file(seeds=1, keep="all"), watched)
    thread.join()
    assert killed and found.exit_code == 0 and sorted(watched.rows) == [1, 2]
    assert sum(row.deaths for row in found.rows) == 1 and any("it is begun again" in text for text in watched.said)
    for row in found.rows:
        kept = json.loads((here / "runs" / "tiny" / "runs" / row.folder / "result.json").read_text())
        assert kept["test_accuracy"] == row.result["test_accuracy"] and row.result["steps"] == 20


def test_tables_and_figure_hold_what_the_runs_came_to(at_once: list[Any], sweep_file: Callable[..., Path]) -> None:
    found = sweep(sweep_file(seeds=[3, 4, 8], source="x"), Watched(), out=Path("a"))
    assert found.exit_code == 0 and len(at_once) == 6
    assert {order.run["protocol"]["transforms"][0]["eta"] for order in at_once} == {0.5, 1.0}
    assert all(order.run["threads"] == 1 and Path(order.run["board"]).is_absolute() for order in at_once)
    rows = list(csv.DictReader(Path("a/sweep.csv").read_text().splitlines()))
    assert [(row["set.protocol.transforms.0.eta"], row["seed"], row["test_accuracy"]) for row in rows] == [
        (eta, seed, str(int(seed) / 10)) for eta in ("0.5", "1.0") for seed in ("3", "4", "8")
    ]
    short = list(csv.DictReader(Path("a/summary.csv").read_text().splitlines()))
    assert [row["finished"] for row in short] == ["3", "3"]
    for row in short:
        assert float(row["mean_test_accuracy"]) == pytest.approx(0.5)
        assert (row["lowest_test_accuracy"], row["highest_test_accuracy"]) == ("0.3", "0.8")
        assert row["mean_joules"] == "" and row["mean_pulses"] == "100.0"
    picture = Path("a/sweep.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n") and len(picture) > 10_000
    assert "eta=0.5" in "\n".join(found.lines()) and json.dumps(found.as_dict())
    assert not any(Path("a/runs").iterdir())  # keep: failed


def test_it_goes_on_where_the_operator_ended_it(at_once: list[Any], sweep_file: Callable[..., Path]) -> None:
    from hil.lab.stop import StopToken

    stop = StopToken()
    found = sweep(sweep_file(), Watched(lambda row: stop.stop()), stop=stop)
    done = len(at_once)
    assert found.exit_code == 4 and 1 <= done < 4 and found.left == 4 - done
    before = [row for row in found.rows if row.state == "done"]
    again = sweep(sweep_file(workers=1, keep="all"), Watched())  # these two keys may change
    assert again.exit_code == 0 and len(at_once) == 4 and all(row in again.rows for row in before)
    assert sweep(sweep_file(), Watched()).exit_code == 0 and len(at_once) == 4


def test_a_changed_sweep_is_refused_with_the_key(at_once: list[Any], sweep_file: Callable[..., Path]) -> None:
    sweep(sweep_file(), Watched())
    with pytest.raises(CheckpointMismatch, match=r"sweep\.seeds"):
        sweep(sweep_file(seeds=3), Watched())
    with pytest.raises(CheckpointMismatch, match=r"sweep\.grid\.protocol\.transforms\.0\.eta"):
        sweep(sweep_file(grid={"steps": [3]}), Watched())
    path = sweep_file()
    text = Path("xor.yaml").read_text()
    Path("xor.yaml").write_text(text.replace("steps: 20", "steps: 21"))
    with pytest.raises(CheckpointMismatch, match=r"run\.steps .* was 20 .* 21"):
        sweep(path, Watched())
    assert len(at_once) == 4


def test_failed_runs_stay_failed_until_they_are_asked_for(
    at_once: list[Any], sweep_file: Callable[..., Path], mocker: Any
) -> None:
    good = sweeps.conduct
    mocker.patch("hil.lab.sweep.conduct", lambda order: RESULT | {"status": "failed", "exit_code": 5, "error": "x\x1b"})
    found = sweep(sweep_file(), Watched())
    assert found.exit_code == 5 and len(found.failed) == 4 and "\x1b" not in "".join(found.lines())
    mocker.patch("hil.lab.sweep.conduct", good)
    assert sweep(sweep_file(), Watched()).exit_code == 5 and not at_once
    assert sweep(sweep_file(), Watched(), retry_failed=True).exit_code == 0 and len(at_once) == 4


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"grid": {"seed": [1]}}, "list them under `seeds`"),
        ({"grid": {"steps": []}}, "different values"),
        ({"grid": {"steps": [1, 1]}}, "different values"),
        ({"grid": {"steps": [1, 0]}}, "steps must be at least 1"),
        ({"grid": {"stepz": [1]}}, "unknown key"),
        ({"grid": {"steps": list(range(400)), "evaluate_every": list(range(400))}}, "160,000 combinations"),
        ({"seeds": 0}, "seeds must be"),
        ({"seeds": [1, 1]}, "seeds must be"),
        ({"name": "../x"}, "cannot be used"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"run": "none.yaml"}, "no such file"),
        ({"keep": "some"}, "none, failed, all"),
    ],
)
def test_files_that_cannot_be_used(sweep_file: Callable[..., Path], changes: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        sweep(sweep_file(**changes), Watched())
    assert not Path("runs").exists()


def test_a_chip_is_not_swept(sweep_file: Callable[..., Path]) -> None:
    boards = Path(__file__).parents[2] / "config" / "boards"
    with pytest.raises(ConfigError, match="not simulated"):
        sweep(sweep_file(grid={"board": [str(boards / "daffodil_framed.yaml")]}), Watched())


def test_folders_that_are_something_else(sweep_file: Callable[..., Path], here: Path) -> None:
    (here / "full").mkdir()
    (here / "full" / "x").touch()
    with pytest.raises(UsageError, match="there already"):
        sweep(sweep_file(), Watched(), out=here / "full")
    (here / "link").symlink_to(here / "full")
    with pytest.raises(UsageError, match="symbolic link"):
        sweep(sweep_file(), Watched(), out=here / "link")


def test_the_command(
    at_once: list[Any], sweep_file: Callable[..., Path], capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    path = sweep_file()
    with pytest.raises(SystemExit) as ended:
        main(["sweep", str(path), "--json", "--out", "a"])
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert ended.value.code == 0 and found["status"] == "done" and found["done"] == found["runs"] == 4
    assert "4/4" in err and "seed 2" in err
    for address in ("http://x", "lab:8786"):
        with pytest.raises(SystemExit) as ended:
            main(["sweep", str(path), "--scheduler", address, "--out", "b"])
        assert ended.value.code == 2 and "address of a Dask scheduler" in capsys.readouterr().err
    work = WorkList(here / "b" / "sweep.db")
    states = [row.state for row in work.rows()]
    work.close()
    assert states == ["waiting"] * 4


SWEEPS = sorted((Path(__file__).parents[2] / "config" / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_examples_can_be_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hil.lab.sweep_plans import Combinations
    from hil.lab.sweepfile import SweepConfig

    monkeypatch.chdir(path.parents[2])
    loaded = config.load(path, SweepConfig)
    runs = {"digits_eta": 15, "digits_search": 72}
    assert loaded.value.n_runs == runs[path.stem] and loaded.value.name == path.stem
    run_file = path.parents[2] / loaded.value.run
    combinations = Combinations(run_file, loaded.where)
    for combination in (loaded.value.probes()[0], loaded.value.probes()[-1]):
        combinations.check(combination)
