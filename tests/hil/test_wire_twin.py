"""A twin that knows the lines: it finds the cells behind them, and the matrix that the whole array makes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from hil.contract import Side
from hil.deployment import deploy
from hil.twin import MatrixTwin, TwinBackward
from hil.wire_twin import WireTwin
from sim_backend.wires import LineResistance, Wires

LINES = Wires(word_segment=20.0, bit_segment=20.0, driver=50.0, amplifier=50.0)


def board_with_lines(quiet_board, spec, lines=LINES):
    return quiet_board(spec, dtype="float64", physics={"wires": lines})


def errors_back(board, backward, n=3):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, n))
    network = deploy(model, board, backward=backward)
    layer = network.layers[0]
    x = torch.randn(8, 5, dtype=torch.float64, requires_grad=True)
    z = layer(x)
    d = torch.randn(z.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    z.backward(d)
    return x, d, layer, x.grad


def slope(layer, x, d, at=1e-3):
    """The gradient of sum(z * d) by differences, which go through the lines."""
    rows = []
    for i in range(x.shape[1]):
        step = torch.zeros_like(x)
        step[:, i] = at
        with torch.no_grad():
            rows.append(((layer(x + step) - layer(x - step)) * d).sum(1) / (2 * at))
    return torch.stack(rows, 1)


@pytest.mark.parametrize("drive", list(Side))
def test_errors_go_back_through_the_lines_as_they_are(quiet_board, spec_of, drive):
    spec = spec_of(drive=drive)
    board = board_with_lines(quiet_board, spec)
    x, d, layer, found = errors_back(board, TwinBackward(WireTwin(lines=LineResistance(LINES))))
    wanted = slope(layer, x.detach(), d)
    assert float((found - wanted).norm() / wanted.norm()) < 1e-3
    plain = TwinBackward(MatrixTwin())
    other, d2, layer2, rough = errors_back(board_with_lines(quiet_board, spec), plain)
    exact = slope(layer2, other.detach(), d2)
    assert float((rough - exact).norm() / exact.norm()) > 5e-3


def test_without_lines_it_is_a_matrix_twin(quiet_board, spec_of):
    a = errors_back(quiet_board(spec_of(), dtype="float64"), TwinBackward(MatrixTwin()))[3]
    b = errors_back(quiet_board(spec_of(), dtype="float64"), TwinBackward(WireTwin()))[3]
    ideal = LineResistance(replace(LINES, word_segment=0.0, bit_segment=0.0, driver=0.0, amplifier=0.0))
    c = errors_back(quiet_board(spec_of(), dtype="float64"), TwinBackward(WireTwin(lines=ideal)))[3]
    assert torch.equal(a, b)
    torch.testing.assert_close(a, c, rtol=1e-9, atol=0)
