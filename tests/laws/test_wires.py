"""Laws of resistive lines: agreement of independent methods, limits, reciprocity, passivity, energy, monotony."""

from itertools import pairwise

import pytest
import torch
from nodal import Nodal

from hil.contract import Bias
from sim_backend.wires import (
    Circuit,
    Ends,
    approximate_matrix,
    corrected,
    kirchhoff,
    passive_cells,
    power,
    select,
    series,
    solve,
    transfer_matrix,
)
from sim_backend.wires.access import gated_cells

BARE = Ends()
RICH = Ends(driver=40.0, amplifier=15.0, word_both_sides=True, bit_both_sides=True)
ONE_SIDED = Ends(driver=40.0, amplifier=15.0, word_both_sides=True)
CIRCUITS = [
    (2.0, 3.0, BARE), (0.0, 3.0, BARE), (2.0, 0.0, BARE), (0.0, 0.0, BARE), (2.0, 3.0, RICH), (0.0, 0.0, RICH),
    (2.0, 3.0, ONE_SIDED), (0.0, 3.0, RICH), (2.0, 0.0, RICH), (0.0, 2.0, Ends(driver=30.0)),
]  # fmt: skip
SHAPES = [(3, 5), (6, 3), (1, 4), (4, 1), (1, 1)]


def cells(*shape, seed=0):
    """Conductances from 1 uS to 1 mS, log-uniform."""
    generator = torch.Generator().manual_seed(seed)
    return 10.0 ** (-6.0 + 3.0 * torch.rand(shape, dtype=torch.float64, generator=generator))


def volts(*shape, seed=1):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 0.5


def nodal(g, r_word, r_bit, ends):
    both = ends.word_both_sides, ends.bit_both_sides
    return Nodal(g.numpy(), r_word, r_bit, ends.driver, ends.amplifier, *both)


