"""Whole runs whose state is more than numbers of a step: twins, kept baselines, and checkpoints that lie about them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hil.errors import CheckpointError, ConfigError
from hil.lab import checkpoint, runs
from hil.lab.stop import StopToken

Content = Callable[..., dict[str, Any]]

PERTURBED = {"kind": "weight_perturbation", "together": "network", "norm": 0.5, "code": {"kind": "walsh"}}
TWIN = {"kind": "twin", "bound": 0.05, "every": 9, "averages": 2}


@pytest.fixture
def run_of(xor: Content) -> Content:
    """``run_of(source, backward={...}, rule={...}, **protocol)``: a run file."""

    def content(source: dict[str, Any], backward: dict[str, Any] | None = None, **protocol: Any) -> dict[str, Any]:
        made = xor()
        made["network"]["backward"] = backward or {"kind": "none"}
        made["protocol"] |= {"source": source} | protocol
        return made

    return content


RUNS: dict[str, dict[str, Any]] = {
    "twin": {"source": {"kind": "backpropagation"}, "backward": TWIN},
    "chip": {"source": {"kind": "backpropagation"}, "backward": {"kind": "chip"}},
    "verify": {
        "source": {"kind": "backpropagation"}, "backward": TWIN, "tau_theta": 4,
        "transforms": [{"kind": "sgd", "eta": 1.0}, {"kind": "threshold", "above": 0.1}],
        "rule": {"kind": "write_verify", "method": {"kind": "pulses", "window": "8 uS", "rounds": 4}},
    },
    "once": {"source": PERTURBED | {"baseline": "once"}, "tau_theta": 8},
    "analog": {
        "source": PERTURBED | {"baseline": "high_pass", "normalised": False}, "tau_x": 10,
        "transforms": [{"kind": "low_pass", "tau": 8}, {"kind": "sgd", "eta": 0.5}, {"kind": "residual"}],
    },
    "pulsed": {"source": {"kind": "pulsed_perturbation", "budget": 100}},
}  # fmt: skip


SLOW = ("chip", "verify", "once")  # others of their kind are resumed in tests/protocols/test_resume.py


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in RUNS]
)
def test_a_stopped_run_goes_on_bit_for_bit(
    bench: Any, run_of: Content, watcher: Any, comparable: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    stop = StopToken()
    content = run_of(**RUNS[name])
    stopped = runs.run(content, out=tmp_path / "a", observer=watcher({12: stop.stop}), stop=stop)
    assert (stopped.status, stopped.steps) == ("stopped", 13)
    again, whole = runs.resume(tmp_path / "a"), runs.run(content, out=tmp_path / "b")
    assert comparable(again) == comparable(whole)
    ends = [checkpoint.read(newest) for f in "ab" if (newest := checkpoint.latest(tmp_path / f)) is not None]
    assert len(ends) == 2 and whole.pulses > 0
    for part in ("network", "board"):
        one, other = getattr(ends[0], part), getattr(ends[1], part)
        assert one.keys() == other.keys()
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=0, atol=0)
    if name in ("twin", "verify"):
        assert "layer2.backward.weights" in ends[0].network


def test_an_aborted_run_goes_on_from_its_checkpoint(
    bench: Any, run_of: Content, watcher: Any, comparable: Callable[..., Any], tmp_path: Path
) -> None:
    """What was done after the checkpoint of step 10 is done again, with the twin as it was then."""
    stop = StopToken()
    content = run_of(**RUNS["twin"])
    aborted = runs.run(content, out=tmp_path / "a", observer=watcher({16: lambda: stop.abort("door")}), stop=stop)
    assert aborted.status == "aborted"
    again, whole = runs.resume(tmp_path / "a"), runs.run(content, out=tmp_path / "b")
    assert comparable(again) == comparable(whole)


def refused(folder: Path, problem: str) -> None:
    """Going on ends with one clear sentence, whether the file is refused or what it says."""
    try:
        result = runs.resume(folder)
    except CheckpointError as error:
        code, text = error.exit_code, str(error)
    else:
        code, text = result.exit_code, str(result.error)
    assert code == CheckpointError.exit_code and re.search(problem, text) and str(folder) in text


LIES: dict[str, Any] = {
    "shape": lambda t: t.update({"source/baseline": torch.zeros(5, dtype=torch.float64)}),
    "empty": lambda t: t.update({"source/baseline": torch.zeros((), dtype=torch.float64)}),
    "dtype": lambda t: t.update({"source/baseline": torch.zeros(4, dtype=torch.int64)}),
    "complex": lambda t: t.update({"source/baseline": torch.zeros(4, dtype=torch.complex64)}),
    "name": lambda t: t.update({"source/pulses": torch.zeros(4, dtype=torch.float64)}),
    "prefix": lambda t: t.update({"sauce/baseline": torch.zeros(4, dtype=torch.float64)}),
    "NaN": lambda t: t.update({"source/baseline": torch.full((4,), float("nan"), dtype=torch.float64)}),
}


def test_a_memory_that_does_not_fit_is_refused(bench: Any, run_of: Content, watcher: Any, tmp_path: Path) -> None:
    folder, stop = tmp_path / "a", StopToken()
    runs.run(run_of(**RUNS["once"]), out=folder, observer=watcher({12: stop.stop}), stop=stop)
    newest = checkpoint.latest(folder)
    assert newest is not None
    saved = checkpoint.read(newest)
    assert tuple(saved.state.tensors["source/baseline"].shape) == (4,)
    for lie in LIES.values():
        tensors = dict(saved.state.tensors)
        lie(tensors)
        checkpoint.write(folder, replace(saved, state=replace(saved.state, tensors=tensors)))
        refused(folder, r"tensor '?protocol/(source/|sauce/)(baseline|pulses)'")


TWIN_LIES = (
    ("layer2.backward.numbers", torch.tensor([-1.0, 0.0, 0.0], dtype=torch.float64)),
    ("layer2.backward.weights", torch.zeros(1, 3, dtype=torch.int64)),
    ("layer2.backward.weights", torch.zeros(3, 1)),
    ("layer9.backward.weights", torch.zeros(1, 3)),
    (".backward.", torch.zeros(1)),
)


def test_a_twin_that_does_not_fit_is_refused(bench: Any, run_of: Content, watcher: Any, tmp_path: Path) -> None:
    folder, stop = tmp_path / "a", StopToken()
    runs.run(run_of(**RUNS["twin"]), out=folder, observer=watcher({12: stop.stop}), stop=stop)
    newest = checkpoint.latest(folder)
    assert newest is not None
    saved = checkpoint.read(newest)
    for name, lie in TWIN_LIES:
        checkpoint.write(folder, replace(saved, network={**saved.network, name: lie}))
        refused(folder, r"the network: (the twin of layer2 does not fit|unknown tensors)")


def test_backpropagation_without_a_way_back_says_so(bench: Any, run_of: Content, tmp_path: Path) -> None:
    result = runs.run(run_of({"kind": "backpropagation"}), out=tmp_path / "a")
    assert result.status == "failed" and str(result.error).startswith("no error comes back to layer1; backpropagation")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"source": PERTURBED | {"baseline": "none", "code": {"kind": "random"}}},
            "baseline none needs the walsh code",
        ),
        ({"source": PERTURBED, "transforms": [{"kind": "sgd", "eta": 1}, {"kind": "adam"}]}, "adam must stand before"),
        ({"source": {"kind": "pulsed_perturbation"}}, "budget"),
        ({"source": PERTURBED, "tau_theta": 3, "tau_p": 2}, "tau_theta must be a multiple of tau_p"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_a_folder_is_made(
    bench: Any, run_of: Content, tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        runs.run(run_of(**change), out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("kind", ["software", "progressive"])
def test_weights_from_software_need_a_way_to_be_written(bench: Any, xor: Content, tmp_path: Path, kind: str) -> None:
    content = xor(steps=2)
    training = {"kind": "software", "eta": 0.5, "steps": 30}
    content["network"]["weights"] = {"kind": kind, "training": training} | (
        {"tuning": training} if kind == "progressive" else {}
    )
    assert runs.run(content, out=tmp_path / "a").status == "done"
    content["network"]["program"] = None
    with pytest.raises(ConfigError, match=f"program is needed to write {kind} weights"):
        runs.run(content, out=tmp_path / "b")


def test_activation_defects_are_those_of_the_seed(bench: Any, xor: Content, tmp_path: Path) -> None:
    from hil.lab.build import build_job
    from hil.lab.runs import read_plan

    def slopes(sigma: float, seed: int = 1) -> list[torch.Tensor]:
        content = xor(steps=1, seed=seed)
        content["network"]["activation_defects"] = sigma
        network = build_job(read_plan(content), StopToken(), None, lambda guard: None).network
        return [getattr(activation, "slope", torch.ones(())) for activation in network.activations]

    one, again, other = slopes(0.3), slopes(0.3), slopes(0.3, seed=2)
    assert [tuple(s.shape) for s in one] == [(3,), (1,)]
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], other[0]) and not bool((one[0] == one[1]).any())
    assert all(bool((s == 1).all()) for s in slopes(0.0))
