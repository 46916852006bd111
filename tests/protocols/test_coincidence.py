"""Firing probabilities and trains against the closed forms of Gokmen and Vlasov 2016, and against aihwkit."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.contract import Blocks, Shape, Side
from hil.contract.cost import coincidences
from hil.mapping import PairMapping
from hil.matrix import placed_pairs
from hil.placement import Tiling
from protocols.core.analog.coincidence import at_resolution, scales
from protocols.core.analog.trains import (
    Added,
    Bits,
    Deterministic,
    MeanCount,
    StochasticTrain,
    added_bits,
    added_counts,
    counts_of_bits,
)
from protocols.core.draws import generator

ORACLE = json.loads((Path(__file__).parent.parent / "oracles/coincidences_aihwkit.json").read_text(encoding="utf-8"))
X, D, STEP = torch.tensor([0.8, 0.4], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64), 0.002
TRAINS = [StochasticTrain(), MeanCount(), Deterministic()]
# lr, more of scales, k, BL, p_x, p_d, mean, variance, covariance
TABLE = [
    (0.01, {}, 2.0, 2, (1.0, 0.5), 1.0, (2.0, 1.0), (0.0, 0.5), 0.0),
    (0.048, {}, 9.6, 10, (0.97980, 0.48990), 0.97980, (9.6, 4.8), (0.3840, 2.4960), 0.09502),
    (0.05, {}, 10.0, 11, (0.95346, 0.47673), 0.95346, (10.0, 5.0), (0.90909, 2.72727), 0.22186),
    (0.05, {"desired_bl": 10}, 10.0, 10, (1.0, 0.5), 1.0, (10.0, 5.0), (0.0, 2.5), 0.0),
    (0.5, {}, 100.0, 31, (1.0, 0.5), 1.0, (31.0, 15.5), (0.0, 7.75), 0.0),
]


@pytest.mark.parametrize(("lr", "more", "k", "bl", "p_x", "p_d", "mean", "variance", "shared"), TABLE)
def test_trains_have_the_probabilities_mean_variance_and_covariance_of_the_closed_form(
    lr, more, k, bl, p_x, p_d, mean, variance, shared
):
    samples = 20_000
    made = scales(X.expand(samples, 2), -D.expand(samples, 1), lr, STEP, **more)
    assert float(made.k[0]) == pytest.approx(k, rel=1e-12)
    assert set(made.bl.tolist()) == {bl} and made.slots == bl
    assert made.p_x[0].tolist() == pytest.approx(p_x, abs=5e-6)
    assert float(made.p_d[0]) == pytest.approx(-p_d, abs=5e-6)
    for train, kept in ((StochasticTrain(), shared), (MeanCount(), 0.0)):
        n = train.counts(made, generator(1, type(train).__name__, 0))
        assert n.dtype == torch.int32 and n.shape == (samples, 1, 2)
        a, b = (-n[:, 0, j].double() for j in (0, 1))  # the error is negative
        for count, m, v in ((a, mean[0], variance[0]), (b, mean[1], variance[1])):
            assert float(count.mean()) == pytest.approx(m, abs=4 * math.sqrt(v / samples) + 1e-9)
            assert float(count.var()) == pytest.approx(v, rel=0.05, abs=1e-9)
        error = 4 * math.sqrt((variance[0] * variance[1] + shared**2) / samples)
        assert float(((a - a.mean()) * (b - b.mean())).mean()) == pytest.approx(kept, abs=error + 1e-9)
    assert Deterministic().counts(made, generator(1, "", 0))[0, 0].tolist() == [-round(m) for m in mean]


def test_the_covariance_of_shared_bits_is_far_above_its_error():
    """BL p_d p_x p_x' (1 - p_d) = 20 x 0.6 x 0.5 x 0.3 x 0.4; without shared bits there is none."""
    samples = 20_000
    x, d = torch.tensor([0.5, 0.3]).expand(samples, 2), torch.tensor([0.6]).expand(samples, 1)
    made = scales(x, d, 0.02, 0.001, desired_bl=20, update_management=False, bl_management=False)
    shared = {
        type(train): torch.cov(train.counts(made, generator(2, "", 0))[:, 0].T.double())[0, 1]
        for train in (StochasticTrain(), MeanCount())
    }
    assert float(shared[StochasticTrain]) == pytest.approx(0.72, rel=0.1)
    assert abs(float(shared[MeanCount])) < 0.1


