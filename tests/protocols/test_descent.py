"""Laws of multiplexed gradient descent in all its forms, on many replicas at once."""

import math
from dataclasses import replace

import pytest
import torch

from protocols.core.codes import RandomCode, SequentialCode, SinusoidalCode, WalshCode
from protocols.core.descent import Descent, descend, gradients
from protocols.core.draws import generator
from protocols.core.mgd import amplitude
from protocols.core.mlp import Mlp
from protocols.core.presets import coordinate_descent, exact_gradient, finite_difference, spsa
from protocols.studies.angle import NETWORK, degrees, law, problem
from protocols.studies.xor import solved

P = NETWORK.count
CODES = [RandomCode(), SequentialCode(), WalshCode(), SinusoidalCode()]
XOR_241, XOR_221 = Mlp(widths=(2, 4, 1)), Mlp(widths=(2, 2, 1))


@pytest.fixture(scope="module")
def network():
    """Cost, parameters [16, 220] and exact gradients of 16 random 49-4-4 networks at a fixed input."""
    theta, x, y = problem(16, 0)
    return (lambda parameters, sample: NETWORK.loss(parameters, x, y)), theta, NETWORK.gradient(theta, x, y)


def estimate(network, slots, **settings):
    cost, theta, _ = network
    return gradients(cost, theta, Descent(norm=0.01, **settings), marks=[slots], seed=1)[0]


def cubic(parameters, sample):
    """A cost with curvature of every order: no code measures its gradient without error."""
    weights = torch.arange(1.0, parameters.shape[-1] + 1, dtype=parameters.dtype)
    return (weights * (parameters + 0.1 * parameters**2 + 0.05 * parameters**3)).sum(-1) + parameters.prod(-1)


def start(replicas=3, count=7):
    return torch.rand(replicas, count, dtype=torch.float64, generator=generator(0, "start", 0)) - 0.5


# -- what a code measures ----------------------------------------------------------------------------------------------


def test_the_number_of_parameters_is_that_of_the_papers():
    assert (P, XOR_221.count, XOR_241.count) == (220, 9, 17)


@pytest.mark.parametrize("baseline", ["once", "none", "two_sided"])
def test_walsh_codes_are_exact_in_one_period(network, baseline):
    found, exact = estimate(network, 256, code=WalshCode(), baseline=baseline), network[2]
    assert float(degrees(found, exact).max()) < 0.5
    torch.testing.assert_close(
        found.norm(dim=1) / exact.norm(dim=1), torch.ones(16, dtype=torch.float64), rtol=0.01, atol=0
    )


def test_two_periods_of_walsh_codes_cancel_curvature(network):
    """At a large amplitude; facts: 4.4 degrees after one period at norm 1, 0.5 after two."""
    cost, theta, exact = network
    one, two = gradients(cost, theta, Descent(code=WalshCode(), norm=1.0), marks=[256, 512], seed=1)
    assert float(degrees(one, exact).mean()) > 3.0
    assert float(degrees(two, exact).mean()) < 1.0


