"""Weights and pairs of conductances."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.mapping import PairMapping, rms, usual_mapping

pure = settings(deadline=None, derandomize=True, max_examples=40)


@st.composite
def mappings(draw) -> PairMapping:
    low = draw(st.floats(0.0, 1e-4))
    return PairMapping(
        siemens_low=low,
        siemens_high=low + draw(st.floats(1e-6, 1e-3)),
        w_max=draw(st.floats(0.01, 100.0)),
        x_max=draw(st.floats(0.1, 10.0)),
        volts=draw(st.floats(0.01, 1.0)),
        reference=draw(st.sampled_from(["middle", "low", "fixed"])),
    )


@pure
@given(mappings(), st.integers(0, 2**31))
def test_weights_go_to_conductances_inside_the_window_and_back(mapping, seed):
    source = torch.Generator().manual_seed(seed)
    weights = mapping.w_max * (2 * torch.rand((4, 5), generator=source, dtype=torch.float64) - 1)
    plus, minus, clipped = mapping.pair(weights)
    assert clipped == 0
    span = mapping.siemens_high - mapping.siemens_low
    for g in (plus, minus):
        assert float(g.min()) >= mapping.siemens_low - 1e-9 * span
        assert float(g.max()) <= mapping.siemens_high + 1e-9 * span
    torch.testing.assert_close(mapping.weights(plus, minus), weights, rtol=1e-9, atol=1e-9 * mapping.w_max)


@pure
@given(mappings(), st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=20))
def test_weights_outside_are_counted_and_end_at_the_window(mapping, factors):
    weights = torch.tensor(factors, dtype=torch.float64) * mapping.w_max
    plus, minus, clipped = mapping.pair(weights)
    assert clipped == int((weights.abs() > mapping.w_max).sum())
    bounded = weights.clamp(-mapping.w_max, mapping.w_max)
    torch.testing.assert_close(mapping.weights(plus, minus), bounded, rtol=1e-9, atol=1e-9 * mapping.w_max)


def test_both_cells_of_a_zero_weight_sit_at_the_reference():
    usual = {"siemens_low": 1e-5, "siemens_high": 3e-5, "volts": 0.2}
    zero = torch.zeros(1)
    plus, minus, _ = PairMapping(**usual).pair(zero)
    assert float(plus) == float(minus) == pytest.approx(2e-5)
    plus, minus, _ = PairMapping(**usual, reference="low").pair(zero)
    assert float(plus) == float(minus) == pytest.approx(1e-5)


def test_a_fixed_reference_stays_in_the_middle_and_the_plus_cell_reaches_both_ends():
    mapping = PairMapping(siemens_low=1e-5, siemens_high=3e-5, w_max=2.0, volts=0.2, reference="fixed")
    plus, minus, _ = mapping.pair(torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64))
    assert plus.tolist() == pytest.approx([1e-5, 2e-5, 3e-5]) and minus.tolist() == pytest.approx([2e-5] * 3)


def test_gain_turns_the_current_of_a_pair_into_its_output():
    mapping = PairMapping(siemens_low=1e-5, siemens_high=2e-4, w_max=3.0, x_max=2.0, volts=0.2)
    plus, minus, _ = mapping.pair(torch.tensor([1.5], dtype=torch.float64))
    x = 0.7
    amps = (plus - minus) * (x * mapping.volts_per_input)
    assert float(amps * mapping.gain) == pytest.approx(1.5 * x)


def test_the_usual_mapping_takes_the_boards_window_and_voltage(spec_of):
    spec = spec_of()
    mapping = usual_mapping(spec, w_max=2.0, margin=0.1)
    assert (mapping.siemens_low, mapping.siemens_high) == pytest.approx((30e-6, 190e-6))
    assert mapping.volts == spec.limits.read_array_volts
    assert mapping.step(spec) == pytest.approx(2e-6 / 160e-6 * 2.0)


@pytest.mark.parametrize(
    "wrong", [{"siemens_low": 3e-5}, {"siemens_low": -1e-6}, {"w_max": 0.0}, {"x_max": -1.0}, {"volts": 0.0}]
)
def test_impossible_mappings_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        PairMapping(**{"siemens_low": 1e-5, "siemens_high": 2e-5, "volts": 0.1} | wrong)


def test_rms_is_in_float64():
    assert rms(torch.tensor([3e25, 4e25], dtype=torch.float32)) == pytest.approx(12.5**0.5 * 1e25)