def test_k_is_evaluated_from_left_to_right_in_float64():
    assert float(scales(X, D, 0.05, STEP).k) == 10.000000000000002  # 10 on paper
    assert float(scales(X, D, 0.01, STEP).k) == 2.0
    single = scales(X.float(), D.float(), 0.048, STEP)
    assert single.k.dtype == single.p_x.dtype == torch.float64 and int(single.bl) == 10


def test_update_management_does_not_care_how_the_product_is_split():
    one, other = scales(X, D, 0.048, STEP), scales(10 * X, D / 10, 0.048, STEP)
    torch.testing.assert_close(other.p_x, one.p_x)
    torch.testing.assert_close(other.p_d, one.p_d)
    assert torch.equal(one.bl, other.bl)
    bare = [scales(f * X, D / f, 0.048, STEP, update_management=False).p_x for f in (1, 10)]
    assert not torch.allclose(*bare)


def test_the_share_lost_to_short_trains_is_told():
    short = scales(X, D, 0.5, STEP)
    assert float(short.clipped) == pytest.approx(0.69, rel=1e-12) and float(short.asked) == pytest.approx(150.0)
    assert float(scales(X, D, 0.048, STEP).clipped) == pytest.approx(0.0, abs=1e-12)
    both = scales(X.expand(2, 2), torch.stack([D, 100 * D]), 0.048, STEP)
    assert both.clipped.tolist() == pytest.approx([0.0, 1 - 31 / 960], abs=1e-12)
    assert both.lost == pytest.approx((960 - 31) / (960 + 9.6), rel=1e-12)
    assert scales(0 * X, D, 0.5, STEP).lost == 0.0


def test_zero_vectors_get_no_pulses_and_unused_slots_stay_empty():
    x = torch.tensor([[0.8, 0.4], [0.0, 0.0], [0.8, 0.0], [0.1, 0.1]])
    d = torch.tensor([[0.5], [0.5], [0.0], [-0.5]])
    made = scales(x, d, 0.048, STEP)
    assert made.bl.tolist() == [10, 0, 0, 2] and made.clipped[1:3].tolist() == [0.0, 0.0]
    bits = StochasticTrain().bits(made, generator(3, "", 0))
    assert bits.out_bits.dtype == bits.in_bits.dtype == torch.int8
    assert bits.out_bits.shape == (4, 10, 1) and bits.in_bits.shape == (4, 10, 2)
    assert not bits.in_bits[1:3].any() and not bits.out_bits[1:3].any()
    assert not bits.in_bits[3, 2:].any() and not bits.out_bits[3, 2:].any()
    assert set(bits.out_bits[0].unique().tolist()) <= {0, 1} and set(bits.out_bits[3].unique().tolist()) <= {-1, 0}
    for train in TRAINS:
        assert not train.counts(made, generator(3, "", 0))[1:3].any()
    nothing = scales(0 * x, d, 0.048, STEP)
    for train in TRAINS:
        assert train.counts(nothing, generator(3, "", 0)).shape == (4, 1, 2)
        assert not torch.stack(train.added(nothing, generator(3, "", 0))).any()


@pytest.mark.parametrize("row", ORACLE["rows"], ids=lambda row: f"BL={row['BL']}")
def test_trains_without_management_follow_aihwkit(row):
    samples, lines = 300, 64
    x, d = torch.full((samples, lines), ORACLE["x"]), torch.full((samples, lines), ORACLE["d"])
    step = ORACLE["dw_min"]
    made = scales(x, -d, ORACLE["lr"], step, desired_bl=row["BL"], update_management=False, bl_management=False)
    change = StochasticTrain().counts(made, generator(4, "", 0)).double() * step
    assert float(change.mean()) == pytest.approx(row["mean"], rel=0.02)
    assert float(change.std()) == pytest.approx(row["std"], rel=0.03, abs=1e-9)


