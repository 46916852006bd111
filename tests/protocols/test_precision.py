"""Levels of weights: straight-through values and gradients, and the nearest matrix of given weights."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.core.consolidation import elastic_cost, metaplastic
from protocols.core.precision import Levels, Real, Ternary, nearest_levels, nearest_ternary, on_levels

HIDDEN = torch.tensor([-1.7, -0.3, -0.2, 0.0, 0.29, 0.31, 0.9])
matrices = st.lists(st.floats(-4, 4, allow_subnormal=False).map(lambda v: round(v, 3)), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        (Ternary(), [-1, 0, 0, 0, 0, 1, 1]),
        (Ternary(threshold=0.0), [-1, -1, -1, 0, 1, 1, 1]),
        (Levels(count=5), [-1, -0.5, 0, 0, 0.5, 0.5, 1]),
        (Real(), HIDDEN.tolist()),
    ],
    ids=str,
)
def test_what_is_seen_and_that_gradients_go_straight_through(precision: Ternary, expected: list[float]) -> None:
    hidden = HIDDEN.clone().requires_grad_(True)
    seen = precision.seen(hidden)
    assert torch.equal(seen.detach(), torch.tensor(expected))  # exactly: what is programmed is what was trained
    (seen * torch.arange(7.0)).sum().backward()
    assert hidden.grad is not None and torch.equal(hidden.grad, torch.arange(7.0))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(values=matrices)
def test_no_ternary_matrix_is_nearer(values: list[float]) -> None:
    w = torch.tensor(values, dtype=torch.float64)
    best = float((nearest_ternary(w) - w).square().sum())
    for signs in product((-1.0, 0.0, 1.0), repeat=len(values)):  # with the best scale of each
        t = torch.tensor(signs, dtype=torch.float64)
        scale = float((t * w).sum() / t.square().sum().clamp(min=1))
        assert best <= float((scale * t - w).square().sum()) + 1e-9


@settings(deadline=None, derandomize=True, max_examples=30)
@given(values=matrices, count=st.sampled_from([3, 5, 9]))
def test_levels_are_equally_spaced_and_nothing_moves_any_more(values: list[float], count: int) -> None:
    w = torch.tensor(values, dtype=torch.float64)
    found = nearest_levels(w, count)
    top = float(w.abs().max())
    plain = top * on_levels(w / top, count) if top else w
    assert float((found - w).square().sum()) <= float((plain - w).square().sum()) + 1e-9
    again = nearest_levels(found, count)
    torch.testing.assert_close(again, found)
    assert len(found.abs().unique()) <= (count + 1) // 2


def test_fits_leave_what_fits_already() -> None:
    w = torch.tensor([[0.7, 0.0], [-0.7, 0.7]])
    for precision in (Ternary(), Levels(count=3), Levels(count=9), Real()):
        torch.testing.assert_close(precision.fit(w), w)
        assert torch.equal(precision.fit(torch.zeros(2, 2)), torch.zeros(2, 2))


def test_many_levels_are_nearly_real() -> None:
    w = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    errors = [float((Levels(count=n).fit(w) - w).norm() / w.norm()) for n in (3, 9, 65, 1025)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 5e-3


@pytest.mark.parametrize("count", [1, 4, 65537])
def test_wrong_counts(count: int) -> None:
    with pytest.raises(ValueError, match="count must be an odd number"):
        Levels(count=count)


@pytest.mark.parametrize("threshold", [-0.1, 1.0])
def test_wrong_thresholds(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must"):
        Ternary(threshold=threshold)


def test_only_steps_towards_zero_are_damped() -> None:
    hidden = torch.tensor([2.0, -2.0, 2.0, -2.0, 0.0])
    step = torch.tensor([0.1, -0.1, -0.1, 0.1, 0.1])
    factor = 1 - torch.tanh(torch.tensor(1.5 * 2.0)) ** 2
    expected = torch.tensor([0.1, -0.1, -0.1 * factor, 0.1 * factor, 0.1])
    torch.testing.assert_close(metaplastic(step, hidden, 1.5), expected)
    assert torch.equal(metaplastic(step, hidden, 0.0), step)


def test_elastic_cost_and_its_pull() -> None:
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    cost = elastic_cost([value], [torch.tensor([0.0, 2.5])], [torch.tensor([3.0, 4.0])], 10.0)
    assert float(cost.detach()) == pytest.approx(5 * (3 * 1 + 4 * 0.25))
    (pull,) = torch.autograd.grad(cost, value)
    assert pull.tolist() == pytest.approx([30.0, -20.0])
