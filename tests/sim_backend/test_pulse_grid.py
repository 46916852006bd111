"""Pulses are made at whole steps of the board's converters, and what the simulator cannot model is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from hil.contract import Blocks, Kind, Pulse, Ramp, Sense, Shape, Stop
from hil.errors import Unsupported
from sim_backend.pulse_grid import PulseGrid

ONE = Blocks((0,), (0,), (0,), 6, 5)
GRID = {"volts_step": 0.01, "seconds_step": 1e-7, "gate_step": 0.02}


def test_each_part_goes_to_its_nearest_step():
    made = PulseGrid(0.25, 1e-6, 0.5).made(Shape(torch.tensor([0.1, 0.2, 0.63]), 2.4e-6, 1.2, 1e-4))
    assert made.volts.tolist() == [0.0, 0.25, 0.75]
    assert math.isclose(made.seconds, 2e-6) and made.gate == 1.0 and made.amps == 1e-4
    free = Shape(0.123, 1e-9)
    assert PulseGrid(None, None, None).made(free) is free
    assert PulseGrid(0.1, None, None).made(free).volts == pytest.approx(0.1)


@pytest.mark.parametrize("part", ["volts", "seconds", "gate"])
def test_a_pulse_between_two_steps_is_the_pulse_at_the_nearest(spec_of, quiet_board, part):
    exact = Shape(1.0, 1e-6, 1.2)  # the gate holds cells below 150 uS
    asked = replace(exact, **{part: getattr(exact, part) * 1.004})
    chips = {}
    for name, shape, grid in (("exact", exact, {}), ("asked", asked, GRID), ("free", asked, {})):
        board = quiet_board(spec_of(writing=grid))
        for op in (
            Pulse(ONE, torch.tensor(3), shape, shape),
            Ramp(ONE, torch.ones(1, 1, 1, dtype=torch.int8), Kind.SET, shape, "volts",
                 torch.tensor([0.9, 1.0, shape.volts], dtype=torch.float64), 0, Sense(0.1), Stop(1.0, 2.0, 1e-3)),
        ):  # fmt: skip
            board.execute([op])
        chips[name] = board.chip.state["g"]
    torch.testing.assert_close(chips["asked"], chips["exact"], rtol=1e-6, atol=0)
    assert not torch.allclose(chips["free"], chips["exact"], rtol=1e-5, atol=0)


def test_a_way_of_reading_that_is_not_modelled_is_refused(spec_of, quiet_board):
    with pytest.raises(Unsupported, match=r"reading\.input_coding: .*each bit plane is a conversion of its own"):
        quiet_board(spec_of(reading={"input_coding": "bits"}))
