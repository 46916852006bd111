"""Laws of pulses behind resistive lines: what is left of them at each cell, and what it does there."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from hil.contract import Bias, Blocks, Kind, Pulse, Ramp, Sense, Shape, Side, Stop
from sim_backend.wires import Circuit, Ends, Wires, select, solve
from sim_backend.wires.selected import gated_share, passive_share

RICH = Ends(driver=40.0, amplifier=15.0, word_both_sides=True, bit_both_sides=True)
CIRCUITS = [(20.0, 30.0, Ends()), (0.0, 30.0, Ends()), (20.0, 0.0, RICH), (20.0, 30.0, RICH), (0.0, 0.0, RICH)]
LINES = {"word_segment": 20.0, "bit_segment": 30.0, "driver": 40.0, "amplifier": 15.0}
UP = Shape(1.0, 1e-6, 3.0)
OPEN = {"gate_curve": ((0.5, 1e-6), (3.0, 1.0))}
"""A gate that holds no current here."""
EVEN = {"start_dtod": 0.0, "volts_down": 1.0, "threshold": 0.0}


def cells(*shape: int, seed: int = 0) -> torch.Tensor:
    """Conductances from 1 uS to 1 mS, log-uniform."""
    source = torch.Generator().manual_seed(seed)
    return 10.0 ** (-6.0 + 3.0 * torch.rand(shape, dtype=torch.float64, generator=source))


def moved(board, op) -> torch.Tensor:
    """How far all cells moved, S."""
    before = board.chip.state["g"].clone()
    board.execute([op])
    return board.chip.state["g"] - before


def on_all(spec, whole, count: int = 1, shape: Shape = UP, **more) -> Pulse:
    return Pulse(whole(spec), torch.tensor(count), shape, shape, **more)


@pytest.mark.parametrize(("r_word", "r_bit", "ends"), CIRCUITS)
def test_a_gated_cell_sees_what_the_circuit_with_all_others_open_leaves(r_word, r_bit, ends):
    g, circuit = cells(2, 4, 5), Circuit.of(r_word, r_bit, ends)
    share = gated_share(g, circuit)
    for row in range(4):
        for col in range(5):
            alone = torch.zeros_like(g)
            alone[:, row, col] = g[:, row, col]
            volts = torch.zeros(1, 4, dtype=torch.float64)
            volts[0, row] = 1.0
            drop = solve(alone, volts, r_word, r_bit, 1e-13, ends=ends).drop[:, 0, row, col]
            torch.testing.assert_close(share[:, row, col], drop, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("unselected", list(Bias))
@pytest.mark.parametrize(("r_word", "r_bit", "ends"), CIRCUITS)
def test_a_passive_cell_sees_what_the_circuit_of_its_scheme_leaves(r_word, r_bit, ends, unselected):
    g, circuit = cells(2, 4, 5), Circuit.of(r_word, r_bit, ends)
    share = passive_share(g, circuit, unselected, 1e-13)
    rows, cols = (line.reshape(-1) for line in torch.meshgrid(torch.arange(4), torch.arange(5), indexing="ij"))
    found = select(g, rows, cols, 1.0, r_word=r_word, r_bit=r_bit, unselected=unselected, ends=ends, tol=1e-13).drop
    each = found[:, torch.arange(20), rows, cols].view(2, 4, 5)
    off = 1e-7 if unselected is Bias.FLOAT else 1e-10
    torch.testing.assert_close(share, each, rtol=off, atol=1e-12)
    some = torch.zeros(2, 4, 5, dtype=torch.bool)
    some[0, 1, 2] = some[1, 3, 0] = True  # few cells are solved for one by one
    few = passive_share(g, circuit, unselected, 1e-13, wanted=some)
    torch.testing.assert_close(few[some], each[some], rtol=off, atol=1e-12)
    assert bool((few == 1.0).any())


@pytest.mark.parametrize("selector", ["gated", "passive"])
@pytest.mark.parametrize("count", [1, -1])
def test_pulses_are_weaker_far_from_the_ends_and_with_more_ohms(quiet_board, spec_of, whole, selector, count):
    """Word lines end left of the first column, bit lines below the last row."""
    spec = spec_of(selector=selector, writing=OPEN if selector == "gated" else {})
    shape = Shape(1.0, 1e-6, 3.0 if selector == "gated" else None)
    sizes = []
    for times in (0.0, 1.0, 2.0, 4.0):
        wires = Wires(**{name: times * ohms for name, ohms in LINES.items()})
        board = quiet_board(spec, physics={"wires": wires}, **EVEN)
        sizes.append(count * moved(board, on_all(spec, whole, count, shape)))
        if times:
            assert bool((sizes[-1].diff(dim=2) < 0).all()) and bool((sizes[-1].diff(dim=1) > 0).all())
    assert all(bool((less < more).all()) for more, less in pairwise(sizes))


@pytest.mark.parametrize("selector", ["gated", "passive"])
@pytest.mark.parametrize("name", ["word_segment", "bit_segment", "driver", "amplifier"])
def test_each_resistance_weakens_pulses(quiet_board, spec_of, whole, selector, name):
    spec = spec_of(selector=selector, writing=OPEN if selector == "gated" else {})
    shape = Shape(1.0, 1e-6, 3.0 if selector == "gated" else None)
    less, more = (
        moved(quiet_board(spec, physics={"wires": Wires(**{name: ohms})}, **EVEN), on_all(spec, whole, shape=shape))
        for ohms in (10.0, 100.0)
    )
    assert bool((more < less).all())


def test_the_amplitude_that_is_left_is_that_of_the_law(quiet_board, spec_of, whole):
    spec = spec_of(writing=OPEN)
    board, other = (quiet_board(spec, physics={"wires": w}, **EVEN) for w in (Wires(**LINES), None))
    cell, g = Blocks((1,), (2,), (3,), 1, 1), float(board.chip.state["g"][1, 2, 3])
    ohms = 40.0 + 4 * 20.0 + 15.0 + 4 * 30.0  # four segments from the left end, four from the foot
    left = Shape(1.0 / (1.0 + g * ohms), 1e-6, 3.0)
    one = moved(board, Pulse(cell, torch.tensor(1), UP, UP))
    torch.testing.assert_close(one, moved(other, Pulse(cell, torch.tensor(1), left, left)), rtol=1e-12, atol=0.0)
    down = moved(board, Pulse(cell, torch.tensor(-1), UP, UP))[1, 2, 3]  # bit lines are driven: the same path
    left = Shape(1.0 / (1.0 + float(other.chip.state["g"][1, 2, 3]) * ohms), 1e-6, 3.0)
    assert float(down) == pytest.approx(float(moved(other, Pulse(cell, torch.tensor(-1), left, left))[1, 2, 3]))


@pytest.mark.parametrize("wires", [Wires(), Wires(transistor=2e3)])
@pytest.mark.parametrize("selector", ["gated", "passive"])
def test_lines_without_resistance_change_no_bit(quiet_board, spec_of, whole, selector, wires):
    spec = spec_of(selector=selector)
    shape = Shape(1.0, 1e-6, 3.0 if selector == "gated" else None)
    one, other = (
        moved(quiet_board(spec, dtype="float32", physics={"wires": w}), on_all(spec, whole, 3, shape))
        for w in (wires, None)
    )
    assert torch.equal(one, other) and bool(one.any())


def test_a_current_that_is_held_loses_less_on_its_way(quiet_board, spec_of, whole):
    """A gate of 10 uA lets 10 uA times the path be lost, however much an open one would let through."""
    spec = spec_of(writing={"gate_curve": ((0.5, 1e-5), (3.0, 1.0))})
    held = Shape(1.0, 1e-6, 0.5)
    board, other = (quiet_board(spec, physics={"wires": w}, **EVEN | {"compliance_volts": 1e-3})
                    for w in (Wires(driver=1e3), None))  # fmt: skip
    left = Shape(1.0 - 1e-5 * 1e3, 1e-6, 0.5)
    torch.testing.assert_close(
        moved(board, on_all(spec, whole, shape=held)),
        moved(other, on_all(spec, whole, shape=left)),
        rtol=1e-9,
        atol=0.0,
    )
    wide = quiet_board(spec, physics={"wires": Wires(driver=1e3)}, **EVEN)
    assert bool((moved(wide, on_all(spec, whole)) < moved(other, on_all(spec, whole))).all())


def test_ramps_need_more_volts_far_from_the_ends(quiet_board, spec_of, whole):
    spec = spec_of(writing=OPEN)
    board = quiet_board(spec, physics={"wires": Wires(word_segment=200.0)}, **EVEN)
    g = float(board.chip.state["g"][0, 0, 0])
    points = torch.linspace(0.5, 2.0, 61)
    stop = Stop(0.2 * (g + 2e-6) / (1 + 1000 * g), 1.0, 1.0)
    sense = Sense(0.2)
    ramp = Ramp(Blocks((0,), (0,), (0,), 1, 5), torch.ones(1, 1, 5, dtype=torch.int8), Kind.SET, UP, "volts", points, 0,
                sense, stop)  # fmt: skip
    first = board.execute([ramp])[0].applied[0, 0]
    assert bool((first.diff() >= 0).all()) and int(first[-1]) > int(first[0])


@pytest.mark.parametrize("bias", [Bias.HALF, Bias.THIRD])
def test_cells_beside_see_a_part_of_what_the_selected_cell_sees(quiet_board, spec_of, bias):
    """First order: the exact voltages of the cells beside have lost as much of their part, within a factor of 3."""
    spec = spec_of(selector="passive", limits={"write_volts": 5.0})
    lines = Wires(word_segment=2.0, bit_segment=2.0)
    ideal, weak = (quiet_board(spec, physics={"half_select": True, "wires": w}, **EVEN) for w in (None, lines))
    share = float(passive_share(weak.chip.state["g"][1:2], Circuit.of(2.0, 2.0, Ends()), bias, 1e-12)[0, 2, 3])
    cell, row, col = Blocks((1,), (2,), (3,), 1, 1), torch.tensor([2]), torch.tensor([3])
    g = weak.chip.state["g"][1].clone()
    full, less = (Shape(volts, 1e-6, amps=1.0) for volts in (2.0, 2.0 * share))
    one = moved(weak, Pulse(cell, torch.tensor(1), full, full, unselected=bias))
    other = moved(ideal, Pulse(cell, torch.tensor(1), less, less, unselected=bias))
    torch.testing.assert_close(one, other, rtol=1e-9, atol=0.0)
    exact = select(g, row, col, 1.0, r_word=2.0, r_bit=2.0, unselected=bias).drop[0]
    beside = torch.cat((exact[2, :3], exact[2, 4:], exact[:2, 3], exact[3:, 3]))
    part = 1 / 2 if bias is Bias.HALF else 1 / 3
    lost = 1.0 - float(beside.mean()) / part
    assert 0 < lost < 3 * (1.0 - share) and 1.0 - share < 3 * lost


def test_down_pulses_start_at_the_other_side(quiet_board, spec_of, whole):
    """The driver sits on the side that is positive: a driver's ohms count in both directions, ends tied or not."""
    assert spec_of().geometry.up is Side.ROWS
    spec = spec_of(writing=OPEN)
    wires = Wires(word_segment=20.0, bit_segment=30.0, driver=400.0, word_both_sides=True)
    up, down = (moved(quiet_board(spec, physics={"wires": wires}, **EVEN), on_all(spec, whole, n)) for n in (1, -1))
    assert float(up[0, 5, 0]) > float(-down[0, 5, 0])  # tied word lines halve the driver only where it drives them
