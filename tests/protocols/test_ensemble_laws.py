"""Laws and ranges of layer ensemble averaging (facts/lea.md 1.4 and 2), without programming error and read noise.

The network is a 4-12-12-3 ternary one, trained once on the Yin-Yang task (one of 24 seeds, 93 %); chips are
32 kernels of 25 x 25 with independent stuck cells. Accuracies are means over 20 chips in per cent.
"""

from functools import cache
from itertools import pairwise

import pytest
import torch

from hil.contract import Side
from hil.errors import UsageError
from hil.lab.tasks.yinyang import YinYang
from hil.mapping import PairMapping
from protocols.core.draws import generator
from protocols.core.ensemble import encode, gain
from protocols.core.ensemble.combine import (
    effective_weights,
    least_squares,
    mean_of_all,
    mean_of_best,
    single,
    summed,
    weight_errors,
)
from protocols.core.ensemble.faults import Faults, drawn_faults
from protocols.core.ensemble.outputs import accuracy, committee, logits
from protocols.core.ensemble.place import Wanted, place_copies
from protocols.core.ensemble.tiles import cut

LOW, HIGH = 133e-6, 233e-6
INSIDE, OUTSIDE = (LOW, HIGH), (0.0, 300e-6)
MAPPING = PairMapping(siemens_low=LOW, siemens_high=HIGH, volts=0.3, reference="low")
CHIPS = 20

ROWS = [
    "++-- ++-- -0+- --0+ -++- --++ +--+ -++- +--+ --++ -+++ 0++-",
    "--+0++-+00+0 0-+000000--- --++000--+-- -0++0++-000- 00++0--00-0+ +00+0-+-0+00 "
    "0-0+-++-+-00 ++--0-+-+00- -00+++-+0++0 0-00+--00--- +00-+---0--0 +0+-0--+---+",
    "--++-++++-00 +-000-0++-++ ++---+---+--",
]
BIASES = [
    [0.024, 0.535, -0.094, 0.098, -0.048, 0.069, 0.128, 0.363, 0.265, 0.681, 0.077, -0.475],
    [-0.004, -0.707, -0.313, -0.601, -0.116, -0.14, -0.402, 0.45, 0.543, -0.895, -0.246, -0.239],
    [0.266, 0.323, -0.415],
]
SCALES = [0.701, 1.048, 1.183]
WEIGHTS = [torch.tensor([["-0+".index(sign) - 1.0 for sign in row] for row in rows.split()]) for rows in ROWS]


@cache
def points():
    """Inputs in the unit square and classes in the numbering of the paper."""
    test = YinYang(train_samples=1).load(0).test
    return (test.x + 1) / 2, torch.tensor([1, 0, 2])[test.y]


def answers(weights):
    scaled = [scale * w for scale, w in zip(SCALES, weights, strict=True)]
    return logits(points()[0], scaled, [torch.tensor(b) for b in BIASES], lambda z: torch.tanh(2 * z))


def right(out):
    return 100 * float(accuracy(out, points()[1]))


@cache
def faults_of(rate, values, placing, alpha, seed):
    """The faults under each layer's copies on one chip."""
    chip = drawn_faults((32, 25, 25), rate, values, generator(seed, "chip", 0))
    layers = [
        Wanted(str(n), cut(str(n), *w.shape, (25, 25), Side.COLS), encode.nominal(w, MAPPING))
        for n, w in enumerate(WEIGHTS)
    ]
    placed = place_copies(layers, alpha, chip, placing=placing, source=generator(seed, "place", 0))
    return [copies.faults(chip) for copies in placed]


def best(beta):
    return lambda cells, w: mean_of_best(weight_errors(cells, w, MAPPING), beta)


def fitted(cells, w):
    return least_squares(cells, w, MAPPING)


def wide(w, faults, mapping):
    return encode.reduced_error(w, faults, mapping, partner=(0.0, 400e-6))


def made(faults, encoder, combination):
    """The weights that one chip makes of each layer."""
    cells = [encoder(w, f, MAPPING) for w, f in zip(WEIGHTS, faults, strict=True)]
    return [effective_weights(c, combination(c, w), MAPPING) for c, w in zip(cells, WEIGHTS, strict=True)]


@cache
def mean_accuracy(rate, placing, alpha, combination, encoder=encode.simple, values=INSIDE):
    faults = [faults_of(rate, values, placing, alpha, seed) for seed in range(CHIPS)]
    return sum(right(answers(made(f, encoder, combination))) for f in faults) / CHIPS


@cache
def at_beta(beta):
    """One function for each beta, so that results are kept."""
    return best(beta)