def test_without_management_of_the_length_it_is_fixed_or_grows_with_the_rate():
    off = {"update_management": False, "bl_management": False}
    fixed = scales(X, D, 0.1, STEP, **off)
    assert int(fixed.bl) == 31
    assert fixed.p_x.tolist() == pytest.approx((X * math.sqrt(0.1 / (STEP * 31))).clamp(max=1).tolist())
    grown = scales(X, D, 0.1, STEP, fixed_bl=False, **off)
    assert int(grown.bl) == 50 and torch.equal(grown.p_x, X) and torch.equal(grown.p_d, D)
    slow = scales(X, D, 0.05, STEP, fixed_bl=False, **off)
    assert int(slow.bl) == 31 and float(slow.p_d) == pytest.approx(0.5 * math.sqrt(0.05 / (STEP * 31)))


def test_the_gradient_scale_moves_the_share_of_the_probabilities():
    usual, half = (scales(X, D, 0.02, STEP, um_grad_scale=scale) for scale in (1.0, 0.5))
    assert float(usual.p_x[0] / usual.p_d) == pytest.approx(1.0)
    assert float(half.k) == pytest.approx(2.0) and float(usual.k) == pytest.approx(4.0)
    assert float(half.p_x[0]) == pytest.approx(0.5 * math.sqrt(0.02 * 0.8 * 0.5 / (STEP * 2) / 0.5))
    assert float(half.p_d) == 1.0  # the error is cut


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.data())
def test_probabilities_are_exact_where_nothing_is_cut_and_the_loss_is_told_where_it_is(data):
    number = st.floats(-3, 3, allow_subnormal=False)
    x, d = (torch.tensor(data.draw(st.lists(number, min_size=1, max_size=4)), dtype=torch.float64) for _ in "xd")
    lr, longest = data.draw(st.floats(1e-4, 1.0)), data.draw(st.integers(1, 60))
    more = {"update_management": data.draw(st.booleans()), "bl_management": data.draw(st.booleans())}
    made = scales(x, d, lr, STEP, desired_bl=longest, **more)
    asked = lr * torch.outer(d, x) / STEP
    mean = float(made.bl) * torch.outer(made.p_d, made.p_x)
    assert int(made.bl) <= longest and float(made.p_x.abs().max()) <= 1 and float(made.p_d.abs().max()) <= 1
    if float(made.k) == 0:
        assert int(made.bl) == 0 and not mean.any()
        return
    assert float(made.asked) == pytest.approx(float(asked.abs().sum()), rel=1e-9)
    assert float(made.clipped) == pytest.approx(1 - float(mean.abs().sum() / asked.abs().sum()), abs=1e-9)
    whole = {"update_management": True, "bl_management": True} == more and float(made.k) <= longest
    if whole or float(made.clipped) == 0:
        torch.testing.assert_close(mean, asked, rtol=1e-9, atol=1e-12)


def test_samples_and_replicas_are_independent_of_each_other():
    source = torch.Generator().manual_seed(5)
    x, d = torch.randn(3, 4, 6, generator=source), torch.randn(3, 4, 5, generator=source)
    rates = torch.tensor([[0.01], [0.1], [1.0]])  # one for each replica
    whole = scales(x, d, rates, STEP)
    for replica in range(3):
        for sample in range(4):
            alone = scales(x[replica, sample], d[replica, sample], float(rates[replica].double()), STEP)
            for name in ("k", "bl", "p_x", "p_d", "asked", "clipped"):
                torch.testing.assert_close(getattr(whole, name)[replica, sample], getattr(alone, name))
    for train in TRAINS:
        counts = train.counts(whole, generator(6, "", 0))
        assert counts.shape == (3, 4, 5, 6)
        added = train.added(whole, generator(6, "", 0))
        assert torch.equal(added.ups, counts.clamp(min=0).sum(1)) and added.ups.dtype == torch.int32
        assert torch.equal(added.downs, -counts.clamp(max=0).sum(1)) and added.downs.dtype == torch.int32
        assert int(added.downs.max()) > 0 < int(added.ups.max())


