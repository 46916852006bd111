"""The law of soft-bounds cells against single pulses, closed forms and stored statistics of aihwkit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hil.contract import Shape
from sim_backend.laws.soft_bounds import SoftBounds

ORACLE = json.loads((Path(__file__).parent.parent / "oracles" / "soft_bounds_aihwkit.json").read_text(encoding="utf-8"))
UP, DOWN = 1.0, 1.2


def law(**changes: Any) -> SoftBounds:
    usual: dict[str, Any] = {
        "low": 0.0,
        "high": 1.0,
        "states": 100,
        "volts_up": UP,
        "volts_down": DOWN,
        "seconds": 1e-6,
    }
    return SoftBounds(**usual | changes)


def cells(model: SoftBounds, start: float, n: int = 16_384, seed: int = 0):
    source = torch.Generator().manual_seed(seed)
    params = model.build((1, 1, n), source, torch.float64)
    return torch.full((n,), start, dtype=torch.float64), {k: v.reshape(-1) for k, v in params.items()}, source


def pulsed(model: SoftBounds, start: float, doses: list[float], seed: int = 0, ceiling: float | None = None):
    """Conductances after a list of doses, one pulse call each."""
    g, params, source = cells(model, start, seed=seed)
    top = None if ceiling is None else torch.full_like(g, ceiling)
    for dose in doses:
        g = model.pulse(g, params, torch.full_like(g, dose), top, source)
    return g


def close_statistics(a: torch.Tensor, mean: float, std: float, std_tolerance: float = 0.03) -> None:
    """The mean within 4 std / sqrt(n), the standard deviation within 3 %."""
    assert float(a.mean()) == pytest.approx(mean, abs=4 * std / math.sqrt(a.numel()) + 1e-12)
    assert float(a.std()) == pytest.approx(std, rel=std_tolerance)


@pytest.mark.parametrize(
    ("start", "k"), [(0.2, 1), (0.2, 20), (0.9, 20), (0.05, 60), (0.7, -1), (0.7, -25), (0.99, -60)]
)
@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_many_pulses_at_once_are_as_many_single_pulses(start, k, noise):
    model = law(step_std=noise)
    one_by_one = pulsed(model, start, [math.copysign(1.0, k)] * abs(k), seed=1)
    at_once = pulsed(model, start, [float(k)], seed=2)
    a = 2 / 100
    bound = 1.0 if k > 0 else 0.0
    stay = 1 - a
    mean = bound + (start - bound) * stay ** abs(k)
    std = abs(start - bound) * math.sqrt((stay**2 + (a * noise) ** 2) ** abs(k) - stay ** (2 * abs(k)))
    close_statistics(one_by_one, mean, std)
    close_statistics(at_once, mean, std)


def test_the_worked_example_of_the_variance():
    """dw 0.01, bounds +-0.6, s 0.3, k 20, w 0.1: mean 0.24274, std 0.0081250 (facts/simulator.md 4.3)."""
    w = -0.6 + 1.2 * pulsed(law(states=120, step_std=0.3), 0.7 / 1.2, [20.0])
    close_statistics(w, 0.24274, 0.0081250)


def weights(model: SoftBounds, w: float, doses: list[float], seed: int = 0) -> torch.Tensor:
    """The same cells in aihwkit's weights, -0.6 to 0.6."""
    return -0.6 + 1.2 * pulsed(model, (w + 0.6) / 1.2, doses, seed)


@pytest.mark.parametrize("row", ORACLE["step_vs_w"], ids=lambda row: f"w={row['w']}")
def test_single_steps_follow_aihwkit(row):
    model = law(states=1.2 / ORACLE["dw_min"], step_std=ORACLE["dw_min_std"])
    for side, dose in (("up", 1.0), ("down", -1.0)):
        step = weights(model, row["w"], [dose]) - row["w"]
        both = row[f"{side}_std"] * math.sqrt(1 / step.numel() + 1 / ORACLE["samples"])
        assert float(step.mean()) == pytest.approx(row[f"{side}_mean"], abs=4 * both)
        assert float(step.std()) == pytest.approx(row[f"{side}_std"], rel=0.03)


def test_a_thousand_pulses_up_and_down_follow_aihwkit():
    model = law(states=1.2 / ORACLE["dw_min"], step_std=ORACLE["dw_min_std"])
    g, params, source = cells(model, 0.5)
    for phase, sign in (("up", 1.0), ("down", -1.0)):
        done = 0
        for row in (r for r in ORACLE["curve"] if r["phase"] == phase):
            g = model.pulse(g, params, torch.full_like(g, sign * (row["pulses"] - done)), None, source)
            done = row["pulses"]
            w = -0.6 + 1.2 * g
            both = row["std"] * math.sqrt(1 / w.numel() + 1 / ORACLE["samples"])
            rounding = 2e-5  # the stored cells are float32: near a bound their steps are of the size of its rounding
            assert float(w.mean()) == pytest.approx(row["mean"], abs=4 * both + rounding)
            assert float(w.std()) == pytest.approx(row["std"], rel=0.03, abs=rounding)


