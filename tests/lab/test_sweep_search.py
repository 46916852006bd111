"""Searches: proposals that depend on nothing but the trials before, and what becomes of them in a sweep."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_sessions import RESULT, Watched

from hil.errors import CheckpointMismatch, ConfigError, UsageError
from hil.lab import config
from hil.lab.cli import main
from hil.lab.stop import StopToken
from hil.lab.sweep import sweep
from hil.lab.sweep_search import Proposals, Trial, best, propose, trials
from hil.lab.sweep_space import Range, SearchConfig
from hil.lab.sweep_work import Row, WorkList, point
from hil.lab.sweepfile import SweepConfig

pytest.importorskip("optuna")
ETA = "protocol.transforms.0.eta"
SPACE: dict[str, Any] = {ETA: {"low": 0.01, "high": 10.0, "log": True}, "network.hidden": [[3], [5]], "steps": [20]}


def value_of(run: dict[str, Any]) -> float:
    """A smooth stand-in for an accuracy, with its best at eta = 0.3 and five hidden neurons."""
    eta = run["protocol"]["transforms"][0]["eta"]
    far = abs(math.log10(eta / 0.3)) + (0.3 if run["network"]["hidden"] == [3] else 0.0)
    return 0.9 / (1 + far) + 0.01 * run["seed"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def search_file(here: Path, xor: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """``search_file(seeds=3, trials=9)``: a sweep file with a search beside the run file of a small run."""

    def write(**changes: Any) -> Path:
        (here / "xor.yaml").write_text(config.dump(xor(steps=20)))
        of_search = {key: changes.pop(key) for key in tuple(changes) if key in SearchConfig.__dataclass_fields__}
        search = {"trials": 14, "space": SPACE, "ahead": 2} | of_search
        plain = {"name": "found", "run": "xor.yaml", "seeds": 2, "workers": 3, "search": search}
        (here / "found.yaml").write_text(config.dump(plain | changes))
        return here / "found.yaml"

    return write


@pytest.fixture
def at_once(mocker: Any) -> list[Any]:
    """Runs are done by threads of this process, some later than others, without pictures; gives the orders."""
    orders: list[Any] = []

    def conduct(order: Any) -> dict[str, Any]:
        orders.append(order)
        time.sleep(0.002 * (len(orders) * 7 % 3))
        return RESULT | {"test_accuracy": value_of(dict(order.run))}

    mocker.patch("hil.lab.sweep.conduct", conduct)
    mocker.patch("hil.lab.sweep.Processes", lambda count, prepare: ThreadPoolExecutor(count))
    mocker.patch("hil.lab.figures.png", lambda page: b"")
    return orders


def proposed(found: Any) -> list[tuple[Any, ...]]:
    return [(row.combination, row.seed, row.overrides, row.state, row.number("test_accuracy")) for row in found.rows]


# -- proposals ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=12)
@given(
    low=st.integers(1, 50), width=st.integers(1, 200), seed=st.integers(0, 2**32), number=st.integers(0, 1999),
    sampler=st.sampled_from(["tpe", "random"]), known=st.integers(0, 13),
)  # fmt: skip
def test_a_proposal_lies_in_its_space_and_depends_on_its_arguments_only(
    low: int, width: int, seed: int, number: int, sampler: Any, known: int
) -> None:
    space = {
        "whole": Range(low=low, high=low + width), "any": Range(low=float(low), high=low + width),
        "log": Range(low=low, high=low + width + 0.5, log=True), "volts": Range(low=0.1, high=0.9, step=0.1, unit="V"),
        "stepped": Range(low=low, high=low + 3 * width, step=width), "choice": ("a", [1, 2], {"kind": "x"}, None, True),
        "fixed": ({"deep": [1]},),
    }  # fmt: skip
    search = SearchConfig(trials=2000, space=space, sampler=sampler, seed=seed)
    before = [Trial(k, propose(search, k, []), "done", float(k % 5)) for k in range(known)]
    found = propose(search, number, before)
    assert found == propose(search, number, [*before, Trial(known, found, "failed")])  # a failed trial teaches nothing
    assert list(found) == list(space) and found["fixed"] == {"deep": [1]} and found["choice"] in space["choice"]
    assert isinstance(found["whole"], int) and low <= found["whole"] <= low + width
    assert isinstance(found["any"], float) and low <= found["any"] <= low + width
    assert isinstance(found["log"], float) and low <= found["log"] <= low + width + 0.5
    assert isinstance(found["stepped"], int) and (found["stepped"] - low) % width == 0
    assert found["volts"] in [f"0.{k} V" for k in range(1, 10)]
    assert json.loads(json.dumps(found)) == found  # what the work list keeps is what was proposed


def test_tpe_comes_closer_than_random_search() -> None:
    """Mean distance, in decades, from the best setting over trials 21 to 40 and two seeds of the sampler."""

    def distance(sampler: Any, seed: int) -> float:
        search = SearchConfig(trials=40, space={"x": Range(low=1e-4, high=1e4, log=True)}, sampler=sampler, seed=seed)
        found: list[Trial] = []
        for number in range(40):
            setting = propose(search, number, found[: max(number - 3, 0)])
            found.append(Trial(number, setting, "done", -abs(math.log10(setting["x"]) - 1.0)))
        return -sum(trial.value or 0.0 for trial in found[20:]) / 20

    seeds = range(2)
    tpe, random = (sum(distance(sampler, seed) for seed in seeds) / len(seeds) for sampler in ("tpe", "random"))
    assert random > 1.7  # uniform over -4 to 4 with the best at 1: mean distance (5^2 + 3^2) / 16 = 2.125
    assert tpe < 0.5 * random


def test_the_window_of_trials_under_way(here: Path) -> None:
    search = SearchConfig(trials=4, space={"x": Range(low=0.0, high=1.0)}, ahead=2)
    work = WorkList(here / "sweep.db")
    work.begin({}, [])
    proposals = Proposals(search, (1, 2), work, "s.yaml:1")
    first, second = proposals.more(), proposals.more()
    assert [row.seed for row in first] == [1, 2] and second[0].combination == 1 and not proposals.more()
    for row in second:  # the later trial ends first: nothing follows from that
        work.finished(row.id, RESULT, deaths=0)
    work.finished(first[0].id, RESULT, deaths=0)
    assert not proposals.more()
    work.finished(first[1].id, RESULT, deaths=0)
    third = proposals.more()
    assert third[0].overrides == propose(search, 2, trials(work.rows(), "test_accuracy")[:1])
    assert [row.combination for row in proposals.more()] == [3, 3] and not proposals.more()
    work.close()


def test_the_value_of_a_trial_is_the_mean_over_its_seeds_or_nothing(here: Path) -> None:
    work = WorkList(here / "sweep.db")
    work.begin({}, [point(trial, seed, {"x": trial}) for trial in range(4) for seed in (1, 2)])
    values = [0.2, 0.4, 0.9, None, 0.3, 0.3, 0.8]
    for number, value in enumerate(values, start=1):
        work.finished(number, RESULT | {"numbers": {} if value is None else {"mine": value}}, deaths=0)
    found = trials(work.rows(), "mine")
    assert [trial.state for trial in found] == ["done", "failed", "done", "open"]
    assert found[0].value == pytest.approx(0.3) and best(found) == found[0] and best(found[3:]) is None
    work.close()


# -- sweeps ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_that_is_broken_off_again_and_again_is_the_same_search(
    at_once: list[Any], search_file: Callable[..., Path], here: Path
) -> None:
    """Fourteen trials, so that the last ones are proposed by what the sampler has learnt."""
    whole = sweep(search_file(seeds=1), Watched(), out=here / "whole")
    assert whole.exit_code == 0 and len(whole.rows) == len(whole.trials) == 14
    broken, sessions = None, 0
    while broken is None or broken.left:
        stop, ended = StopToken(), []

        def tell(row: Row, stop: StopToken = stop, ended: list[int] = ended) -> None:
            ended.append(row.id)
            if len(ended) == 4:
                stop.stop()

        broken = sweep(search_file(seeds=1, workers=2), Watched(tell), out=here / "broken", stop=stop)
        sessions += 1
        assert broken.exit_code == (4 if broken.left else 0) and broken.total == 14 and ended
    assert sessions >= 3
    assert proposed(broken) == proposed(whole)
    assert len({row.overrides[ETA] for row in whole.rows}) == 14
    top = whole.best
    assert top is not None and top.value == max(trial.value or 0.0 for trial in whole.trials)
    assert "best of 14 trials" in "\n".join(whole.lines()) and f"--set {ETA}={top.overrides[ETA]}" in whole.lines()[-2]
    assert whole.as_dict()["best"]["settings"] == dict(top.overrides)
    short = list(csv.DictReader((here / "whole" / "summary.csv").read_text().splitlines()))
    assert float(short[top.number]["mean_test_accuracy"]) == pytest.approx(top.value)


def test_more_trials_may_be_asked_for_and_nothing_else(at_once: list[Any], search_file: Callable[..., Path]) -> None:
    few = sweep(search_file(trials=3), Watched())
    more = sweep(search_file(trials=5), Watched())
    assert len(few.rows) == 6 and len(more.rows) == 10 and proposed(more)[:6] == proposed(few)
    with pytest.raises(CheckpointMismatch, match=r"sweep\.search\.ahead"):
        sweep(search_file(trials=5, ahead=3), Watched())
    with pytest.raises(CheckpointMismatch, match=r"sweep\.search\.space"):
        sweep(search_file(trials=5, space=SPACE | {"steps": [21]}), Watched())


def test_combinations_that_cannot_be_used_are_failed_trials(search_file: Callable[..., Path], mocker: Any) -> None:
    """``checkpoint_every: 0`` is refused by the schema of run files; each worker finds that out by itself."""
    from hil.lab import sweep_worker

    def conduct(order: Any) -> dict[str, Any]:
        if order.run["checkpoint_every"] == 0:
            return sweep_worker.conduct(order)
        return RESULT | {"test_accuracy": value_of(dict(order.run))}

    mocker.patch("hil.lab.sweep.conduct", conduct)
    mocker.patch("hil.lab.sweep.Processes", lambda count, prepare: ThreadPoolExecutor(count))
    path = search_file(space=SPACE | {"checkpoint_every": [10, 0, 5]}, trials=6)
    found = sweep(path, Watched())
    assert found.failed and found.exit_code == 0 and found.as_dict()["status"] == "done"
    assert "checkpoint_every must be at least 1" in "\n".join(found.lines())
    states = {trial.state for trial in found.trials}
    assert states == {"done", "failed"} and found.best is not None and found.best.overrides["checkpoint_every"] != 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"space": {"steps": {"low": 3, "high": 1}}}, "high must be above low"),
        ({"space": {"steps": {"low": 0, "high": 9, "log": True}}}, "low must be above 0"),
        ({"space": {"steps": {"low": 1, "high": 8, "step": 3}}}, "from low to high exactly"),
        ({"space": {"steps": {"low": 0, "high": 9}}}, "steps must be at least 1"),
        ({"space": {"stepz": {"low": 1, "high": 9}}}, "unknown key"),
        ({"space": {"seed": [1, 2]}}, "list them under `seeds`"),
        ({"space": {"steps": [5]}}, "nothing to search"),
        ({"space": {"steps": [5, 5]}}, "different values"),
        ({"trials": 0}, "trials must be at least 1"),
        ({"sampler": "cma"}, "one of tpe, random"),
        ({"grid": {"steps": [1, 2]}}, "takes the place of grid"),
    ],
)
def test_searches_that_cannot_be_used(search_file: Callable[..., Path], changes: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        sweep(search_file(**changes), Watched())
    assert not Path("runs").exists()


def test_a_number_that_no_run_gives_ends_the_search(at_once: list[Any], search_file: Callable[..., Path]) -> None:
    watched = Watched()
    with pytest.raises(ConfigError, match=r"no run gives 'acuracy'.*test_accuracy"):
        sweep(search_file(maximise="acuracy", ahead=1), watched)
    assert len(at_once) == 2 and any("at most 2 of 3 workers" in text for text in watched.said)


def test_optuna_that_is_not_installed_is_told(
    search_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"crossbar-hil\[sweep\]"):
        sweep(search_file(), Watched())
    with pytest.raises(SystemExit) as ended:
        main(["sweep", str(search_file())])
    assert ended.value.code == 2 and "needs Optuna" in capsys.readouterr().err and not Path("runs").exists()


@pytest.mark.slow
def test_processes_come_to_what_one_process_comes_to(search_file: Callable[..., Path], here: Path) -> None:
    """Real runs; a search by two workers is that of one."""
    one = sweep(search_file(workers=1, trials=3), Watched(), out=here / "one")
    two = sweep(search_file(workers=2, trials=3), Watched(), out=here / "two")
    assert (here / "two" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert one.exit_code == two.exit_code == 0 and proposed(one) == proposed(two)
    assert all(row.result["steps"] == 20 for row in two.rows)


def test_the_schema_of_sweep_files(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["schema", "sweep"])
    schema = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0 and set(schema["properties"]) == set(SweepConfig.__dataclass_fields__)
    assert set(schema["$defs"]) == {"SearchConfig", "Range"} and schema["$defs"]["Range"]["required"] == ["low", "high"]