@pytest.mark.parametrize("slots", [100, 1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_random_codes_follow_their_law(network, slots):
    found, exact = estimate(network, slots), network[2]
    assert float(degrees(found, exact).mean()) == pytest.approx(law(P, slots), abs=1.5)
    ratio = float((found.norm(dim=1) / exact.norm(dim=1)).mean())
    assert ratio == pytest.approx(math.sqrt(1 + (P - 1) / slots), rel=0.05)


def test_tones_are_told_apart_in_the_end():
    """Facts: 0.3 degrees after 30,000 slots; two networks are enough to see it."""
    theta, x, y = problem(2, 0)
    found = gradients(
        lambda p, s: NETWORK.loss(p, x, y), theta, Descent(code=SinusoidalCode(), norm=0.01), marks=[30_000], seed=1
    )[0]
    assert float(degrees(found, NETWORK.gradient(theta, x, y)).max()) < 1.0


def test_sequential_codes_are_forward_differences(network):
    cost, theta, _ = network
    found = estimate(network, P, code=SequentialCode())
    forward = torch.stack([cost(theta + 0.01 * e, 0) - cost(theta, 0) for e in torch.eye(P, dtype=torch.float64)], 1)
    torch.testing.assert_close(found, forward / 0.01, rtol=1e-9, atol=1e-12)


def test_a_wrong_baseline_spoils_sequential_codes_as_the_law_says(network):
    """The estimate becomes g - (e / norm) (1, ..., 1); facts: more than 25 degrees for e = 1e-4 at norm 0.01."""
    cost, theta, exact = network
    error = torch.full((16,), 1e-4, dtype=torch.float64)

    def found(code, slots):
        how = Descent(code=code, norm=0.01)
        return gradients(cost, theta, how, marks=[slots], seed=1, baseline_error=error)[0]

    sequential = degrees(found(SequentialCode(), P), exact)
    assert float(sequential.mean()) > 25.0
    clean = gradients(cost, theta, Descent(code=SequentialCode(), norm=0.01), marks=[P], seed=1)[0]
    torch.testing.assert_close(sequential, degrees(clean - 1e-4 / 0.01, exact), rtol=0, atol=1e-6)
    assert float(degrees(found(WalshCode(), 256), exact).max()) < 1.0


def test_cost_noise_scatters_every_parameter_by_the_law(network):
    """sigma_C / (a sqrt T) a parameter, with an exact baseline: here the code's own, over one period."""
    noisy = estimate(network, 256, code=WalshCode(), baseline="none", cost_noise=1e-3)
    scatter = (noisy - network[2]).square().mean().sqrt()
    assert float(scatter) == pytest.approx(1e-3 / (amplitude(0.01, P) * 16), rel=0.1)


def test_estimates_at_several_marks_are_those_of_one_mark_each(network):
    cost, theta, _ = network
    many = gradients(cost, theta, Descent(), marks=[1, 7, 256, 300], seed=1)
    for slots, found in zip([1, 7, 256, 300], many, strict=True):
        alone = gradients(cost, theta, Descent(), marks=[slots], seed=1)[0]
        torch.testing.assert_close(found, alone)


# -- the update --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.kind)
@pytest.mark.parametrize("slots", [1, 10, 100])
def test_the_normalised_update_is_as_long_as_that_of_backpropagation(code, slots):
    theta, x, y = problem({1: 3000, 10: 400, 100: 100}[slots], 2)
    how = Descent(code=code, norm=0.01, eta=0.5, tau_x=slots, tau_theta=slots, normalised=True)
    final = descend(lambda p, s: NETWORK.loss(p, x, y), theta, how, steps=slots, seed=3)
    ratio = (final - theta).norm(dim=1) / (0.5 * NETWORK.gradient(theta, x, y).norm(dim=1))
    assert 0.9 < float(ratio.square().mean().sqrt()) < 1.1


def test_one_step_is_the_published_formula():
    """theta -= eta (C(theta + p) - C(theta)) p / norm^2."""
    theta, seen = start(), []

    def cost(parameters, sample):
        seen.append(parameters.clone())
        return cubic(parameters, sample)

    final = descend(cost, theta, Descent(norm=0.2, eta=0.7), steps=1, seed=5)
    (moved, still) = seen[0]
    torch.testing.assert_close(still, theta, rtol=0, atol=0)
    p = moved - still
    torch.testing.assert_close(p.norm(dim=1), torch.full((3,), 0.2, dtype=torch.float64))
    change = (cubic(moved, 0) - cubic(still, 0)).unsqueeze(1)
    torch.testing.assert_close(final, theta - 0.7 * change * p / 0.2**2)


def test_samples_patterns_and_updates_keep_their_times():
    """tau_p, tau_x and tau_theta, and the one more measurement after each change of sample or parameters."""
    seen, updates = [], []

    def cost(parameters, sample):
        seen.append((sample, parameters.clone()))
        return cubic(parameters, sample)

    how = Descent(tau_p=2, tau_x=3, tau_theta=4, eta=0.01)
    descend(cost, start(), how, steps=12, seed=0, watch=lambda done, theta: updates.append(done) or False)
    assert updates == [4, 8, 12]
    assert [sample for sample, _ in seen] == [slot // 3 for slot in range(12)]
    assert [len(parameters) for _, parameters in seen] == [2, 1, 1, 2, 2, 1, 2, 1, 2, 2, 1, 1]
    moved = [parameters[0] for _, parameters in seen]
    assert [torch.equal(moved[k], moved[k + 1]) for k in range(3)] == [True, False, True]


def test_watching_can_end_a_descent():
    calls = []
    descend(
        cubic, start(), Descent(eta=0.01), steps=50, seed=0, watch=lambda done, theta: calls.append(done) or done == 3
    )
    assert calls == [1, 2, 3]


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.kind)
@pytest.mark.parametrize("form", ["discrete", "analog"])
def test_a_descent_is_determined_by_its_seed(code, form):
    theta = start()
    how = Descent(code=code, form=form, eta=0.02, cost_noise=1e-3, update_noise=1e-4, tau_x=5)

    def final(seed, steps=300, stream="theta"):
        return descend(cubic, theta, how, steps=steps, seed=seed, stream=stream)

    assert torch.equal(final(1), final(1)) and torch.equal(theta, start())
    assert not torch.equal(final(1), final(2)) and not torch.equal(final(1), final(1, stream="other"))
    marked = {}
    descend(cubic, theta, how, steps=300, seed=1, watch=lambda done, now: marked.update({done: now}) or False)
    assert torch.equal(marked[40], final(1, steps=40))  # how far a run goes does not change how it begins


def test_costs_that_are_not_finite_move_nothing():
    def broken(parameters, sample):
        costs = cubic(parameters, sample)
        costs[:, 0] = [math.nan, math.inf, -math.inf, math.nan][sample % 4]
        return costs

    for form in ("discrete", "analog"):
        how = Descent(form=form, eta=0.01, tau_x=2)
        final, whole = (descend(cost, start(), how, steps=20, seed=0) for cost in (broken, cubic))
        assert torch.equal(final[0], start()[0]) and torch.equal(final[1:], whole[1:])
        assert not torch.equal(final[1:], start()[1:])


def test_a_clamp_bounds_the_change_that_is_used():
    """A step of theta is eta x change x p / norm^2, of length eta x change / norm."""
    how = Descent(norm=0.1, eta=1.0, clamp=1e-3)
    moved = descend(lambda p, s: 1e3 * cubic(p, s), start(), how, steps=1, seed=0) - start()
    torch.testing.assert_close(moved.norm(dim=1), torch.full((3,), 1e-3 / 0.1, dtype=torch.float64))


def test_update_noise_is_independent_of_parameter_and_of_the_expected_size():
    theta = torch.zeros(50, 40, dtype=torch.float64)
    how = Descent(update_noise=0.1, eta=1.0)
    moved = descend(lambda p, s: torch.zeros(p.shape[:-1], dtype=torch.float64), theta, how, steps=25, seed=0)
    assert float(moved.std()) == pytest.approx(0.5, rel=0.05)
    assert float(moved.mean(1).std()) < 0.15  # a draw common to all parameters would give 0.5


def test_updates_come_in_whole_steps():
    for rounding in ("nearest", "stochastic", "residual", "sign"):
        how = Descent(eta=0.5, norm=0.3, step=0.05, rounding=rounding)
        moved = (descend(cubic, start(), how, steps=40, seed=0) - start()) / 0.05
        torch.testing.assert_close(moved, moved.round(), rtol=0, atol=1e-9)
        assert float(moved.abs().max()) >= 1.0
    small = Descent(eta=1e-6, norm=0.3, step=0.05)
    assert torch.equal(descend(cubic, start(), small, steps=40, seed=0), start())  # nearest loses what is small


def test_a_residual_loses_nothing():
    """The sum of all updates differs from the unrounded one by less than a step, on a linear cost."""

    def linear(parameters, sample):
        return (parameters * torch.arange(1.0, 8.0, dtype=torch.float64)).sum(-1)

    how = Descent(eta=0.003, norm=0.3)
    rounded = descend(linear, start(), replace(how, step=0.05, rounding="residual"), steps=200, seed=0)
    exact = descend(linear, start(), how, steps=200, seed=0)
    assert float((rounded - exact).abs().max()) < 0.05 and float((exact - start()).abs().max()) > 0.05


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"tau_x": 0}, "tau_x"), ({"norm": 0.0}, "norm"), ({"step": -1.0}, "step"), ({"tau_p": 2}, "multiple of tau_p"),
        ({"baseline": "none"}, "need a baseline"), ({"form": "analog", "normalised": True}, "high-pass"),
        ({"form": "analog", "baseline": "two_sided"}, "high-pass"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings, problem):
    with pytest.raises(ValueError, match=problem):
        Descent(**settings)


