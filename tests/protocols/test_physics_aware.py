"""The study of physics-aware training: its law, and the figures it must show."""

from __future__ import annotations

import pytest
import torch

from protocols.core.mlp import Mlp
from protocols.studies.physics_aware import NETWORK, Hardware, aware_of, defects, gradient, physics_aware, trained


@pytest.fixture
def problem():
    source = torch.Generator().manual_seed(0)
    network = Mlp(widths=(5, 7, 6, 3), hidden="tanh", output="identity", cost="cross_entropy")
    theta, real = (torch.randn(2, network.count, generator=source, dtype=torch.float64) for _ in range(2))
    x = torch.randn(2, 9, 5, generator=source, dtype=torch.float64)
    return network, theta, real, x, torch.randint(0, 3, (2, 9), generator=source)


def test_a_twin_that_is_the_truth_gives_backpropagation(problem):
    network, theta, _, x, y = problem
    found = gradient(lambda t, seen: aware_of(network, t, t, seen), theta, x, y)
    exact = torch.stack([network.gradient(t, a, b) for t, a, b in zip(theta, x, y, strict=True)])
    assert float((found - exact).norm() / exact.norm()) < 1e-12


def test_the_value_is_the_hardware_s_whatever_the_twin(problem):
    network, theta, real, x, _ = problem
    torch.testing.assert_close(aware_of(network, real, theta, x), network.out(real, x))


def test_the_last_layer_s_gradient_needs_no_twin(problem):
    """dL/dW of the last layer is e x^T of the hardware; the first layer's goes through the twin's last layers."""
    network, theta, real, x, y = problem
    found = gradient(lambda t, seen: aware_of(network, real, t, seen), theta, x, y)
    exact = gradient(network.out, real, x, y)
    last = network.sizes[-1]
    torch.testing.assert_close(found[:, -last:], exact[:, -last:])
    assert float((found - exact)[:, :-last].norm() / exact[:, :-last].norm()) > 0.1


def test_defects_are_as_many_and_as_large_as_asked():
    found = defects(((0.0, 0.1), (0.2, 0.3)), 400)
    weights = torch.cat([torch.full((count,), kind) for count, kind in ((512, 1), (32, 0), (192, 1), (6, 0))]) > 0
    assert not bool(found.stuck[:, :, ~weights].any()) and bool((found.gain[:, :, ~weights] == 1).all())
    assert found.stuck[:, :, weights].double().mean((1, 2)).tolist() == pytest.approx([0.0, 0.2], abs=0.003)
    assert found.gain[:, :, weights].std((1, 2)).tolist() == pytest.approx([0.1, 0.3], rel=0.01)
    theta = torch.zeros(2, 400, NETWORK.count)
    assert set(found(theta).abs().unique().tolist()) == {0.0, 1.25}


def test_no_defects_are_no_change():
    theta = torch.randn(3, 8)
    perfect = Hardware(torch.ones(3, 8), torch.zeros(3, 8, dtype=torch.bool), torch.zeros(3, 8))
    assert torch.equal(perfect(theta), theta)


def judge(found):
    mapped, aware, known = (part.mean(1) for part in (found.mapped, found.aware, found.known))
    assert float((known - aware)[:3].max()) < 0.02  # up to 10 % stuck
    assert float((aware - mapped)[1]) > 0.08 and float((aware - mapped)[2]) > 0.12
    cosine = found.cosine.mean(1)
    assert float(cosine[0]) > 0.98 and 0.5 < float(cosine[3]) < float(cosine[2]) < float(cosine[1]) < float(cosine[0])


def test_it_stays_close_to_known_defects_and_far_above_mapping():
    judge(trained(seeds=3, steps=400))


@pytest.mark.slow
def test_the_whole_study():
    judge(trained(seeds=12, steps=1_500))
    study = physics_aware()
    assert [row[:2] for row in study.table.rows] == [("0%", "10%"), ("5%", "10%"), ("10%", "10%"), ("20%", "20%")]
    assert study.name == "physics_aware" and len(study.series) == 3
