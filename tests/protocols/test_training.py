"""Every training protocol: the loss falls, budgets and aborts are respected. Resuming has a file of its own."""

from __future__ import annotations

import itertools

import pytest
import torch
from safetensors.torch import load, save

from hil.errors import Aborted, LimitExceeded
from hil.layers import ChipBackward
from hil.program import ByPulses
from protocols.backpropagation import Backpropagation
from protocols.filters import Adam, Decay, LowPass, Threshold, UpdateNoise
from protocols.parts import Factors, Forgetful
from protocols.perturbation import NodePerturbation, WeightPerturbation
from protocols.pulsed_perturbation import PulsedPerturbation
from protocols.rules import SignedPulses, SignThreshold, WriteVerify
from protocols.training import Training
from protocols.transforms import Clip, Momentum, Residual, Sgd, StochasticRounding

SOURCES = {"node": NodePerturbation(norm=0.5), "weight": WeightPerturbation(norm=0.5)}
CHAINS = {
    "stochastic": (Sgd(eta=0.3), StochasticRounding()),
    "residual": (Sgd(eta=0.3, decay=1e-3), Residual()),
    "momentum": (Sgd(eta=0.05), Momentum(beta=0.8), StochasticRounding()),
    "clip": (Sgd(eta=0.3), Clip(rms=0.05), Residual()),
}
LAYERS = 2
ALL = list(itertools.product(SOURCES, CHAINS, (1, 4)))
every_protocol = pytest.mark.parametrize(("source", "chain", "tau"), ALL, ids=str)


def training(source, chain, tau, tau_x=1):
    return Training(source=SOURCES[source], transforms=CHAINS[chain], rule=SignedPulses(), tau_x=tau_x, tau_theta=tau)


@every_protocol
def test_the_loss_falls(bench, blobs, source, chain, tau):
    on = bench()
    protocol, start = training(source, chain, tau), on.cost(blobs(-1))
    on.train(protocol, protocol.init(on.network, 0), blobs, 100)
    assert on.cost(blobs(-1)) < 0.7 * start


@every_protocol
def test_the_wear_counts_every_pulse_and_the_budget_holds(bench, blobs, source, chain, tau):
    on, protocol = bench(limits={"pulses_per_run": 3}), training(source, chain, tau)
    with pytest.raises(LimitExceeded, match="pulses per run"):
        on.train(protocol, protocol.init(on.network, 0), blobs, 2000)
    sent, pulses = len(on.tap.lists), on.sim.chip.state["pulses"]
    assert on.tap.lists[-1] == ("Read",), "the refused list must not arrive"
    assert 0 < int(pulses.max()) <= 3
    torch.testing.assert_close(on.guard.wear.run, pulses.to(torch.int64))
    assert int(pulses.sum()) == on.guard.ledger.pulses
    with pytest.raises(LimitExceeded):
        on.network.backend.execute(_one_pulse_too_many(on))
    assert len(on.tap.lists) == sent


def _one_pulse_too_many(on):
    from hil.contract import Pulse, Shape

    layer = on.network.layers[0]
    blocks, writing = layer.matrices["W"].blocks, on.sim.spec.writing
    counts = torch.full(blocks.shape, 7, dtype=torch.int32)
    up = Shape(writing.up_volts, writing.seconds, writing.up_gate, None)
    return [Pulse(blocks, counts, up, up)]


@pytest.mark.parametrize("source", SOURCES)
def test_a_refused_update_leaves_the_biases_as_they_were(bench, blobs, source):
    on, protocol = bench(limits={"pulses_per_run": 1}), training(source, "stochastic", 1)
    state = protocol.init(on.network, 0)
    with pytest.raises(LimitExceeded):
        while True:
            before = {name: value.clone() for name, value in on.network.state_dict().items()}
            state = on.train(protocol, state, blobs, 1)
    for name, value in before.items():
        torch.testing.assert_close(on.network.state_dict()[name], value, rtol=0, atol=0)