# -- presets equal their names -----------------------------------------------------------------------------------------


def forward_differences(theta, norm):
    eye = torch.eye(theta.shape[1], dtype=torch.float64)
    return torch.stack([cubic(theta + norm * e, 0) - cubic(theta, 0) for e in eye], 1) / norm


def test_finite_difference_is_gradient_descent_along_forward_differences():
    theta = start()
    final = descend(cubic, theta, finite_difference(7, eta=0.02, norm=0.1), steps=21, seed=4)
    for _ in range(3):
        theta = theta - 0.02 * forward_differences(theta, 0.1)
    torch.testing.assert_close(final, theta, rtol=1e-9, atol=0)


def test_coordinate_descent_moves_each_parameter_in_its_turn():
    theta = start()
    order = SequentialCode().patterns(7, range(14), 3, 4, "theta").argmax(-1)
    final = descend(cubic, theta, coordinate_descent(eta=0.02, norm=0.1), steps=14, seed=4)
    for turn in order:
        chosen = torch.nn.functional.one_hot(turn, 7).double()
        theta = theta - 0.02 * chosen * forward_differences(theta, 0.1)
    torch.testing.assert_close(final, theta, rtol=1e-9, atol=0)
    assert all(sorted(order[:7, r].tolist()) == list(range(7)) for r in range(3))