@pytest.mark.parametrize("slots", [1, 31, 1000])
def test_one_product_gives_what_single_slots_add_up_to(slots):
    source = torch.Generator().manual_seed(slots)
    x, d = 2 * torch.rand(2, 7, generator=source) - 1, 2 * torch.rand(2, 5, generator=source) - 1
    made = scales(x, d, STEP * slots, STEP, desired_bl=slots, update_management=False, bl_management=False)
    bits = StochasticTrain().bits(made, source)
    wanted = torch.zeros(2, 5, 7, dtype=torch.int32)
    for slot in range(slots):
        wanted += bits.out_bits[:, slot, :, None].int() * bits.in_bits[:, slot, None, :].int()
    assert torch.equal(counts_of_bits(bits), wanted)
    assert all(torch.equal(a, b) for a, b in zip(added_bits(bits), added_counts(wanted), strict=True))


def test_pulses_that_cancel_are_both_counted():
    bits = Bits(torch.tensor([[[1], [1]], [[-1], [0]]]).to(torch.int8), torch.ones(2, 2, 1, dtype=torch.int8))
    assert added_bits(bits) == Added(torch.tensor([[2]]), torch.tensor([[1]]))


def test_bits_travel_as_an_outer_operation():
    tiles = Tiling(2, 3, 1, 1, 2, 3, Side.COLS)
    mapping = PairMapping(siemens_low=1e-5, siemens_high=2e-4, volts=0.2)
    matrix = placed_pairs(tiles, Blocks((0,), (0,), (0,), 4, 3), mapping, torch.float32)
    made = scales(torch.tensor([0.9, -0.5, 0.2]), torch.tensor([0.4, -0.7]), 0.02, STEP)
    bits = StochasticTrain().bits(made, generator(7, "", 0))
    op = matrix.outer(*bits, Shape(1.0, 1e-6), Shape(1.2, 1e-6))
    counts = counts_of_bits(bits)
    assert int(counts.abs().sum()) > 0
    assert torch.equal(coincidences(op)[0], torch.stack([counts[0], -counts[0], counts[1], -counts[1]]))


def test_probabilities_come_in_steps_of_the_resolution():
    made = scales(X.expand(20_000, 2), D.expand(20_000, 1), 0.048, STEP)
    nearest = at_resolution(made, 0.1)
    assert nearest.p_x[0].tolist() == pytest.approx([1.0, 0.5]) and float(nearest.p_d[0]) == pytest.approx(1.0)
    random = at_resolution(made, 0.1, generator(8, "", 0)).p_x
    steps = random / 0.1
    torch.testing.assert_close(steps, steps.round())
    assert sorted(set(steps[:, 1].round().int().tolist())) == [4, 5]
    assert random.mean(0).tolist() == pytest.approx(made.p_x[0].tolist(), abs=4 * 0.05 / math.sqrt(20_000))
    torch.testing.assert_close(at_resolution(scales(-X, D, 0.048, STEP), 0.1).p_x, -nearest.p_x[0])


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"lr": -0.1}, "lr at least 0"),
        ({"step": 0.0}, "step above 0"),
        ({"desired_bl": 0}, "desired_bl must be at least 1"),
        ({"um_grad_scale": 0.0}, "um_grad_scale"),
        ({"x": torch.tensor([math.nan, 1.0])}, "1 of 1 updates are not finite"),
        ({"d": torch.tensor([math.inf])}, "not finite"),
    ],
)
def test_what_makes_no_train_is_refused(changed, text):
    with pytest.raises(ValueError, match=text):
        scales(**{"x": X, "d": D, "lr": 0.01, "step": STEP} | changed)


@pytest.mark.parametrize("res", [0.0, 1.5, math.nan])
def test_a_resolution_out_of_range_is_refused(res):
    with pytest.raises(ValueError, match="res must be above 0"):
        at_resolution(scales(X, D, 0.01, STEP), res)
