"""Layer-wise perturbation of many networks: estimates against backpropagation, and training."""

import math

import pytest
import torch

from protocols.core.draws import generator
from protocols.core.layerwise import Layerwise, estimate, train
from protocols.core.mlp import Mlp

NETWORK = Mlp(widths=(6, 5, 5, 3), hidden="tanh", output="identity", cost="cross_entropy")
METHODS = ["node", "weight"]


@pytest.fixture(scope="module")
def task():
    """Parameters [4, P] in float64, inputs [20, 6] and classes [20]."""
    source = generator(0, "task", 0)
    x = torch.randn(20, 6, dtype=torch.float64, generator=source)
    y = torch.randint(0, 3, (20,), generator=source)
    return NETWORK.glorot(4, source).double(), x, y


def layer_slices():
    first = 0
    for size in NETWORK.sizes:
        yield slice(first, first + size)
        first += size


@pytest.mark.parametrize("method", METHODS)
def test_the_mean_estimate_of_every_layer_points_along_its_gradient(task, method):
    """Undone the normalisation of one step, the mean over steps is unbiased; its error falls as 1 / sqrt(steps)."""
    theta, x, y = task
    how, steps = Layerwise(method=method, eta=1.0, norm=1e-3), 1500
    mean = sum(estimate(NETWORK, theta, x, y, how, seed=0, step=step) for step in range(steps)) / steps
    exact = NETWORK.gradient(theta, x, y)
    for number, part in enumerate(layer_slices()):
        count = NETWORK.widths[number + 1] if method == "node" else NETWORK.sizes[number]
        unbiased = math.sqrt(count) * mean[:, part]
        error = (unbiased - exact[:, part]).norm(dim=1) / exact[:, part].norm(dim=1)
        # node codes scatter each sample's whole cost change over the nodes: more than the law of one code for all
        assert float(error.max()) < (4 if method == "node" else 2) * math.sqrt(count / steps)


def test_the_estimate_of_weights_is_as_long_as_the_gradient(task):
    theta, x, y = (part[:1] if part is task[0] else part for part in task)
    theta = theta.expand(400, -1)
    exact = NETWORK.gradient(theta, x, y)
    for slots in (1, 10):
        how = Layerwise(method="weight", eta=1.0, norm=1e-3, tau_theta=slots)
        mean = sum(estimate(NETWORK, theta, x, y, how, seed=0, step=step) for step in range(slots)) / slots
        for part in layer_slices():
            ratio = (mean[:, part].norm(dim=1) / exact[:, part].norm(dim=1)).square().mean().sqrt()
            assert 0.9 < float(ratio) < 1.1


@pytest.mark.parametrize("method", METHODS)
def test_layers_of_equal_shape_and_replicas_get_different_draws(method):
    """The signs of an estimate are those of its code, or their opposite."""
    network = Mlp(widths=(20, 20, 20), hidden="tanh", output="identity", cost="cross_entropy")
    source = generator(0, "equal", 0)
    theta = network.glorot(1, source).double().expand(2, -1)
    x, y = torch.randn(10, 20, dtype=torch.float64, generator=source), torch.arange(10)
    found = estimate(network, theta, x, y, Layerwise(method=method, eta=1.0), seed=0, step=0).sign()
    biases = found.view(2, 2, -1)[..., -20:]  # [replica, layer, bias]
    assert bool((biases != 0).all())
    codes = [biases[replica, layer] for replica in range(2) for layer in range(2)]
    for k, one in enumerate(codes):
        assert not any(torch.equal(one, other) or torch.equal(one, -other) for other in codes[k + 1 :])


def test_backpropagation_is_autograd(task):
    theta, x, y = task
    how = Layerwise(method="backprop", eta=0.1)
    final = train(NETWORK, theta, lambda step: (x, y), how, steps=3, seed=0)
    for _ in range(3):
        theta = theta - 0.1 * NETWORK.gradient(theta, x, y)
    torch.testing.assert_close(final, theta)


def test_mlp_is_the_usual_network(task):
    """Against torch's own layers."""
    theta, x, y = task
    layers = [
        torch.nn.Linear(a, b, dtype=torch.float64) for a, b in zip(NETWORK.widths[:-1], NETWORK.widths[1:], strict=True)
    ]
    torch.nn.utils.vector_to_parameters(theta[2], [p for layer in layers for p in layer.parameters()])
    h = x
    for layer in layers[:-1]:
        h = torch.tanh(layer(h))
    logits = layers[-1](h)
    torch.testing.assert_close(NETWORK.out(theta, x)[2], logits)
    torch.testing.assert_close(NETWORK.loss(theta, x, y)[2], torch.nn.functional.cross_entropy(logits, y))
    right = (logits.argmax(-1) == y).double().mean()
    torch.testing.assert_close(NETWORK.correct(theta, x, y)[2], right)


@pytest.mark.parametrize("method", ["node", "weight", "backprop"])
def test_training_lowers_the_cost_and_is_determined_by_its_seed(task, method):
    theta, x, y = task
    before, how = theta.clone(), Layerwise(method=method, eta=0.1, tau_theta=2)
    final, again = (train(NETWORK, theta, lambda step: (x, y), how, steps=400, seed=1) for _ in range(2))
    assert torch.equal(final, again) and torch.equal(theta, before)
    assert bool((NETWORK.loss(final, x, y) < NETWORK.loss(theta, x, y) - 0.02).all())


def test_updates_come_every_tau_theta_and_watching_can_end_a_training(task):
    theta, x, y = task
    seen = []
    how = Layerwise(method="weight", eta=0.01, tau_theta=5)
    watch = lambda done, now: seen.append(done) or done >= 15  # noqa: E731
    train(NETWORK, theta, lambda step: (x, y), how, steps=100, seed=0, watch=watch)
    assert seen == [5, 10, 15]


@pytest.mark.parametrize("settings", [{"tau_theta": 0}, {"norm": 0.0}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Layerwise(method="node", eta=0.1, **settings)