def at_best_beta(rate, placing, alpha, **more):
    return max(mean_accuracy(rate, placing, alpha, at_beta(beta), **more) for beta in range(1, alpha + 1))


@cache
def committee_accuracy(rate, placing, alpha, values=INSIDE):
    found = []
    for seed in range(CHIPS):
        faults = faults_of(rate, values, placing, alpha, seed)
        members = [made(faults, encode.simple, lambda c, w, k=k: single(k, alpha, len(w))) for k in range(alpha)]
        found.append(right(committee(torch.stack([answers(member) for member in members]))))
    return sum(found) / CHIPS


def software():
    return right(answers(WEIGHTS))


def every(cells, w):
    return mean_of_all(cells.shape[1], len(w))


@pytest.mark.parametrize("values", [INSIDE, OUTSIDE, (500e-6,)])
def test_the_mean_of_many_copies_is_the_network_shrunk_by_the_stuck_share(values):
    """E[W_eff] = (1 - p) W whatever the stuck values: slope within 0.02 of 400 copies."""
    w = 2 * torch.rand(10, 40, generator=generator(0, "w", 0), dtype=torch.float64) - 1
    faults = drawn_faults((2, 400, 10, 40), 0.2, values, generator(1, "f", 0), torch.float64)
    effective = effective_weights(encode.simple(w, faults, MAPPING), mean_of_all(400, 10), MAPPING)
    slope = float((w * effective).sum() / (w * w).sum())
    assert slope == pytest.approx(0.8, abs=0.02)
    assert gain.inverse_slope(w, effective) == pytest.approx(1 / slope)
    assert gain.inverse_share(0.2) == pytest.approx(gain.inverse_slope(w, effective), rel=0.025)


def test_the_variance_of_the_error_falls_as_one_over_beta():
    w = torch.randint(-1, 2, (10, 40), generator=generator(0, "w", 0)).double()
    faults = drawn_faults((2, 800, 10, 40), 0.2, INSIDE, generator(1, "f", 0), torch.float64)
    realised = encode.simple(w, faults, MAPPING)
    ones = MAPPING.weights(realised[0], realised[1])
    for beta in (2, 4, 8):
        variance = ones.view(-1, beta, 10, 40).mean(1).var(0).mean()
        assert float(ones.var(0).mean() / variance) == pytest.approx(beta, rel=0.1)


@pytest.mark.parametrize(
    ("encoder", "combinations"),
    [
        (encode.simple, [best(1), best(2), best(4), every, fitted]),
        (encode.reduced_error, [best(1), best(4), every, fitted]),
        (encode.coordinate_descent, [every]),
        (encode.mao, [lambda c, w: summed(c.shape[1], len(w))]),
    ],
)
@pytest.mark.parametrize("placing", ["random", "greedy"])
def test_a_chip_without_faults_is_the_software_network(encoder, combinations, placing):
    faults = faults_of(0.0, INSIDE, placing, 4, 0)
    for combination in combinations:
        for w, effective in zip(WEIGHTS, made(faults, encoder, combination), strict=True):
            torch.testing.assert_close(effective, w, rtol=0, atol=1e-5)
    assert software() > 90 and committee_accuracy(0.0, placing, 4) == pytest.approx(software(), abs=0.2)


@pytest.mark.parametrize(("rate", "values"), [(0.1, INSIDE), (0.2, INSIDE), (0.1, OUTSIDE)])
def test_more_copies_are_better_at_the_best_beta(rate, values):
    curve = [at_best_beta(rate, "random", alpha, values=values) for alpha in (1, 2, 4, 8)]
    assert all(more > fewer + 2 for fewer, more in pairwise(curve)), curve


def test_greedy_placement_beats_random_placement():
    for values in (INSIDE, OUTSIDE):
        for alpha in (1, 4):
            greedy = mean_accuracy(0.1, "greedy", alpha, at_beta(1), values=values)
            assert greedy > mean_accuracy(0.1, "random", alpha, at_beta(1), values=values) + 8
    assert mean_accuracy(0.1, "greedy", 1, at_beta(1)) > mean_accuracy(0.1, "random", 1, at_beta(1)) + 10
    assert mean_accuracy(0.1, "greedy", 4, at_beta(2)) > software() - 2


def test_choosing_rows_beats_the_mean_of_all_for_small_layers_placed_at_random():
    for rate in (0.1, 0.2):
        assert mean_accuracy(rate, "random", 4, at_beta(2)) > mean_accuracy(rate, "random", 4, at_beta(4)) + 3


