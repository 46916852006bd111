"""Step laws against the formulas of one pulse, closed forms of many, and stored statistics of aihwkit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pulsed_cells import USUAL, cells, close_statistics, pulsed

from sim_backend.laws.constant_step import ConstantStep
from sim_backend.laws.exp_step import ExpStep
from sim_backend.laws.linear_step import LinearStep
from sim_backend.laws.piecewise_step import PiecewiseStep
from sim_backend.laws.pow_step import PowStep

ORACLE = json.loads(
    (Path(__file__).parent.parent / "oracles" / "constant_step_aihwkit.json").read_text(encoding="utf-8")
)
WEIGHTS = (-0.7, 0.0, 0.4)
"""Where single steps are looked at, in weights from -1 to 1."""


def conductance(w: float) -> float:
    return 0.5 * (w + 1)


def weights(g: torch.Tensor) -> torch.Tensor:
    return 2 * g - 1


def step(law: Any, w: float, dose: float = 1.0) -> float:
    """How far one pulse without noise moves a weight."""
    return float(weights(pulsed(law, conductance(w), [dose], n=1))) - w


# -- one pulse: the formulas of facts/simulator.md 4.1 and facts/rpu.md 4 ----------------------------------------------


@pytest.mark.parametrize("w", WEIGHTS)
def test_a_constant_step_is_the_same_everywhere(w):
    law = ConstantStep(**USUAL, states=100)
    assert step(law, w) == pytest.approx(0.02) and step(law, w, -1.0) == pytest.approx(-0.02)


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("w", WEIGHTS)
def test_a_linear_step_shrinks_toward_the_bound_it_goes_to(w, additive):
    law = LinearStep(**USUAL, states=100, slope_up=0.3, slope_down=0.6, additive=additive)
    assert step(law, w) == pytest.approx(0.02 * (1 - 0.3 * w), rel=1e-9)
    assert step(law, w, -1.0) == pytest.approx(-0.02 * (1 + 0.6 * w), rel=1e-9)


def test_slopes_refer_to_the_bound_of_the_mean_cell_or_to_that_of_the_cell():
    usual = USUAL | {"low": 1.0, "high": 2.0}
    for own_bounds in (False, True):
        law = LinearStep(**usual, slope_up=0.5, high_dtod=0.1, own_bounds=own_bounds)
        g, params, source = cells(law, 1.7, n=200)
        move = law.pulse(g, params, torch.ones_like(g), None, source) - g
        bound = params["high"] - 1.5 if own_bounds else torch.full_like(g, 0.5)
        torch.testing.assert_close(move, 0.01 * (1 - 0.5 * 0.2 / bound), rtol=1e-9, atol=0.0)


def test_slopes_of_a_window_that_is_not_centred_refer_to_their_own_bound():
    """EcRam: w_max 1.1724, w_min -0.8276, dw 0.002, gamma 0.1153 and 0.5085."""
    law = LinearStep(**USUAL, zero=0.4138, states=1000, slope_up=0.1153, slope_down=0.5085)
    for w in (-0.6, 0.0, 0.9):
        start = 0.4138 + w / 2
        up, down = (2 * (float(pulsed(law, start, [dose], n=1)) - start) for dose in (1.0, -1.0))
        assert up == pytest.approx(0.002 * (1 - 0.1153 * w / 1.1724), rel=1e-9)
        assert down == pytest.approx(-0.002 * (1 - 0.5085 * w / -0.8276), rel=1e-9)


@pytest.mark.parametrize("w", WEIGHTS)
def test_an_exponential_step_follows_its_formula(w):
    law = ExpStep(**USUAL, states=100)
    z = 2 * 0.244 * w / 2 + 0.2425
    up = max(0.0, 1 - 0.00081 * math.exp(12.44625 * z))
    down = max(0.0, 1 - 0.36833 * math.exp(-12.78785 * z))
    assert step(law, w) == pytest.approx(0.02 * up, rel=1e-9)
    assert step(law, w, -1.0) == pytest.approx(-0.02 * down, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("w", WEIGHTS)
def test_a_power_step_follows_its_formula(w):
    law = PowStep(**USUAL, states=100, power=1.7)
    assert step(law, w) == pytest.approx(0.02 * ((1 - w) / 2) ** 1.7, rel=1e-9)
    assert step(law, w, -1.0) == pytest.approx(-0.02 * ((w + 1) / 2) ** 1.7, rel=1e-9)


def test_a_piecewise_step_is_interpolated_between_its_nodes():
    law = PiecewiseStep(**USUAL, states=100, nodes_up=(1.0, 0.6, 0.2), nodes_down=(0.5,))
    for w, up in ((-1.0, 1.0), (-0.5, 0.8), (0.0, 0.6), (0.25, 0.5)):
        assert step(law, w) == pytest.approx(0.02 * up, rel=1e-9)
    for w in WEIGHTS:
        assert step(law, w, -1.0) == pytest.approx(-0.01, rel=1e-9)
    assert step(PiecewiseStep(**USUAL, states=1e6, nodes_up=(1.0, 0.6, 0.2)), 1 - 1e-5) == pytest.approx(
        0.2 * 2e-6, rel=1e-3
    )


def test_steps_of_two_laws_that_are_one_agree():
    """Slope 1 is the soft bound and power 1 has twice its step in the middle; one node and slope 0 are constant."""
    steps = {w: step(ConstantStep(**USUAL), w) for w in WEIGHTS}
    for law in (LinearStep(**USUAL), PiecewiseStep(**USUAL), ExpStep(**USUAL, up_factor=0.0, down_factor=0.0)):
        assert {w: step(law, w) for w in WEIGHTS} == pytest.approx(steps, rel=1e-9)
    soft, power = LinearStep(**USUAL, slope_up=1.0, slope_down=1.0), PowStep(**USUAL, power=1.0, states=50)
    for w in WEIGHTS:
        assert step(soft, w) == pytest.approx(step(power, w), rel=1e-9)


# -- noise of one pulse and of many ------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 9, -16])
def test_constant_steps_add_up_as_a_random_walk(k):
    law = ConstantStep(**USUAL, states=400, step_std=0.5)
    move = pulsed(law, 0.5, [float(k)]) - 0.5
    close_statistics(move, k / 400, 0.5 * math.sqrt(abs(k)) / 400)
    one_by_one = pulsed(law, 0.5, [math.copysign(1.0, k)] * abs(k), seed=1) - 0.5
    close_statistics(one_by_one, k / 400, 0.5 * math.sqrt(abs(k)) / 400)


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("k", [1, 25, -40])
def test_many_linear_steps_at_once_are_as_many_single_ones(k, slope, additive):
    law = LinearStep(**USUAL, states=100, slope_up=slope, slope_down=slope, step_std=0.3, additive=additive)
    sign, s, w = math.copysign(1.0, k), 0.3, 0.2
    mean, second = w, w * w
    for _ in range(abs(k)):  # the recursion of the first two moments, a pulse at a time
        a, b = 1 - 0.02 * slope, 0.02 * sign  # w' = a w + b + noise
        spread = (0.02 * s) ** 2
        noise = spread if additive else spread * (1 - 2 * sign * slope * mean + slope**2 * second)
        mean, second = a * mean + b, a * a * second + 2 * a * b * mean + b * b + noise
    std = math.sqrt(second - mean * mean)
    at_once = weights(pulsed(law, conductance(w), [float(k)], seed=2))
    one_by_one = weights(pulsed(law, conductance(w), [sign] * abs(k), seed=3))
    close_statistics(at_once, mean, std)
    close_statistics(one_by_one, mean, std)


@pytest.mark.parametrize("law", [ExpStep, PowStep, PiecewiseStep])
def test_noise_of_a_walked_pulse_is_in_units_of_its_step(law):
    model = law(**USUAL, states=200, step_std=0.4)
    size = step(law(**USUAL, states=200), 0.1) / 2
    close_statistics(pulsed(model, conductance(0.1), [1.0]) - conductance(0.1), size, 0.4 * size)


def test_noise_of_an_exponential_step_has_a_floor_and_a_slope():
    """sigma = s (|dw| + floor + slope |w|), in weights from -1 to 1."""
    law = ExpStep(**USUAL, states=400, step_std=0.5, noise_floor=0.01, noise_slope=0.03)
    dw = step(ExpStep(**USUAL, states=400), -0.6)
    move = weights(pulsed(law, conductance(-0.6), [1.0])) + 0.6
    close_statistics(move, dw, 0.5 * (dw + 2 * 0.01 + 0.03 * 0.6))


@pytest.mark.parametrize(
    "law", [ExpStep(**USUAL, states=50), PowStep(**USUAL, states=50, power=2.0), PiecewiseStep(**USUAL, states=50)]
)
def test_walked_pulses_at_once_are_as_many_single_ones(law):
    doses = torch.tensor([3.0, -2.0, 0.0, 17.0, 1.0, -40.0], dtype=torch.float64)
    start = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    _, params, source = cells(law, 0.0, n=6)
    at_once = law.pulse(start, params, doses, None, source)
    one_by_one = start.clone()
    for k in range(40):
        one_by_one = law.pulse(one_by_one, params, doses.sign() * (doses.abs() > k), None, source)
    torch.testing.assert_close(at_once, one_by_one, rtol=1e-12, atol=1e-15)
    assert float(at_once[2]) == float(start[2])


def test_very_many_pulses_take_few_rounds_and_end_where_single_ones_would():
    """dg/dn = -(1 - g)^2 / states: 1 - g = 1 / (2 + n / states) from the middle, up to the discreteness of pulses."""
    law = PowStep(**USUAL, states=1000, power=2.0)
    for n in (100, 1000, 100_000):
        assert 1 - float(pulsed(law, 0.5, [float(n)], n=1)) == pytest.approx(1 / (2 + n / 1000), rel=0.01)


# -- bounds and oracles ------------------------------------------------------------------------------------------------


def aihwkit_law() -> ConstantStep:
    return ConstantStep(**USUAL, states=1.2 / ORACLE["dw_min"], step_std=ORACLE["dw_min_std"])


@pytest.mark.parametrize("row", ORACLE["step_vs_w"], ids=lambda row: f"w={row['w']}")
def test_single_constant_steps_follow_aihwkit(row):
    for side, dose in (("up", 1.0), ("down", -1.0)):
        move = 1.2 * pulsed(aihwkit_law(), (row["w"] + 0.6) / 1.2, [dose]) - 0.6 - row["w"]
        close_statistics(move, row[f"{side}_mean"], row[f"{side}_std"], of=ORACLE["samples"])


def test_a_thousand_constant_steps_up_and_down_follow_aihwkit():
    """The stored curve's steps are 0.2 to 0.4 % larger than its dw_min, many standard errors of independent noise.

    (Its single steps, above, are not.) So each way may differ by 0.5 % of its length.
    """
    law = aihwkit_law()
    g, params, source = cells(law, 0.5)
    for phase, sign, start in (("up", 1.0, 0.0), ("down", -1.0, 0.6)):
        done = 0
        for row in (r for r in ORACLE["curve"] if r["phase"] == phase):
            g = law.pulse(g, params, torch.full_like(g, sign * (row["pulses"] - done)), None, source)
            done, w = row["pulses"], 1.2 * g - 0.6
            at_bound = abs(row["mean"]) > 0.5999
            room = 2e-5 if at_bound else 0.005 * abs(row["mean"] - start)  # float32 near the bound
            error = row["std"] * math.sqrt(1 / w.numel() + 1 / ORACLE["samples"])
            assert float(w.mean()) == pytest.approx(row["mean"], abs=4 * error + room)
            if row["pulses"] != 60 or phase == "down":  # there half of the cells stand at the bound
                assert float(w.std()) == pytest.approx(row["std"], rel=0.03, abs=2e-4 if at_bound else 0.0)


def test_the_symmetry_point_of_linear_steps_is_where_alternation_ends():
    law = LinearStep(**USUAL, states=200, slope_up=0.5, slope_down=0.9, up_down=0.3)
    g, params, source = cells(law, 0.9, n=1)
    for _ in range(3000):
        up = law.pulse(g, params, torch.ones_like(g), None, source)
        g = law.pulse(up, params, -torch.ones_like(g), None, source)
    assert float(up + g) / 2 == pytest.approx(float(law.symmetry_point(params)), abs=0.1 / 200)


def test_up_down_weakens_the_weaker_direction_only():
    for up_down, up, down in ((0.3, 1.0, 0.7), (-0.3, 0.7, 1.0)):
        law = ConstantStep(**USUAL, up_down=up_down)
        assert step(law, 0.0) == pytest.approx(0.02 * up) and step(law, 0.0, -1.0) == pytest.approx(-0.02 * down)


def test_log_normal_steps_have_the_spread_of_their_logarithm():
    _, params, _ = cells(ConstantStep(**USUAL, step_dtod=0.7, log_normal=True), 0.5)
    close_statistics((params["up"] * 100).log(), 0.0, 0.7)
