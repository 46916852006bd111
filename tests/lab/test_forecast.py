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
from hil.lab.record import Record
from hil.lab.report import write_report
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
    """A run that looks at its test samples only at the ends reads as often as the forecast, so noise is the same."""
    told = forecast(read_plan(xor(steps=STEPS, evaluate_every=STEPS)))
    allowed = told.pulses_per_cell

    def within(budget: int) -> dict[str, Any]:
        return xor(steps=STEPS, evaluate_every=STEPS, limits={"pulses_per_run": budget})

    assert runs.run(within(allowed), out=tmp_path / "a").exit_code == 0
    with pytest.raises(LimitExceeded):
        forecast(read_plan(within(allowed - 1)))


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


def test_energy_is_foretold_where_the_simulator_counts_it(bench: Any, xor: Content, tmp_path: Path) -> None:
    assert forecast(read_plan(xor(steps=5, board=str(IDEAL)))).joules == 0.0
    board = tmp_path / "counting.yaml"
    board.write_text(IDEAL.read_text() + "  energy: {read_seconds: 1 us}\n")
    content = xor(steps=5, board=str(board))
    told = forecast(read_plan(content))
    result = runs.run(content, out=tmp_path / "a")
    assert told.joules == pytest.approx(result.joules, rel=0.2) and told.joules > 0
    assert runs.run(xor(steps=1, board=str(IDEAL)), out=tmp_path / "b").joules is None
    assert any(line.startswith("energy ") and line.endswith("J in the array") for line in told.lines())
    assert not any(line.startswith("half-selects") for line in told.lines())
    assert any(line.startswith("half-selects    12 ") for line in replace(told, half_selects=12).lines())
    assert "energy in the array" in write_report(tmp_path / "a").read_text()


def test_what_was_lowered_is_noted_in_the_record(bench: Any, xor: Content, tmp_path: Path) -> None:
    board = tmp_path / "least.yaml"
    text = IDEAL.read_text().replace(
        "[Read, ReadCells, Pulse, Outer, Ramp, Wait, Probe]", "[ReadCells, Pulse, Wait, Probe]"
    )
    board.write_text(text)
    runs.run(xor(steps=2, board=str(board)), out=tmp_path / "a")
    record = Record(tmp_path / "a" / "run.db")
    told = [text for _, _, kind, text in record.events() if kind == "lowering"]
    record.close()
    assert len(told) == 1 and "Read: made of ReadCells and arithmetic (" in told[0]
