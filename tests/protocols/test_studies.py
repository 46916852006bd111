"""Studies: they show what was measured, beside the papers' numbers, and small ones find the papers' laws."""

import math

import pytest
import torch

from hil.lab.tasks import Digits
from protocols.core.layerwise import Layerwise
from protocols.studies import published
from protocols.studies.angle import angle, degrees
from protocols.studies.size import size
from protocols.studies.study import curve, rounded, slope
from protocols.studies.tau import tau
from protocols.studies.training import Data, Race, digits_network, iterations, mean
from protocols.studies.xor import xor


@pytest.fixture(scope="module")
def digits():
    samples = Digits().load(0)
    return Data(samples.train.x, samples.train.y, samples.test.x, samples.test.y)


@pytest.fixture(scope="module")
def blobs():
    """Three classes that a small network learns in a few steps."""
    source = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (300,), generator=source)
    x = torch.nn.functional.one_hot(y, 4).float() + 0.1 * torch.randn(300, 4, generator=source)
    return Data(x[:200], y[:200], x[200:], y[200:])


def consistent(study):
    """Every table is rectangular, every curve has as many abscissae as ordinates and nothing that is not finite."""
    for table in (study.table, *study.published):
        assert table.rows and all(len(row) == len(table.columns) for row in table.rows)
    for line in study.series:
        assert len(line.x) == len(line.y) > 0
        assert all(math.isfinite(v) for v in (*line.x, *line.y))
        assert not study.x.log or min(line.x) > 0
        assert not study.y.log or min(line.y) > 0
    assert all("nan" not in note for note in study.notes)
    return study


# -- numbers of the paper ----------------------------------------------------------------------------------------------


def test_the_papers_slopes_are_those_of_its_raw_data():
    """Facts 2.1: against parameters 1.02 and 0.66 to an angle, 0.06 to 0.14 to an accuracy; 0.53 against tau_theta."""
    p = [w.parameters for w in published.WIDTHS]
    assert slope(p, [w.weight_15 for w in published.WIDTHS]) == pytest.approx(1.02, abs=0.01)
    assert slope(p, [w.node_15 for w in published.WIDTHS]) == pytest.approx(0.66, abs=0.02)
    assert slope([w.nodes for w in published.WIDTHS], [w.node_15 for w in published.WIDTHS]) == pytest.approx(
        1.30, abs=0.04
    )
    assert 0.05 < slope(p[1:], [w.weight_80 for w in published.WIDTHS[1:]]) < 0.15
    assert slope(*zip(*published.TAU_THETA, strict=True)) == pytest.approx(0.53, abs=0.02)
    for table in (published.angles(), published.sizes(), published.taus()):
        assert "10.1063/5.0258271" in table.title


# -- parts -------------------------------------------------------------------------------------------------------------


def test_slope_is_the_exponent_of_a_power_law():
    x = [1.0, 3.0, 10.0, 400.0]
    assert slope(x, [5 * v**0.37 for v in x]) == pytest.approx(0.37)
    assert math.isnan(slope([1.0], [1.0]))


def test_values_that_are_missing():
    assert curve("a", [1, 2, 3], [1.0, None, 3.0]).x == (1, 3)
    assert rounded(None) is None and rounded(2.6) == 3
    assert mean([1, 2]) == 1.5 and mean([1, None]) is None


def test_degrees_are_exact_near_zero_and_right_elsewhere():
    a = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[3.0, 0.0], [0.0, 5.0], [-2.0, -2.0], [1.0, 1e-9]], dtype=torch.float64)
    expected = torch.tensor([0.0, 90.0, 180.0, math.degrees(1e-9)], dtype=torch.float64)
    torch.testing.assert_close(degrees(a, b), expected, rtol=1e-6, atol=1e-12)


def test_iterations_are_the_first_look_at_which_the_target_is_met(blobs):
    """Every network is judged by itself, and one that never gets there has no number."""
    network = digits_network(blobs, 4)
    how = Layerwise(method="backprop", eta=1.0)
    reached = iterations(network, how, blobs, Race(target=0.95, most=400, every=5, batch=50, replicas=3))
    assert all(count is not None and count % 5 == 0 and 0 < count < 400 for count in reached)
    assert iterations(network, how, blobs, Race(target=1.1, most=10, every=5, replicas=2)) == [None, None]


def test_batches_belong_to_their_step(blobs):
    one, again, other = blobs.batches(20, 1), blobs.batches(20, 1), blobs.batches(20, 2)
    assert torch.equal(one(7)[0], again(7)[0]) and not torch.equal(one(7)[0], one(8)[0])
    assert not torch.equal(one(7)[0], other(7)[0])


# -- studies -----------------------------------------------------------------------------------------------------------


def test_the_angle_study_finds_exact_codes_and_the_law():
    study = consistent(angle(marks=(100, 256, 1000), replicas=8))
    rows = {row[0]: dict(zip(study.table.columns, row, strict=True)) for row in study.table.rows}
    assert rows[256]["walsh"] < 0.5 < 10 < rows[256]["sequential"] < 20
    assert rows[1000]["random"] == pytest.approx(rows[1000]["law of random codes"], abs=2.0)
    assert {line.kind for line in study.series} == {"measured", "law", "published"}


def test_the_xor_study_shows_learning():
    study = consistent(xor(marks=(100, 2_000), replicas=32))
    early, late = study.table.rows
    assert all(share <= 0.1 for share in early[1:]) and all(share >= 0.3 for share in late[1:])


def test_the_size_study_has_a_row_for_each_width(blobs):
    study = consistent(size(blobs, widths=(4, 8), replicas=2))
    assert [row[0] for row in study.table.rows] == [4, 8]
    assert [row[1] for row in study.table.rows] == [4 * 4 + 4 + 4 * 4 + 4 + 4 * 3 + 3, 5 * 8 + 9 * 8 + 9 * 3]
    assert all(node < weight for *_, node, weight in study.table.rows)


def test_the_tau_study_runs_each_learning_rate_once(blobs, mocker):
    counted = mocker.spy(__import__("protocols.studies.tau", fromlist=["tau"]), "iterations")
    study = consistent(tau(blobs, taus_theta=(1, 4), width=4, replicas=2))
    assert counted.call_count == 3  # at tau_theta = 1 the two learning rates are the same
    assert study.table.rows[0][1] == study.table.rows[0][3]


@pytest.mark.slow
def test_time_to_accuracy_does_not_grow_with_size(digits):
    """The claim of the paper; node perturbation is more than four times faster than weight perturbation."""
    study = size(digits, widths=(8, 32, 128), replicas=2)
    lines = {line.name: line for line in study.series if line.kind == "measured"}
    assert slope(lines["weight"].x, lines["weight"].y) < 0.2
    assert slope(lines["node"].x, lines["node"].y) < 0.2
    assert all(weight > 4 * node for node, weight in zip(lines["node"].y, lines["weight"].y, strict=True))


@pytest.mark.slow
def test_iterations_grow_as_the_square_root_of_tau_theta_at_one_learning_rate(digits):
    """The paper: 0.53; a learning rate that grows as the square root makes up for it."""
    study = tau(digits, taus_theta=(1, 4, 16), replicas=2)
    fixed, scaled = [line for line in study.series if line.kind == "measured"]
    assert 0.35 < slope(fixed.x, fixed.y) < 0.7
    assert slope(scaled.x, scaled.y) < 0.2