@pytest.mark.parametrize("two_sided", [True, False])
def test_spsa_is_spalls_formula(two_sided):
    theta = start()
    how = spsa(7, gain=0.003, c=0.05, two_sided=two_sided)
    final = descend(cubic, theta, how, steps=30, seed=4)
    for s in RandomCode().patterns(7, range(30), 3, 4, "theta").double():
        plus = cubic(theta + 0.05 * s, 0)
        slope = (plus - cubic(theta - 0.05 * s, 0)) / 0.1 if two_sided else (plus - cubic(theta, 0)) / 0.05
        theta = theta - 0.003 * slope.unsqueeze(1) / s
    torch.testing.assert_close(final, theta, rtol=1e-9, atol=0)


def test_the_exact_gradient_is_gradient_descent():
    theta, x, y = problem(3, 1)
    how = exact_gradient(P, eta=0.5)
    final = descend(lambda p, s: NETWORK.loss(p, x, y), theta, how, steps=2 * 512, seed=4)
    for _ in range(2):
        theta = theta - 0.5 * NETWORK.gradient(theta, x, y)
    torch.testing.assert_close(final, theta, rtol=0, atol=1e-6)


# -- the analog form ---------------------------------------------------------------------------------------------------


def test_the_analog_form_is_the_published_recursion():
    theta = start()
    how = Descent(form="analog", norm=0.2, eta=0.05, tau_x=4, tau_theta=6, tau_hp=1.6)
    final = descend(cubic, theta, how, steps=30, seed=2)
    patterns = amplitude(0.2, 7) * RandomCode().patterns(7, range(30), 3, 2, "theta").double()
    c, g, last = torch.zeros(3, 1, dtype=torch.float64), torch.zeros_like(theta), None
    for n, p in enumerate(patterns):
        theta = theta - 0.05 * g
        now = cubic(theta + p, 0).unsqueeze(1)
        before = now if n % 4 == 0 else last
        c, last = 1.6 / 2.6 * (c + now - before), now
        g = 1 / 7 * (c * p / 0.2**2) + 6 / 7 * g
    torch.testing.assert_close(final, theta)


