"""The scan, the stuck map, forming, drift and the response, against boards whose cells are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from framed_boards import framed
from torch import Tensor

from hil.contract import Backend, Blocks, BoardSpec, Range
from hil.errors import Aborted
from hil.lab.guard import Guard
from hil.lab.stop import StopToken
from hil.lowering import Lowering
from protocols.characterise.amplifiers import levels
from protocols.characterise.cells import Bench
from protocols.characterise.drift import drift
from protocols.characterise.noise import Noise, noise
from protocols.characterise.plan import (
    DriftPlan,
    FormingPlan,
    LinePlan,
    NoisePlan,
    Plan,
    ResponsePlan,
    StuckPlan,
)  # fmt: skip
from protocols.characterise.response import Trains, bursts, single_steps
from protocols.characterise.scan import scan
from protocols.characterise.sequence import Findings, measure
from protocols.characterise.stuck import Cell, judge, kinds
from sim_backend.aging.leak import Leak
from sim_backend.board import SimBoard
from sim_backend.config import SimulatorConfig
from sim_backend.faults import Faults
from sim_backend.fit.device import DeviceFit, fit_soft_bounds
from sim_backend.laws.soft_bounds import SoftBounds

LAW = SoftBounds(low=10e-6, high=210e-6, volts_up=1.0, volts_down=1.2, seconds=1e-6, start_dtod=0.2)
SMALL = Plan(
    noise=NoisePlan(kernels=4, repeats=16), lines=LinePlan(averages=8), drift=DriftPlan(seconds=60.0),
    stuck=StuckPlan(), response=ResponsePlan(kernels=4, points=24),
)  # fmt: skip


def guarded(board: Backend, stop: StopToken | None = None) -> Lowering:
    return Lowering(Guard(board, stop=stop))


def finished(steps: Iterator[tuple[str, Findings]]) -> Findings:
    return list(steps)[-1][1]


def law_of(found: Findings) -> DeviceFit:
    trains, stuck = found.response, found.stuck
    assert trains is not None and stuck is not None
    first = stuck.first[list(trains.blocks.kernel)].flatten()[trains.cells]
    return fit_soft_bounds(trains.up, trains.down, trains.counts, trains.sigma, first)


# -- stuck cells -------------------------------------------------------------------------------------------------------


def test_stuck_cells_are_found_and_no_others(noisy_board: Callable[..., SimBoard], spec_of: Any) -> None:
    grid = {"volts_step": 1e-3, "ranges": (Range(negative=2e-4, positive=2e-4, step=1e-7),)}
    board = noisy_board(spec_of(kernels=8, rows=16, cols=16, reading=grid), seed=5, fraction=0.1)
    true = board.chip.state["stuck"]
    found = finished(measure(guarded(board), replace(SMALL, response=None, lines=None)))
    assert found.stuck is not None
    mine = found.stuck.stuck
    hits = int((mine & true).sum())
    assert hits / int(true.sum()) >= 0.99, "recall"
    assert hits / int(mine.sum()) >= 0.99, "precision"
    assert float(found.stuck.confidence.min()) >= 0.5
    assert float(found.stuck.confidence.mean()) > 0.99
    assert int(true.sum()) > 150


def test_what_is_stuck_where_is_told(spec_of: Callable[..., BoardSpec], quiet_board: Callable[..., SimBoard]) -> None:
    shares = Faults(fraction=0.3, low=1.0, high=1.0, open=1.0, short=1.0, value=0.0, short_siemens=6e-4)
    board = quiet_board(spec_of(kernels=4), faults=shares, seed=2)
    g, stuck = board.chip.state["g"].clone(), board.chip.state["stuck"]
    found = finished(measure(guarded(board), SMALL))
    assert found.stuck is not None and found.scan is not None
    law = law_of(found)
    what = kinds(found.stuck, found.scan.siemens, law.low, law.high)
    for value, kind in ((10e-6, Cell.LOW), (210e-6, Cell.HIGH), (0.0, Cell.OPEN), (6e-4, Cell.SHORT)):
        expected = stuck & ((g - value).abs() < 1e-9)
        assert int(expected.sum()) > 2
        assert torch.equal(what == int(kind), expected)
    assert torch.equal(what == int(Cell.GOOD), ~stuck)


def test_judging_takes_both_directions_and_knows_when_it_is_unsure() -> None:
    blocks = Blocks((0,), (0,), (0,), 1, 6)
    low = torch.full((1, 1, 6), 50e-6, dtype=torch.float64)
    up = torch.tensor([[[40e-6, 44e-6, 38e-6, 0.5e-6, 3.6e-6, 40e-6]]], dtype=torch.float64)
    down = torch.tensor([[[41e-6, 40e-6, 39e-6, -0.4e-6, 3.4e-6, 0.2e-6]]], dtype=torch.float64)
    maps = torch.stack([low, low, low + up, low + up - down])
    found = judge(blocks, maps, 1e-6, 0.05, 30)
    assert found.stuck.flatten().tolist() == [False, False, False, True, False, False]
    assert float(found.confidence[0, 0, 3]) > 0.98
    assert float(found.confidence[0, 0, 4]) < float(found.confidence[0, 0, 0])
    assert found.weak.flatten().tolist() == [False, False, False, False, True, False]


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_a_chip_that_is_mostly_dead_is_seen_to_be_dead(
    quiet_board: Callable[..., SimBoard], spec_of: Callable[..., BoardSpec], share: float
) -> None:
    board = quiet_board(spec_of(), faults=Faults(fraction=share), read_noise=1e-6, amplifier_noise=2e-7, seed=3)
    found = finished(measure(guarded(board), replace(SMALL, lines=None)))
    assert found.stuck is not None
    assert torch.equal(found.stuck.stuck, board.chip.state["stuck"])
    assert not found.stuck.clear
    if share == 1.0:
        with pytest.raises(ValueError, match="at least 3 cells"):
            law_of(found)


def test_shorts_are_left_alone_from_the_scan_on(
    spec_of: Callable[..., BoardSpec], quiet_board: Callable[..., SimBoard]
) -> None:
    """A read at the usual voltage would carry 4 mA through them, four times the limit, and end the run."""
    shares = Faults(fraction=0.1, low=0.0, high=0.0, short=1.0, short_siemens=20e-3)
    board = quiet_board(spec_of(limits={"cell_amps": 1e-3}), faults=shares, seed=3)
    shorts = board.chip.state["stuck"].clone()
    assert 3 < int(shorts.sum()) < 40
    link = guarded(board)
    found = finished(measure(link, replace(SMALL, scan_share=0.05)))
    assert found.scan is not None and found.stuck is not None
    assert torch.equal(~found.scan.alive, shorts)
    assert int(board.chip.state["pulses"][shorts].sum()) == 0
    assert bool(found.stuck.stuck[shorts].all())
    assert int((~found.scan.alive & (found.scan.siemens > 1e-3)).sum()) == int(shorts.sum())


# -- response ----------------------------------------------------------------------------------------------------------


def test_a_quiet_board_gives_its_own_law(quiet_board: Callable[..., SimBoard]) -> None:
    board = quiet_board()
    law = law_of(finished(measure(guarded(board), SMALL)))
    assert law.numbers["low"].value == pytest.approx(10e-6, rel=1e-4)
    assert law.numbers["high"].value == pytest.approx(210e-6, rel=1e-4)
    assert law.numbers["states"].value == pytest.approx(100, rel=1e-3)
    assert law.numbers["step_std"].value < 0.01
    assert law.numbers["start_dtod"].value == pytest.approx(0.2, rel=0.2)
    assert law.misfit < 1e-4


@pytest.mark.parametrize("selector", ["gated", "passive"])
def test_a_noisy_board_gives_its_own_law_within_stated_errors(
    noisy_board: Callable[..., SimBoard], spec_of: Callable[..., BoardSpec], selector: Any
) -> None:
    """Low and high within 3 %, states within 15 %, spreads within a third; 480 cells."""
    grid = {"volts_step": 1e-3, "ranges": (Range(negative=2e-4, positive=2e-4, step=1e-7),)}
    board = noisy_board(spec_of(selector=selector, kernels=4, rows=12, cols=10, reading=grid), seed=7)
    law = law_of(finished(measure(guarded(board), replace(SMALL, lines=None, drift=None))))
    number = {name: value.value for name, value in law.numbers.items()}
    assert number["low"] == pytest.approx(10e-6, abs=0.03 * 200e-6)
    assert number["high"] == pytest.approx(210e-6, rel=0.03)
    assert number["states"] == pytest.approx(100, rel=0.15)
    assert number["high_dtod"] == pytest.approx(0.1, rel=0.2)
    assert number["low_dtod"] == pytest.approx(0.03, rel=0.34)
    assert number["step_dtod"] == pytest.approx(0.2, rel=0.2)
    assert number["step_std"] == pytest.approx(0.3, rel=0.15)
    assert abs(number["up_down"]) < 0.1
    true = board.chip.params  # cell by cell
    trains = finished(
        measure(guarded(noisy_board(board.spec, seed=7)), replace(SMALL, lines=None, drift=None))
    ).response
    assert trains is not None and law.left_out == 0
    high = true["high"].flatten()[trains.cells].double()
    assert float(((law.high - high) / high).abs().median()) < 0.02


@pytest.mark.parametrize(("up_down", "sign"), [(0.3, 1), (-0.3, -1)])
def test_asymmetry_has_the_sign_of_the_law(quiet_board: Callable[..., SimBoard], up_down: float, sign: int) -> None:
    found = law_of(finished(measure(guarded(quiet_board(up_down=up_down)), SMALL)))
    assert found.numbers["up_down"].value == pytest.approx(up_down, rel=0.02)
    assert found.numbers["states"].value == pytest.approx(100, rel=0.02)


def test_single_pulses_are_samples_of_the_law(quiet_board: Callable[..., SimBoard]) -> None:
    board = quiet_board()
    plan = replace(SMALL, response=ResponsePlan(kernels=4, points=20, singles=True))
    trains = finished(measure(guarded(board), plan)).response
    assert trains is not None
    before, change, up = single_steps(trains)
    assert before.numel() == 2 * 2 * 20 * trains.cells.numel()
    pull = 0.02
    expected = torch.where(up, pull * (210e-6 - before), pull * (10e-6 - before))
    torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-10)


@pytest.mark.parametrize(("pulses", "points", "singles"), [(100, 40, False), (97, 24, True), (8, 40, True)])
def test_bursts_add_up_to_the_train(spec_of: Any, pulses: int, points: int, singles: bool) -> None:
    sizes = bursts(ResponsePlan(pulses=pulses, points=points, singles=singles), spec_of())
    assert sum(sizes) == pulses
    assert min(sizes) >= 1
    assert len(sizes) <= points * (1 + singles)


# -- drift and forming -------------------------------------------------------------------------------------------------


def quiet_noise(bench: Bench) -> Noise:
    return noise(levels(bench, NoisePlan(repeats=4)), None)


def test_drift_is_seen_where_there_is_some_and_not_elsewhere(spec_of: Callable[..., BoardSpec]) -> None:
    for aging, resolved in ((Leak(rest=10e-6, lifetime=3600.0), True), (None, False)):
        physics = SimulatorConfig(dtype="float64", law=LAW, aging=aging, read_noise=1e-7, gate_threshold=0.4)
        board = SimBoard(spec_of(), physics, 1)
        bench = Bench(board, torch.ones(board.spec.cells, dtype=torch.bool))
        found = drift(bench, DriftPlan(kernels=4, seconds=360.0), quiet_noise(bench))
        assert found.resolved is resolved
        assert found.seconds >= 360.0
        if resolved:
            assert found.mean / float((found.before - 10e-6).mean()) == pytest.approx(-0.095, rel=0.1)  # 1 - exp(-0.1)


def test_forming_is_not_tried_unless_asked_for_and_allowed(
    quiet_board: Callable[..., SimBoard], spec_of: Callable[..., BoardSpec]
) -> None:
    never = quiet_board(spec_of(limits={"forming": "never"}))
    assert "not ask" in finished(measure(guarded(never), SMALL)).left_out["forming"]
    asked = replace(SMALL, forming=FormingPlan())
    assert "allows no forming" in finished(measure(guarded(never), asked)).left_out["forming"]


def test_forming_is_not_tried_where_noise_hides_low_cells(quiet_board: Callable[..., SimBoard]) -> None:
    board = quiet_board(amplifier_noise=2e-6)
    found = finished(measure(guarded(board), replace(SMALL, response=None, forming=FormingPlan())))
    assert "too noisy" in found.left_out["forming"]


@pytest.mark.parametrize("selector", ["gated", "passive"])
def test_cells_without_current_get_one_careful_ramp(
    quiet_board: Callable[..., SimBoard], spec_of: Callable[..., BoardSpec], selector: Any
) -> None:
    faults = Faults(fraction=0.2, low=1.0, high=0.0, open=1.0)  # cells stuck low must not be formed
    spec = spec_of(
        selector=selector, limits={"forming": "once", "slew": 0.05, "gate_step": 0.1 if selector == "gated" else None}
    )
    board = quiet_board(spec, faults=faults, read_noise=5e-7, amplifier_noise=1e-7, seed=1)
    opened = board.chip.state["g"] == 0
    assert 2 < int(opened.sum()) < int(board.chip.state["stuck"].sum())
    guard = Guard(board)
    found = finished(measure(Lowering(guard), replace(SMALL, response=None, forming=FormingPlan(points=10))))
    assert found.forming is not None
    assert torch.equal(found.forming.tried, opened)
    assert not bool(found.forming.formed.any()), "the simulator's opens stay open"
    assert torch.equal(guard.wear.formed, opened)


# -- the sequence ------------------------------------------------------------------------------------------------------


def test_reading_comes_before_writing_and_the_lowest_voltage_first(quiet_board: Callable[..., SimBoard]) -> None:
    board = quiet_board()
    seen: list[str] = []
    for name, _ in measure(guarded(board), SMALL):
        seen.append(name)
        if name in ("scan", "gates", "noise", "gains", "lines", "drift", "stuck"):
            assert int(board.chip.state["pulses"].sum()) == 0
    assert seen == ["scan", "gates", "noise", "gains", "lines", "drift", "stuck", "response", ""]


def test_wear_is_counted(quiet_board: Callable[..., SimBoard]) -> None:
    board = quiet_board()
    guard = Guard(board)
    finished(measure(Lowering(guard), SMALL))
    assert torch.equal(guard.wear.run, board.chip.state["pulses"].to(torch.int64))
    assert int(guard.wear.run.min()) == 3 * 33 + 5 * 160  # three trains of the stuck map, five of the response


def test_an_abort_ends_it_at_once(quiet_board: Callable[..., SimBoard]) -> None:
    stop = StopToken()
    board = quiet_board()
    steps = measure(guarded(board, stop), SMALL)
    with pytest.raises(Aborted):
        for name, _ in steps:
            if name == "stuck":
                stop.abort("the operator said so")
    assert int(board.chip.state["pulses"].sum()) == 0


def test_a_framed_board_gives_the_same_findings(noisy_board: Callable[..., SimBoard], spec_of: Any) -> None:
    grid = {"volts_step": 1e-3, "ranges": (Range(negative=2e-4, positive=2e-4, step=1e-7),)}
    spec = spec_of(kernels=2, reading=grid, writing={"step": 8e-6})
    here = finished(measure(guarded(noisy_board(spec, seed=4)), SMALL))
    there = finished(measure(guarded(framed(noisy_board(spec, seed=4))), SMALL))
    for name in ("first", "up", "down", "confidence"):
        torch.testing.assert_close(
            getattr(here.stuck, name), getattr(there.stuck, name), rtol=0, atol=0, equal_nan=True
        )
    assert isinstance(here.response, Trains) and isinstance(there.response, Trains)
    for name in ("up", "down", "counts", "cells"):
        assert torch.equal(getattr(here.response, name), getattr(there.response, name))
    assert here.noise is not None and there.noise is not None
    assert (here.noise.cell, here.noise.amplifier) == (there.noise.cell, there.noise.amplifier)


def test_a_minimum_board_is_characterised_as_well(quiet_board: Callable[..., SimBoard], spec_of: Any) -> None:
    board = quiet_board(spec_of(ops=("ReadCells", "Pulse", "Wait")))
    found = finished(measure(guarded(board), SMALL))
    assert "whole array" in found.left_out["lines"]
    assert law_of(found).numbers["states"].value == pytest.approx(100, rel=0.01)


def test_the_scan_is_at_a_share_of_the_read_voltage(quiet_board: Callable[..., SimBoard]) -> None:
    found = scan(guarded(quiet_board()), 0.1)
    assert found.volts == pytest.approx(0.02)
    true: Tensor = quiet_board().chip.state["g"]
    torch.testing.assert_close(found.siemens, true.double())
