"""Codes, baselines and forms on a board: exact where the theory is exact, and the same descent as the pure core."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from dense import Exact, change_cells, digital, exact_gradients, outputs
from torch.nn import functional as F

from hil.errors import UsageError
from protocols.core.codes import RandomCode, SequentialCode, SinusoidalCode, WalshCode
from protocols.core.descent import Descent, descend
from protocols.filters import LowPass
from protocols.parts import Batch, Key
from protocols.perturbation import NodePerturbation, WeightPerturbation
from protocols.training import Training
from protocols.transforms import Sgd

P = 44  # 5 * (3 + 1) + 4 * (5 + 1)
CODES = {"random": RandomCode(), "walsh": WalshCode(), "sinusoidal": SinusoidalCode(), "sequential": SequentialCode()}


def mean_estimate(network, samples, source, slots):
    """The mean of the estimates over slots; weights and bias of each layer in turn, as ``exact_gradients``."""
    memory, total = {}, None
    for slot in range(slots):
        found = source.estimate(network, samples, Key(0, slot, slot, slot == 0, slot == 0), slots, memory)
        parts = [part for layer in network.layers for part in (found.layers[layer.name].weights,
                                                              found.layers[layer.name].bias)]  # fmt: skip
        total = parts if total is None else [a + b for a, b in zip(total, parts, strict=True)]
    return [part / slots for part in total]


def flat(parts):
    return torch.cat([part.flatten() for part in parts])


def angle(a, b):
    return math.degrees(math.acos(min(1.0, float(F.cosine_similarity(flat(a), flat(b), dim=0)))))


@pytest.mark.parametrize("baseline", ["none", "once", "fresh", "two_sided"])
@pytest.mark.parametrize("source", [NodePerturbation, WeightPerturbation, "network"], ids=str)
def test_walsh_is_exact_after_one_period(ideal, samples, source, baseline):
    settings = {"norm": 0.01, "code": WalshCode(), "normalised": False, "baseline": baseline}
    if source == "network":
        chosen, period = WeightPerturbation(together="network", **settings), WalshCode().period(P)
    else:
        chosen, period = source(**settings), 8 if source is NodePerturbation else 32
    found, exact = mean_estimate(ideal, samples, chosen, period), exact_gradients(ideal, samples)
    assert angle(found, exact) < 0.5
    assert float(flat(found).norm() / flat(exact).norm()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("baseline", ["once", "fresh"])
def test_sequential_is_the_finite_difference_of_the_board_s_own_cost(ideal, samples, baseline):
    norm = 1e-3

    def cost():
        return float(ideal.loss(ideal(samples.x).detach(), samples.y).mean())

    source = WeightPerturbation(
        together="network", norm=norm, code=SequentialCode(), normalised=False, baseline=baseline
    )
    found, still = mean_estimate(ideal, samples, source, P), cost()
    for number, layer in enumerate(ideal.layers):
        weights, bias = torch.zeros_like(found[2 * number]), torch.zeros_like(found[2 * number + 1])
        for o in range(layer.n_out):
            for i in range(layer.n_in):
                one = torch.zeros_like(weights)
                one[o, i] = norm
                change_cells(ideal, layer, one)
                weights[o, i] = (cost() - still) / norm
                change_cells(ideal, layer, -one)
            with torch.no_grad():
                layer.bias[o] += norm
                bias[o] = (cost() - still) / norm
                layer.bias[o] -= norm
        torch.testing.assert_close(found[2 * number], weights, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(found[2 * number + 1], bias, rtol=1e-7, atol=1e-9)


def test_tones_come_apart_with_time(ideal, samples):
    source = WeightPerturbation(together="network", norm=0.01, code=SinusoidalCode(), normalised=False, baseline="once")
    found, exact = mean_estimate(ideal, samples, source, 1500), exact_gradients(ideal, samples)
    assert angle(found, exact) < 4.0


@pytest.mark.parametrize("source", [NodePerturbation, WeightPerturbation])
def test_no_baseline_needs_whole_periods_of_walsh(ideal, samples, source):
    for code in (RandomCode(), SequentialCode(), SinusoidalCode()):
        with pytest.raises(ValueError, match="baseline none needs the walsh code, got"):
            source(baseline="none", code=code)
    protocol = Training(
        source=source(baseline="none", code=WalshCode()), transforms=(Sgd(eta=0.1),), rule=Exact(), tau_theta=12
    )
    with pytest.raises(UsageError, match=r"tau_theta must be a multiple of (8|32) patterns, got 12"):
        protocol.step(protocol.init(ideal, 0), ideal, samples)


@pytest.mark.parametrize("code", ["random", "walsh", "sinusoidal"])
@pytest.mark.parametrize("source", [NodePerturbation, WeightPerturbation])
def test_layers_of_equal_shape_get_different_patterns(source, code, quiet_board):
    from torch import nn

    from hil.deployment import place_model
    from hil.lowering import Lowering

    network = place_model(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).double(), Lowering(quiet_board()))
    batch = Batch(torch.ones(1, 3, dtype=torch.float64), torch.zeros(1, dtype=torch.long))
    chosen, same = source(code=CODES[code]), 0
    for slot in range(12):
        first, second = (g.bias for g in chosen.estimate(network, batch, Key(0, slot, slot), 1, {}).layers.values())
        same += torch.allclose(first / first.abs().max(), second / second.abs().max())
        same += torch.allclose(first / first.abs().max(), -second / second.abs().max())
    assert same < 6


# -- the same descent as the pure core ---------------------------------------------------------------------------------


def parameters(network):
    return torch.cat([torch.cat((w, b.unsqueeze(1)), 1).flatten() for w, b in digital(network)]).unsqueeze(0)


def cost_of(batch):
    """The cost of parameters in the order of ``parameters``, for the core."""

    def cost(theta, sample):
        samples, found = batch(sample), []
        for row in theta.flatten(0, -2):
            first, second = row[:20].view(5, 4), row[20:].view(4, 6)
            layers = [(first[:, :-1], first[:, -1]), (second[:, :-1], second[:, -1])]
            found.append(F.cross_entropy(outputs(layers, samples.x), samples.y))
        return torch.stack(found).view(theta.shape[:-1])

    return cost


def some(number):
    source = torch.Generator().manual_seed(number)
    x = 2 * torch.rand(7, 3, generator=source, dtype=torch.float64) - 1
    return Batch(x, torch.randint(0, 4, (7,), generator=source))


def trained(network, protocol, steps):
    state = protocol.init(network, 5)
    for _ in range(steps):
        state, _ = protocol.step(state, network, some(protocol.batch_of(state.step)))
    return parameters(network)


@pytest.mark.parametrize("tau_p", [1, 2])
@pytest.mark.parametrize("code", ["random", "walsh", "sinusoidal"])
def test_the_analog_form_is_that_of_the_core(ideal, code, tau_p):
    """High-pass, blanking at a new batch, low-pass, update in every step: to rounding, after 30 steps.

    The core updates before it measures, so it takes one slot more; its rate is eta / P.
    """
    start, steps = parameters(ideal), 30
    source = WeightPerturbation(
        together="network", norm=0.05, code=CODES[code], normalised=False, baseline="high_pass", tau_hp=1.6
    )
    chain = (LowPass(tau=6.0), Sgd(eta=0.2))
    house = trained(ideal, Training(source=source, transforms=chain, rule=Exact(), tau_p=tau_p, tau_x=5), steps)
    how = Descent(form="analog", code=CODES[code], norm=0.05, eta=0.2 * P, tau_p=tau_p, tau_x=5, tau_theta=6)
    core = descend(cost_of(some), start, how, steps=steps + 1, seed=5, stream="weight")
    torch.testing.assert_close(house, core, rtol=1e-7, atol=1e-9)
    assert float((core - start).norm()) > 0.05


@pytest.mark.parametrize(
    ("code", "baseline"), [*itertools.product(CODES, ("once", "fresh", "two_sided")), ("walsh", "none")]
)
def test_the_discrete_form_is_that_of_the_core(ideal, code, baseline):
    start = parameters(ideal)
    source = WeightPerturbation(together="network", norm=0.05, code=CODES[code], baseline=baseline)
    times = {"tau_p": 2, "tau_x": 3, "tau_theta": 128 if baseline == "none" else 4}
    steps = 2 * times["tau_theta"] if baseline == "none" else 24
    house = trained(ideal, Training(source=source, transforms=(Sgd(eta=0.5),), rule=Exact(), **times), steps)
    how = Descent(code=CODES[code], norm=0.05, eta=0.5, baseline=baseline, normalised=True, **times)
    core = descend(cost_of(some), start, how, steps=steps, seed=5, stream="weight")
    torch.testing.assert_close(house, core, rtol=1e-7, atol=1e-9)
    assert float((core - start).norm()) > 0.01


# -- what it costs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("together", "baseline", "first", "later"),
    [
        ("layer", "fresh", [7, 14], [7, 14]),
        ("layer", "two_sided", [7, 21], [7, 21]),
        ("network", "fresh", [7, 14], [7, 14]),
        ("network", "once", [7, 14], [7, 7]),
        ("network", "none", [7, 7], [7, 7]),
        ("network", "high_pass", [7, 7], [7, 7]),
        ("network", "two_sided", [7, 14], [7, 14]),
    ],
)
def test_vectors_that_are_read(ideal, samples, mocker, together, baseline, first, later):
    """The baseline that is used once is not measured again while samples and parameters stay."""
    source = WeightPerturbation(together=together, baseline=baseline, code=WalshCode())
    sent, memory = mocker.spy(ideal.backend, "execute"), {}
    for slot, expected in enumerate([first, later, first]):
        sent.reset_mock()
        changed = slot != 1
        source.estimate(ideal, samples, Key(0, slot, slot, changed, changed), 64, memory)
        assert [call.args[0][0].volts.shape[1] for call in sent.call_args_list] == expected


def test_the_baseline_is_measured_after_every_update_and_new_batch(ideal):
    """tau_x 6 and tau_theta 4: new samples at 0, 6, 12, new parameters at 0, 4, 8, 12."""
    asked = []

    class Watched:
        def estimate(self, network, batch, key, slots, memory):
            asked.append((key.new_batch, key.changed))
            return NodePerturbation().estimate(network, batch, key, slots, memory)

    protocol = Training(source=Watched(), transforms=(Sgd(eta=0.1),), rule=Exact(), tau_x=6, tau_theta=4)
    trained(ideal, protocol, 13)
    assert [n for n, (new, _) in enumerate(asked) if new] == [0, 6, 12]
    assert [n for n, (_, changed) in enumerate(asked) if changed] == [0, 4, 6, 8, 12]
