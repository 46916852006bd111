"""The look before the flight: noise and strength as known, angles by the law, and hands off the chip."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from dense import exact_gradients
from torch import nn

from hil.deployment import place_model
from hil.errors import UsageError
from hil.mapping import usual_mapping
from protocols.core.codes import SequentialCode, SinusoidalCode, WalshCode
from protocols.parts import Batch
from protocols.perturbation import NodePerturbation, WeightPerturbation
from protocols.preflight import LARGEST, WANTED, preflight

SOURCES = {
    "node": NodePerturbation(norm=0.3),
    "weight": WeightPerturbation(norm=0.3),
    "network": WeightPerturbation(norm=0.3, together="network"),
}
each_source = pytest.mark.parametrize("source", ["node", pytest.param("weight", marks=pytest.mark.slow), "network"])


@each_source
def test_the_noise_is_the_board_s(bench, blobs, source):
    on, samples = bench(noisy=True), blobs(0)
    costs = torch.tensor([on.cost(samples) for _ in range(150)], dtype=torch.float64)
    found = preflight(on.network, SOURCES[source], samples, 0)
    assert found.cost_noise == pytest.approx(float(costs.std()), rel=0.3)


@pytest.mark.parametrize("source", [NodePerturbation, WeightPerturbation])
def test_the_noise_of_a_study_is_seen(ideal, samples, source):
    """On a board without noise: sigma / sqrt(batch) in a cost, sqrt(2) times that in a change."""
    found = preflight(ideal, source(norm=0.1, cost_noise=0.02), samples, 0)
    sigma = 0.02 / math.sqrt(7)
    assert found.cost_noise == pytest.approx(sigma, rel=1e-6)
    assert list(found.noise.values()) == pytest.approx([math.sqrt(2) * sigma] * 2, rel=0.3)
    halved = preflight(ideal, source(norm=0.1, cost_noise=0.02, baseline="two_sided"), samples, 0)
    assert list(halved.noise.values()) == pytest.approx([sigma / math.sqrt(2)] * 2, rel=0.3)


@each_source
def test_a_weak_perturbation_is_found_and_a_stronger_one_proposed(quiet_board, blobs, source):
    """The change grows with the norm, so that half again as much as is proposed is strong enough."""
    board = quiet_board(read_noise=5e-7, amplifier_noise=1e-7, dtype="float32")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
    network = place_model(model, board, mapping=usual_mapping(board.spec, w_max=2.0))
    weak = preflight(network, replace(SOURCES[source], norm=0.01), blobs(0), 0)
    assert weak.strength < WANTED and weak.norm < weak.proposed < LARGEST
    assert f"weak: try norm {weak.proposed:.2g}" in weak.lines()[0]
    again = preflight(network, replace(SOURCES[source], norm=1.5 * weak.proposed), blobs(0), 1)
    assert WANTED < again.strength < 3 * WANTED
    assert "strong enough" in again.lines()[0] and again.proposed == again.norm


def test_at_the_largest_perturbation_the_advice_is_another(bench, blobs):
    on = bench(noisy=True)
    found = preflight(on.network, NodePerturbation(norm=2.0, cost_noise=100.0), blobs(0), 0)
    assert found.proposed == 2.0
    assert "weak: try baseline two_sided" in found.lines()[0]


@pytest.mark.parametrize("code", [SequentialCode(), SinusoidalCode(), WalshCode()], ids=lambda code: code.kind)
@pytest.mark.parametrize("baseline", ["fresh", "once", "two_sided"])
def test_the_change_is_norm_times_gradient(ideal, samples, code, baseline):
    """Over whole periods the rms of the change is norm |g| / sqrt(P), whatever the code and the baseline."""
    source = WeightPerturbation(norm=0.01, together="network", code=code, baseline=baseline)
    slots = {"sequential": 44, "walsh": 64, "sinusoidal": 400}[code.kind]
    length = math.sqrt(sum(float(g.square().sum()) for g in exact_gradients(ideal, samples)))
    found = preflight(ideal, source, samples, 0, slots)
    assert found.change["network"] == pytest.approx(0.01 * length / math.sqrt(44), rel=0.05)
    assert found.proposed == 0.01


@pytest.mark.parametrize("source", [NodePerturbation, WeightPerturbation])
def test_angles_are_near_the_law(ideal, samples, source):
    angles, expected = [], []
    for seed in range(4):
        found = preflight(ideal, source(norm=1e-3), samples, seed)
        angles += found.angles.values()
        expected += found.expected.values()
    law = {NodePerturbation: (5, 4), WeightPerturbation: (20, 24)}[source]
    assert expected[:2] == pytest.approx([math.degrees(math.atan(math.sqrt((n - 1) / 100))) for n in law])
    assert sum(angles) / len(angles) == pytest.approx(sum(expected) / len(expected), rel=0.3)


def test_whole_periods_of_walsh_leave_no_angle(ideal, samples):
    source = WeightPerturbation(norm=0.01, code=WalshCode(), baseline="none")
    found = preflight(ideal, source, samples, 0, slots=32)
    assert max(found.angles.values()) < 0.5 and max(found.expected.values()) < 1e-5


def test_nothing_is_written(bench, blobs):
    on = bench(noisy=True)
    cells, own = on.cells, {name: value.clone() for name, value in on.network.state_dict().items()}
    preflight(on.network, NodePerturbation(), blobs(0), 0)
    assert {kind for kinds in on.tap.lists for kind in kinds} == {"Read", "ReadCells"}
    torch.testing.assert_close(on.cells, cells, rtol=0, atol=0)
    for name, value in on.network.state_dict().items():
        torch.testing.assert_close(value, own[name], rtol=0, atol=0)


def test_one_estimate_is_too_few(ideal, samples):
    with pytest.raises(UsageError, match="at least two estimates"):
        preflight(ideal, NodePerturbation(), Batch(samples.x, samples.y), 0, slots=1)
