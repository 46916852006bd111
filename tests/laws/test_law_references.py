"""Soft bounds seen against a reference: the symmetry point of facts/rpu.md, bounds of each cell, additive noise."""

from __future__ import annotations

import math

import pytest
import torch
from pulsed_cells import USUAL, cells, close_statistics, pulsed

from sim_backend.laws.soft_bounds_reference import SoftBoundsReference


def test_additive_noise_adds_up_and_is_forgotten():
    """w' = c + (w - c) q^k, variance (s dw)^2 (1 - q^2k) / (1 - q^2), q = 1 - dw / c."""
    law = SoftBoundsReference(**USUAL, states=100, step_std=0.8)
    q, k = 1 - 0.02, 30
    mean = 1 + (0.1 - 1) * q**k
    std = 0.8 * 0.02 * math.sqrt((1 - q ** (2 * k)) / (1 - q * q))
    close_statistics(2 * pulsed(law, 0.55, [30.0]) - 1, mean, std)
    close_statistics(2 * pulsed(law, 0.55, [1.0] * 30, seed=4) - 1, mean, std)


def test_steps_are_equal_at_zero_whatever_the_bounds_of_a_cell():
    law = SoftBoundsReference(**USUAL, states=1000, low_dtod=0.1, high_dtod=0.1)
    g, params, source = cells(law, 0.5)
    for dose in (1.0, -1.0):
        move = law.pulse(g, params, torch.full_like(g, dose), None, source) - g
        torch.testing.assert_close(move, torch.full_like(g, dose / 1000), rtol=1e-9, atol=0.0)


def test_the_symmetry_point_is_that_of_the_closed_form():
    """Up 0.012 at b_max 1.2, down 0.008 at b_min -0.9: 0.211765 (formula), 0.212057 after long alternation."""
    law = SoftBoundsReference(**USUAL | {"low": 0.1, "high": 2.2}, zero=0.9 / 2.1, states=2.1 / 0.012, up_down=1 / 3)
    g, params, source = cells(law, 1.0, n=1)
    assert float(law.symmetry_point(params)) - 1.0 == pytest.approx(0.211765, abs=1e-6)
    for _ in range(2000):
        up = law.pulse(g, params, torch.ones_like(g), None, source)
        g = law.pulse(up, params, -torch.ones_like(g), None, source)
    assert float(up) - 1.0 == pytest.approx(0.217021, abs=2e-6)
    assert float(g) - 1.0 == pytest.approx(0.207092, abs=2e-6)


def test_zero_shifting_puts_every_symmetry_point_at_zero():
    spreads = {"low_dtod": 0.05, "high_dtod": 0.05, "step_dtod": 0.2, "up_down_dtod": 0.1}
    apart = SoftBoundsReference(**USUAL | {"low": 1.0, "high": 2.0}, **spreads)
    _, params, _ = cells(apart, 1.5)
    assert float(apart.symmetry_point(params).std()) > 0.03
    shifted = SoftBoundsReference(**USUAL | {"low": 1.0, "high": 2.0}, **spreads, subtract_symmetry_point=True)
    _, params, _ = cells(shifted, 1.5)
    torch.testing.assert_close(shifted.symmetry_point(params), torch.full_like(params["low"], 1.5), rtol=1e-9, atol=0.0)
    residual = SoftBoundsReference(
        **USUAL | {"low": 1.0, "high": 2.0}, **spreads, subtract_symmetry_point=True, reference_dtod=0.02
    )
    _, params, _ = cells(residual, 1.5)
    close_statistics(residual.symmetry_point(params), 1.5, 0.02)


def test_alternation_forgets_the_start_and_ends_at_the_symmetry_point():
    spreads = {"step_dtod": 0.1, "up_down_dtod": 0.1}
    law = SoftBoundsReference(**USUAL | {"low": 1.0, "high": 2.0}, **spreads, states=200)
    ends = []
    for start in (1.05, 1.95):
        g, params, source = cells(law, start, n=200)
        for _ in range(600):
            up = law.pulse(g, params, torch.ones_like(g), None, source)
            g = law.pulse(up, params, -torch.ones_like(g), None, source)
        ends.append((up + g) / 2)
    torch.testing.assert_close(ends[0], ends[1], rtol=0.0, atol=2e-4)
    step = 1 / 200
    torch.testing.assert_close(ends[0], law.symmetry_point(params), rtol=0.0, atol=0.2 * step)


def test_the_reference_lowers_what_shows_and_nothing_shows_below_zero():
    _, plain, _ = cells(SoftBoundsReference(**USUAL | {"low": 1.0, "high": 2.0}), 1.5)
    _, moved, _ = cells(SoftBoundsReference(**USUAL | {"low": 1.0, "high": 2.0}, reference=0.1), 1.5)
    for name in ("low", "high"):
        torch.testing.assert_close(plain[name] - moved[name], torch.full_like(plain[name], 0.1))
    law = SoftBoundsReference(**USUAL, reference=0.1, step_std=3.0)
    g = pulsed(law, 0.2, [-50.0, 3.0, -400.0])
    assert float(g.min()) == 0.0
