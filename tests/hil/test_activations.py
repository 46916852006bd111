"""Activations, and neurons with defects."""

from __future__ import annotations

import pytest
import torch

from hil.activations import ACTIVATIONS, Defective, defective


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_without_defects_it_is_the_activation_itself(name):
    z = torch.randn(5, 7, generator=source())
    torch.testing.assert_close(defective(ACTIVATIONS[name], 7, 0.0, source())(z), ACTIVATIONS[name](z))


def test_a_defect_moves_what_its_name_says():
    """L / (1 + exp(-k (z - x0))) + y0 for a sigmoid."""
    height, slope, shift, offset = torch.tensor([[2.0, 1.0], [1.0, 3.0], [0.0, 0.5], [0.1, 0.0]])
    found = Defective(torch.sigmoid, height, slope, shift, offset)(torch.tensor([[0.3, 0.4]]))
    by_hand = [2 / (1 + 2.718281828**-0.3) + 0.1, 1 / (1 + 2.718281828 ** (-3 * (0.4 - 0.5)))]
    torch.testing.assert_close(found, torch.tensor([by_hand]))


def test_defects_have_their_spread_and_belong_to_their_source():
    found = defective(torch.tanh, 20_000, 0.2, source(1))
    for part, mean in ((found.height, 1.0), (found.slope, 1.0), (found.shift, 0.0), (found.offset, 0.0)):
        assert float(part.mean()) == pytest.approx(mean, abs=0.01)
        assert float(part.std()) == pytest.approx(0.2, rel=0.03)
    again, other = defective(torch.tanh, 20_000, 0.2, source(1)), defective(torch.tanh, 20_000, 0.2, source(2))
    assert torch.equal(found.slope, again.slope) and not torch.equal(found.slope, other.slope)
    parts = torch.stack([found.height, found.slope, found.shift, found.offset])
    assert float((torch.corrcoef(parts) - torch.eye(4)).abs().max()) < 0.03


def test_gradients_go_through_defects():
    z = torch.randn(3, 4, dtype=torch.float64, generator=source(), requires_grad=True)
    assert torch.autograd.gradcheck(defective(torch.tanh, 4, 0.3, source()), (z,))
