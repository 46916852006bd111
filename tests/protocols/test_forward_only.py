import pytest
import torch

from protocols.core.forward_only import embedded, local_error, local_factors, loss, scores, wrong_labels
from protocols.core.reset_only import ResetOnly


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("positive", [True, False])
def test_a_layer_s_error_is_the_derivative_of_its_own_loss(positive):
    z = drawn(5, 4).requires_grad_()
    h = torch.relu(z)
    good, none = h.square().sum(-1), torch.tensor(0.0, dtype=torch.float64)
    cost = loss(good, none - 1e9, 2.0) if positive else loss(none + 1e9, good, 2.0)
    cost.sum().backward()
    torch.testing.assert_close(local_error(h.detach(), positive, 2.0), -z.grad)


def test_every_layer_gets_an_input_of_length_one_and_no_error_from_the_next():
    weights = [drawn(6, 5), drawn(3, 6, seed=1)]
    found = local_factors(lambda n, x: x @ weights[n].T, 2, drawn(4, 5, seed=2), True, (1.0, 1.0))
    torch.testing.assert_close(found[1][0].square().sum(-1), torch.ones(4, dtype=torch.float64))
    weights[1] = 2 * weights[1]
    again = local_factors(lambda n, x: x @ weights[n].T, 2, drawn(4, 5, seed=2), True, (1.0, 1.0))
    assert torch.equal(found[0][1], again[0][1]) and not torch.equal(found[1][1], again[1][1])


def test_a_wrong_label_is_never_the_right_one_and_the_largest_goodness_wins():
    labels = torch.arange(300) % 3
    wrong = wrong_labels(labels, 3, torch.Generator().manual_seed(0))
    assert bool((wrong != labels).all()) and sorted(set(wrong.tolist())) == [0, 1, 2]
    assert embedded(torch.zeros(2, 1), torch.tensor([0, 2]), 3).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
    by_label = torch.tensor([[0.0, 1.0, 3.0, 2.0]])  # a layer that only looks at the label
    assert scores(lambda n, x: x @ by_label.T, 1, torch.zeros(1, 1), 3).tolist() == [[1.0, 9.0, 4.0]]


def test_pulses_only_lower_conductances_and_move_the_weight_as_wanted():
    device, weights = ResetOnly(step=0.02), torch.linspace(-0.5, 0.5, 11, dtype=torch.float64)
    pair = device.fresh(weights)
    torch.testing.assert_close(device.weights(pair), weights)
    for sign in (1, -1):
        after = device.pulsed(pair, torch.full((11,), sign))
        assert all(bool((b <= a).all()) for a, b in zip(pair, after, strict=True))
        assert bool(((device.weights(after) - weights).sign() == sign).all())


def test_the_budget_is_the_number_of_pulses_until_a_cell_is_spent_and_forming_anew_keeps_the_weight():
    device = ResetOnly(step=0.1, spent=0.25)
    pair = device.fresh(torch.tensor([0.3], dtype=torch.float64))
    left, pulses = float(device.left(pair)), 0
    while float(device.left(pair)) > 0:
        pair, pulses = device.pulsed(pair, torch.tensor([1])), pulses + 1
    assert pulses == pytest.approx(left, abs=1)
    weight = device.weights(pair)
    renewed, spent = device.renewed(pair)
    assert bool(spent.all()) and float(torch.maximum(*renewed)) == 1.0
    torch.testing.assert_close(device.weights(renewed), weight)
