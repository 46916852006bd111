"""The software baselines: the same model, cost and batches without a chip."""

import pytest
import torch
from torch import nn

from protocols.baselines import Software, software_cost


def trained(blobs, optimiser, eta):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
    Software(optimiser=optimiser, eta=eta, steps=80).train(model, blobs, "cross_entropy")
    return model


@pytest.mark.parametrize(("optimiser", "eta"), [("sgd", 1.0), ("adam", 0.05)])
def test_a_baseline_learns_and_is_deterministic(blobs, optimiser, eta):
    model, again = trained(blobs, optimiser, eta), trained(blobs, optimiser, eta)
    test = blobs(-1)
    assert float((model(test.x).argmax(1) == test.y).float().mean()) == 1.0
    for mine, theirs in zip(model.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("cost", ["cross_entropy", "mse"])
def test_its_cost_is_the_network_s(bench, cost):
    network = bench().network
    network.cost = cost
    out = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    y = torch.arange(6) % 3 if cost == "cross_entropy" else torch.rand(6, 3)
    torch.testing.assert_close(software_cost(out, y, cost).double(), network.loss(out, y).mean(), rtol=1e-5, atol=1e-7)