@every_protocol
def test_a_step_is_at_most_one_list_a_layer_and_one_to_write(bench, blobs, source, chain, tau):
    on, protocol = bench(), training(source, chain, tau)
    state = protocol.init(on.network, 0)
    for step in range(8):
        before = len(on.tap.lists)
        state = on.train(protocol, state, blobs, 1)
        lists = on.tap.lists[before:]
        assert lists[:LAYERS] == [("Read",)] * LAYERS
        assert len(lists) <= LAYERS + ((step + 1) % tau == 0)
        assert all(set(kinds) == {"Pulse"} for kinds in lists[LAYERS:])


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_is_written_while_perturbing(bench, blobs, source):
    from protocols.parts import Key

    on = bench()
    cells, biases = on.cells, {name: value.clone() for name, value in on.network.state_dict().items()}
    SOURCES[source].estimate(on.network, blobs(0), Key(0, 0), 1, {})
    assert on.tap.lists == [("Read",)] * LAYERS
    assert int(on.sim.chip.state["pulses"].sum()) == 0
    torch.testing.assert_close(on.cells, cells, rtol=0, atol=0)
    for name, value in on.network.state_dict().items():
        torch.testing.assert_close(value, biases[name], rtol=0, atol=0)


@every_protocol
def test_an_abort_between_two_lists_ends_the_step_and_the_board_is_made_safe(bench, blobs, source, chain, tau):
    on, protocol = bench(), training(source, chain, tau)
    state = on.train(protocol, protocol.init(on.network, 0), blobs, tau)
    cells, sent = on.cells, len(on.tap.lists)
    on.tap.before = lambda: on.stop.abort("a test")  # the operator presses while the first list is on its way
    with pytest.raises(Aborted, match="a test"):
        on.train(protocol, state, blobs, 1)
    assert on.tap.lists[sent:] == [("Read",)]
    torch.testing.assert_close(on.cells, cells, rtol=0, atol=0)
    assert on.network.backend.make_safe().confirmed
    with pytest.raises(Aborted):
        on.cost(blobs(0))


@every_protocol
def test_the_state_can_be_saved_at_every_step(bench, blobs, source, chain, tau):
    """Plain float32 tensors, contiguous and with storage of their own."""
    on, protocol = bench(), training(source, chain, tau)
    state = protocol.init(on.network, 5)
    for _ in range(2 * tau + 1):
        assert state.seed == 5
        assert all(t.is_contiguous() and t.dtype is torch.float32 for t in state.tensors.values())
        assert len({t.data_ptr() for t in state.tensors.values()}) == len(state.tensors)
        assert not any(t.requires_grad for t in state.tensors.values())
        if state.tensors:
            assert load(save(state.tensors)).keys() == state.tensors.keys()
        state = on.train(protocol, state, blobs, 1)


@every_protocol
def test_a_step_leaves_the_old_state_alone(bench, blobs, source, chain, tau):
    on, protocol = bench(), training(source, chain, tau)
    state = on.train(protocol, protocol.init(on.network, 0), blobs, 3)
    kept = {name: value.clone() for name, value in state.tensors.items()}
    on.train(protocol, state, blobs, 1)
    assert state.step == 3
    assert state.tensors.keys() == kept.keys()
    for name, value in kept.items():
        torch.testing.assert_close(state.tensors[name], value, rtol=0, atol=0)


def test_a_batch_is_held_for_tau_x_steps():
    protocol = training("node", "residual", 1, tau_x=3)
    assert [protocol.batch_of(step) for step in range(8)] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_tau_theta_writes_the_mean_of_its_estimates(bench, blobs):
    """With residual rounding and a plain rate, four steps ask for -eta times the mean of four estimates."""
    from protocols.parts import Key

    on, protocol = bench(), training("node", "stochastic", 4)
    estimates = [protocol.source.estimate(on.network, blobs(0), Key(0, step, step), 4, {}) for step in range(4)]
    mean = torch.stack([e.layers["layer1"].bias for e in estimates]).mean(0)
    before = on.network.layers[0].bias.detach().clone()
    on.train(protocol, protocol.init(on.network, 0), lambda _: blobs(0), 4)
    torch.testing.assert_close(on.network.layers[0].bias.detach(), before - 0.3 * mean)


