"""Updates that are lost at bounds and in full trains are counted, and the counts are saved."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hil.contract import Blocks, Outer, Pulse, Shape
from sim_backend.board import SimBoard
from sim_backend.config import SimulatorConfig
from sim_backend.faults import Faults
from sim_backend.laws.constant_step import ConstantStep
from sim_backend.laws.soft_bounds import SoftBounds
from sim_backend.pulsed.saturation import full_trains

UP, DOWN = Shape(1.0, 1e-6, 3.0), Shape(1.2, 1e-6, 3.0)
USUAL: dict[str, Any] = {"low": 10e-6, "high": 210e-6, "volts_up": 1.0, "volts_down": 1.2, "seconds": 1e-6}


def board_of(spec, law, **config) -> SimBoard:
    return SimBoard(spec, SimulatorConfig(law=law, gate_threshold=0.4, **config), seed=3)


@pytest.mark.parametrize("step_std", [0.0, 0.3])
def test_a_cell_at_its_bound_that_is_told_to_go_further_is_counted(step_std, spec_of, whole):
    spec = spec_of()
    board = board_of(spec, ConstantStep(**USUAL, states=100, step_std=step_std))
    blocks, held = whole(spec), board.chip.saturation
    board.execute([Pulse(blocks, torch.tensor(300), UP, DOWN)])
    assert held.held == 0  # on the way to the bound nothing is lost that can be seen
    board.execute([Pulse(blocks, torch.tensor(50), UP, DOWN)])
    assert held.held == 120
    board.execute([Pulse(blocks, torch.tensor(-1), UP, DOWN), Pulse(blocks, torch.tensor(0), UP, DOWN)])
    assert held.held == 120


def test_every_cell_counts_for_itself(spec_of):
    spec = spec_of()
    board = board_of(spec, ConstantStep(**USUAL, states=100))
    board.chip.state["g"][0, :2] = board.chip.params["high"][0, :2]
    board.execute([Pulse(Blocks((0,), (0,), (0,), 6, 5), torch.tensor(1), UP, DOWN)])
    assert board.chip.saturation.held == 10
    board.execute([Pulse(Blocks((0,), (0,), (0,), 2, 2), torch.tensor(1), UP, DOWN)])
    assert board.chip.saturation.held == 14


def test_soft_bounds_are_held_where_numbers_end(spec_of, whole):
    board = board_of(spec_of(), SoftBounds(**USUAL, states=100))
    for held in (0, 120):
        board.execute([Pulse(whole(board.spec), torch.tensor(5000), UP, DOWN)])
        assert board.chip.saturation.held == held


def test_compliance_holds_and_stuck_cells_and_weak_pulses_do_not_count(spec_of, whole):
    spec = spec_of(writing={"gate_curve": ((0.5, 10e-6), (2.5, 200e-6))})
    weak = Shape(0.3, 1e-6, 3.0)
    for faults, held in ((Faults(), 120), (Faults(fraction=1.0), 0)):
        board = board_of(spec, SoftBounds(**USUAL, threshold=0.5), faults=faults)
        limited = Shape(1.0, 1e-6, 0.6)
        board.execute([Pulse(whole(spec), torch.tensor(1), limited, DOWN)])
        board.execute([Pulse(whole(spec), torch.tensor(1), weak, weak)])
        assert board.chip.saturation.held == held


def test_the_counts_are_saved_with_the_chip(spec_of, whole):
    one, other = (board_of(spec_of(), ConstantStep(**USUAL, states=10)) for _ in range(2))
    one.execute([Pulse(whole(one.spec), torch.tensor(40), UP, DOWN)] * 3)
    one.chip.saturation.full += 7
    assert one.chip.saturation.held == 240
    other.restore(one.snapshot())
    assert other.chip.saturation == one.chip.saturation


def test_cells_of_full_trains_are_those_that_fire_in_every_slot():
    rows = torch.tensor([[[1, 0, -1], [1, 1, -1]], [[0, 0, 0], [1, 1, 1]]], dtype=torch.int8)
    cols = torch.tensor([[[1, 1], [1, 0]], [[1, 1], [1, 1]]], dtype=torch.int8)
    op = Outer(Blocks((0, 1), (0, 0), (0, 0), 3, 2), rows, cols, UP, DOWN)
    assert full_trains(op) == 2
