"""What lab time does to cells: laws of drift, leak and relaxation, and that cutting a span of time changes nothing."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pulsed_cells import close_statistics

from sim_backend.aging.leak import Leak
from sim_backend.aging.pcm import PcmDrift
from sim_backend.aging.relaxation import Relaxation, SpreadAt

DAY, YEAR = 86_400.0, 365 * 86_400.0
NEURRAM = Relaxation(
    scale=40e-6,
    ages=(
        SpreadAt(age=1.0, microsiemens=(0.348, 16.030, -43.853, 45.393, -16.815)),
        SpreadAt(age=DAY, microsiemens=(0.701, 22.086, -50.773, 47.095, -16.458)),
        SpreadAt(age=2 * DAY, microsiemens=(0.782, 20.274, -43.507, 37.062, -11.934)),
    ),
)
EVERY = [
    PcmDrift(),
    Leak(rest=10e-6, lifetime=50.0, lifetime_dtod=0.2),
    Leak(diffusion=0.1e-6),
    Leak(rest=10e-6, lifetime=50.0, diffusion=0.1e-6),
    NEURRAM,
]


def chip(g: float | torch.Tensor, aging: Any, n: int = 16_384, seed: int = 0):
    """The state of a chip that is made at conductance ``g``, and a generator."""
    source = torch.Generator().manual_seed(seed)
    start = torch.as_tensor(g, dtype=torch.float64).expand(n).clone().view(1, 1, -1)
    state = {"g": start, "stuck": torch.zeros_like(start, dtype=torch.bool)}
    state["pulses"] = torch.zeros_like(start, dtype=torch.int32)
    state |= aging.tensors(state, source)
    return state, source


def aged(g: float | torch.Tensor, aging: Any, *spans: float, n: int = 16_384, seed: int = 0) -> torch.Tensor:
    """Conductances after spans of time."""
    state, source = chip(g, aging, n, seed)
    for span in spans:
        aging.advance(state, span, source)
    return state["g"]


# -- drift -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "nu", "hour", "day", "year"),
    [
        (0.05, 0.0708, 0.6920, 0.5527, 0.3639),
        (0.10, 0.0601, 0.7317, 0.6047, 0.4242),
        (0.25, 0.0490, 0.7751, 0.6635, 0.4969),
        (0.50, 0.0490, 0.7751, 0.6635, 0.4969),
        (1.00, 0.0490, 0.7751, 0.6635, 0.4969),
    ],
)
def test_drift_factors_are_those_of_the_table(x, nu, hour, day, year):
    drift, g = PcmDrift(exponent_dtod=0.0), x * 25e-6
    assert float(chip(g, drift, n=1)[0]["age.nu"]) == pytest.approx(nu, abs=5e-5)
    for seconds, factor in ((3600.0, hour), (DAY, day), (YEAR, year)):
        assert float(aged(g, drift, seconds, n=1)) / g == pytest.approx(factor, abs=1e-4)


@pytest.mark.parametrize(
    ("x", "mean", "sigma"), [(0.05, 0.0708, 0.0315), (0.25, 0.0490, 0.0114), (1.0, 0.0490, 0.0080)]
)
def test_drift_exponents_spread_as_in_the_table(x, mean, sigma):
    nu = chip(x * 25e-6, PcmDrift())[0]["age.nu"]
    xi = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    folded = (mean + sigma * xi).abs()
    close_statistics(nu, float(folded.mean()), float(folded.std()), rounding=5e-5)


@pytest.mark.parametrize(
    ("x", "at_25_s", "at_a_day"),
    [(0.05, 0.2640, 0.3138), (0.1, 0.1682, 0.2), (0.25, 0.0927, 0.1102), (0.5, 0.0591, 0.0702), (1.0, 0.0377, 0.0448)],
)
def test_read_noise_is_that_of_the_table(x, at_25_s, at_a_day):
    drift = PcmDrift(exponent_dtod=0.0)
    for seconds, relative in ((25.0, at_25_s), (DAY, at_a_day)):
        state, source = chip(x * 25e-6, drift, n=1)
        drift.advance(state, seconds, source)
        assert float(drift.read_noise(state) / state["g"]) == pytest.approx(relative, abs=1e-4)


def test_a_pulse_starts_drift_anew_from_where_it_left_the_cell():
    drift = PcmDrift(exponent_dtod=0.0)
    state, source = chip(10e-6, drift, n=2)
    drift.advance(state, DAY, source)
    state["g"][..., 0] = 20e-6
    state["pulses"][..., 0] += 1
    drift.advance(state, 3600.0, source)
    assert float(state["g"][..., 0]) == pytest.approx(20e-6 * (3620 / 20) ** -0.049, rel=1e-9)
    assert float(state["g"][..., 1]) == pytest.approx(10e-6 * ((DAY + 3620) / 20) ** -0.049, rel=1e-9)


# -- leak --------------------------------------------------------------------------------------------------------------


def test_a_leak_is_exponential_toward_its_rest():
    g = aged(200e-6, Leak(rest=110e-6, lifetime=1000.0), 700.0, n=3)
    torch.testing.assert_close(g, torch.full_like(g, 110e-6 + 90e-6 * math.exp(-0.7)), rtol=1e-12, atol=0.0)


def test_many_mini_batches_are_the_leak_of_their_sum():
    """w <- w (1 - 1/tau) a mini-batch is exp(-t / tau) up to 1 / (2 tau) (facts/device_data.md 2)."""
    batches, tau = 2000, 1e4
    g = float(aged(1e-4, Leak(lifetime=tau), float(batches), n=1))
    assert g == pytest.approx(1e-4 * (1 - 1 / tau) ** batches, rel=1e-4)


def test_diffusion_grows_with_the_root_of_time():
    close_statistics(aged(100e-6, Leak(diffusion=0.5e-6), 16.0) - 100e-6, 0.0, 2e-6)


def test_leak_and_diffusion_come_to_balance():
    """Variance diffusion^2 lifetime / 2."""
    g = aged(100e-6, Leak(rest=50e-6, lifetime=10.0, diffusion=1e-6), 1e4)
    close_statistics(g, 50e-6, 1e-6 * math.sqrt(5.0))


def test_diffusion_stays_in_its_window():
    g = aged(20e-6, Leak(diffusion=10e-6, low=5e-6, high=40e-6), 10.0, 10.0)
    assert float(g.min()) == 5e-6 and float(g.max()) == 40e-6


# -- relaxation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "g", "sigma"),
    [(1.0, 12e-6, 2.30), (1.0, 40e-6, 1.10), (DAY, 16e-6, 4.00), (DAY, 40e-6, 2.65), (2 * DAY, 16e-6, 4.00)],
)
def test_relaxation_has_the_spreads_of_the_fit(seconds, g, sigma):
    start = torch.tensor([g], dtype=torch.float64)
    variance = NEURRAM.variance(start, torch.tensor([seconds], dtype=torch.float64))
    assert 1e6 * math.sqrt(float(variance)) == pytest.approx(sigma, abs=0.006)
    if g > 12e-6:  # far from 0 S, where cells would be cut off
        close_statistics(aged(g, NEURRAM, seconds) - g, 0.0, math.sqrt(float(variance)))


def test_relaxation_begins_at_first_grows_with_the_logarithm_and_ends():
    x = torch.full((5,), 20e-6, dtype=torch.float64)
    ages = torch.tensor([0.0, 1e-3, 10**-1.5, 1.0, 1e9], dtype=torch.float64)
    none, first, half, one, late = NEURRAM.variance(x, ages).tolist()
    assert none == first == 0.0 and half == pytest.approx(one / 2)
    assert late == float(NEURRAM.variance(x[:1], torch.tensor([2 * DAY], dtype=torch.float64)))


def test_relaxation_never_shows_less_than_nothing_and_starts_anew_with_a_pulse():
    state, source = chip(1e-6, NEURRAM)
    NEURRAM.advance(state, DAY, source)
    assert float(state["g"].min()) == 0.0
    state["g"].fill_(30e-6)
    state["pulses"] += 1
    NEURRAM.advance(state, 1e-4, source)
    assert torch.equal(state["g"], torch.full_like(state["g"], 30e-6))


# -- every aging -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aging", EVERY, ids=lambda a: a.kind)
def test_two_spans_of_time_are_one(aging):
    """In law: mean and spread; to the bit where nothing is drawn (up to rounding)."""
    one, two = aged(20e-6, aging, 40.0), aged(20e-6, aging, 0.5, 7.5, 0.0, 32.0, seed=0)
    if getattr(aging, "diffusion", 0.0) == 0 and aging is not NEURRAM:
        torch.testing.assert_close(one, two, rtol=1e-9, atol=0.0)
    else:
        close_statistics(two, float(one.mean()), float(one.std()), of=one.numel())


@given(cuts=st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=6))
@settings(deadline=None, derandomize=True, max_examples=20)
def test_drift_and_leak_do_not_care_how_time_is_cut(cuts):
    for aging in EVERY[:2]:
        whole, parts = (aged(20e-6, aging, *spans, n=20) for spans in ((sum(cuts),), cuts))
        torch.testing.assert_close(whole, parts, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("aging", EVERY, ids=lambda a: a.kind)
def test_stuck_cells_do_not_age_and_no_time_changes_nothing(aging):
    state, source = chip(20e-6, aging, n=100)
    assert not aging.advance(state, 0.0, source)
    state["stuck"][..., :50] = True
    assert aging.advance(state, 100.0, source)
    assert torch.equal(state["g"][..., :50], torch.full((1, 1, 50), 20e-6, dtype=torch.float64))
    assert bool((state["g"][..., 50:] != 20e-6).all())


@pytest.mark.parametrize("aging", EVERY, ids=lambda a: a.kind)
def test_conductances_wait_for_the_refresh_and_lose_no_time(aging):
    lazy = dataclasses.replace(aging, refresh=10.0)
    state, source = chip(20e-6, lazy)
    for _ in range(9):
        assert not lazy.advance(state, 1.0, source)
    assert lazy.advance(state, 31.0, source)
    prompt = aged(20e-6, aging, 40.0)
    close_statistics(state["g"], float(prompt.mean()), float(prompt.std()), of=prompt.numel())


@pytest.mark.parametrize("aging", EVERY, ids=lambda a: a.kind)
def test_equal_seeds_age_alike(aging):
    assert torch.equal(*(aged(20e-6, aging, 3.0, 4.0, n=100, seed=7) for _ in range(2)))


LOSS = {
    "exponent": (0.5, 1.5, PcmDrift, 1.0),
    "t0": (10.0, 40.0, PcmDrift, -1.0),
    "lifetime": (10.0, 1000.0, Leak, -1.0),
}
SPREAD = {
    "exponent_dtod": (0.2, 1.0, PcmDrift(), 1.0),
    "lifetime_dtod": (0.05, 0.3, Leak(lifetime=50.0), 1.0),
    "diffusion": (0.1e-6, 0.3e-6, Leak(), 1.0),
    "strength": (0.5, 1.0, NEURRAM, 1.0),
    "scale": (20e-6, 60e-6, NEURRAM, 1.0),
    "first": (1e-3, 0.9, NEURRAM, -1.0),
}


@pytest.mark.parametrize("name", LOSS)
def test_turning_a_number_up_changes_the_loss_the_right_way(name):
    less, more, kind, sign = LOSS[name]
    losses = [20e-6 - float(aged(20e-6, kind(**{name: value}), 500.0, n=200).mean()) for value in (less, more)]
    assert sign * losses[0] < sign * losses[1]


@pytest.mark.parametrize("name", SPREAD)
def test_turning_a_number_up_changes_the_spread_the_right_way(name):
    less, more, aging, sign = SPREAD[name]
    start = 30e-6 if aging is not NEURRAM or name != "scale" else 20e-6
    spreads = [float(aged(start, dataclasses.replace(aging, **{name: v}), 0.95).std()) for v in (less, more)]
    assert sign * spreads[0] < sign * spreads[1]


def test_the_other_numbers_of_aging_move_what_they_say():
    def noise(**change: float) -> float:
        drift = PcmDrift(exponent_dtod=0.0, **change)
        state, source = chip(10e-6, drift, n=1)
        drift.advance(state, 100.0, source)
        return float(drift.read_noise(state))

    assert noise(read_noise_scale=0.5) == pytest.approx(0.5 * noise())
    assert noise(read_time=1e-6) < noise(read_time=1e-7)
    assert noise(g_max=20e-6) < noise(g_max=40e-6)  # a share of the full window reads with more noise
    assert float(aged(20e-6, Leak(lifetime=10.0, rest=5e-6), 99.0, n=1)) < float(
        aged(20e-6, Leak(lifetime=10.0, rest=6e-6), 99.0, n=1)
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: PcmDrift(t0=0.0), "t0 must be above 0"),
        (lambda: Leak(lifetime=0.0), "lifetime must be above 0"),
        (lambda: Leak(low=2e-6, high=1e-6), "high 1e-06 S must lie above low"),
        (lambda: Relaxation(ages=(), scale=1e-6), "ages must rise"),
        (lambda: dataclasses.replace(NEURRAM, ages=NEURRAM.ages[::-1]), "ages must rise"),
        (lambda: dataclasses.replace(NEURRAM, first=2.0), "ages must rise, and begin after first"),
        (lambda: SpreadAt(age=1.0, microsiemens=()), "microsiemens must hold at least one coefficient"),
    ],
)
def test_impossible_numbers_are_refused_by_name(make, text):
    with pytest.raises(ValueError, match=text):
        make()
