"""The forecast against the run it foretells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hil.errors import LimitExceeded
from hil.lab import runs
from hil.lab.forecast import STEPS, forecast
from hil.lab.runs import read_plan

IDEAL = Path(__file__).parents[2] / "config" / "boards" / "ideal.yaml"
Content = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(("steps", "evaluate_every"), [(5, 2), (STEPS, 7), (90, 30)])
def test_reads_are_foretold_exactly(bench: Any, xor: Content, tmp_path: Path, steps: int, evaluate_every: int) -> None:
    """Every step reads the same, so that twenty of them tell of all; beyond them, pulses are a guess."""
    content = xor(steps=steps, evaluate_every=evaluate_every, board=str(IDEAL))  # without noise: every step is known
    told = forecast(read_plan(content))
    result = runs.run(content, out=tmp_path / "a")
    assert told.reads == result.reads and told.steps == steps
    if steps <= STEPS:
        assert told.pulses == result.pulses
        assert told.lab_seconds == pytest.approx(result.lab_seconds, rel=1e-9)
    assert 0 < told.setup_seconds < told.lab_seconds
    assert told.lists_per_step == pytest.approx(3, abs=0.5)  # two layers read, one list of pulses


def test_pulses_of_a_cell_are_not_foretold_too_low(bench: Any, xor: Content, tmp_path: Path) -> None:
    told = forecast(read_plan(xor(steps=STEPS)))
    allowed = told.pulses_per_cell
    assert runs.run(xor(steps=STEPS, limits={"pulses_per_run": allowed}), out=tmp_path / "a").exit_code == 0
    with pytest.raises(LimitExceeded):
        forecast(read_plan(xor(steps=STEPS, limits={"pulses_per_run": allowed - 1})))


def test_the_budget_is_compared(bench: Any, xor: Content) -> None:
    told = forecast(read_plan(xor(steps=40)))
    assert told.within_budget
    above = replace(told, pulses_allowed=told.pulses_per_cell - 1)
    assert not above.within_budget
    assert any("ABOVE the budget" in line for line in above.lines())
    assert any("within the budget" in line for line in told.lines())


def test_boards_are_closed(bench: Any, xor: Content) -> None:
    forecast(read_plan(xor()))
    assert bench.closed == 1
