"""The board's view of the lines: what is kept, what is forgotten, and which method is chosen."""

import pytest
import torch

from hil.contract import Bias, Side
from sim_backend.wires import Ends, LineResistance, Wires, approximate_matrix, conduction, series, transfer_matrix

RES = {"word_segment": 2.0, "bit_segment": 3.0, "driver": 40.0, "amplifier": 15.0}
ROWS, COLS = Side.ROWS, Side.COLS


def cells(*shape, seed=6):
    return 1e-5 + 9e-4 * torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def eliminated(mocker):
    """Counts eliminations."""
    return mocker.spy(conduction, "transfer")


def test_no_resistance_is_no_wires():
    g = cells(2, 3, 4)
    lines = LineResistance(Wires())
    assert lines.matrix(g, ROWS) is g
    assert torch.equal(lines.matrix(g, COLS), g.mT)
    assert torch.equal(LineResistance(Wires(transistor=2e3)).matrix(g, ROWS), series(g, 2e3))


def test_shut_gates_cost_nothing(eliminated):
    lines = LineResistance(Wires(**RES))
    for _ in range(2):
        assert not lines.matrix(torch.zeros(2, 3, 4), COLS).any()
    assert eliminated.call_count == 0


def test_driven_rows_and_columns():
    """The driver's resistance sits where the volts are, the amplifier's at the other side."""
    g, lines = cells(2, 3, 4), LineResistance(Wires(**RES))
    rows = transfer_matrix(g, 2.0, 3.0, ends=Ends(driver=40.0, amplifier=15.0))
    cols = transfer_matrix(g, 2.0, 3.0, ends=Ends(driver=15.0, amplifier=40.0)).mT
    torch.testing.assert_close(lines.matrix(g, ROWS), rows, rtol=1e-13, atol=0.0)
    torch.testing.assert_close(lines.matrix(g, COLS), cols, rtol=1e-13, atol=0.0)
    assert (rows.mT - cols).abs().max() > 1e-3 * rows.max()


def test_a_known_matrix_is_kept(eliminated):
    g, lines = cells(2, 3, 4), LineResistance(Wires(**RES))
    first = lines.matrix(g, ROWS)
    assert lines.matrix(g, ROWS) is first and eliminated.call_count == 1
    lines.matrix(g, COLS)
    assert eliminated.call_count == 2


def test_every_change_of_the_cells_is_seen(eliminated):
    g, lines = cells(2, 3, 4), LineResistance(Wires(**RES))
    first = lines.matrix(g, ROWS)
    g[0, 1, 2] *= 2  # in place
    second = lines.matrix(g, ROWS)
    third = lines.matrix(g.clone(), ROWS)  # the same cells in other memory
    assert eliminated.call_count == 3
    assert not torch.equal(first[0], second[0]) and torch.equal(second, third)


def test_memory_of_gone_cells_is_given_back():
    lines = LineResistance(Wires(**RES))
    for seed in range(50):
        lines.matrix(cells(1, 3, 4, seed=seed), ROWS)
    assert len(lines._known) <= 2
    kept = [cells(1, 3, 4, seed=seed) for seed in range(50)]
    for g in kept:
        lines.matrix(g, ROWS)
    assert len(lines._known) <= conduction._KEPT


@pytest.mark.parametrize("drive", [ROWS, COLS])
def test_corrections_are_exact_and_cheaper(drive, eliminated):
    lines, fresh = LineResistance(Wires(**RES, corrections=1.0)), LineResistance(Wires(**RES))
    g = cells(3, 30, 24)
    lines.matrix(g, drive)
    eliminated.reset_mock()
    changed = g.clone()
    changed[0, 3, 4], changed[0, 29, 0], changed[2, 7, 7] = 1e-6, 0.0, 2e-3
    found = lines.matrix(changed, drive)
    assert eliminated.call_count == 0
    torch.testing.assert_close(found, fresh.matrix(changed, drive), rtol=1e-10, atol=1e-16)


def test_corrections_end_where_they_do_not_pay(eliminated):
    lines, g = LineResistance(Wires(**RES, corrections=1.0)), cells(2, 30, 24)
    lines.matrix(g, ROWS)
    eliminated.reset_mock()
    changed = g.clone()
    changed[0] *= 1.1
    changed[1, 0, 0] = 0.0
    found = lines.matrix(changed, ROWS)
    (many, _), _ = eliminated.call_args
    assert eliminated.call_count == 1 and many.shape[0] == 1  # only the tile with many changes
    torch.testing.assert_close(found, LineResistance(Wires(**RES)).matrix(changed, ROWS), rtol=1e-10, atol=1e-16)


