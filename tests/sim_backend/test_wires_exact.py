"""Shapes, formats, refusals and gradients of the exact methods."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from hil.contract import Bias
from hil.errors import UsageError
from sim_backend.wires import (
    Ends,
    NotConverged,
    adjoint,
    approximate_matrix,
    network,
    select,
    series,
    solve,
    transfer_matrix,
)
from sim_backend.wires.circuit import Line
from sim_backend.wires.ladders import Ladders

RICH = Ends(driver=40.0, amplifier=15.0, word_both_sides=True, bit_both_sides=True)


def cells(*shape, dtype=torch.float64):
    return 1e-5 + 9e-4 * torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(4))


def volts(*shape, dtype=torch.float64):
    return torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(5)) - 0.5


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_leading_dimensions_are_tiles(lead):
    g, drive = cells(*lead, 4, 6), volts(*lead, 2, 4)
    k, found = transfer_matrix(g, 1.0, 2.0), solve(g, drive, 1.0, 2.0)
    assert k.shape == g.shape and found.currents.shape == (*lead, 2, 6)
    assert found.word.shape == found.bit.shape == found.drop.shape == (*lead, 2, 4, 6)
    assert found.residual.shape == (*lead, 2)
    torch.testing.assert_close(drive @ k, found.currents, rtol=1e-9, atol=1e-15)
    last = (0,) * len(lead)
    assert torch.equal(transfer_matrix(g[last], 1.0, 2.0), k[last])


def test_one_feed_serves_all_tiles():
    g, drive = cells(3, 4, 6), volts(2, 4)
    torch.testing.assert_close(solve(g, drive, 1.0, 2.0).currents, drive @ transfer_matrix(g, 1.0, 2.0))


def test_float32_is_computed_in_float64():
    g = cells(2, 40, 30, dtype=torch.float32)
    k = transfer_matrix(g, 2.0, 2.0)
    assert k.dtype is torch.float32
    assert torch.equal(k, transfer_matrix(g.double(), 2.0, 2.0).float())
    found = solve(g, volts(2, 3, 40, dtype=torch.float32), 2.0, 2.0)
    assert found.currents.dtype is found.word.dtype is found.bit.dtype is torch.float32


def test_long_lossy_lines_do_not_underflow():
    """100 mS cells behind 100 ohm segments: a voltage falls 12-fold at every cell, to 1e-113 at the end of a line."""
    g = torch.full((1, 110, 105), 0.1, dtype=torch.float64)
    assert Ladders(g.numpy(), Line(100.0, 100.0)).generators()[2] is not None
    k, drive = transfer_matrix(g, 100.0, 100.0), torch.ones(1, 1, 110, dtype=torch.float64)
    found = solve(g, drive, 100.0, 100.0, 1e-12)
    assert bool(torch.isfinite(k).all())
    torch.testing.assert_close(drive @ k, found.currents, rtol=1e-9, atol=1e-18)


def test_a_second_call_is_the_same():
    g, drive = cells(5, 5), volts(3, 5)
    assert torch.equal(transfer_matrix(g, 1.0, 2.0), transfer_matrix(g, 1.0, 2.0))
    one, two = solve(g, drive, 1.0, 2.0), solve(g, drive, 1.0, 2.0)
    assert torch.equal(one.currents, two.currents) and one.iterations == two.iterations


def test_a_vector_does_not_depend_on_its_neighbours():
    g, drive = cells(20, 20), volts(3, 20)
    drive[1] *= 1e-3
    for b in range(3):
        alone = solve(g, drive[b : b + 1], 3.0, 3.0).currents
        torch.testing.assert_close(solve(g, drive, 3.0, 3.0).currents[b : b + 1], alone, rtol=1e-14, atol=0.0)


def test_no_volts_no_current():
    found = solve(cells(4, 5), torch.zeros(2, 4, dtype=torch.float64), 1.0, 2.0)
    assert not found.currents.any() and not found.residual.any()


def test_open_cells_carry_nothing():
    assert not transfer_matrix(torch.zeros(3, 4), 1.0, 2.0).any()


def test_tolerance_is_kept():
    g, drive = cells(40, 40), volts(2, 40)
    rough, fine = solve(g, drive, 5.0, 5.0, 1e-3), solve(g, drive, 5.0, 5.0, 1e-12)
    assert rough.iterations < fine.iterations
    assert rough.residual.max() <= 1e-3 and fine.residual.max() <= 1e-12
    assert (rough.currents - fine.currents).abs().max() > 1e-9 * fine.currents.abs().max()


def test_what_does_not_converge_is_refused(mocker):
    mocker.patch.object(network, "_PER_LINE", 0)
    with pytest.raises(NotConverged, match="residual .* after 0 iterations, asked for 1e-10"):
        solve(cells(4, 4), volts(1, 4), 5.0, 5.0)
    with pytest.raises(UsageError, match="tol must be above 0"):
        solve(cells(4, 4), volts(1, 4), 5.0, 5.0, 0.0)


@pytest.mark.parametrize(
    ("g", "ohms", "problem"),
    [
        (torch.tensor([[1e-4, -1e-6]]), 1.0, "from -1e-06 S to 0.0001 S"),
        (torch.tensor([[1e-4, math.nan]]), 1.0, "finite"),
        (torch.tensor([[1e-4, math.inf]]), 1.0, "finite"),
        (torch.tensor([1e-4]), 1.0, "rows, columns"),
        (torch.ones(2, 2, dtype=torch.int64), 1.0, "floats"),
        (torch.ones(0, 3), 1.0, r"\(0, 3\)"),
        (torch.ones(2, 2), -1.0, "r_word .* -1 ohm"),
        (torch.ones(2, 2), math.inf, "r_word"),
    ],
)
def test_senseless_cells_and_lines_are_refused(g, ohms, problem):
    for method in (transfer_matrix, approximate_matrix):
        with pytest.raises(UsageError, match=problem):
            method(g, ohms, 1.0)


@pytest.mark.parametrize(
    "drive", [torch.zeros(4), torch.zeros(2, 5), torch.zeros(3, 2, 4), torch.full((1, 4), math.nan)]
)
def test_volts_that_do_not_fit_are_refused(drive):
    with pytest.raises(UsageError, match="volts"):
        solve(cells(2, 4, 6, dtype=torch.float32), drive, 1.0, 1.0)


def test_selected_cells_must_exist():
    with pytest.raises(UsageError, match="inside 2 rows and 3 columns"):
        select(
            cells(2, 3), torch.tensor([2]), torch.tensor([0]), 1.0, r_word=1.0, r_bit=1.0, unselected=Bias.FLOAT
        )  # fmt: skip


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 4, 2)])
@pytest.mark.parametrize(
    ("r_word", "r_bit", "ends"),
    [(200.0, 300.0, Ends()), (0.0, 300.0, Ends()), (200.0, 0.0, RICH), (0.0, 0.0, RICH), (200.0, 300.0, RICH)],
)
def test_gradients_against_differences(shape, r_word, r_bit, ends):
    """Cells in mS, so that one step of differences suits them; the lines take a good part of the voltage."""
    g = (1e3 * cells(*shape)).requires_grad_()
    drive = volts(shape[0], 2, shape[1]).requires_grad_()
    feet = volts(shape[0], 2, shape[2]).requires_grad_()
    assert gradcheck(lambda g: transfer_matrix(g * 1e-3, r_word, r_bit, ends=ends) * 1e3, (g,))
    assert gradcheck(lambda g, v: solve(g * 1e-3, v, r_word, r_bit, 1e-13, ends=ends).currents * 1e3, (g, drive))
    assert gradcheck(
        lambda g, v, u: solve(g * 1e-3, v, r_word, r_bit, 1e-13, ends=ends, feet=u).currents * 1e3, (g, drive, feet)
    )


@pytest.mark.parametrize("held", [1, 3 * 9 * 9 * 7])
def test_gradients_do_not_depend_on_the_memory_they_get(held, mocker):
    """Tile by tile, or vector by vector where one tile is too much."""
    found = []
    for most in (adjoint._HELD, held):
        mocker.patch.object(adjoint, "_HELD", most)
        g = cells(4, 9, 7).requires_grad_()
        (transfer_matrix(g, 20.0, 30.0) * volts(4, 9, 7)).sum().backward()
        found.append(g.grad)
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


def test_gradients_go_through_the_transistor():
    g = (1e3 * cells(2, 3)).requires_grad_()
    assert gradcheck(lambda g: transfer_matrix(series(g * 1e-3, 2e3), 20.0, 30.0) * 1e3, (g,))


def test_both_gradients_agree_at_size():
    g = cells(30, 20).requires_grad_()
    drive, weight = volts(5, 30), volts(5, 20)
    (by_matrix,) = torch.autograd.grad((drive @ transfer_matrix(g, 2.0, 3.0) * weight).sum(), g)
    (by_vectors,) = torch.autograd.grad((solve(g, drive, 2.0, 3.0, 1e-12).currents * weight).sum(), g)
    torch.testing.assert_close(by_matrix, by_vectors, rtol=1e-9, atol=1e-11)
