"""Whole runs with managed reads: named in the run file, told at the end, resumed bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_folders import Content, events

from hil.errors import ConfigError
from hil.lab import checkpoint, runs
from hil.lab.stop import StopToken

MANAGED = {"kind": "managed", "noise": "average_abs_max", "decay": 0.1, "stochastic_inputs": True}


def test_a_run_with_managed_reads_goes_on_bit_for_bit_and_tells_what_they_cost(
    bench: Any, xor: Content, watcher: Any, comparable: Callable[..., Any], tmp_path: Path
) -> None:
    content, stop = xor(), StopToken()
    content["network"]["reading"] = MANAGED
    stopped = runs.run(content, out=tmp_path / "a", observer=watcher({12: stop.stop}), stop=stop)
    assert stopped.status == "stopped"
    again, whole = runs.resume(tmp_path / "a"), runs.run(content, out=tmp_path / "b")
    assert comparable(again) == comparable(whole)
    ends = [checkpoint.read(newest) for f in "ab" if (newest := checkpoint.latest(tmp_path / f)) is not None]
    for part in ("network", "board"):
        one, other = getattr(ends[0], part), getattr(ends[1], part)
        assert one.keys() == other.keys() and all(torch.equal(other[key], value) for key, value in one.items())
    assert "layer2.reading.numbers" in ends[0].network
    assert events(tmp_path / "a", "reading")[-1] == events(tmp_path / "b", "reading")[-1]
    assert "vectors with inputs cut" in events(tmp_path / "b", "reading")[-1]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"input_levels": 8}, "input_levels must be odd"),
        ({"noise": "mean"}, "abs_max"),
        ({"bound": "shift"}, "worst_case"),
    ],
)
def test_a_reading_that_cannot_be_is_refused(
    bench: Any, xor: Content, tmp_path: Path, changed: dict[str, Any], text: str
) -> None:
    content = xor()
    content["network"]["reading"] = MANAGED | changed
    with pytest.raises(ConfigError, match=rf"network\.reading.*{text}"):
        runs.run(content, out=tmp_path / "a")
    assert bench.lists == 0
