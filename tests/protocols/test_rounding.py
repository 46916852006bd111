"""Rounding to whole pulses loses nothing on average, and with a residual nothing at all."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.core.draws import generator
from protocols.core.rounding import round_with_residual, split_over_pair, stochastic_round

floats = st.floats(-50, 50, width=32)
steady = settings(deadline=None, derandomize=True, max_examples=60)


@pytest.mark.parametrize("value", [-1.7, -0.5, -0.02, 0.0, 0.02, 0.3, 2.0, 2.75])
def test_stochastic_rounding_is_exact_on_average(value):
    n = 20_000
    uniform = torch.rand(n, dtype=torch.float64, generator=generator(0, "round", 0))
    rounded = stochastic_round(torch.full((n,), value, dtype=torch.float64), uniform)
    fraction = value - torch.tensor(value).floor().item()
    assert abs(float(rounded.mean()) - value) <= 4 * (fraction * (1 - fraction) / n) ** 0.5 + 1e-12
    assert bool(((rounded - value).abs() < 1).all())
    assert bool((rounded == rounded.round()).all())


@steady
@given(st.lists(st.tuples(floats, st.floats(0, 1, exclude_max=True, width=32)), min_size=1, max_size=20))
def test_stochastic_rounding_treats_both_signs_alike(pairs):
    """The mirrored value with the mirrored draw gives the mirrored result, so no direction is preferred."""
    values, uniform = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    total = values + uniform
    apart = (total - total.round()).abs() > 1e-9  # on a whole number floor and ceil differ, with probability 0
    up, down = stochastic_round(values, uniform), stochastic_round(-values, 1 - uniform)
    torch.testing.assert_close(up[apart], -down[apart], rtol=0, atol=0)


@steady
@given(st.lists(floats, min_size=1, max_size=40))
def test_a_residual_conserves_the_sum(values):
    """Whole pulses so far plus the rest is what was asked for so far; the rest is below one pulse."""
    residual, sent = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for value in values:
        whole, residual = round_with_residual(torch.tensor([value], dtype=torch.float64), residual)
        assert float(whole) == round(float(whole))
        sent += whole
        assert abs(float(residual)) < 1
    assert float(sent + residual) == pytest.approx(sum(values), abs=1e-9)


def test_a_residual_sends_what_is_too_small_for_one_pulse_in_the_end():
    residual, sent = torch.zeros(1), 0.0
    for _ in range(1000):
        whole, residual = round_with_residual(torch.tensor([-0.0625]), residual)
        sent += float(whole)
    assert sent + float(residual) == -62.5


@steady
@given(st.lists(st.tuples(st.integers(-1000, 1000), st.integers(0, 1)), min_size=1, max_size=30))
def test_a_pair_shares_its_pulses_evenly(pairs):
    pulses, bits = (torch.tensor(column, dtype=torch.float32) for column in zip(*pairs, strict=True))
    plus, minus = split_over_pair(pulses, bits)
    torch.testing.assert_close(plus + minus, pulses, rtol=0, atol=0)
    assert bool(((plus - minus).abs() <= 1).all())
    assert bool((plus * minus >= 0).all())
    odd = pulses % 2 != 0
    torch.testing.assert_close((plus - minus)[odd], torch.where(bits > 0, 1.0, -1.0)[odd], rtol=0, atol=0)
