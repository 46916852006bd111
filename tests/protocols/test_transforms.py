"""What each transform does to a wanted change."""

import pytest
import torch

from protocols.filters import Adam, Decay, LowPass, Threshold, UpdateNoise
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


# -- filters -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corrected", [True, False])
def test_adam_is_torch_s_adam(network, corrected):
    """Step by step; without the correction the first steps are too long by the known factor."""
    adam, eta = Adam(beta1=0.8, beta2=0.9, corrected=corrected), 0.1
    memory, own = adam.start(network), torch.zeros(4, 2)
    leaf = torch.zeros(4, 2, requires_grad=True)
    theirs = torch.optim.Adam([leaf], lr=eta, betas=(0.8, 0.9))
    for step in range(6):
        gradients = zeros(network)
        gradients["layer1"] = torch.randn(4, 2, generator=torch.Generator().manual_seed(step))
        moved = Sgd(eta=eta).apply(adam.apply(gradients, memory, network, KEY), {}, network, KEY)["layer1"]
        before, leaf.grad = leaf.detach().clone(), gradients["layer1"]
        theirs.step()
        factor = 1.0 if corrected else (1 - 0.8 ** (step + 1)) / (1 - 0.9 ** (step + 1)) ** 0.5
        torch.testing.assert_close(moved, factor * (leaf.detach() - before), rtol=1e-4, atol=1e-6)
        own += moved
    assert bool(own.any())


def test_a_low_pass_follows_a_step_with_its_time_constant(network, change):
    low = LowPass(tau=9.0)
    memory = low.start(network)
    for step in range(1, 30):
        sent = low.apply(change, memory, network, KEY)
        torch.testing.assert_close(sent["layer1"], (1 - 0.9**step) * change["layer1"])


def test_decay_halves(network, change):
    for step, factor in ((0, 1.0), (10, 0.5), (20, 0.25)):
        sent = Decay(halving=10.0).apply(change, {}, network, Key(0, step))
        torch.testing.assert_close(sent["layer2"], factor * change["layer2"])


def test_update_noise_is_drawn_for_every_weight_and_step_and_leaves_biases(network, change):
    draws = [UpdateNoise(std=0.1).apply(change, {}, network, Key(3, step)) for step in range(200)]
    noise = torch.stack([torch.cat([(d[n] - change[n]).flatten() for n in ("layer1", "layer2")]) for d in draws])
    assert float(noise.std()) == pytest.approx(0.1, rel=0.05)
    correlation = torch.corrcoef(noise.T) - torch.eye(20)
    assert float(correlation.abs().max()) < 4.5 / 200**0.5  # one common draw would make it 1
    torch.testing.assert_close(draws[0]["layer1.bias"], change["layer1.bias"], rtol=0, atol=0)
    assert torch.equal(draws[5]["layer1"], UpdateNoise(std=0.1).apply(change, {}, network, Key(3, 5))["layer1"])


def test_a_threshold_keeps_small_changes_back_until_they_are_worth_a_write(network, change):
    threshold, total = Threshold(above=0.3), zeros(network)
    memory = threshold.start(network)
    for _ in range(40):
        sent = threshold.apply(change, memory, network, KEY)
        for layer in network.layers:
            value = sent[layer.name]
            assert bool(((value == 0) | (value.abs() > 0.3)).all())
            assert float(memory[layer.name].abs().max()) <= 0.3
            total[layer.name] += value
        torch.testing.assert_close(sent["layer1.bias"], change["layer1.bias"], rtol=0, atol=0)
    torch.testing.assert_close(total["layer1"] + memory["layer1"], 40 * change["layer1"], rtol=1e-4, atol=1e-5)