def test_averaging_layers_beats_a_committee_of_as_many_copies():
    for values in (INSIDE, OUTSIDE):
        for alpha in (4, 8):
            assert mean_accuracy(0.2, "random", alpha, every, values=values) > (
                committee_accuracy(0.2, "random", alpha, values) + 2
            )


def test_least_squares_beats_every_mean_of_as_many_copies():
    for values in (INSIDE, OUTSIDE):
        for alpha in (2, 4):
            found = mean_accuracy(0.1, "random", alpha, fitted, values=values)
            assert found > mean_accuracy(0.1, "random", alpha, every, values=values) + 5
            assert found > at_best_beta(0.1, "random", alpha, values=values) + 2
    assert mean_accuracy(0.2, "greedy", 4, fitted, values=OUTSIDE) > at_best_beta(0.2, "greedy", 4, values=OUTSIDE)


def test_reduced_error_beats_simple_for_faults_inside_the_window():
    errors = {}
    for encoder in (encode.simple, encode.reduced_error):
        layers = [made(faults_of(0.2, INSIDE, "random", 4, seed), encoder, every) for seed in range(CHIPS)]
        errors[encoder] = sum(
            float((e - w).square().sum()) for layer in layers for e, w in zip(layer, WEIGHTS, strict=True)
        )
    assert errors[encode.reduced_error] < 0.9 * errors[encode.simple]
    gained = []
    for rate, placing, alpha in ((0.1, "random", 1), (0.2, "random", 4), (0.2, "greedy", 1), (0.2, "greedy", 4)):
        reduced = at_best_beta(rate, placing, alpha, encoder=encode.reduced_error)
        gained.append(reduced - at_best_beta(rate, placing, alpha))
    assert min(gained) > -1 and sum(gained) > 4, gained


def test_a_wide_partner_corrects_faults_outside_the_window():
    for rate, alpha in ((0.1, 1), (0.2, 4)):
        narrow = mean_accuracy(rate, "random", alpha, every, encoder=encode.reduced_error, values=OUTSIDE)
        assert mean_accuracy(rate, "random", alpha, every, encoder=wide, values=OUTSIDE) > narrow + 8


def test_greedy_placement_leaves_little_for_a_gain_to_make_up():
    for seed in range(4):
        effective = made(faults_of(0.1, INSIDE, "greedy", 4, seed), encode.simple, every)
        gains = [gain.inverse_slope(w, e) for w, e in zip(WEIGHTS, effective, strict=True)]
        assert max(gains) < 1.04 < gain.inverse_share(0.1)


def test_the_gain_makes_up_for_random_placement():
    plain = mean_accuracy(0.2, "random", 8, every)
    raised = []
    for seed in range(CHIPS):
        effective = made(faults_of(0.2, INSIDE, "random", 8, seed), encode.simple, every)
        factors = [gain.inverse_slope(w, e) for w, e in zip(WEIGHTS, effective, strict=True)]
        raised.append(right(answers([f * e for f, e in zip(factors, effective, strict=True)])))
    assert sum(raised) / CHIPS > plain + 3
    effective = made(faults_of(0.2, INSIDE, "random", 8, 0), encode.simple, every)
    scores = {g: right(answers([g * e for e in effective])) for g in (1.0, 1.25, 1.5)}
    assert gain.searched(scores, scores.__getitem__) == max(scores, key=scores.__getitem__)


def test_gains_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="stuck cells of 1"):
        gain.inverse_share(1.0)
    with pytest.raises(UsageError, match="no gain fits"):
        gain.inverse_slope(torch.ones(2, 2), -torch.ones(2, 2))
    with pytest.raises(UsageError, match="one candidate"):
        gain.searched([], float)


def test_a_committee_averages_probabilities_and_one_member_is_itself():
    members = torch.tensor([[[2.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]])
    torch.testing.assert_close(committee(members), (members[0].softmax(-1) + members[1].softmax(-1)) / 2)
    torch.testing.assert_close(committee(members[:1]), members[0].softmax(-1))


def test_faults_come_at_their_rate_and_with_equal_chances_of_each_value():
    faults = drawn_faults((40, 50, 50), 0.3, (1.0, 2.0), generator(0, "f", 0))
    assert float(faults.stuck.double().mean()) == pytest.approx(0.3, abs=5 * (0.21 / 1e5) ** 0.5)
    assert float(faults.siemens[faults.stuck].double().mean()) == pytest.approx(1.5, abs=5 * 0.5 / 3e4**0.5)
    assert isinstance(faults, Faults) and set(faults.siemens.unique().tolist()) == {1.0, 2.0}
