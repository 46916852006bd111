"""Encoders and row selection against slow literal versions of the published rules, cell by cell."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import UsageError
from hil.mapping import PairMapping
from protocols.core.draws import generator
from protocols.core.ensemble import encode
from protocols.core.ensemble.combine import cell_errors, mean_of_best
from protocols.core.ensemble.faults import Faults, drawn_faults

LOW, HIGH = 128.0, 256.0  # whole numbers: sums are exact, so that ties are ties in both versions
MAPPING = PairMapping(siemens_low=LOW, siemens_high=HIGH, volts=0.3, reference="low")
TWO, FOUR = [LOW, HIGH], [96.0, 144.0, 208.0, 288.0]


@st.composite
def layers(draw, real=False):
    """Weights and faults of the copies of a small layer."""
    copies, rows, cols = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    source = generator(draw(st.integers(0, 2**31)), "layer", 0)
    steps = 64 if real else 1
    weights = torch.randint(-steps, steps + 1, (rows, cols), generator=source).double() / steps
    rate = draw(st.sampled_from([0.0, 0.2, 0.5, 0.9]))
    stuck = [float(v) for v in draw(st.lists(st.integers(0, 400), min_size=1, max_size=4))]
    return weights, drawn_faults((2, copies, rows, cols), rate, stuck, source, torch.float64)


literal = settings(deadline=None, derandomize=True, max_examples=40)


def pairs(weights, faults):
    """Every pair: (row, col), its weight, and per copy what G+ and G- are stuck at, or None."""
    for r in range(weights.shape[0]):
        for c in range(weights.shape[1]):
            stuck = [
                [
                    Fraction(float(faults.siemens[s, k, r, c])) if faults.stuck[s, k, r, c] else None
                    for k in range(faults.stuck.shape[1])
                ]
                for s in range(2)
            ]
            yield (r, c), Fraction(float(weights[r, c])), stuck


def literal_simple(w, stuck):
    top, bottom = Fraction(HIGH), Fraction(LOW)
    tolerance = Fraction(1, 1000)
    plus, minus = (top, bottom) if w > tolerance else (bottom, top) if w < -tolerance else (bottom, bottom)
    return [[plus if g is None else g for g in stuck[0]], [minus if g is None else g for g in stuck[1]]]


def start(stuck):
    return [
        [Fraction(HIGH) if g is None else g for g in stuck[0]],
        [Fraction(LOW) if g is None else g for g in stuck[1]],
    ]


def literal_lea2(w, stuck, states):
    cells, gnorm = start(stuck), Fraction(HIGH) - Fraction(LOW)
    copies = len(stuck[0])
    for k in range(copies):
        if stuck[0][k] is not None and stuck[1][k] is not None:
            continue
        for side in range(2):
            if stuck[side][k] is not None:
                continue
            errors = []
            for state in states:
                cells[side][k] = Fraction(state)
                errors.append(abs(w - (sum(cells[0]) / copies - sum(cells[1]) / copies) / gnorm))
            cells[side][k] = Fraction(states[errors.index(min(errors))])
    return cells


def literal_mao(w, stuck, states):
    cells, gnorm = start(stuck), Fraction(HIGH) - Fraction(LOW)
    for k in range(len(stuck[0])):
        for side in range(2):
            if stuck[side][k] is None:
                wanted = w * gnorm if side == 0 else -w * gnorm
                best = wanted + sum(cells[1 - side]) - sum(cells[side]) + cells[side][k]
                cells[side][k] = Fraction(min(states, key=lambda state: abs(Fraction(state) - best)))
    return cells


def literal_rme(w, stuck, low, high, states=None):
    cells = literal_real(w, stuck)
    for k, (plus, minus) in enumerate(zip(*stuck, strict=True)):
        if (plus is None) == (minus is None):
            continue
        side = 0 if plus is None else 1
        best = minus + w * 128 if side == 0 else plus - w * 128
        if states is None:
            cells[side][k] = min(max(best, Fraction(low)), Fraction(high))
        else:
            cells[side][k] = Fraction(min(states, key=lambda state: abs(Fraction(state) - best)))
    return cells


def literal_real(w, stuck):
    plus, minus = Fraction(LOW) + max(w, 0) * 128, Fraction(LOW) + max(-w, 0) * 128
    return [[plus if g is None else g for g in stuck[0]], [minus if g is None else g for g in stuck[1]]]


def assert_equal_cells(made, weights, faults, rule):
    assert made.shape == faults.stuck.shape
    for (r, c), w, stuck in pairs(weights, faults):
        assert made[:, :, r, c].tolist() == [[float(g) for g in side] for side in rule(w, stuck)], (r, c)


@literal
@given(layers())
def test_simple_writes_ternary_weights_by_sign_and_leaves_stuck_cells(layer):
    weights, faults = layer
    nearly = torch.where(weights == 0, 9e-4, 0.7 * weights)  # what a tolerance of 1e-3 still takes as 0
    assert_equal_cells(encode.simple(encode.ternary(nearly), faults, MAPPING), nearly, faults, literal_simple)


@literal
@given(layers(), st.data())
def test_lea1_keeps_the_best_rows_of_either_polarity(layer, data):
    weights, faults = layer
    beta = data.draw(st.integers(1, faults.stuck.shape[1]))
    cells = encode.simple(weights, faults, MAPPING)
    kept = mean_of_best(cell_errors(cells, encode.nominal(weights, MAPPING)), beta)[..., 0]
    _, copies, rows, cols = cells.shape
    for side in range(2):
        for row in range(rows):
            distances = []
            for copy in range(copies):
                total = 0.0
                for col in range(cols):
                    w = float(weights[row, col])
                    total += abs(float(cells[side, copy, row, col]) - (HIGH if w == (1, -1)[side] else LOW))
                distances.append((total, copy))
            best = [copy for _, copy in sorted(distances)[:beta]]
            assert kept[side, :, row].tolist() == [1 / beta if copy in best else 0.0 for copy in range(copies)]


@literal
@given(layers(), st.sampled_from([TWO, FOUR]))
def test_coordinate_descent_is_lea2_of_ternary_weights(layer, states):
    weights, faults = layer
    made = encode.coordinate_descent(weights, faults, MAPPING, states=torch.tensor(states))
    assert_equal_cells(made, weights, faults, lambda w, stuck: literal_lea2(w, stuck, states))


@literal
@given(layers(real=True), st.sampled_from([TWO, FOUR]))
def test_coordinate_descent_is_lea2_of_real_weights(layer, states):
    weights, faults = layer
    made = encode.coordinate_descent(weights, faults, MAPPING, states=torch.tensor(states))
    assert_equal_cells(made, weights, faults, lambda w, stuck: literal_lea2(w, stuck, states))


@literal
@given(layers(real=True), st.sampled_from([TWO, FOUR]))
def test_mao_rounds_the_closed_form_to_the_nearest_state(layer, states):
    weights, faults = layer
    made = encode.mao(weights, faults, MAPPING, states=torch.tensor(states))
    assert_equal_cells(made, weights, faults, lambda w, stuck: literal_mao(w, stuck, states))


@literal
@given(layers(real=True))
def test_reduced_error_moves_only_partners_of_stuck_cells(layer):
    weights, faults = layer
    assert_equal_cells(
        encode.reduced_error(weights, faults, MAPPING), weights, faults, lambda w, s: literal_rme(w, s, LOW, HIGH)
    )
    wide = encode.reduced_error(weights, faults, MAPPING, partner=(0.0, 400.0))
    assert_equal_cells(wide, weights, faults, lambda w, s: literal_rme(w, s, 0, 400))
    two = encode.reduced_error(weights, faults, MAPPING, states=torch.tensor(TWO))
    assert_equal_cells(two, weights, faults, lambda w, s: literal_rme(w, s, LOW, HIGH, TWO))


@literal
@given(layers(real=True))
def test_another_sweep_never_raises_the_error_of_the_mean(layer):
    weights, faults = layer

    def error(sweeps):
        cells = encode.coordinate_descent(weights, faults, MAPPING, sweeps=sweeps)
        return (MAPPING.weights(cells[0], cells[1]).mean(0) - weights).abs()

    assert bool((error(2) <= error(1) + 1e-12).all())


def test_weights_beyond_the_window_are_refused():
    faults = Faults(torch.zeros(2, 1, 1, 2, dtype=torch.bool), torch.zeros(2, 1, 1, 2))
    for encoder in (encode.simple, encode.reduced_error, encode.coordinate_descent, encode.mao):
        with pytest.raises(UsageError, match=r"1 weights lie outside \+-1, up to 1.5"):
            encoder(torch.tensor([[0.5, -1.5]]), faults, MAPPING)
    with pytest.raises(UsageError, match="not both"):
        encode.reduced_error(torch.zeros(1, 2), faults, MAPPING, states=torch.tensor(TWO), partner=(0.0, 1.0))


def test_faults_need_a_conductance():
    with pytest.raises(ValueError, match="finite"):
        Faults(torch.tensor([True, False]), torch.tensor([torch.nan, torch.nan]))
    with pytest.raises(ValueError, match="shape"):
        Faults(torch.tensor([True]), torch.zeros(2))
    assert Faults(torch.tensor([False]), torch.tensor([torch.nan])).realised(torch.ones(1)).tolist() == [1.0]