def off(found, wanted):
    """Largest difference, of full scale."""
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("r_word", "r_bit", "ends"), CIRCUITS)
def test_both_methods_agree_with_nodal_analysis(shape, r_word, r_bit, ends):
    g, drive, feet = cells(*shape), volts(1, shape[0]), volts(1, shape[1], seed=2)
    sources = {("row", i): float(v) for i, v in enumerate(drive[0])} | {("col", j): 0.0 for j in range(shape[1])}
    circuit = nodal(g, r_word, r_bit, ends)
    word, bit, amps = (torch.tensor(found) for found in circuit.solve(sources))
    found = solve(g, drive, r_word, r_bit, 1e-13, ends=ends)
    assert off(drive @ transfer_matrix(g, r_word, r_bit, ends=ends), amps[None]) < 1e-12
    assert off(found.currents, amps[None]) < 1e-12
    torch.testing.assert_close(found.word[0], word, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(found.bit[0], bit, rtol=1e-11, atol=1e-14)
    raised = sources | {("col", j): float(v) for j, v in enumerate(feet[0])}
    _, _, amps = circuit.solve(raised)
    assert off(solve(g, drive, r_word, r_bit, 1e-13, ends=ends, feet=feet).currents[0], torch.tensor(amps)) < 1e-11


@pytest.mark.parametrize("size", [16, 70])
@pytest.mark.parametrize("ends", [BARE, RICH])
def test_matrix_against_solutions(size, ends):
    g, drive = cells(2, size, size + 3), volts(2, 4, size)
    k = transfer_matrix(g, 2.0, 3.0, ends=ends)
    assert off(drive @ k, solve(g, drive, 2.0, 3.0, ends=ends).currents) < 1e-9


@pytest.mark.parametrize(("r_word", "r_bit", "ends"), CIRCUITS)
def test_reciprocity(r_word, r_bit, ends):
    """Sources and feet change places: the transpose of an array, reversed along both axes, has the transposed K."""
    g = cells(5, 7)
    turned = Ends(
        driver=ends.amplifier, amplifier=ends.driver, word_both_sides=ends.bit_both_sides,
        bit_both_sides=ends.word_both_sides,
    )  # fmt: skip
    k = transfer_matrix(g, r_word, r_bit, ends=ends)
    other = transfer_matrix(g.T.flip(0, 1), r_bit, r_word, ends=turned).T.flip(0, 1)
    assert off(other, k) < 1e-12


def test_vanishing_resistance_gives_the_cells():
    g = cells(6, 5)
    assert torch.equal(transfer_matrix(g, 0.0, 0.0), g)
    errors = [off(transfer_matrix(g, r, r), g) for r in (1.0, 1e-2, 1e-4, 1e-6)]
    assert all(small < 0.02 * large for large, small in pairwise(errors))  # linear in r
    for one, other in (((1e-7, 2.0), (0.0, 2.0)), ((2.0, 1e-7), (2.0, 0.0))):
        assert off(transfer_matrix(g, *one), transfer_matrix(g, *other)) < 1e-8


@pytest.mark.parametrize("name", ["r_word", "r_bit", "driver", "amplifier"])
def test_each_resistance_lowers_the_current(name):
    """With all inputs alike no resistance anywhere can raise a total current (Rayleigh's monotonicity law)."""
    g, ones = cells(8, 6), torch.ones(1, 8, dtype=torch.float64)

    def total(ohms):
        given = {"r_word": 1.0, "r_bit": 1.0, "driver": 1.0, "amplifier": 1.0} | {name: ohms}
        ends = Ends(driver=given["driver"], amplifier=given["amplifier"])
        return float((ones @ transfer_matrix(g, given["r_word"], given["r_bit"], ends=ends)).sum())

    totals = [total(ohms) for ohms in (0.0, 1.0, 10.0, 100.0)]
    assert totals == sorted(totals, reverse=True) and len(set(totals)) == 4


@pytest.mark.parametrize("side", ["word_both_sides", "bit_both_sides"])
def test_both_sides_raise_the_current(side):
    g, ones = cells(8, 6), torch.ones(1, 8, dtype=torch.float64)
    one, both = Ends(driver=5.0, amplifier=5.0), Ends(driver=5.0, amplifier=5.0, **{side: True})
    one, both = (float((ones @ transfer_matrix(g, 3.0, 3.0, ends=ends)).sum()) for ends in (one, both))
    assert both > 1.005 * one


def test_passivity():
    """K is not negative, and no foot collects more than its cells would without wires."""
    g = cells(9, 7)
    for r_word, r_bit, ends in CIRCUITS:
        k = transfer_matrix(g, r_word, r_bit, ends=ends)
        assert (k >= 0).all()
        assert (k.sum(0) <= g.sum(0) * (1 + 1e-12)).all() and (k.sum(1) <= g.sum(1) * (1 + 1e-12)).all()


def test_superposition():
    g, drive = cells(6, 5), volts(2, 6)
    one = solve(g, drive[:1], 2.0, 3.0, 1e-13).currents + 2.0 * solve(g, drive[1:], 2.0, 3.0, 1e-13).currents
    assert off(solve(g, drive[:1] + 2.0 * drive[1:], 2.0, 3.0, 1e-13).currents, one) < 1e-11


@pytest.mark.parametrize(("r_word", "r_bit", "ends"), CIRCUITS)
def test_energy_and_charge_are_conserved(r_word, r_bit, ends):
    g, drive, feet = cells(2, 5, 7), volts(2, 3, 5), volts(2, 3, 7, seed=3)
    circuit = Circuit.of(r_word, r_bit, ends)
    found = solve(g, drive, r_word, r_bit, 1e-13, ends=ends, feet=feet)
    spent = power(g, circuit, found, drive, feet)
    parts = spent.cells, spent.word_lines, spent.bit_lines
    torch.testing.assert_close(sum(parts), spent.delivered, rtol=1e-11, atol=0.0)
    assert all((part >= 0).all() for part in parts)
    assert bool((spent.word_lines > 0).all()) == (r_word > 0 or ends.driver > 0)
    assert bool((spent.bit_lines > 0).all()) == (r_bit > 0 or ends.amplifier > 0)
    assert kirchhoff(g, circuit, found, drive, feet).max() < 1e-11 * found.currents.abs().max()


@pytest.mark.parametrize("size", [16, 64, 128])
def test_kirchhoff_residual(size):
    """Node voltages are floats, so that a node can be off by about 1e-16 V / r_word; here that is less than 1e-12."""
    generator = torch.Generator().manual_seed(size)
    g = 1e-5 + 9e-5 * torch.rand(size, size, dtype=torch.float64, generator=generator)
    drive = 0.4 * volts(1, size)
    found = solve(g, drive, 2.0, 2.0, tol=1e-13)
    assert found.iterations <= 8
    assert kirchhoff(g, Circuit.of(2.0, 2.0, BARE), found, drive).max() < 1e-12 * found.currents.abs().max()


def test_kirchhoff_sees_a_wrong_node():
    g, drive = cells(4, 4), volts(1, 4)
    found = solve(g, drive, 2.0, 3.0, 1e-13)
    found.bit[0, 2, 1] += 1e-9
    assert kirchhoff(g, Circuit.of(2.0, 3.0, BARE), found, drive).max() > 1e-10


@pytest.mark.parametrize(("r_word", "r_bit", "ends"), CIRCUITS)
def test_approximation_keeps_its_bound(r_word, r_bit, ends):
    g, drive = cells(2, 12, 9), volts(2, 50, 12)
    found, k = approximate_matrix(g, r_word, r_bit, ends=ends), transfer_matrix(g, r_word, r_bit, ends=ends)
    amps = drive @ k
    spread = (drive.amax(-1) - drive.amin(-1)).unsqueeze(-1)
    miss = (drive @ found.k - amps).abs()
    assert (miss <= found.bound.unsqueeze(-2) * spread + 1e-11 * amps.abs().max()).all()
    assert miss.max() < 1e-2 * (drive @ g - amps).abs().max() + 1e-11 * amps.abs().max()  # 99 % of the effect
    same = torch.full((2, 1, 12), 0.3, dtype=torch.float64)
    assert off(same @ found.k, same @ k) < 1e-11


def test_correction_is_exact():
    old = cells(3, 6, 8)
    new = old.clone()
    new[0, 1, 2], new[0, 0, 0], new[0, 5, 7], new[1, 3, 3] = 0.0, 1e-3, 2e-6, 5e-4
    for r_word, r_bit, ends in CIRCUITS:
        circuit = Circuit.of(r_word, r_bit, ends)
        k = transfer_matrix(old, r_word, r_bit, ends=ends)
        wanted = transfer_matrix(new, r_word, r_bit, ends=ends)
        assert off(corrected(k, old, new, circuit), wanted) < 1e-10
        assert off(k, wanted) > 1e-2


def bias_sources(shape, row, col, bias):
    """The voltages of every line end with one cell selected at 1 V; a floating end is left out."""
    word, bit = {Bias.GROUND: (0.0, 0.0), Bias.HALF: (0.5, 0.5), Bias.THIRD: (1 / 3, 2 / 3), Bias.FLOAT: (None, None)}[
        bias
    ]
    ends = {("row", i): word for i in range(shape[0])} | {("col", j): bit for j in range(shape[1])}
    ends |= {("row", row): 1.0, ("col", col): 0.0}
    return {end: v for end, v in ends.items() if v is not None}


@pytest.mark.parametrize("bias", list(Bias))
@pytest.mark.parametrize(("r_word", "r_bit", "ends"), CIRCUITS)
def test_single_cells_of_a_passive_array(bias, r_word, r_bit, ends):
    shape = 3, 4
    g, picked = cells(*shape), [(0, 0), (1, 3), (2, 1)]
    rows, cols = torch.tensor(picked).T
    seen = passive_cells(g[None], Circuit.of(r_word, r_bit, ends), bias)[0]
    found = select(g, rows, cols, 1.0, r_word=r_word, r_bit=r_bit, unselected=bias, ends=ends, tol=1e-13)
    circuit = nodal(g, r_word, r_bit, ends)
    for b, (row, col) in enumerate(picked):
        word, bit, amps = circuit.solve(bias_sources(shape, row, col, bias))
        assert abs(seen[row, col] - amps[col]) < 1e-9 * abs(amps[col])
        torch.testing.assert_close(found.drop[b], torch.tensor(word - bit), rtol=1e-8, atol=1e-9)


def test_unselected_cells_see_what_the_scheme_says():
    """Without wires half-selected cells see a half or a third of the voltage (Chen 2013)."""
    g, at = cells(4, 5), (torch.tensor([1]), torch.tensor([2]))
    half, third, ground = (
        select(g, *at, 0.9, r_word=0.0, r_bit=0.0, unselected=bias).drop[0]
        for bias in (Bias.HALF, Bias.THIRD, Bias.GROUND)
    )
    row, col = torch.arange(4) != 1, torch.arange(5) != 2
    torch.testing.assert_close(half[1, col], torch.full((4,), 0.45, dtype=torch.float64))
    torch.testing.assert_close(half[row, 2], torch.full((3,), 0.45, dtype=torch.float64))
    torch.testing.assert_close(half[row][:, col], torch.zeros(3, 4, dtype=torch.float64))
    torch.testing.assert_close(third[row][:, col], torch.full((3, 4), -0.3, dtype=torch.float64))
    torch.testing.assert_close(third[1, col], torch.full((4,), 0.3, dtype=torch.float64))
    torch.testing.assert_close(ground[row], torch.zeros(3, 5, dtype=torch.float64))


def test_floating_lines_leak():
    """Sneak paths raise what a floating read sees; in a gated array there are none."""
    g, circuit = cells(6, 6), Circuit.of(1.0, 1.0, BARE)
    assert (passive_cells(g[None], circuit, Bias.FLOAT)[0] > 1.05 * gated_cells(g[None], circuit, alone=True)[0]).all()
    assert (gated_cells(g[None], circuit, alone=True)[0] < g).all()


@pytest.mark.parametrize(("r_word", "r_bit", "ends"), CIRCUITS)
def test_single_cells_of_a_gated_array(r_word, r_bit, ends):
    g, circuit = cells(3, 4), Circuit.of(r_word, r_bit, ends)
    row_on, alone = (gated_cells(g[None], circuit, alone=kind)[0] for kind in (False, True))
    for row in range(3):
        only = torch.zeros_like(g)
        only[row] = g[row]
        assert off(row_on[row], transfer_matrix(only, r_word, r_bit, ends=ends)[row]) < 1e-11
        single = torch.zeros_like(g)
        single[row, 2] = g[row, 2]
        assert abs(alone[row, 2] / transfer_matrix(single, r_word, r_bit, ends=ends)[row, 2] - 1) < 1e-11


def test_transistor_in_series():
    """1T1R: 10 kohm behind 2 kohm are 12 kohm."""
    assert series(torch.tensor(1e-4, dtype=torch.float64), 2e3).item() == pytest.approx(1 / 12e3, rel=1e-14)
