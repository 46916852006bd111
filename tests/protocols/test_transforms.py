"""What each transform does to a wanted change."""

import pytest
import torch

from protocols.parts import Key, zeros
from protocols.transforms import Clip, Momentum, Residual, Sgd, StochasticRounding

KEY = Key(0, 0)


@pytest.fixture
def network(bench):
    return bench().network


@pytest.fixture
def change(network):
    source = torch.Generator().manual_seed(0)
    return {name: 0.05 * torch.randn(zero.shape, generator=source) for name, zero in zeros(network).items()}


def test_a_change_names_weights_and_bias_of_every_layer(network):
    shapes = {name: tuple(zero.shape) for name, zero in zeros(network).items()}
    assert shapes == {"layer1": (4, 2), "layer1.bias": (4,), "layer2": (3, 4), "layer2.bias": (3,)}


def test_sgd_goes_downhill_and_slows_down(network, change):
    now = Sgd(eta=0.2, decay=0.5).apply(change, {}, network, Key(0, 0))
    later = Sgd(eta=0.2, decay=0.5).apply(change, {}, network, Key(0, 2))
    for name, value in change.items():
        torch.testing.assert_close(now[name], -0.2 * value)
        torch.testing.assert_close(later[name], -0.1 * value)


def test_momentum_sums_a_constant_change_to_its_limit(network, change):
    momentum = Momentum(beta=0.5)
    memory = momentum.start(network)
    for _ in range(40):
        sent = momentum.apply(change, memory, network, KEY)
    for name, value in change.items():
        torch.testing.assert_close(sent[name], 2 * value)


def test_clip_bounds_the_rms_and_keeps_the_direction(network, change):
    change["layer1"] = torch.zeros(4, 2)
    bounded = Clip(rms=0.01).apply(change, {}, network, KEY)
    assert float(bounded["layer2"].square().mean().sqrt()) == pytest.approx(0.01)
    torch.testing.assert_close(bounded["layer2"] / bounded["layer2"].norm(), change["layer2"] / change["layer2"].norm())
    assert not bool(bounded["layer1"].any())
    untouched = Clip(rms=10.0).apply(change, {}, network, KEY)
    torch.testing.assert_close(untouched["layer2"], change["layer2"], rtol=0, atol=0)


@pytest.mark.parametrize("rounding", [StochasticRounding(), Residual()], ids=["stochastic", "residual"])
def test_rounding_gives_whole_pulses_and_keeps_the_mean(network, change, rounding):
    memory, total, n = rounding.start(network), zeros(network), 400
    for step in range(n):
        rounded = rounding.apply(change, memory, network, Key(0, step))
        for name, value in rounded.items():
            total[name] += value
    for layer in network.layers:
        pulses = rounded[layer.name] / layer.step
        torch.testing.assert_close(pulses, pulses.round())
        # a fraction f is rounded with variance f (1 - f) <= 1/4 pulse^2; five standard errors for 20 weights
        worst = float((total[layer.name] / n - change[layer.name]).abs().max())
        assert worst < 5 * 0.5 * layer.step / n**0.5
        bias = f"{layer.name}.bias"
        torch.testing.assert_close(rounded[bias], change[bias], rtol=0, atol=0)


def test_a_residual_is_below_one_pulse_and_is_sent_later(network, change):
    memory = Residual().start(network)
    sent = [Residual().apply(change, memory, network, KEY)["layer1"] for _ in range(50)]
    rest = memory["layer1"] * network.layers[0].step
    torch.testing.assert_close(torch.stack(sent).sum(0) + rest, 50 * change["layer1"], rtol=1e-4, atol=1e-5)
    assert float(memory["layer1"].abs().max()) < 1


def test_stochastic_rounding_draws_anew_for_every_step_and_layer(network):
    half = {layer.name: torch.full((layer.n_out, layer.n_in), 0.5 * layer.step) for layer in network.layers}
    draws = [StochasticRounding().apply(half, {}, network, Key(0, step))["layer2"] for step in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
