"""A twin notices that it is out of date."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hil.contract import Pulse, Range
from hil.deployment import place_model
from hil.twin import MatrixTwin, TwinBackward, read_siemens, read_weights
from hil.usual import usual_pulse


@pytest.fixture
def trained(spec_of, noisy_board):
    """``trained(**twin)``: a layer on a noisy chip and its twin."""

    def build(**twin):
        torch.manual_seed(0)
        rule = TwinBackward(MatrixTwin(**twin))
        model = nn.Sequential(nn.Linear(10, 6))
        network = place_model(model, noisy_board(noisy_spec(spec_of), fraction=0.0), backward=rule)
        return network.layers[0], rule.twin

    return build


def noisy_spec(spec_of):
    return spec_of(kernels=8, reading={"volts_step": 1e-3, "ranges": (Range(negative=4e-4, positive=4e-4, step=1e-7),)})


def inputs(seed: int) -> torch.Tensor:
    return 2 * torch.rand((16, 10), generator=torch.Generator().manual_seed(seed)) - 1


def test_a_fresh_twin_is_as_far_from_the_chip_as_the_read_noise(trained):
    layer, twin = trained(averages=64)
    twin.reread(layer)
    x = inputs(0)
    products = torch.stack([layer.measure(x) for _ in range(40)])
    noise = products.std(0).square().mean().sqrt()
    floor = float(noise / products.square().mean().sqrt())
    assert 0.8 * floor < twin.distance(layer) < 1.5 * floor
    assert twin.distance(layer) < 0.2 and not twin.rereads


def test_more_averages_make_a_better_twin(trained):
    errors = []
    for averages in (1, 64):
        layer, twin = trained(averages=averages)
        exact = layer.matrices["W"].weights(chip_cells(layer))
        errors.append(float((twin.reread(layer).weights - exact).square().mean().sqrt()))
    assert errors[1] < errors[0] / 3


def chip_cells(layer) -> torch.Tensor:
    blocks = layer.matrices["W"].blocks
    g = layer.backend.chip.state["g"]
    where = zip(blocks.kernel, blocks.row, blocks.col, strict=True)
    return torch.stack([g[k, r : r + blocks.n_rows, c : c + blocks.n_cols] for k, r, c in where])


def update(layer, seed: int) -> None:
    """Random signed pulses through the chip."""
    blocks = layer.matrices["W"].blocks
    counts = torch.randint(-1, 2, blocks.shape, generator=torch.Generator().manual_seed(seed))
    layer.backend.execute([Pulse(blocks, counts, usual_pulse(layer.backend, True), usual_pulse(layer.backend, False))])


def test_a_stale_twin_is_noticed_and_read_again(trained):
    layer, twin = trained(bound=0.15, every=10_000, averages=16)
    twin.reread(layer)
    stale = twin.weights(layer).clone()
    for step in range(200):
        update(layer, step)
        layer.measure(inputs(step))
        before = twin.distance(layer)
        reads = len(twin.rereads)
        twin.weights(layer)  # what a backward pass uses
        assert before <= 0.15 or (len(twin.rereads) == reads + 1 and twin.distance(layer) == 0.0)
    assert twin.rereads and all(r.layer == layer.name and r.distance > 0.15 and r.age > 0 for r in twin.rereads)
    now = read_weights(layer.matrices["W"], layer.backend, 16)
    assert float((twin.weights(layer) - now).norm() / now.norm()) < 0.3
    assert float((stale - now).norm() / now.norm()) > 0.5


def test_a_twin_is_read_again_after_its_number_of_products(trained):
    layer, twin = trained(bound=float("inf"), every=5)
    for step in range(12):
        twin.weights(layer)
        layer.measure(inputs(step))
    assert [r.age for r in twin.rereads] == [5, 5]


def test_a_twin_that_was_never_read_is_read_at_its_first_use(trained):
    layer, twin = trained()
    assert twin.distance(layer) == float("inf")
    layer.measure(inputs(0))
    assert twin.weights(layer).shape == (6, 10) and not twin.rereads


def test_siemens_are_read_at_the_cell_voltage(trained):
    layer, _ = trained()
    g = read_siemens(layer.matrices["W"], layer.backend, 64)
    assert float((g - chip_cells(layer)).abs().max()) < 1e-6
