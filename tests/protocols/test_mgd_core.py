"""Laws of the estimates of multiplexed gradient descent with random codes, on many replicas at once."""

import itertools
import math

import pytest
import torch

from protocols.core.draws import generator, signs
from protocols.core.mgd import amplitude, node_error, normaliser, weight_estimate

SIZES = (49, 4, 4)
P = 220  # 4 * 49 + 4 + 4 * 4 + 4


def network(theta, x):
    """Outputs [..., 4] of a 49-4-4 sigmoid network with parameters [..., 220] and inputs [replicas, 1, 49]."""
    w1, b1, w2, b2 = theta.split((196, 4, 16, 4), -1)
    h = torch.sigmoid((w1.unflatten(-1, (4, 49)) @ x.unsqueeze(-1)).squeeze(-1) - b1)
    return torch.sigmoid((w2.unflatten(-1, (4, 4)) @ h.unsqueeze(-1)).squeeze(-1) - b2)


def problem(replicas, seed=0):
    """Cost, initial parameters [replicas, 220] and exact gradients of as many random networks."""
    source = generator(seed, "problem", 0)
    theta = torch.rand(replicas, P, dtype=torch.float64, generator=source) - 0.5
    x = torch.rand(replicas, 1, SIZES[0], dtype=torch.float64, generator=source)
    y = torch.rand(replicas, 1, SIZES[2], dtype=torch.float64, generator=source)

    def cost(parameters):
        return (network(parameters, x) - y).square().mean(-1)

    leaf = theta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cost(leaf.unsqueeze(1)).sum(), leaf)
    return cost, theta, gradient


def estimates(replicas, slots, norm=0.01):
    """Normalised estimates [replicas, P] after ``slots`` random codes, and the exact gradients."""
    cost, theta, gradient = problem(replicas)
    a = amplitude(norm, P)
    code = signs((replicas, slots, P), generator(1, "codes", slots), torch.float64)
    change = cost(theta.unsqueeze(1) + a * code) - cost(theta.unsqueeze(1))
    return weight_estimate(change, code, a, slots).mean(1), gradient


@pytest.mark.parametrize("slots", [100, 1000])
def test_angle_and_length_of_random_codes_follow_their_law(slots):
    """tan(angle) = sqrt((P - 1) / T); an unbiased estimate is longer than the gradient by sqrt(1 + (P - 1) / T)."""
    estimate, gradient = estimates(16, slots)
    unbiased = estimate * (normaliser(1.0, P, slots))
    angle = torch.rad2deg(torch.acos(torch.cosine_similarity(unbiased, gradient))).mean()
    assert float(angle) == pytest.approx(math.degrees(math.atan(math.sqrt((P - 1) / slots))), abs=1.5)
    ratio = (unbiased.norm(dim=1) / gradient.norm(dim=1)).mean()
    assert float(ratio) == pytest.approx(math.sqrt(1 + (P - 1) / slots), rel=0.05)


@pytest.mark.parametrize(("slots", "replicas"), [(1, 1000), (10, 400), (100, 100)])
def test_the_normalised_estimate_is_as_long_as_the_gradient(slots, replicas):
    """The rms, not the mean: one code alone gives a half-normal length with mean 0.8."""
    estimate, gradient = estimates(replicas, slots)
    ratio = estimate.norm(dim=1) / gradient.norm(dim=1)
    assert 0.9 < float(ratio.square().mean().sqrt()) < 1.1


def test_the_amplitude_spreads_the_norm_and_the_normaliser_is_the_published_one():
    for count, slots, norm in itertools.product((1, 9, 220), (1, 7, 1000), (0.01, 2.0)):
        a = amplitude(norm, count)
        assert a * math.sqrt(count) == pytest.approx(norm)
        published = norm * math.sqrt(1 / count + 1 / slots - 1 / (count * slots))
        assert normaliser(a, count, slots) == pytest.approx(published)


def all_codes(count):
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=count)), dtype=torch.float64)


def test_node_errors_over_all_codes_are_the_exact_gradient():
    """The mean over every code is unbiased; curvature cancels between a code and its negative."""
    source = generator(0, "nodes", 0)
    x = torch.randn(6, 3, dtype=torch.float64, generator=source)
    w = torch.randn(5, 3, dtype=torch.float64, generator=source)
    v = torch.randn(2, 5, dtype=torch.float64, generator=source)
    y = torch.randn(6, 2, dtype=torch.float64, generator=source)

    def cost(z):
        return (torch.tanh(z) @ v.T - y).square().mean(-1)

    z = (x @ w.T).requires_grad_()
    (exact,) = torch.autograd.grad(cost(z).sum(), z)
    codes, a = all_codes(5), 1e-3
    change = cost(z.detach() + a * codes.unsqueeze(1)) - cost(z.detach())
    error = node_error(change, codes, a).mean(0) * math.sqrt(5)  # undoes the normalisation of one slot
    torch.testing.assert_close(error, exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(error.T @ x / 6, exact.T @ x / 6, rtol=1e-5, atol=1e-6)


def test_weight_estimates_over_all_codes_are_the_exact_gradient():
    source = generator(0, "weights", 0)
    theta = torch.randn(8, dtype=torch.float64, generator=source)
    x = torch.randn(5, 8, dtype=torch.float64, generator=source)

    def cost(parameters):
        return torch.sigmoid(parameters @ x.T).square().mean(-1)

    leaf = theta.clone().requires_grad_()
    (exact,) = torch.autograd.grad(cost(leaf), leaf)
    codes, a = all_codes(8), 1e-3
    estimate = weight_estimate(cost(theta + a * codes) - cost(theta), codes, a).mean(0) * math.sqrt(8)
    torch.testing.assert_close(estimate, exact, rtol=1e-5, atol=1e-7)


def test_a_change_that_does_not_depend_on_the_code_gives_no_gradient_on_average():
    codes = all_codes(6)
    constant = torch.full((64, 3), 5.0, dtype=torch.float64)
    torch.testing.assert_close(node_error(constant, codes, 0.1).mean(0), torch.zeros(3, 6, dtype=torch.float64))
