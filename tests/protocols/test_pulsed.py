"""Weight perturbation by real pulses: what it writes, when it stops, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hil.contract import Pulse
from hil.deployment import place_model
from hil.errors import LimitExceeded, Unsupported
from hil.mapping import usual_mapping
from protocols.parts import Key
from protocols.perturbation import WeightPerturbation
from protocols.pulsed_perturbation import PulsedPerturbation
from protocols.rules import SignedPulses
from protocols.training import Training
from protocols.transforms import Residual, Sgd


@pytest.mark.parametrize("pulses", [1, 2, 3])
def test_every_cell_gets_its_pulses_back(bench, blobs, mocker, pulses):
    on, source = bench(), PulsedPerturbation(pulses=pulses, budget=1000)
    sent = mocker.spy(on.tap.board, "execute")
    for step in range(4):
        source.estimate(on.network, blobs(0), Key(0, step, step), 1, {})
    lists = [call.args[0] for call in sent.call_args_list if isinstance(call.args[0][0], Pulse)]
    assert len(lists) == 8
    for there, back in zip(lists[::2], lists[1::2], strict=True):
        for a, b in zip(there, back, strict=True):
            assert bool((a.counts + b.counts == 0).all())
            assert bool(a.counts.any()) and int(a.counts.abs().max()) <= -(-pulses // 2)


@pytest.mark.parametrize(("pulses", "budget", "steps"), [(2, 7, 3), (1, 4, 2), (3, 11, 2)])
def test_the_budget_holds_and_nothing_is_perturbed_above_it(bench, blobs, pulses, budget, steps):
    on = bench()
    source = PulsedPerturbation(pulses=pulses, budget=budget)
    protocol = Training(source=source, transforms=(Sgd(eta=1e-9),), rule=SignedPulses())
    state = on.train(protocol, protocol.init(on.network, 0), blobs, steps)
    worn, sent = on.guard.wear.run.clone(), len(on.tap.lists)
    assert 0 < int(worn.max()) <= budget
    assert int(worn.sum()) == on.guard.ledger.pulses > 0  # the wear of the chip counts perturbations as well
    with pytest.raises(LimitExceeded, match=rf"perturbation pulses per cell .* {budget}.*source\.budget"):
        on.train(protocol, state, blobs, 1)
    assert len(on.tap.lists) == sent
    torch.testing.assert_close(on.guard.wear.run, worn)


@pytest.fixture
def fine(quiet_board, spec_of):
    """``fine(states)``: a 2-4-3 network on a noise-free board whose cells have many states."""

    def build(states):
        torch.manual_seed(0)
        board = quiet_board(spec_of(writing={"step": 2e-4 / states}), states=float(states))
        model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
        return place_model(model, board, mapping=usual_mapping(board.spec, w_max=6.0))

    return build


def test_it_learns(fine, blobs):
    """Each step pulls the cells towards their symmetric point by two pulses, so states must be many."""
    network, test = fine(4000), blobs(-1)
    source = PulsedPerturbation(pulses=1, budget=10_000)
    protocol = Training(source=source, transforms=(Sgd(eta=0.3), Residual()), rule=SignedPulses(most=1000))
    state = protocol.init(network, 0)
    for step in range(200):
        state, _ = protocol.step(state, network, blobs(step))
    out = network(test.x).detach()
    assert float(network.loss(out, test.y).mean()) < 0.3
    assert bool(network.correct(out, test.y).all())


def test_estimates_point_downhill(fine, blobs):
    """The mean of many is that of the digital shadow, up to the scatter of random codes: cosine 0.95 at T = 250."""
    network, means = fine(100_000), []
    for source in (PulsedPerturbation(budget=10_000), WeightPerturbation(norm=1e-3, together="network")):
        seen = [source.estimate(network, blobs(0), Key(0, n, n), 1, {}).layers for n in range(250)]
        parts = [getattr(s[f"layer{k}"], part).flatten() for s in seen for k in (1, 2) for part in ("weights", "bias")]
        means.append(torch.cat(parts).view(250, -1).mean(0))
    assert float(torch.nn.functional.cosine_similarity(*means, dim=0)) > 0.75
    assert float(means[0].norm() / means[1].norm()) == pytest.approx(1.0, abs=0.3)


def test_a_board_that_does_not_pulse_is_refused(quiet_board, spec_of, blobs):
    network = place_model(nn.Sequential(nn.Linear(2, 3)), quiet_board(spec_of(ops=("Read", "ReadCells"))))
    with pytest.raises(Unsupported, match=r"board tiny cannot do perturbation by pulses: it does not pulse cells"):
        PulsedPerturbation(budget=10).estimate(network, blobs(0), Key(0, 0), 1, {})
