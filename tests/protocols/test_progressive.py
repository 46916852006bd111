"""Progressive fine-tuning on a board with faults: the later layers absorb what the earlier ones got wrong."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hil.deployment import place_model, set_biases, write_weights
from hil.mapping import usual_mapping
from hil.program import ByPulses
from hil.protocol import Batch
from protocols.baselines import Software
from protocols.progressive import Progressive
from sim_backend.faults import Faults

METHOD = ByPulses(window=4e-6, rounds=12, allowed=1.0)


def points(number, count=200):
    """Four clouds in six dimensions."""
    centres = torch.randn(4, 6, generator=torch.Generator().manual_seed(3)).sign() * 0.4
    source = torch.Generator().manual_seed(number)
    y = torch.arange(count) % 4
    return Batch((centres[y] + 0.25 * torch.randn(count, 6, generator=source)).clamp(-1, 1), y)


@pytest.fixture
def deployments(quiet_board, spec_of):
    """``deployments(seed)``: the same trained model on two equal faulty boards, mapped plainly and progressively."""

    def build(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
        Software(optimiser="adam", eta=0.02, steps=150).train(model, points, "cross_entropy")
        networks = []
        for progressive in (False, True):
            board = quiet_board(spec_of(kernels=24), seed=seed, dtype="float32", faults=Faults(fraction=0.15, open=1.0))
            network = place_model(model, board, mapping=usual_mapping(board.spec, w_max=2.0))
            if progressive:
                tuned = copy.deepcopy(model)
                how = Progressive(tuning=Software(optimiser="adam", eta=0.02, steps=150), seed=seed)
                how.deploy(network, tuned, points(-2), METHOD, "cross_entropy")
                assert torch.equal(tuned[0].weight, model[0].weight) and not torch.equal(
                    tuned[4].weight, model[4].weight
                )
                torch.testing.assert_close(network.layers[2].bias, tuned[4].bias, rtol=0, atol=0)
            else:
                write_weights(network, model, METHOD)
                set_biases(network, model)
            networks.append(network)
        return networks

    return build


def cost(network):
    test = points(-1, 400)
    return float(network.loss(network(test.x).detach(), test.y).mean())


def test_it_improves_over_plain_mapping(deployments):
    plain, tuned = zip(*([cost(network) for network in deployments(seed)] for seed in range(4)), strict=True)
    assert sum(tuned) < 0.7 * sum(plain)
    assert sum(b < a for a, b in zip(plain, tuned, strict=True)) >= 3


def test_it_is_deterministic_and_reports_every_layer(deployments):
    one, again = (deployments(1)[1] for _ in range(2))
    assert cost(one) == cost(again)
    assert list(one.reports) == ["layer1", "layer2", "layer3"]


def test_layers_are_measured_in_turn_and_the_last_one_is_not(quiet_board, spec_of, mocker):
    board = quiet_board(spec_of(kernels=24), dtype="float32")
    model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, 4))
    network = place_model(model, board, mapping=usual_mapping(board.spec))
    sent = mocker.spy(board, "execute")
    Progressive(tuning=Software(steps=3)).deploy(network, model, points(0), METHOD, "cross_entropy")
    assert sum(type(call.args[0][0]).__name__ == "Read" for call in sent.call_args_list) == 1
    assert not bool(network.layers[0].bias.any())
