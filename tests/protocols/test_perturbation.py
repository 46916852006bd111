"""Gradient sources against the digital network that the board holds."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from dense import change_cells, digital, exact_gradients, outputs
from torch import nn
from torch.nn import functional as F

from hil.deployment import place_model
from hil.lowering import Lowering
from hil.mapping import usual_mapping
from hil.network import Fan
from protocols.core.draws import generator
from protocols.core.mgd import amplitude
from protocols.measuring import Measuring
from protocols.parts import Batch, Key
from protocols.perturbation import NodePerturbation, WeightPerturbation, shadow
from protocols.rules import SignedPulses
from protocols.training import Training
from protocols.transforms import Momentum, Residual, Sgd


def test_the_board_multiplies_with_the_weights_its_cells_make(ideal, samples):
    torch.testing.assert_close(ideal(samples.x).detach(), outputs(digital(ideal), samples.x))


@pytest.mark.parametrize("number", [0, 1])
def test_a_digital_shadow_equals_a_real_change_of_weights_and_bias(ideal, samples, number):
    layer = ideal.layers[number]
    parameters = 0.05 * torch.randn(layer.n_out, layer.n_in + 1, generator=generator(0, "t", 0), dtype=torch.float64)
    fan = ideal.fan(samples.x, [{layer.name: shadow(parameters)}])
    torch.testing.assert_close(fan.outs[0], ideal(samples.x).detach())
    change_cells(ideal, layer, parameters[:, :-1])
    with torch.no_grad():
        layer.bias.add_(parameters[:, -1])
    real = ideal(samples.x).detach()
    torch.testing.assert_close(fan.outs[1], real)
    assert float((real - fan.outs[0]).abs().max()) > 1e-2


@pytest.mark.parametrize("source", [NodePerturbation(norm=1e-3), WeightPerturbation(norm=1e-3)], ids=["node", "weight"])
def test_estimates_of_a_source_average_to_the_gradient(ideal, samples, source):
    """Within four standard errors of the mean in every layer, with the normalisation of one slot undone."""
    draws = [source.estimate(ideal, samples, Key(0, step, step), 1, {}).layers for step in range(600)]
    exact = exact_gradients(ideal, samples)
    for number, layer in enumerate(ideal.layers):
        count = layer.n_out if isinstance(source, NodePerturbation) else layer.n_out * (layer.n_in + 1)
        for which, truth in zip(("weights", "bias"), exact[2 * number : 2 * number + 2], strict=True):
            values = torch.stack([getattr(d[layer.name], which) for d in draws]).double() * math.sqrt(count)
            error = values.std(0) / math.sqrt(len(draws))
            # A component may be off by its own standard error; their mean square must be that of noise alone.
            assert float(((values.mean(0) - truth) / error).square().mean().sqrt()) < 1.8
            # and the gradient is far from zero on that scale, so a wrong sign or factor cannot hide
            assert float((truth / error).square().mean().sqrt()) > 3


def test_the_factors_of_node_perturbation_make_its_dense_gradient(ideal, samples):
    for layer in NodePerturbation().estimate(ideal, samples, Key(0, 0), 1, {}).layers.values():
        assert layer.factors is not None
        x, d = layer.factors.x, layer.factors.d
        torch.testing.assert_close(torch.einsum("bo,bi->oi", d, x), layer.weights)
        torch.testing.assert_close(layer.factors.dense, layer.weights)
        torch.testing.assert_close(d.sum(0), layer.bias)


def test_the_loss_is_the_baseline_and_not_a_perturbed_branch(ideal, samples):
    estimate = NodePerturbation(norm=5.0).estimate(ideal, samples, Key(0, 0), 1, {})
    out = outputs(digital(ideal), samples.x)
    assert estimate.loss == pytest.approx(float(F.cross_entropy(out, samples.y)))
    assert estimate.correct == pytest.approx(float((out.argmax(1) == samples.y).double().mean()))


def test_layers_of_equal_shape_get_different_codes(quiet_board):
    """Each layer's error has the signs of its own code; with one key for both they would be alike in every step."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).double()
    board = quiet_board()
    network = place_model(model, Lowering(board), mapping=usual_mapping(board.spec))
    x, alike = torch.rand(3, 4, dtype=torch.float64), 0
    for step in range(12):
        layers = NodePerturbation().estimate(network, Batch(x, torch.arange(3)), Key(0, step, step), 1, {}).layers
        first, second = (layers[name].bias.sign() for name in ("layer1", "layer2"))
        alike += torch.equal(first, second) or torch.equal(first, -second)
    assert alike < 6


def test_a_clip_bounds_what_one_sample_can_say(ideal, samples):
    loud = NodePerturbation(norm=4.0).estimate(ideal, samples, Key(0, 0), 1, {})
    clipped = NodePerturbation(norm=4.0, clip=0.01).estimate(ideal, samples, Key(0, 0), 1, {})
    bound = 0.01 / amplitude(4.0, 5) / math.sqrt(5)
    largest = [float(e.layers["layer1"].factors.d.abs().max()) * len(samples.x) for e in (loud, clipped)]
    assert largest[0] > 2 * bound
    assert largest[1] == pytest.approx(bound)


def test_a_cost_that_is_not_finite_says_nothing():
    nan, inf = float("nan"), float("inf")
    outs = torch.tensor([[1.0, 1.0, 1.0, inf], [nan, inf, 2.0, 1.0]]).unsqueeze(-1)
    network = SimpleNamespace(
        fan=lambda x, branches, baseline: Fan(outs, {}),
        loss=lambda out, y: out.squeeze(-1).double(),
        correct=lambda out, y: torch.ones(4),
    )
    batch = Batch(torch.zeros(4, 1), torch.zeros(4))
    measured = Measuring().measure(network, batch, [{}], Key(0, 0), {})
    assert measured.changes.tolist() == [[0.0, 0.0, 1.0, 0.0]]


@pytest.mark.parametrize("source", [NodePerturbation(), WeightPerturbation()], ids=["node", "weight"])
def test_a_network_in_float64_is_trained_in_float64(ideal, samples, source):
    transforms = (Sgd(eta=0.1), Momentum(), Residual())
    protocol = Training(source=source, transforms=transforms, rule=SignedPulses(), tau_theta=2)
    state = protocol.init(ideal, 0)
    for _ in range(3):
        assert {t.dtype for t in state.tensors.values()} == {torch.float64}
        state, _ = protocol.step(state, ideal, samples)
    assert all(layer.bias.dtype is torch.float64 for layer in ideal.layers)
