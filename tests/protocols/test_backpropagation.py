"""Backpropagation through a chip: exact where twin or chip are the truth, refused without a way back, and it learns."""

from __future__ import annotations

import pytest
import torch
from dense import exact_gradients

from hil.errors import UsageError
from hil.layers import ChipBackward
from hil.program import ByPulses
from hil.twin import MatrixTwin, TwinBackward
from protocols.backpropagation import Backpropagation
from protocols.filters import Threshold
from protocols.parts import Batch, Key
from protocols.rules import SignedPulses, SignThreshold, WriteVerify
from protocols.training import Training
from protocols.transforms import Residual, Sgd

KEY = Key(0, 0)
BACK = {"twin": lambda: TwinBackward(MatrixTwin(averages=1)), "chip": ChipBackward}


def through(network, rule):
    for layer in network.layers:
        layer.rule = rule
    return network


@pytest.mark.parametrize("back", BACK)
def test_the_gradient_is_autograd_s(ideal, samples, back):
    """Facts A2: with a twin that is the truth the gradient equals backpropagation."""
    found = Backpropagation().estimate(through(ideal, BACK[back]()), samples, KEY, 1, {})
    mine = [part for g in found.layers.values() for part in (g.weights, g.bias)]
    for got, exact in zip(mine, exact_gradients(ideal, samples), strict=True):
        assert float((got - exact).norm() / exact.norm()) < 1e-9
    for gradient in found.layers.values():
        x, d = gradient.factors.x, gradient.factors.d
        torch.testing.assert_close(d.T @ x, gradient.weights)
        torch.testing.assert_close(d.sum(0), gradient.bias)


def test_a_stale_twin_gives_the_gradient_of_another_chip(ideal, samples):
    """The law above can fail: with a twin of other weights the first layer's gradient is off, the last one's exact."""
    twin = MatrixTwin(averages=1, bound=float("inf"))
    network = through(ideal, TwinBackward(twin))
    twin.reread(network.layers[1])
    twin._copies["layer2"].weights += torch.linspace(-1, 1, 20, dtype=torch.float64).view(4, 5)
    found = Backpropagation().estimate(network, samples, KEY, 1, {}).layers
    first, _, last, _ = exact_gradients(network, samples)
    assert float((found["layer1"].weights - first).norm() / first.norm()) > 0.1
    torch.testing.assert_close(found["layer2"].weights, last, rtol=1e-9, atol=1e-12)


def test_without_a_way_back_it_says_what_to_write(ideal, samples):
    with pytest.raises(UsageError) as caught:
        Backpropagation().estimate(ideal, samples, KEY, 1, {})
    assert str(caught.value) == (
        "no error comes back to layer1; backpropagation needs `backward: {kind: twin}` or `backward: {kind: chip}` in "
        "the run file's network"
    )


def test_samples_without_an_error_do_no_harm(ideal):
    """A transposed read of nothing, and a cost that is not finite, are no information."""
    ideal.cost = "mse"
    x = torch.zeros(3, 3, dtype=torch.float64)
    y = ideal(x).detach().clone()
    y[1], y[2] = y[1] + 1, float("nan")
    found = Backpropagation().estimate(through(ideal, ChipBackward()), Batch(x, y), KEY, 1, {})
    errors = found.layers["layer1"].factors.d
    assert not bool(errors[0].any()) and bool(errors[1].any()) and not bool(errors[2].any())
    assert all(bool(g.weights.isfinite().all()) for g in found.layers.values())


CHAINS = {
    "pulses": ((Sgd(eta=0.3), Residual()), SignedPulses()),
    "sign": ((Sgd(eta=0.3),), SignThreshold(above=0.01)),
    "collected": ((Sgd(eta=0.3), Threshold(above=0.04)), SignThreshold(above=0.0)),
    "verify": ((Sgd(eta=0.5), Threshold(above=0.1)), WriteVerify(method=ByPulses(window=4e-6))),
}


@pytest.mark.parametrize("back", BACK)
@pytest.mark.parametrize("chain", CHAINS)
def test_it_learns(bench, blobs, chain, back):
    on = bench(noisy=True, backward=BACK[back]())
    transforms, rule = CHAINS[chain]
    protocol, start = Training(source=Backpropagation(), transforms=transforms, rule=rule), on.cost(blobs(-1))
    on.train(protocol, protocol.init(on.network, 0), blobs, 60)
    assert on.cost(blobs(-1)) < 0.5 * start


def test_errors_are_read_in_one_list_a_layer(bench, blobs):
    on = bench(backward=ChipBackward())
    Backpropagation().estimate(on.network, blobs(0), KEY, 1, {})
    assert on.tap.lists == [("Read",)] * 3  # two layers forward, one back: nothing is needed below the first
    assert all(p.grad is None for p in on.network.parameters())


def test_tau_theta_averages_batches(bench, blobs):
    on = bench(backward=BACK["chip"]())
    protocol = Training(source=Backpropagation(), transforms=(Sgd(eta=0.3),), rule=SignedPulses(), tau_theta=3)
    each = [Backpropagation().estimate(on.network, blobs(n), KEY, 1, {}).layers["layer1"].bias for n in range(3)]
    before = on.network.layers[0].bias.detach().clone()
    on.train(protocol, protocol.init(on.network, 0), blobs, 3)
    assert [bool(record.numbers) for record in on.history] == [False, False, True]
    torch.testing.assert_close(on.network.layers[0].bias.detach(), before - 0.3 * torch.stack(each).mean(0))