def test_pulses_up_from_zero_follow_the_closed_form():
    for n in (1, 7, 100, 1000):
        assert float(pulsed(law(states=200), 0.0, [float(n)])[0]) == pytest.approx(1 - 0.99**n, rel=1e-12)


def test_alternating_pulses_end_at_the_symmetry_point():
    """Bounds +-1, step s: after the down pulse the state tends to -s / (2 - s), the mean of the two states to 0."""
    s = 0.01
    model = law(states=2 / s)
    g, params, source = cells(model, 1.0, n=1)
    one = torch.ones_like(g)
    up = g
    for _ in range(1000):
        up = model.pulse(g, params, one, None, source)
        g = model.pulse(up, params, -one, None, source)
    assert float(2 * g - 1) == pytest.approx(-s / (2 - s), rel=1e-5)
    assert float((2 * up - 1) + (2 * g - 1)) == pytest.approx(0.0, abs=1e-7)


def test_500_pairs_forget_the_start():
    s, pairs = 0.01, 500
    model = law(states=2 / s)
    ends = []
    for start in (1.0, 0.0):
        g, params, source = cells(model, start, n=1)
        for _ in range(pairs):
            g = model.pulse(g, params, torch.ones_like(g), None, source)
            g = model.pulse(g, params, -torch.ones_like(g), None, source)
        ends.append(float(g))
    assert ends[0] - ends[1] == pytest.approx(0.99 ** (2 * pairs), rel=1e-6)


def test_unequal_steps_end_where_the_closed_form_says():
    """Up 0.012 toward 1.2, down 0.008 toward -0.9: 0.217021 after up, 0.207092 after down (facts/rpu.md).

    The steps are those at 0, so each pulse moves a cell by step / |bound| of its distance.
    """
    model = law()
    g = torch.zeros(1, dtype=torch.float64)
    params = {"low": torch.tensor([-0.9]), "high": torch.tensor([1.2])}
    params |= {"up": torch.tensor([0.012 / 1.2]), "down": torch.tensor([0.008 / 0.9])}
    params = {name: value.double() for name, value in params.items()}
    up = g
    for _ in range(2000):
        up = model.pulse(g, params, torch.ones_like(g), None, torch.Generator())
        g = model.pulse(up, params, -torch.ones_like(g), None, torch.Generator())
    assert float(up) == pytest.approx(0.217021, abs=2e-6)
    assert float(g) == pytest.approx(0.207092, abs=2e-6)


def test_cells_saturate_at_their_own_bounds_and_never_pass_them():
    model = law(low_dtod=0.05, high_dtod=0.1, step_dtod=0.3, step_std=2.0)
    g, params, source = cells(model, 0.5)
    g = torch.minimum(torch.maximum(g, params["low"]), params["high"])
    for dose in (5.0, 400.0, 400.0, -3.0, -400.0, -400.0):
        g = model.pulse(g, params, torch.full_like(g, dose), None, source)
        assert bool((g >= params["low"]).all()) and bool((g <= params["high"]).all())
        if dose == 400.0:
            top = g
    near = 0.02 * (params["high"] - params["low"])
    assert float(((params["high"] - top) < near).double().mean()) > 0.99
    assert float(((g - params["low"]) < near).double().mean()) > 0.99


def test_one_usual_pulse_in_the_middle_moves_a_cell_by_the_window_over_states():
    model = law(low=10e-6, high=210e-6, states=80)
    for dose in (1.0, -1.0):
        assert float(pulsed(model, 110e-6, [dose])[0] - 110e-6) == pytest.approx(dose * 200e-6 / 80, rel=1e-9)


@pytest.mark.parametrize("up_down", [0.0, 0.2, 0.5])
def test_up_down_weakens_pulses_down_only(up_down):
    model = law(up_down=up_down)
    assert float(pulsed(model, 0.5, [1.0])[0]) - 0.5 == pytest.approx(0.01, rel=1e-9)
    assert 0.5 - float(pulsed(model, 0.5, [-1.0])[0]) == pytest.approx(0.01 * (1 - up_down), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "parameter", "relative_to"),
    [("low_dtod", "low", 1.0), ("high_dtod", "high", 1.0), ("step_dtod", "up", 0.02), ("up_down_dtod", "down", 0.02)],
)
def test_a_spread_between_cells_widens_its_parameter_and_no_other(name, parameter, relative_to):
    def stds(value: float) -> dict[str, float]:
        _, params, _ = cells(law(low=1.0, high=2.0, **{name: value}), 1.5)
        return {key: float(v.std()) for key, v in params.items()}

    assert stds(0.0) == pytest.approx({"low": 0.0, "high": 0.0, "up": 0.0, "down": 0.0})
    assert stds(0.05)[parameter] == pytest.approx(0.05 * relative_to, rel=0.03)
    assert stds(0.1)[parameter] == pytest.approx(2 * stds(0.05)[parameter], rel=1e-9)
    moved = {key for key, value in stds(0.1).items() if value > 0}
    assert moved == ({"up", "down"} if parameter in ("up", "down") else {parameter})


