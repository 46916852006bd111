"""Networks on a noise-free board behave like the dense model that their cells make."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from hil.contract import Blocks, Side
from hil.deployment import deploy, place_model
from hil.errors import PlacementError, UsageError
from hil.layers import ChipBackward, CrossbarLayer, NoBackward
from hil.mapping import usual_mapping
from hil.matrix import placed_pairs
from hil.placement import place, tiling
from hil.program import ByPulses
from hil.twin import MatrixTwin, TwinBackward, read_weights

ACTIVATIONS = (nn.Tanh, nn.Sigmoid, nn.ReLU, nn.Identity)


def model_of(*sizes: int, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        parts += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*parts[:-1]).double()


@pytest.fixture
def deployed(spec_of, quiet_board):
    """``deployed(sizes, backward)``: a network on a noise-free chip, and the dense model its cells make."""

    def build(sizes=(7, 6, 3), backward=None, drive=Side.COLS, cost="cross_entropy", **more):
        board = quiet_board(spec_of(drive=drive, kernels=24))
        model = model_of(*sizes, **more)
        network = place_model(model, board, backward=backward, cost=cost)
        dense = copy.deepcopy(model)
        linears = [module for module in dense if isinstance(module, nn.Linear)]
        for linear, layer in zip(linears, network.layers, strict=True):
            linear.weight.data = read_weights(layer.matrices["W"], board, averages=1)
        return network, dense

    return build


def inputs(batch: int, n: int) -> torch.Tensor:
    return 2 * torch.rand((batch, n), generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1


@pytest.mark.parametrize("drive", list(Side))
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_forward_pass_is_that_of_the_dense_model(deployed, drive, activation):
    network, dense = deployed((7, 6, 3), drive=drive, activation=activation)
    x = inputs(5, 7)
    torch.testing.assert_close(network(x), dense(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(network.inputs("layer2"), dense[:2](x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(network(network.inputs("layer2"), start="layer2"), dense(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rule", [ChipBackward, lambda: TwinBackward(MatrixTwin(averages=1))])
@pytest.mark.parametrize("cost", ["cross_entropy", "mse"])
def test_gradients_are_those_of_autograd(deployed, rule, cost):
    network, dense = deployed((7, 6, 5, 3), backward=rule(), cost=cost)
    x = inputs(4, 7)
    y = torch.tensor([0, 2, 1, 1]) if cost == "cross_entropy" else inputs(4, 3).abs()
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    network.loss(network(ours), y).mean().backward()
    network.loss(dense(theirs), y).mean().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-11)
    linears = [module for module in dense if isinstance(module, nn.Linear)]
    for layer, linear in zip(network.layers, linears, strict=True):
        torch.testing.assert_close(layer.bias.grad, linear.bias.grad, rtol=1e-8, atol=1e-11)
        seen, error = layer.factors
        torch.testing.assert_close(error.T @ seen, linear.weight.grad, rtol=1e-8, atol=1e-11)


def test_no_backward_gives_gradients_to_the_last_layer_only(deployed):
    network, dense = deployed((7, 6, 3), backward=NoBackward())
    x, y = inputs(4, 7), torch.tensor([0, 2, 1, 1])
    network.loss(network(x), y).mean().backward()
    network.loss(dense(x), y).mean().backward()
    torch.testing.assert_close(network.layers[1].bias.grad, dense[2].bias.grad, rtol=1e-8, atol=1e-11)
    assert network.layers[0].factors is None and network.layers[0].bias.grad is None


def test_a_layer_of_several_matrices_is_their_sum(spec_of, quiet_board):
    board = quiet_board(spec_of(kernels=24))
    mapping = usual_mapping(board.spec)
    tiles = tiling(4, 7, board.spec)
    blocks = place([("A", tiles), ("C", tiles)], board.spec)
    matrices = {n: placed_pairs(tiles, b, mapping, torch.float64) for n, b in zip("AC", blocks, strict=True)}
    bias = torch.zeros(4, dtype=torch.float64)
    layer = CrossbarLayer("both", matrices, mapping=mapping, backend=board, backward=ChipBackward(), bias=bias)
    total = sum(read_weights(matrix, board, averages=1) for matrix in matrices.values())
    x = inputs(3, 7).requires_grad_()
    z = layer(x)
    torch.testing.assert_close(z, x @ total.T, rtol=1e-9, atol=1e-9)
    z.square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * z.detach() @ total, rtol=1e-8, atol=1e-9)


def test_a_forward_pass_is_one_list_a_layer(deployed, mocker):
    network, _ = deployed((7, 6, 3))
    sent = mocker.spy(network.backend, "execute")
    network(inputs(5, 7))
    assert [len(call.args[0]) for call in sent.call_args_list] == [1, 1]


def test_ports_add_before_the_bias_and_activation(deployed):
    network, dense = deployed((7, 6, 3))
    x = inputs(5, 7)
    shift = torch.linspace(-1, 1, 6, dtype=torch.float64)
    through = dense[2](torch.tanh(dense[0](x) + shift))
    torch.testing.assert_close(network(x, {"layer1": shift}), through, rtol=1e-9, atol=1e-9)
    doubled = dense[2](torch.tanh(dense[0](x) + x[:, :6]))
    torch.testing.assert_close(network(x, {"layer1": lambda seen: seen[:, :6]}), doubled, rtol=1e-9, atol=1e-9)


def test_a_fan_is_a_baseline_and_separate_forward_passes(deployed, mocker):
    network, _ = deployed((7, 6, 5, 3))
    x = inputs(4, 7)
    branches = [
        {"layer2": lambda seen: 0.2 * seen[:, :5]}, {"layer1": 0.3 * inputs(4, 6)}, {"layer1": 0.1 * inputs(1, 6)},
        {"layer3": 0.5 * inputs(4, 3)}, {"layer1": 0.2 * inputs(1, 6), "layer3": lambda seen: seen[:, :3]},
    ]  # fmt: skip
    baseline = network(x)
    separate = [network(x, ports) for ports in branches]
    network(x)
    sent = mocker.spy(network.backend, "execute")
    fan = network.fan(x, branches)
    assert sent.call_count == 3
    torch.testing.assert_close(fan.outs, torch.stack([baseline, *separate]), rtol=1e-9, atol=1e-9)
    for layer in network.layers:
        torch.testing.assert_close(fan.inputs[layer.name], network.inputs(layer.name), rtol=1e-9, atol=1e-9)


def test_a_fan_without_ports_is_a_forward_pass(deployed):
    network, _ = deployed((7, 6, 3))
    torch.testing.assert_close(network.fan(inputs(4, 7), []).outs[0], network(inputs(4, 7)))


def test_without_a_baseline_only_the_branches_are_measured_to_the_end(deployed, mocker):
    network, _ = deployed((7, 6, 5, 3))
    x = inputs(4, 7)
    branches = [{"layer1": 0.3 * inputs(1, 6)}, {"layer2": 0.2 * inputs(1, 5), "layer3": inputs(1, 3)}]
    separate = torch.stack([network(x, ports) for ports in branches])
    sent = mocker.spy(network.backend, "execute")
    fan = network.fan(x, branches, baseline=False)
    torch.testing.assert_close(fan.outs, separate, rtol=1e-9, atol=1e-9)
    assert [call.args[0][0].volts.shape[1] for call in sent.call_args_list] == [4, 8, 8]
    assert set(fan.inputs) == {"layer1", "layer2"}


def test_losses_are_float64_per_sample_and_branch(deployed):
    for cost, y in (("cross_entropy", torch.tensor([0, 2, 1, 1])), ("mse", inputs(4, 3))):
        network, _ = deployed((7, 6, 3), cost=cost)
        out = inputs(8, 3).float().view(2, 4, 3)
        got = network.loss(out, y)
        assert got.dtype == torch.float64 and got.shape == (2, 4)
        if cost == "mse":
            wanted = (out.double() - y).square().mean(-1)
        else:
            wanted = -out.double().log_softmax(-1).gather(-1, y.expand(2, 4).unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(got, wanted)


def test_deploy_writes_weights_that_are_read_back(spec_of, quiet_board):
    board = quiet_board(spec_of(kernels=24, writing={"step": 0.5e-6}), states=400.0)
    model = model_of(7, 6, 3)
    mapping = usual_mapping(board.spec, w_max=0.5, margin=0.1)
    network = deploy(model, board, mapping=mapping, method=ByPulses(window=1e-6, rounds=60))
    for layer, linear in zip(network.layers, (model[0], model[2]), strict=True):
        error = (read_weights(layer.matrices["W"], board) - linear.weight.detach()).abs().max()
        assert float(error) <= 2e-6 / mapping.scale
        assert "hit" in str(network.reports[layer.name])
    torch.testing.assert_close(network(inputs(5, 7)), model(inputs(5, 7)), rtol=0.0, atol=0.1)


def test_deploy_refuses_what_it_cannot_place(spec_of, quiet_board):
    board = quiet_board(spec_of())
    with pytest.raises(UsageError, match="cannot put Dropout on a board; use Linear, Tanh, Sigmoid"):
        deploy(nn.Sequential(nn.Linear(3, 3), nn.Dropout()), board)
    with pytest.raises(UsageError, match="cannot put Tanh"):
        deploy(nn.Sequential(nn.Tanh(), nn.Linear(3, 3)), board)
    with pytest.raises(UsageError, match="no Linear layer"):
        deploy(nn.Sequential(), board)
    with pytest.raises(PlacementError, match="layer2 needs 4 blocks of 6 x 5 and the chip has 3 free"):
        deploy(nn.Sequential(nn.Linear(5, 3), nn.Linear(10, 6)), board)
    with pytest.raises(PlacementError):
        deploy(model_of(5, 3), board, avoid=torch.ones(board.spec.cells, dtype=torch.bool))


def test_deploy_takes_zero_weights_and_layers_without_bias(spec_of, quiet_board):
    linear = nn.Linear(4, 2, bias=False).double()
    nn.init.zeros_(linear.weight)
    network = place_model(nn.Sequential(linear), quiet_board(spec_of()))
    assert network.layers[0].bias.dtype == torch.float64 and not network.layers[0].bias.any()


def test_layers_that_avoid_cells_do_not_use_them(spec_of, quiet_board):
    board = quiet_board(spec_of())
    avoid = torch.zeros(board.spec.cells, dtype=torch.bool)
    avoid[0] = True
    network = place_model(model_of(5, 3), board, avoid=avoid)
    assert network.layers[0].matrices["W"].blocks == Blocks((1,), (0,), (0,), 6, 5)
