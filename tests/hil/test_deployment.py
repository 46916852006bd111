"""Writing layers and taking over biases, one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hil.deployment import place_model, set_bias, set_biases, write_layer, write_weights
from hil.mapping import usual_mapping
from hil.program import ByPulses
from hil.twin import read_weights

METHOD = ByPulses(window=2e-6, rounds=60, allowed=0.5)


def model(seed: int, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3, bias=bias), nn.Tanh(), nn.Linear(3, 2)).double()


@pytest.fixture
def network(quiet_board):
    board = quiet_board()
    return place_model(model(0), board, mapping=usual_mapping(board.spec, w_max=1.0))


def weights(network) -> list[torch.Tensor]:
    return [read_weights(layer.matrices["W"], layer.backend) for layer in network.layers]


def test_one_layer_is_written_and_the_other_left_alone(network):
    other, before = model(1), weights(network)
    biases = [layer.bias.clone() for layer in network.layers]
    report = write_layer(network.layers[0], other[0], METHOD)
    first, second = weights(network)
    assert float((first - other[0].weight.detach()).abs().max()) <= 2 * METHOD.window / network.layers[0].mapping.scale
    torch.testing.assert_close(second, before[1], rtol=0, atol=0)
    assert "24 cells: 24 hit" in str(report) and network.reports == {}
    for layer, bias in zip(network.layers, biases, strict=True):
        torch.testing.assert_close(layer.bias, bias, rtol=0, atol=0)


def test_all_layers_are_written_and_reported(network):
    other = model(2)
    write_weights(network, other, METHOD)
    tolerance = 2 * METHOD.window / network.layers[0].mapping.scale
    for found, linear in zip(weights(network), (other[0], other[2]), strict=True):
        assert float((found - linear.weight.detach()).abs().max()) <= tolerance
    assert list(network.reports) == ["layer1", "layer2"]


def test_weights_beyond_the_largest_are_clipped_and_counted(network):
    other = model(3)
    with torch.no_grad():
        other[2].weight[0, :2] = torch.tensor([1.5, -7.0])
    report = write_layer(network.layers[1], other[2], METHOD)
    assert report.clipped == 2 and "2 weights clipped" in str(report)


def test_biases_are_copied_and_none_counts_as_nothing(network):
    other = model(4, bias=False)
    set_biases(network, other)
    assert not bool(network.layers[0].bias.any())
    torch.testing.assert_close(network.layers[1].bias, other[2].bias, rtol=0, atol=0)
    with torch.no_grad():
        other[2].bias += 1
    assert not torch.equal(network.layers[1].bias, other[2].bias)
    set_bias(network.layers[1], other[2])
    assert torch.equal(network.layers[1].bias, other[2].bias) and network.layers[1].bias.requires_grad