@pytest.mark.parametrize(
    ("transforms", "problem"),
    [
        ((), "exactly one sgd"),
        ((Residual(),), "exactly one sgd"),
        ((Sgd(eta=0.1), Sgd(eta=0.1)), "exactly one sgd"),
        ((Residual(), Sgd(eta=0.1)), "last"),
        ((Sgd(eta=0.1), Residual(), StochasticRounding()), "last"),
        ((Sgd(eta=0.1), Adam()), "adam must stand before sgd"),
        ((Threshold(above=0.1), Sgd(eta=0.1)), "threshold must stand after sgd"),
        ((UpdateNoise(std=0.1), Sgd(eta=0.1)), "update_noise must stand after sgd"),
    ],
)
def test_a_chain_that_makes_no_sense_is_refused(transforms, problem):
    with pytest.raises(ValueError, match=problem):
        Training(source=NodePerturbation(), transforms=transforms, rule=SignedPulses())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Sgd(eta=0.0),
        lambda: Sgd(eta=0.1, decay=-1.0),
        lambda: Momentum(beta=1.0),
        lambda: Clip(rms=0.0),
        lambda: NodePerturbation(norm=0.0),
        lambda: WeightPerturbation(norm=float("nan")),
        lambda: NodePerturbation(clip=0.0),
        lambda: SignedPulses(most=0),
        lambda: training("node", "residual", 0),
        lambda: training("node", "residual", 1, tau_x=0),
        lambda: Training(source=NodePerturbation(), transforms=(Sgd(eta=1.0),), rule=SignedPulses(), tau_p=0),
        lambda: Training(
            source=NodePerturbation(), transforms=(Sgd(eta=1.0),), rule=SignedPulses(), tau_p=2, tau_theta=3
        ),
        lambda: NodePerturbation(tau_hp=0.0),
        lambda: NodePerturbation(cost_noise=-1.0),
        lambda: PulsedPerturbation(pulses=0, budget=1),
        lambda: PulsedPerturbation(budget=0),
        lambda: Adam(beta1=1.0),
        lambda: LowPass(tau=0.0),
        lambda: Decay(halving=0.0),
        lambda: UpdateNoise(std=-1.0),
        lambda: Threshold(above=0.0),
        lambda: SignThreshold(above=-1.0),
        lambda: WriteVerify(above=-1.0, method=ByPulses(window=1e-6)),
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be"):
        wrong()


# -- what rules may ask for --------------------------------------------------------------------------------------------


class Counting(Forgetful):
    """A rule that takes factors, remembers how many updates it saw, and makes a second matrix visible."""

    factored = True
    beside = ("A",)

    def __init__(self):
        self.seen = []

    def start(self, network):
        return {"updates": torch.zeros((), dtype=torch.int64)}

    def show(self, network, memory):
        for layer in network.layers:
            layer.visible = {"W": layer.matrices["W"]} | ({"A": layer.matrices["A"]} if memory["updates"] else {})

    def write(self, network, change, memory, key):
        self.seen.append(change["layer2"])
        memory["updates"] = memory["updates"] + 1
        return {}


def test_rules_get_factors_keep_tensors_and_choose_what_is_visible(bench, blobs):
    rule = Counting()
    on = bench(backward=ChipBackward(), beside=rule.beside)
    blocks = [b for layer in on.network.layers for b in (layer.matrices["W"].blocks, layer.matrices["A"].blocks)]
    places = [place for b in blocks for place in zip(b.kernel, b.row, b.col, strict=True)]
    assert len(set(places)) == len(places)
    protocol = Training(source=Backpropagation(), transforms=(Sgd(eta=0.5),), rule=rule)
    state = on.train(protocol, protocol.init(on.network, 0), blobs, 2)
    assert int(state.tensors["rule/updates"]) == 2
    assert on.tap.lists[0] == ("Read",) and on.tap.lists[-1] == ("Read", "Read")
    first = rule.seen[0]
    assert isinstance(first, Factors) and first.x.shape == (24, 4) and first.d.shape == (24, 3)


def test_a_transform_that_needs_the_matrix_makes_it_dense(bench, blobs):
    rule = Counting()
    for chain in ((Sgd(eta=0.5),), (Sgd(eta=0.5), Clip(rms=1e9))):
        on = bench(backward=ChipBackward(), beside=rule.beside)
        protocol = Training(source=Backpropagation(), transforms=chain, rule=rule)
        on.train(protocol, protocol.init(on.network, 0), blobs, 1)
    factors, whole = rule.seen
    torch.testing.assert_close(factors.dense, whole)
