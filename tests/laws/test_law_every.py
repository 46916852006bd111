"""What every law owes: bounds, determinism, corrupt cells, compliance, write noise, and a use for each number."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pulsed_cells import USUAL, cells, close_statistics, pulsed

from hil.contract import Shape
from sim_backend.config import DeviceLaw
from sim_backend.laws.binary import Binary
from sim_backend.laws.cell import CHUNK, StepCell
from sim_backend.laws.constant_step import ConstantStep
from sim_backend.laws.exp_step import ExpStep
from sim_backend.laws.jump_table import JumpTableLaw
from sim_backend.laws.linear_step import LinearStep
from sim_backend.laws.one_sided import OneSided
from sim_backend.laws.pcm import Pcm
from sim_backend.laws.piecewise_step import PiecewiseStep
from sim_backend.laws.pow_step import PowStep
from sim_backend.laws.soft_bounds import SoftBounds
from sim_backend.laws.soft_bounds_reference import SoftBoundsReference

LAWS = [law for law in get_args(DeviceLaw) if law is not JumpTableLaw]
"""A jump table is tested by itself, since all of its numbers come from the table."""
STEP_LAWS = [law for law in LAWS if issubclass(law, StepCell)]
SHIFTED = USUAL | {"low": 1.0, "high": 2.0}
"""A window away from 0 S, so that no bound is cut off there."""
SPREADS = {"low_dtod": 0.05, "high_dtod": 0.1}
STEP_SPREADS = SPREADS | {"step_dtod": 0.3, "up_down_dtod": 0.05, "step_std": 2.0, "write_std": 1.0}


def rough(kind: type) -> Any:
    """A law with everything on."""
    if issubclass(kind, StepCell):
        return kind(**SHIFTED, **STEP_SPREADS, states=20)
    return kind(**SHIFTED, **SPREADS)


# -- each number moves the result the stated way -----------------------------------------------------------------------


def after(*doses: float, start: float | None = 1.5):
    return lambda law: float(pulsed(law, start, doses, n=1)[0])


def falls(*doses: float, start: float = 1.5):
    return lambda law: start - float(pulsed(law, start, doses, n=1)[0])


def spread(*doses: float, start: float | None = 1.5):
    return lambda law: float(pulsed(law, start, doses, n=2000).std())


def width_of(name: str):
    return lambda law: float(cells(law, 1.5, n=2000)[1][name].std())


def mean_of(name: str):
    return lambda law: float(cells(law, 1.5, n=2000)[1][name].mean())


def strength(volts: float, seconds: float = 1e-6, up: bool = True):
    return lambda law: float(law.strength(Shape(volts, seconds), up))


def lower(effect):
    return lambda law: -effect(law)


def uneven(law: Any) -> float:
    """How unlike pulses up and down are between cells."""
    _, params, _ = cells(law, 1.5, n=2000)
    return float((params["up"] / params["down"]).std())


def corrupt_cells(law: Any) -> float:
    _, params, _ = cells(law, 1.5, n=2000)
    return float((params["low"] == params["high"]).double().mean())


CELL = {
    "low": (0.9, 1.1, after(-1e5)),
    "high": (1.9, 2.1, after(1e5)),
    "low_dtod": (0.01, 0.05, width_of("low")),
    "high_dtod": (0.01, 0.05, width_of("high")),
    "corrupt": (0.1, 0.3, corrupt_cells),
    "volts_up": (0.9, 1.1, lower(strength(1.0))),
    "volts_down": (0.9, 1.1, lower(strength(1.0, up=False))),
    "seconds": (1e-6, 2e-6, lower(strength(1.0))),
    "threshold": (0.5, 1.1, lower(strength(1.0))),
    "volts_per_decade": (0.2, 0.8, lower(strength(1.1))),
    "compliance_volts": (0.3, 0.9, lambda law: -law.ceiling(1e-4)),
    "start": (0.2, 0.7, after(start=None)),
    "start_dtod": (0.01, 0.1, spread(start=None)),
}
STEP = CELL | {
    "states": (50.0, 200.0, lower(after(1.0))),
    "step_dtod": (0.05, 0.2, width_of("up")),
    "up_down": (0.0, 0.5, lower(falls(-1.0))),
    "up_down_dtod": (0.01, 0.1, uneven),
    "step_std": (0.1, 0.9, spread(1.0)),
    "write_std": (0.1, 2.0, spread(1.0)),
}
ZERO = {"zero": (0.3, 0.7, lower(lambda law: float(cells(law, 1.5, n=1)[1]["down"])))}
REFERENCE_ZERO = {"zero": (0.3, 0.7, lambda law: float(law.symmetry_point(cells(law, 1.5, n=1)[1])))}
CORRUPT_AT = {"corrupt_range": (0.01, 0.1, None), "zero": (0.2, 0.8, None)}  # what they do: the test of corrupt cells
RESET = {
    "reset": (0.0, 0.2, after(-1.0)),
    "reset_dtod": (0.01, 0.05, width_of("bottom")),
    "reset_std": (0.005, 0.02, spread(-1.0)),
    "reset_dose": (0.2, 0.9, after(-0.5)),
}
TABLE: dict[type, dict[str, Any]] = {
    ConstantStep: STEP,
    SoftBounds: STEP | ZERO,
    SoftBoundsReference: STEP
    | REFERENCE_ZERO
    | {
        "reference": (0.0, 0.1, lower(mean_of("high"))),
        "reference_dtod": (0.01, 0.05, width_of("toward_high")),
        "slope_up_dtod": (0.01, 0.1, width_of("up_pull")),
        "slope_down_dtod": (0.01, 0.1, width_of("down_pull")),
    },
    LinearStep: STEP
    | {
        "zero": (0.3, 0.7, lambda law: float(pulsed(dataclasses.replace(law, slope_up=0.5), 1.6, [1.0], n=1))),
        "slope_up": (0.0, 0.5, lower(after(1.0, start=1.8))),
        "slope_down": (0.0, 0.5, lower(falls(-1.0, start=1.2))),
        "slope_up_dtod": (0.01, 0.1, width_of("up_pull")),
        "slope_down_dtod": (0.01, 0.1, width_of("down_pull")),
    },
    ExpStep: STEP
    | {
        "zero": (0.3, 0.7, after(1.0, start=1.9)),
        "scale": (0.1, 0.244, lower(after(1.0, start=1.9))),
        "shift": (0.0, 0.2425, lower(after(1.0, start=1.9))),
        "up_factor": (0.0, 0.1, lower(after(1.0))),
        "down_factor": (0.0, 0.3, lower(falls(-1.0))),
        "up_exponent": (1.0, 12.0, lower(after(1.0))),
        "down_exponent": (1.0, 12.0, falls(-1.0)),
        "noise_floor": (0.0, 0.01, lambda law: spread(1.0)(dataclasses.replace(law, step_std=1.0))),
        "noise_slope": (0.0, 0.1, lambda law: spread(1.0, start=1.8)(dataclasses.replace(law, step_std=1.0))),
    },
    PowStep: STEP
    | {
        "power": (0.5, 2.0, lower(after(1.0))),
        "power_dtod": (0.01, 0.1, width_of("up_power")),
        "power_up_down": (0.0, 0.5, falls(-1.0)),
        "power_up_down_dtod": (0.01, 0.1, width_of("down_power")),
    },
    PiecewiseStep: STEP
    | {"nodes_up": ((1.0, 0.5), (1.0, 1.0), after(1.0)), "nodes_down": ((0.2,), (0.9,), falls(-1.0))},
    OneSided: CELL
    | RESET
    | {
        "states": (50.0, 200.0, lower(after(1.0))),
        "slope": (0.0, 0.9, lower(after(1.0))),
        "step_dtod": (0.05, 0.2, width_of("up")),
        "step_std": (0.1, 0.9, spread(1.0)),
    },
    Pcm: CELL
    | RESET
    | {
        "states": (50.0, 200.0, lower(after(1.0))),
        "factor": (-20.0, -5.0, lower(after(1.0))),
        "exponent": (1.0, 5.0, lower(after(1.0))),
        "step_dtod": (0.05, 0.2, width_of("up")),
        "step_std": (0.1, 0.3, spread(1.0, start=1.2)),
        "noise_floor": (0.0, 0.1, lambda law: spread(1.0)(dataclasses.replace(law, step_std=0.5))),
        "noise_slope": (0.0, 0.3, lambda law: spread(1.0)(dataclasses.replace(law, step_std=0.5))),
        "programming_noise": (0.1, 1.0, spread(1.0)),
    },
    Binary: CELL
    | {
        "chance": (0.1, 0.9, lambda law: float(pulsed(law, 1.0, [1.0], n=2000).mean())),
        "level_std": (0.01, 0.05, spread(1.0, start=1.0)),
        "level_dtod": (0.01, 0.05, width_of("inside")),
    },
}
LINE = [
    pytest.param(law, name, row, id=f"{law.__name__}-{name}")
    for law, rows in TABLE.items()
    for name, row in rows.items()
]
QUIET = {Pcm: {"programming_noise": 0.0, "reset_std": 0.0}, OneSided: {"reset_std": 0.0}}
FLAGS = {"kind", "log_normal", "additive", "own_bounds", "subtract_symmetry_point"}  # tested one by one


@pytest.mark.parametrize(("law", "name", "row"), LINE)
def test_turning_a_number_up_moves_the_result_the_right_way(law, name, row):
    less, more, effect = row
    common = SHIFTED | QUIET.get(law, {})
    first, second = (effect(law(**common | {name: value})) for value in (less, more))
    assert first < second, f"{first} before, {second} after"


@pytest.mark.parametrize("law", LAWS)
def test_every_number_of_every_law_is_in_the_table(law):
    names = {field.name for field in dataclasses.fields(law)} - FLAGS
    general = CORRUPT_AT.keys() | {"zero"}
    assert names - TABLE[law].keys() <= general  # these have the test of corrupt cells
    assert TABLE[law].keys() <= names


@pytest.mark.parametrize("law", LAWS)
def test_corrupt_cells_sit_around_zero_and_never_move(law):
    model = law(**SHIFTED, corrupt=0.5, corrupt_range=0.1, zero=0.4)
    g, params, source = cells(model, None, n=4000)
    broken = params["low"] == params["high"]
    assert 0.45 < float(broken.double().mean()) < 0.55
    close_statistics(g[broken], 1.4, 0.1 / 3**0.5)
    assert float((g[broken] - 1.4).abs().max()) <= 0.1
    for dose in (3.0, -30.0):
        moved = model.pulse(g, params, torch.full_like(g, dose), None, source)
        assert torch.equal(moved[broken], g[broken])
    raised = model.pulse(g, params, torch.full_like(g, 3.0), None, source)
    assert bool((raised[~broken] != g[~broken]).all())


# -- bounds, determinism, compliance -----------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
@given(
    doses=st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=5),
    ceiling=st.one_of(st.none(), st.floats(0.5, 2.5, width=32)),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, derandomize=True, max_examples=8)
def test_random_pulses_keep_every_cell_in_its_bounds(law, doses, ceiling, seed):
    model = rough(law)
    g, params, source = cells(model, None, n=40, seed=seed, dtype=torch.float32)
    turn = torch.linspace(-1, 1, 40)
    top = None if ceiling is None else torch.full_like(g, ceiling)
    for dose in doses:
        before, each = g, dose * turn
        g = model.pulse(g, params, each, top, source)
        assert bool((g >= params["low"]).all()) and bool((g <= params["high"]).all())
        assert torch.equal(g[each == 0], before[each == 0])
        if top is not None and "offset" not in params:
            assert bool((g <= torch.maximum(top, before))[each > 0].all())


@pytest.mark.parametrize("law", LAWS)
def test_equal_seeds_give_equal_cells_and_pulses(law):
    def run(seed: int) -> torch.Tensor:
        return pulsed(rough(law), None, [3.0, -1.0, 2.0], seed=seed, n=500)

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))


@pytest.mark.parametrize("law", LAWS)
def test_pulses_leave_what_they_were_given_alone(law):
    model = law(**SHIFTED, **QUIET.get(law, {}))
    g, params, source = cells(model, 1.5, n=50)
    before, kept = g.clone(), {name: values.clone() for name, values in params.items()}
    dose = torch.linspace(-3, 3, 50, dtype=torch.float64)
    model.pulse(g, params, dose, torch.full_like(g, 1.9), source)
    assert torch.equal(g, before) and all(torch.equal(params[name], kept[name]) for name in kept)


@pytest.mark.parametrize("law", LAWS)
def test_compliance_ends_pulses_up_and_does_not_take_back(law):
    model = law(**SHIFTED, **QUIET.get(law, {}))
    assert float(pulsed(model, 1.2, [1e4], n=1, ceiling=1.6)) == pytest.approx(1.6, abs=1e-3)
    assert float(pulsed(model, 1.8, [5.0], n=1, ceiling=1.6)) == 1.8


@pytest.mark.parametrize("law", LAWS)
def test_an_array_larger_than_a_chunk_is_pulsed_like_a_small_one(law):
    """Without noise the same; with it, as deterministic; and any shape is kept."""
    model = law(**SHIFTED, **QUIET.get(law, {}))
    side = 200
    assert side * side > CHUNK
    g, params, source = cells(model, 1.4, n=side * side)
    dose = torch.linspace(-3, 3, side * side, dtype=torch.float64)
    flat = model.pulse(g, params, dose, None, source)
    square = {name: values.view(side, side) for name, values in params.items()}
    whole = model.pulse(g.view(side, side), square, dose.view(side, side), None, source)
    few = model.pulse(g[-10:], {name: v[-10:] for name, v in params.items()}, dose[-10:], None, source)
    assert whole.shape == (side, side) and torch.equal(whole.view(-1), flat)
    torch.testing.assert_close(flat[-10:], few, rtol=1e-12, atol=0.0)


# -- write noise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", STEP_LAWS)
def test_write_noise_shows_and_does_not_add_up(law):
    model = law(**SHIFTED, states=200, write_std=5.0)
    quiet = law(**SHIFTED, states=200)
    g, params, source = cells(model, 1.5)
    assert model.kept == ("offset",) and quiet.kept == ()
    for dose in (1.0, -1.0) * 10:
        g = model.pulse(g, params, torch.full_like(g, dose), None, source)
    state = pulsed(quiet, 1.5, (1.0, -1.0) * 10)
    close_statistics(g, float(state.mean()), 5.0 / 200)
    torch.testing.assert_close(g - params["offset"], state, rtol=1e-9, atol=0.0)


def test_write_noise_stays_with_a_cell_that_gets_no_pulse():
    model = ConstantStep(**SHIFTED, write_std=5.0)
    g, params, source = cells(model, 1.5, n=100)
    g = model.pulse(g, params, torch.ones_like(g), None, source)
    offset = params["offset"].clone()
    again = model.pulse(g, params, torch.zeros_like(g), None, source)
    assert torch.equal(again, g) and torch.equal(params["offset"], offset)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"low": 2.0, "high": 1.0}, "low 2 S must lie below high 1 S"),
        ({"start": 1.5}, "start must lie between 0 and 1"),
        ({"seconds": 0.0}, "seconds must be above 0"),
        ({"corrupt": -0.1}, "corrupt must lie between 0 and 1"),
        ({"low_dtod": -0.1}, "low_dtod must be at least 0"),
    ],
)
def test_impossible_numbers_are_refused_by_name(law, change, text):
    with pytest.raises(ValueError, match=text):
        law(**SHIFTED | change)