@pytest.mark.parametrize("tone", [0.02, 0.1, 0.3])
def test_the_gain_of_the_high_pass_is_that_of_its_transfer_function(tone):
    """Of one tone on one parameter: Re H with H = alpha (1 - z^-1) / (1 - alpha z^-1); the drift is that times g."""
    slots, g, eta = 6_000, 3.0, 1e-9
    how = Descent(
        code=SinusoidalCode(low=tone - 0.001, high=tone + 0.001),
        form="analog",
        norm=0.1,
        eta=eta,
        tau_x=slots,
        tau_theta=1,
    )
    final = descend(lambda p, s: g * p.sum(-1), torch.zeros(1, 1, dtype=torch.float64), how, steps=slots, seed=0)
    alpha, back = 1.6 / 2.6, torch.exp(torch.tensor(-2j * math.pi * tone))
    gain = float((alpha * (1 - back) / (1 - alpha * back)).real)
    assert float(-final / (eta * slots * g)) == pytest.approx(gain, rel=0.01)


def analog(code, eta, steps, replicas):
    how = Descent(code=code, form="analog", norm=0.05, eta=eta, tau_x=10, tau_theta=40, tau_hp=1.6)
    return solved(XOR_221, how, [steps], replicas=replicas)[0]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_analog_form_solves_xor_unless_its_tones_lie_below_the_corner():
    """Facts, 2-2-1 at 100,000 slots: random codes 0.67, tones inside the corner of the high-pass 0.17."""
    good = analog(RandomCode(), 1.0, 100_000, 64)
    assert good >= 0.5
    assert analog(SinusoidalCode(low=0.02, high=0.1), 2.0, 100_000, 64) < good - 0.2


# -- XOR ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("code", [RandomCode(), WalshCode(), SinusoidalCode()], ids=lambda code: code.kind)
def test_xor_is_solved_with_every_code(code):
    """Facts: 0.98 to 1.00 of 64 networks after 30,000 slots."""
    assert solved(XOR_241, Descent(code=code, eta=17 / 4), [30_000], replicas=64)[0] >= 0.9


def test_xor_is_learnt_by_random_codes():
    """Facts: 0.81 of the networks after 3,000 slots; none can do it before."""
    before, after = solved(XOR_241, Descent(eta=17 / 4), [1, 4_000], replicas=64)
    assert before < 0.1 and after >= 0.6


@pytest.mark.slow
@pytest.mark.parametrize(("rounding", "step"), [("stochastic", 0.1), ("residual", 0.1), ("stochastic", 0.3)])
def test_xor_is_solved_by_updates_in_coarse_steps(rounding, step):
    """Facts: 0.95 to 0.98."""
    how = Descent(eta=17 / 4, step=step, rounding=rounding)
    assert solved(XOR_241, how, [30_000], replicas=64)[0] >= 0.9


@pytest.mark.slow
def test_rounding_to_the_nearest_coarse_step_learns_worse():
    """Facts: 0.25 at a step of 0.3, and 0.64 by signs only."""
    how = Descent(eta=17 / 4, step=0.3)
    assert solved(XOR_241, how, [30_000], replicas=64)[0] < 0.6