def test_rounding_of_corrections_does_not_add_up(eliminated):
    lines, g = LineResistance(Wires(**RES, corrections=1.0)), cells(1, 8, 8)
    for step in range(80):
        g[0, step % 8, step // 8 % 8] *= 1.01
        found = lines.matrix(g, ROWS)
    torch.testing.assert_close(found, LineResistance(Wires(**RES)).matrix(g, ROWS), rtol=1e-10, atol=1e-16)
    assert 2 <= eliminated.call_count < 10


@pytest.mark.parametrize("drive", [ROWS, COLS])
def test_few_vectors_are_solved_one_by_one(drive):
    g = cells(3, 30, 24)
    volts = torch.rand(1, 2, 30 if drive is ROWS else 24, dtype=torch.float64) - 0.5
    lines = LineResistance(Wires(**RES, reads_per_write=1.0, transistor=500.0))
    amps = lines.currents(g, volts, drive)
    torch.testing.assert_close(amps, volts @ lines.matrix(g, drive), rtol=1e-9, atol=1e-13)
    assert lines.currents(g, volts.expand(1, 2, -1).repeat(1, 5, 1), drive) is None
    assert LineResistance(Wires(**RES)).currents(g, volts, drive) is None
    assert LineResistance(Wires()).currents(g, volts, drive) is None


def test_the_choice_does_not_depend_on_the_past():
    g, volts = cells(1, 30, 24), torch.ones(1, 2, 30, dtype=torch.float64)
    lines = LineResistance(Wires(**RES, reads_per_write=1.0))
    before = lines.currents(g, volts, ROWS)
    lines.matrix(g, ROWS)
    assert torch.equal(lines.currents(g, volts, ROWS), before)


def test_approximate_mode():
    g = cells(2, 12, 9)
    found = LineResistance(Wires(**RES, method="approximate")).matrix(g, ROWS)
    wanted = approximate_matrix(g, 2.0, 3.0, ends=Ends(driver=40.0, amplifier=15.0))
    torch.testing.assert_close(found, wanted.k, rtol=1e-13, atol=0.0)
    exact = LineResistance(Wires(**RES)).matrix(g, ROWS)
    assert 0 < (found - exact).abs().max() < 0.02 * (exact - g).abs().max()


@pytest.mark.parametrize("drive", [ROWS, COLS])
@pytest.mark.parametrize("bias", list(Bias))
def test_cells_of_a_passive_array(drive, bias):
    """An array seen from its other side is its transpose."""
    g, lines = cells(2, 3, 4), LineResistance(Wires(word_segment=2.0, bit_segment=2.0, driver=40.0, amplifier=15.0))
    seen = lines.cells(g, drive, bias, None)
    other = COLS if drive is ROWS else ROWS
    turned = lines.cells(g.mT.flip(1, 2), other, bias, None).flip(1, 2).mT
    assert seen.shape == g.shape
    torch.testing.assert_close(seen, turned, rtol=1e-9, atol=0.0)
    if bias is Bias.GROUND and drive is ROWS:
        torch.testing.assert_close(seen, lines.matrix(g, ROWS), rtol=1e-12, atol=0.0)


def test_cells_of_a_gated_array():
    g, lines = cells(1, 3, 4), LineResistance(Wires(**RES, transistor=1e3))
    alone = lines.cells(g, ROWS, Bias.FLOAT, COLS)
    ohms = 1 / float(g[0, 1, 2]) + 1e3 + 40.0 + 3 * 2.0 + 15.0 + 2 * 3.0  # column 2 and row 1, counted from the ends
    assert float(alone[0, 1, 2]) == pytest.approx(1 / ohms, rel=1e-12)
    assert (lines.cells(g, ROWS, Bias.GROUND, ROWS) < alone).all()  # the whole row draws through its word line
    assert torch.equal(LineResistance(Wires(transistor=1e3)).cells(g, ROWS, Bias.GROUND, ROWS), series(g, 1e3))


@pytest.mark.parametrize("name", ["word_segment", "bit_segment", "driver", "amplifier", "transistor"])
def test_each_resistance_lowers_the_product(name):
    g, ones = cells(1, 6, 5), torch.ones(1, 1, 6, dtype=torch.float64)
    base = RES | {"transistor": 100.0}
    less = float((ones @ LineResistance(Wires(**base)).matrix(g, ROWS)).sum())
    more = float((ones @ LineResistance(Wires(**base | {name: 2 * base[name]})).matrix(g, ROWS)).sum())
    assert more < less


@pytest.mark.parametrize("name", ["word_both_sides", "bit_both_sides"])
def test_both_sides_raise_the_product(name):
    g, ones = cells(1, 6, 5), torch.ones(1, 1, 6, dtype=torch.float64)
    one, both = (LineResistance(Wires(**RES, **{name: on})).matrix(g, ROWS) for on in (False, True))
    assert float((ones @ both).sum()) > float((ones @ one).sum())


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [({"driver": -1.0}, "driver"), ({"tolerance": 0.0}, "tolerance"), ({"corrections": 2.0}, "corrections")],
)
def test_senseless_wires_are_refused(wrong, problem):
    with pytest.raises(ValueError, match=problem):
        Wires(**wrong)
