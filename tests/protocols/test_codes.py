"""Perturbation codes: power, orthogonality, independence of replicas and tensors, the length of what they estimate."""

import math

import pytest
import torch

from protocols.core.codes import RandomCode, SequentialCode, SinusoidalCode, WalshCode, pattern

CODES = [RandomCode(), SequentialCode(), WalshCode(), SinusoidalCode()]
EXACT = [SequentialCode(), WalshCode()]
each_code = pytest.mark.parametrize("code", CODES, ids=lambda code: code.kind)


def gram(code, count, slots, replicas=4):
    """Time averages of all products of two parameters, [replicas, count, count]."""
    made = code.patterns(count, range(slots), replicas, 3, "t", dtype=torch.float64)
    return torch.einsum("sri,srj->rij", made, made) / slots


@pytest.mark.parametrize("code", EXACT, ids=lambda code: code.kind)
@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_codes_with_a_period_are_orthogonal_over_it(code, count):
    eye = torch.eye(count, dtype=torch.float64).expand(4, count, count)
    for periods in (1, 2):
        torch.testing.assert_close(gram(code, count, periods * code.period(count)), eye, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("code", "slots"), [(RandomCode(), 20_000), (SinusoidalCode(), 20_000)], ids=["random", "tones"]
)
def test_codes_without_a_period_become_orthogonal(code, slots):
    """Of random signs an entry scatters by 1 / sqrt(slots) = 0.007: five of these are allowed."""
    apart = gram(code, 20, slots) - torch.eye(20, dtype=torch.float64)
    assert float(apart.abs().max()) < 0.035


@each_code
def test_all_codes_have_the_same_power(code):
    made = code.patterns(12, range(12 * 1600), 3, 0, "t")
    assert float(made.square().mean()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("code", [WalshCode(), SinusoidalCode()], ids=lambda code: code.kind)
def test_codes_free_of_dc_add_up_to_nothing(code):
    count = 11
    slots = code.period(count) if code.kind == "walsh" else 100 * code.period(count)
    mean = code.patterns(count, range(slots), 5, 0, "t").mean(0)
    assert code.dc_free and float(mean.abs().max()) < (1e-9 if code.kind == "walsh" else 5e-3)


def test_walsh_codes_change_sign_with_every_period():
    code, count = WalshCode(), 9
    one, two, three = (code.patterns(count, range(k * 16, k * 16 + 16), 2, 0, "t") for k in range(3))
    assert torch.equal(two, -one) and torch.equal(three, one)


def test_walsh_codes_have_no_slot_in_which_all_parameters_move_alike():
    share = WalshCode().patterns(200, range(256), 4, 0, "t").mean(-1)
    assert float(share.abs().max()) < 0.4  # of 200 random signs: five times 1 / sqrt(200)


def test_walsh_codes_never_use_the_constant_row():
    for count in range(1, 17):
        made = WalshCode().patterns(count, range(WalshCode().period(count)), 8, count, "t")
        assert bool((made.sum(0) == 0).all())


@each_code
def test_replicas_streams_and_seeds_have_patterns_of_their_own(code):
    def made(seed, stream):
        return code.patterns(16, range(32), 3, seed, stream)

    one = made(1, "a")
    assert torch.equal(one, made(1, "a"))
    others = [made(2, "a"), made(1, "b")]
    assert not any(torch.equal(one, other) for other in others)
    assert not torch.equal(one[:, 0], one[:, 1]) and not torch.equal(one[:, 1], one[:, 2])


@each_code
def test_a_pattern_belongs_to_its_slot(code):
    whole = code.patterns(9, range(70), 2, 5, "t")
    torch.testing.assert_close(code.patterns(9, range(40, 70), 2, 5, "t"), whole[40:], rtol=0, atol=0)
    alone = code.patterns(9, range(70), 1, 5, "t")
    torch.testing.assert_close(pattern(code, 9, 33, 5, "t"), alone[33, 0], rtol=0, atol=0)


@each_code
@pytest.mark.parametrize("slots", [1, 10, 50, 100])
def test_spread_is_the_rms_length_of_the_unbiased_estimate(code, slots):
    """Of a linear cost whose gradient has random components; the mean over replicas scatters by a few per cent."""
    count, replicas = 30, 600
    made = code.patterns(count, range(slots), replicas, 0, "t").double()
    g = torch.randn(replicas, count, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    change = torch.einsum("srp,rp->sr", made, g)
    estimate = torch.einsum("sr,srp->rp", change, made) / slots
    rms = (estimate.square().sum(1) / g.square().sum(1)).mean().sqrt()
    assert float(rms) / code.spread(count, slots) == pytest.approx(1.0, abs=0.1)


def test_spread_of_random_codes_is_the_published_law():
    assert RandomCode().spread(220, 100) == pytest.approx(math.sqrt(1 + 219 / 100))
    for code in EXACT:
        assert code.spread(220, code.period(220)) == pytest.approx(1.0)
        assert code.spread(220, 3 * code.period(220)) == pytest.approx(1.0)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.4), (0.3, 0.3), (0.1, 0.5), (-0.1, 0.2)])
def test_tones_that_cannot_be_told_apart_are_refused(low, high):
    with pytest.raises(ValueError, match=r"0 < low < high < 0\.5"):
        SinusoidalCode(low=low, high=high)
