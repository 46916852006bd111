"""Sweeps over deployments, with a stand-in for the module that deploys, and over settings of the board file."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from sweep_sessions import RESULT, Watched

from hil.errors import ConfigError, HilError, UsageError
from hil.lab import config, runs, sweep_jobs
from hil.lab.sweep import sweep

FRACTION = "board.simulator.faults.fraction"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mocker: Any) -> Path:
    monkeypatch.chdir(tmp_path)
    mocker.patch("hil.lab.sweep.Processes", lambda count, prepare: ThreadPoolExecutor(1))
    mocker.patch("hil.lab.figures.png", lambda page: b"")
    return tmp_path


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch, xor: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    """A stand-in deploys in no time; gives the contents of the run files that it got."""
    contents: list[dict[str, Any]] = []

    def read_plan(run_file: Any, overrides: Any = ()) -> Any:
        plan = runs.read_plan(xor())  # this board and no check of the deployment
        with_settings = [text for text in overrides if "alpha=3" in text]
        if with_settings:
            raise ConfigError.at("run", "deployment.alpha", "there is no such alpha")
        return plan

    def deploy(content: Any, out: Path, stop: Any) -> Any:
        contents.append(dict(content))
        out.mkdir(parents=True)
        assert torch.get_num_threads() == 1 and not stop.stop_wanted
        alpha, seed = content["deployment"]["alpha"], content["seed"]
        if (alpha, seed) == (2, 7):
            raise HilError("the chip is full")
        numbers = {"single_accuracy": 0.4, "devices": 18.0 * alpha}
        result = RESULT | {"steps": 0, "test_accuracy": 0.5 + alpha / 10, "numbers": numbers}
        return SimpleNamespace(as_dict=lambda: result)

    module = ModuleType("hil.lab.deploying")
    module.__dict__.update(read_plan=read_plan, deploy=deploy)
    monkeypatch.setitem(sys.modules, "hil.lab.deploying", module)
    return contents


@pytest.fixture
def sweep_file(here: Path, xor: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    def write(*, deployment: bool = True, **changes: Any) -> Path:
        content = xor(steps=20) | ({"deployment": {"alpha": 1, "beta": 1}} if deployment else {})
        if deployment:
            del content["protocol"]
        (here / "run.yaml").write_text(config.dump(content))
        plain: dict[str, Any] = {"name": "d", "run": "run.yaml", "keep": "all"}
        (here / "d.yaml").write_text(config.dump(plain | changes))
        return here / "d.yaml"

    return write


def test_deployments_are_told_by_their_key_and_their_numbers_are_kept(
    deployed: list[dict[str, Any]], sweep_file: Callable[..., Path]
) -> None:
    grid = {"deployment.alpha": [1, 2], "deployment.beta": [1, 2]}
    path = sweep_file(
        grid=grid, exclude=[{"deployment.alpha": 1, "deployment.beta": 2}], seeds=[4, 7],
        show=["test_accuracy", "single_accuracy", "devices", "wrong"],
    )  # fmt: skip
    found = sweep(path, Watched())
    asked = [(one["deployment"]["alpha"], one["deployment"]["beta"], one["seed"]) for one in deployed]
    assert sorted(asked) == [(1, 1, 4), (1, 1, 7), (2, 1, 4), (2, 1, 7), (2, 2, 4), (2, 2, 7)]
    assert all("threads" not in one for one in deployed)  # a key of training runs
    assert [row.state for row in found.rows] == ["done", "done", "done", "failed", "done", "failed"]
    assert found.exit_code == HilError.exit_code and "the chip is full" in found.failed[0].result["error"]
    rows = list(csv.DictReader(Path("runs/d/sweep.csv").read_text().splitlines()))
    assert [row["number.devices"] for row in rows] == ["18.0", "18.0", "36.0", "", "36.0", ""]
    short = list(csv.DictReader(Path("runs/d/summary.csv").read_text().splitlines()))
    assert [(row["mean_test_accuracy"], row["highest_devices"]) for row in short] == [
        ("0.6", "18.0"), ("0.7", "36.0"), ("0.7", "36.0"),
    ]  # fmt: skip
    text = "\n".join(found.lines())
    assert "40.0 % (40.0 % to 40.0 %)" in text and "no run gives 'wrong'; their own numbers are devices" in text
    assert json.loads(json.dumps(found.as_dict()))["points"][0]["mean_single_accuracy"] == 0.4


def test_what_is_shown_may_change_when_a_sweep_goes_on(
    deployed: list[dict[str, Any]], sweep_file: Callable[..., Path]
) -> None:
    sweep(sweep_file(), Watched())
    again = sweep(sweep_file(show=["devices"]), Watched())
    assert len(deployed) == 1 and again.summaries[0].values["mean_devices"] == 18.0


def test_a_deployment_that_cannot_be_is_told_before_anything_is_done(
    deployed: list[dict[str, Any]], sweep_file: Callable[..., Path]
) -> None:
    with pytest.raises(ConfigError, match="no such alpha") as told:
        sweep(sweep_file(grid={"deployment.alpha": [1, 3]}), Watched())
    assert "deployment.alpha=3" in told.value.__notes__[0] and not deployed and not Path("runs").exists()


def test_settings_of_the_board_file_are_varied(deployed: list[dict[str, Any]], sweep_file: Callable[..., Path]) -> None:
    sweep(sweep_file(grid={FRACTION: [0.0, 0.2], "deployment.alpha": [1, 2]}), Watched())
    boards = {content["board"] for content in deployed}
    fractions = {path: yaml.safe_load(Path(path).read_text())["simulator"]["faults"]["fraction"] for path in boards}
    assert len(deployed) == 4 and sorted(fractions.values()) == [0.0, 0.2]
    assert [fractions[content["board"]] for content in deployed] == [0.0, 0.0, 0.2, 0.2]
    assert all(set(content) <= {*deployed[0]} and "board.simulator" not in content for content in deployed)


def test_settings_of_the_board_file_are_checked_and_a_search_may_choose_them(
    sweep_file: Callable[..., Path], mocker: Any
) -> None:
    orders: list[Any] = []

    def conduct(order: Any) -> dict[str, Any]:
        orders.append(order)
        plan = runs.read_plan(order.run)
        return RESULT | {"test_accuracy": 1.0 - plan.board.value.simulator.faults.fraction}  # pyright: ignore

    mocker.patch("hil.lab.sweep.conduct", conduct)
    for value, told in ((1.5, "fraction"), ("x", "expected a number")):
        with pytest.raises(ConfigError, match=told):
            sweep(sweep_file(deployment=False, grid={FRACTION: [0.1, value]}), Watched())
    with pytest.raises(ConfigError, match="unknown key"):
        sweep(sweep_file(deployment=False, grid={"board.simulator.faultz": [0.1]}), Watched())
    pytest.importorskip("optuna")
    space = {FRACTION: {"low": 0.0, "high": 0.5}}
    found = sweep(sweep_file(deployment=False, search={"trials": 3, "space": space}), Watched())
    assert len(orders) == len({order.run["board"] for order in orders}) == 3
    assert [row.number("test_accuracy") for row in found.rows] == [1.0 - row.overrides[FRACTION] for row in found.rows]


def test_a_training_run_that_is_given_a_deployment_is_refused(sweep_file: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"deployment: unknown key"):
        sweep(sweep_file(deployment=False, grid={"deployment.alpha": [1, 2]}), Watched())


@pytest.mark.parametrize(
    ("exclude", "told"),
    [
        ([{"steps": 9}], "which the grid does not have"),
        ([{"stepz": 1}], "which the grid does not have"),
        ([{"steps": 1}, {"steps": 2}], "exclude leaves nothing"),
        ([{}], "entry without keys"),
    ],
)
def test_exclusions_that_cannot_be_used(sweep_file: Callable[..., Path], exclude: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        sweep(sweep_file(deployment=False, grid={"steps": [1, 2]}, exclude=exclude), Watched())


def test_a_version_that_cannot_deploy_says_so():
    """To be dropped together with the refusal once there is ``hil.lab.deploying``."""
    with pytest.raises(UsageError, match="cannot deploy networks yet"):
        sweep_jobs.read_plan(Path("run.yaml"), {"deployment": {}}, ())