def test_up_down_dtod_makes_cells_asymmetric_and_step_dtod_does_not():
    def asymmetry(**spread: float) -> float:
        _, params, _ = cells(law(**spread), 0.5)
        return float((params["up"] / params["down"] - 1).abs().max())

    assert asymmetry(step_dtod=0.1) < 1e-9
    assert asymmetry(up_down_dtod=0.1) > 0.1


def test_fresh_cells_sit_at_the_start_with_its_spread():
    model = law(low=10.0, high=20.0, start=0.3, start_dtod=0.05)
    _, params, source = cells(model, 0.0)
    g = model.initial(params, source)
    close_statistics(g, 13.0, 0.5)


# -- strength of a pulse -----------------------------------------------------------------------------------------------


def test_a_decade_more_amplitude_is_ten_pulses_and_width_counts_linearly():
    model = law(volts_per_decade=0.4, threshold=0.6)
    assert model.strength(Shape(UP, 1e-6), up=True) == pytest.approx(1.0)
    assert model.strength(Shape(DOWN, 1e-6), up=False) == pytest.approx(1.0)
    assert model.strength(Shape(UP + 0.4, 1e-6), up=True) == pytest.approx(10.0)
    assert model.strength(Shape(DOWN - 0.4, 1e-6), up=False) == pytest.approx(0.1)
    assert model.strength(Shape(UP, 3e-6), up=True) == pytest.approx(3.0)


def test_below_the_threshold_nothing_switches():
    model = law(threshold=0.6)
    assert model.strength(Shape(0.6, 1e-6), up=True) > 0
    assert model.strength(Shape(0.599999, 1e-6), up=True) == 0.0
    volts = torch.tensor([0.5, 0.6, 1.0, 1.5])
    got = model.strength(Shape(volts, 1e-6), up=True)
    assert torch.equal(got > 0, torch.tensor([False, True, True, True]))


@pytest.mark.parametrize("up", [True, False])
def test_strength_of_a_tensor_is_that_of_its_numbers(up):
    volts = torch.linspace(0.3, 2.0, 18, dtype=torch.float64)
    got = law(threshold=0.6).strength(Shape(volts, 2e-6), up)
    one_by_one = [law(threshold=0.6).strength(Shape(float(v), 2e-6), up) for v in volts]
    torch.testing.assert_close(got, torch.tensor(one_by_one, dtype=torch.float64), rtol=1e-12, atol=0.0)


def test_strength_is_a_dose_of_pulses():
    model = law()
    assert torch.equal(pulsed(model, 0.3, [2.5]), pulsed(model, 0.3, [2.5]))
    assert float(pulsed(model, 0.3, [2.5])[0]) == pytest.approx(1 - 0.7 * 0.98**2.5, rel=1e-12)


# -- compliance --------------------------------------------------------------------------------------------------------


def test_compliance_sets_the_ceiling_and_never_lowers_a_cell():
    model = law(step_std=0.5)
    assert model.ceiling(0.3) == pytest.approx(0.3 / 0.6)
    raised = pulsed(model, 0.2, [600.0], ceiling=0.5)
    assert float(raised.mean()) == pytest.approx(0.5, abs=1e-4) and float(raised.max()) <= 0.5
    assert torch.equal(pulsed(model, 0.8, [10.0], ceiling=0.5), torch.full((16_384,), 0.8, dtype=torch.float64))


def test_compliance_does_not_hold_a_pulse_down():
    model = law()
    assert torch.equal(pulsed(model, 0.8, [-5.0], ceiling=0.1), pulsed(model, 0.8, [-5.0]))


@pytest.mark.parametrize(
    ("name", "less", "more", "effect"),
    [
        ("states", 50.0, 200.0, lambda m: -float(pulsed(m, 0.5, [1.0])[0])),  # more states: smaller steps
        ("volts_per_decade", 0.2, 0.8, lambda m: -float(m.strength(Shape(UP + 0.1, 1e-6), True))),
        ("threshold", 0.5, 1.1, lambda m: -float(m.strength(Shape(UP, 1e-6), True))),
        ("compliance_volts", 0.3, 0.9, lambda m: -float(m.ceiling(1e-4))),
        ("up_down", 0.0, 0.5, lambda m: float(pulsed(m, 0.5, [-1.0])[0])),
        ("step_std", 0.1, 0.9, lambda m: float(pulsed(m, 0.5, [1.0]).std())),
        ("start", 0.2, 0.7, lambda m: float(m.initial(cells(m, 0.0)[1], torch.Generator()).mean())),
    ],
)
def test_turning_a_number_up_moves_the_result_the_right_way(name, less, more, effect):
    assert effect(law(**{name: less})) < effect(law(**{name: more}))
