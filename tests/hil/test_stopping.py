"""The stop and abort rules of a ramp, on made-up readings: native and lowered ramps share this code."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hil.contract import Blocks, Flag, Kind, Ramp, Sense, Shape, Stop
from hil.contract.stopping import RampProgress, ramp_shape

UA = 1e-6
ONE = Blocks((0,), (0,), (0,), 1, 1)
FREE = Stop(low=1.0, high=0.0, amps_max=1.0)  # never reached


def run(amps: list[float], kind: Kind, stop: Stop, *, start: int = 0, step: float = 0.01, first: float = 0.6):
    """Follows one cell through readings in uA; gives the number of points it got and how it ended."""
    points = first + step * torch.arange(len(amps) + start, dtype=torch.float64)
    sign = torch.full((1, 1, 1), -1 if kind is Kind.RESET else 1, dtype=torch.int8)
    knob = "volts" if kind is Kind.RESET else "gate"
    op = Ramp(ONE, sign, kind, Shape(1.0, 1e-6, 1.0), knob, points, start, Sense(0.3), stop)
    progress = RampProgress(op)
    for index in range(points.shape[0]):
        if bool(progress.wanted(index).any()):
            reading = torch.full((1, 1, 1), amps[index - start] * UA, dtype=torch.float64)
            progress.observe(index, reading, None)
    return int(progress.applied), Flag(int(progress.flags))


def test_a_set_ramp_stops_at_the_first_reading_of_at_least_low():
    stop = replace(FREE, low=torch.tensor(50 * UA, dtype=torch.float64))
    assert run([10, 30, 49.9, 50, 60], Kind.SET, stop) == (4, Flag.STOPPED)
    assert run([-10, -30, -50, 60], Kind.SET, stop) == (3, Flag.STOPPED)  # currents are magnitudes


def test_a_reset_ramp_stops_at_the_first_reading_of_at_most_high():
    stop = replace(FREE, high=20 * UA)
    assert run([60, 40, 20.1, 19.9, 10], Kind.RESET, stop) == (4, Flag.STOPPED)


def test_a_ramp_that_meets_nothing_is_exhausted():
    assert run([10, 11, 12], Kind.SET, FREE) == (3, Flag.EXHAUSTED)
    assert run([10, 10, 10], Kind.SWEEP, replace(FREE, low=0.0)) == (3, Flag.EXHAUSTED)


def test_a_reading_above_the_largest_current_aborts():
    stop = replace(FREE, amps_max=450 * UA, low=400 * UA)
    assert run([100, 460, 500], Kind.SET, stop) == (2, Flag.ABORTED)
    assert run([100, 460, 500], Kind.RESET, stop) == (2, Flag.ABORTED)


@pytest.mark.parametrize(
    ("amps", "points"),
    [
        ([50, 48, 57], 3),  # more than 8 uA in one step
        ([50, 48, 55, 58.5], 4),  # more than 8 uA above the first reading
        ([50, 57, 50, 57, 50], None),
    ],
)
def test_a_jump_ends_a_reset(amps, points):
    wanted = (len(amps), Flag.EXHAUSTED) if points is None else (points, Flag.ABORTED)
    assert run(amps, Kind.RESET, replace(FREE, jump=8 * UA)) == wanted


@pytest.mark.parametrize(
    ("amps", "points"), [([50, 53, 56, 59, 70], 4), ([50, 53, 56, 57, 60, 63, 66], 7), ([50, 53, 52, 55, 58], None)]
)
def test_rises_in_a_row_end_a_reset(amps, points):
    wanted = (len(amps), Flag.EXHAUSTED) if points is None else (points, Flag.ABORTED)
    assert run(amps, Kind.RESET, replace(FREE, rise=2 * UA, rises=3)) == wanted


def test_a_rise_after_the_switching_voltage_ends_a_reset():
    stop = replace(FREE, rise_after=(0.85, 5 * UA))
    assert run([50, 56, 62], Kind.RESET, stop) == (3, Flag.EXHAUSTED)
    assert run([50, 40, 46], Kind.RESET, stop, first=0.84) == (3, Flag.ABORTED)


def test_the_abort_rules_of_a_reset_do_not_touch_a_set():
    stop = replace(FREE, jump=1 * UA, rise=0.0, rises=1, rise_after=(0.0, 0.0))
    assert run([10, 30, 60], Kind.SET, stop) == (3, Flag.EXHAUSTED)


def test_an_abort_goes_before_a_stop():
    assert run([100, 500], Kind.SET, Stop(low=400 * UA, high=1.0, amps_max=450 * UA)) == (2, Flag.ABORTED)


def test_switching_is_a_steep_slope_over_three_steps_and_then_a_flat_current():
    """Slope over 0.4 mS three times, then a step below 5 uA: at 10 mV a point that is 12 uA over three points."""
    stop = replace(FREE, slope=0.4e-3, flat=5 * UA, hits=3)
    amps = [0, 0, 0, 0, 20, 40, 60, 62, 64]
    assert run(amps, Kind.FORM, stop) == (8, Flag.STOPPED)
    assert run([0, 1, 2, 3, 4, 5, 6, 7], Kind.FORM, stop) == (8, Flag.EXHAUSTED)
    assert run([0, 0, 0, 0, 20, 40, 60, 80, 100], Kind.FORM, stop) == (9, Flag.EXHAUSTED)


def test_a_late_start_changes_the_points_and_nothing_else():
    stop = replace(FREE, slope=0.4e-3, flat=5 * UA, hits=3)
    amps = [0, 0, 0, 0, 20, 40, 60, 62, 64]
    assert run(amps, Kind.FORM, stop, start=5) == run(amps, Kind.FORM, stop)
    assert run([50, 48, 57], Kind.RESET, replace(FREE, jump=8 * UA), start=4) == (3, Flag.ABORTED)


def test_flags_of_readings_stay_with_the_cell():
    sign = torch.tensor([[[1, 1, 0]]], dtype=torch.int8)
    points = torch.tensor([1.0, 1.1, 1.2])
    op = Ramp(
        Blocks((0,), (0,), (0,), 1, 3), sign, Kind.SET, Shape(1.0, 1e-6, 1.0), "gate", points, 0, Sense(0.3), FREE
    )
    progress = RampProgress(op)
    high = torch.tensor([[[int(Flag.SAT_HIGH), 0, int(Flag.SAT_HIGH)]]], dtype=torch.uint8)
    for step, flags in enumerate((None, high, None)):
        progress.observe(step, torch.zeros(1, 1, 3), flags)
    ended = int(Flag.EXHAUSTED)
    assert progress.flags.tolist() == [[[ended | int(Flag.SAT_HIGH), ended, int(Flag.NOT_MEASURED)]]]
    assert progress.value[0, 0, 2].isnan() and progress.applied.tolist() == [[[3, 3, 0]]]


def test_the_knob_replaces_its_part_of_the_pulse():
    op = Ramp(ONE, torch.ones(1, 1, 1, dtype=torch.int8), Kind.SET, Shape(1.5, 1e-3, 2.0, 1e-4), "volts",
              torch.ones(1), 0, Sense(0.3), FREE)  # fmt: skip
    assert ramp_shape(op, 0.7).volts == 0.7 and ramp_shape(op, 0.7).gate == 2.0
    by_gate = ramp_shape(replace(op, knob="gate"), 0.7)
    assert (by_gate.volts, by_gate.seconds, by_gate.gate, by_gate.amps) == (1.5, 1e-3, 0.7, 1e-4)
