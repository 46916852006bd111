"""Laws of cells that are reset, melt or have two states: one-sided, phase-change, binary."""

from __future__ import annotations

import math

import pytest
import torch
from pulsed_cells import USUAL, cells, close_statistics, pulsed

from sim_backend.laws.binary import Binary
from sim_backend.laws.one_sided import OneSided
from sim_backend.laws.pcm import Pcm, programming_noise

PCM = USUAL | {"high": 25e-6}


def test_a_one_sided_cell_goes_up_in_steps_and_down_at_once():
    law = OneSided(**USUAL, states=50, reset_std=0.0)
    g = pulsed(law, 0.2, [5.0], n=4)
    torch.testing.assert_close(g, torch.full_like(g, 0.3), rtol=1e-9, atol=0.0)
    assert torch.equal(pulsed(law, 0.2, [5.0, -1.0], n=4), torch.zeros(4, dtype=torch.float64))
    assert torch.equal(pulsed(law, 0.2, [-0.4], n=4), torch.full((4,), 0.2, dtype=torch.float64))


def test_a_reset_lands_around_its_mean_with_both_spreads():
    law = OneSided(**USUAL, reset=0.2, reset_std=0.01)
    close_statistics(pulsed(law, 0.8, [-1.0]), 0.2, 0.01)
    law = OneSided(**USUAL, reset=0.2, reset_std=0.01, reset_dtod=0.02)
    g, params, source = cells(law, 0.8)
    one, other = (law.pulse(g, params, -torch.ones_like(g), None, source) for _ in range(2))
    close_statistics(one, 0.2, math.hypot(0.01, 0.02))
    close_statistics((one - other) / math.sqrt(2), 0.0, 0.01)


def test_a_pair_with_refresh_can_be_built_by_the_host():
    """Two cells, weight g+ - g-: pulses up on either, then both reset and the difference written to one."""
    law = OneSided(**USUAL, states=100, reset_std=0.0)
    pair, params, source = cells(law, 0.0, n=2)
    pair = law.pulse(pair, params, torch.tensor([80.0, 50.0], dtype=torch.float64), None, source)
    assert float(pair.max()) > 0.75 and float(pair.min()) > 0.25  # the rule of aihwkit says: refresh
    difference = float(pair[0] - pair[1])
    pair = law.pulse(pair, params, -torch.ones_like(pair), None, source)
    counts = torch.tensor([round(difference * 100), 0.0], dtype=torch.float64)
    pair = law.pulse(pair, params, counts, None, source)
    assert float(pair[0] - pair[1]) == pytest.approx(difference, rel=1e-9) and float(pair[1]) == 0.0


@pytest.mark.parametrize(
    ("x", "sigma"), [(0.05, 0.3588), (0.1, 0.4482), (0.25, 0.6814), (0.5, 0.9527), (0.75, 1.0774), (1.0, 1.0554)]
)
def test_programming_noise_is_that_of_the_table(x, sigma):
    g = torch.tensor([x * 25e-6], dtype=torch.float64)
    assert 1e6 * float(programming_noise(g, 25e-6)) == pytest.approx(sigma, abs=5e-5)
    assert 1e6 * float(programming_noise(2 * g, 50e-6)) == pytest.approx(2 * sigma, abs=1e-4)


def test_a_pcm_cell_shows_its_state_with_programming_noise_that_does_not_add_up():
    law = Pcm(**PCM)
    g, params, source = cells(law, 12.5e-6)
    tiny = torch.full_like(g, 1e-9)
    g = law.pulse(g, params, tiny, None, source)
    close_statistics(g, 12.5e-6, 0.9527e-6, rounding=1e-9)
    for _ in range(20):
        g = law.pulse(g, params, tiny, None, source)
    close_statistics(g, 12.5e-6, 0.9527e-6, rounding=1e-9)
    assert float(((g - params["offset"]) - 12.5e-6).abs().max()) < 1e-13


def test_pcm_steps_follow_the_exponential_of_the_preset():
    """dw 0.01 (1 + 27.235 exp(-2.5 w)), w from 0 to 2 (facts/rpu.md 4)."""
    law = Pcm(**PCM, programming_noise=0.0)
    for w in (0.0, 0.5, 1.5):
        g = float(pulsed(law, 12.5e-6 * w, [1.0], n=1))
        assert g / 12.5e-6 - w == pytest.approx(0.01 * (1 + 27.235 * math.exp(-2.5 * w)), rel=1e-9)


def test_pcm_melts_with_a_pulse_down():
    law = Pcm(**PCM, programming_noise=0.0, reset=0.1, reset_std=0.01)
    close_statistics(pulsed(law, 20e-6, [-1.0]), 2.5e-6, 0.25e-6)


def test_a_binary_cell_has_two_states():
    law = Binary(**USUAL)
    g = pulsed(law, 0.0, [1.0], n=64)
    assert torch.equal(g, torch.ones(64, dtype=torch.float64))
    assert torch.equal(pulsed(law, 1.0, [3.0], n=64), g) and torch.equal(pulsed(law, 1.0, [-1.0], n=64), 0 * g)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_a_binary_cell_switches_with_the_chance_of_its_pulses(k):
    law = Binary(**USUAL, chance=0.3)
    share = 1 - 0.7**k
    for sign, start in ((1.0, 0.0), (-1.0, 1.0)):
        switched = float((pulsed(law, start, [sign * k]) != start).double().mean())
        assert switched == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 16_384))


def test_binary_levels_spread_inside_the_window():
    """The mean of |xi| is sqrt(2 / pi), its standard deviation sqrt(1 - 2 / pi)."""
    fold, width = math.sqrt(2 / math.pi), math.sqrt(1 - 2 / math.pi)
    close_statistics(pulsed(Binary(**USUAL, level_std=0.02), 0.0, [1.0]), 1 - 0.02 * fold, 0.02 * width)
    own = Binary(**USUAL, level_dtod=0.02)
    g, params, source = cells(own, 0.0)
    one = torch.ones_like(g)
    first = own.pulse(g, params, one, None, source)
    again = own.pulse(own.pulse(first, params, -one, None, source), params, one, None, source)
    close_statistics(first, 1 - 0.02 * fold, 0.02 * width)
    assert torch.equal(first, again)
