"""Energy behind resistive lines: what drivers give is what cells and lines take."""

from __future__ import annotations

import pytest
import torch

from hil.contract import Bias, Blocks, Pulse, Read, ReadCells, Sense, Shape, Side
from sim_backend.energy import Energy
from sim_backend.supply import Supply
from sim_backend.wires import Circuit, Ends, LineResistance, Wires, passive_cells, power, series, solve

SECONDS = 1e-3
ON = {"energy": Energy(read_seconds=SECONDS)}
LINES = {"word_segment": 20.0, "bit_segment": 30.0, "driver": 40.0, "amplifier": 15.0}
PART = Blocks((2, 0), (1, 3), (2, 0), 3, 2)
ENDS = {Side.ROWS: Ends(driver=40.0, amplifier=15.0), Side.COLS: Ends(driver=15.0, amplifier=40.0)}


def vectors(blocks: Blocks, drive: Side, batch: int = 3) -> torch.Tensor:
    source = torch.Generator().manual_seed(batch)
    return 0.2 * (2 * torch.rand(len(blocks), batch, blocks.lines(drive), generator=source, dtype=torch.float64) - 1)


def joules(board, op) -> float:
    return board.execute([op])[0].joules


def balance(g: torch.Tensor, volts: torch.Tensor, drive: Side, times: float = 1.0):
    """Cells, word lines, bit lines and sources of the circuit that is solved node by node."""
    words, feet = (volts, None) if drive is Side.ROWS else (torch.zeros(*volts.shape[:2], g.shape[1]).double(), volts)
    ends = Ends(driver=times * ENDS[drive].driver, amplifier=times * ENDS[drive].amplifier)
    found = solve(g, words, times * 20.0, times * 30.0, 1e-13, ends=ends, feet=feet)
    return power(g, Circuit.of(times * 20.0, times * 30.0, ends), found, words, feet)


@pytest.mark.parametrize("drive", list(Side))
@pytest.mark.parametrize("reads_per_write", [100.0, 0.1])
def test_a_read_takes_what_cells_and_lines_turn_to_heat(quiet_board, drive, reads_per_write):
    board = quiet_board(physics=ON | {"wires": Wires(**LINES, reads_per_write=reads_per_write)})
    volts, g = vectors(PART, drive), board.chip.tiles(PART)
    heat = balance(g, volts, drive)
    inside = heat.cells + heat.word_lines + heat.bit_lines
    torch.testing.assert_close(inside, heat.delivered, rtol=1e-11, atol=0.0)
    got = joules(board, Read(PART, volts, drive))
    assert got == pytest.approx(float(inside.sum()) * SECONDS, rel=1e-9)
    assert got > float(heat.cells.sum()) * SECONDS * 1.001


@pytest.mark.parametrize("drive", list(Side))
def test_more_ohms_take_less_of_the_same_volts(quiet_board, drive):
    """Rayleigh's law: a resistor that grows lowers what a network takes from its sources."""
    volts, taken = vectors(PART, drive), []
    for times in (0.0, 1.0, 2.0, 4.0):
        wires = Wires(**{name: times * ohms for name, ohms in LINES.items()})
        taken.append(joules(quiet_board(physics=ON | {"wires": wires}), Read(PART, volts, drive)))
    assert taken == sorted(taken, reverse=True) and len(set(taken)) == 4


@pytest.mark.parametrize("drive", list(Side))
def test_lines_without_resistance_take_exactly_the_energy_of_no_lines(quiet_board, whole, drive):
    one, other = (quiet_board(dtype="float32", physics=ON | {"wires": w}) for w in (Wires(), None))
    shape = Shape(1.0, 1e-6, 3.0)
    blocks = whole(one.spec)
    ops = [
        Read(blocks, vectors(blocks, drive), drive),
        Pulse(blocks, torch.tensor(2), shape, shape),
        ReadCells(blocks, Sense(0.2), drive),
    ]
    assert [o.joules for o in one.execute(ops)] == [o.joules for o in other.execute(ops)]
    tiny = Wires(word_segment=1e-3, bit_segment=1e-3)
    read = Read(blocks, vectors(blocks, drive), drive)
    assert joules(quiet_board(physics=ON | {"wires": tiny}), read) == pytest.approx(
        joules(quiet_board(physics=ON), read), rel=1e-5
    )


def test_the_form_is_kept_until_a_cell_changes(mocker):
    from sim_backend.wires import conduction

    made, lines = mocker.spy(conduction, "entries"), LineResistance(Wires(**LINES))
    g = 1e-5 + 1e-4 * torch.rand(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    volts = torch.ones(1, 9, 5, dtype=torch.float64)
    first = lines.drawn(g, volts, Side.ROWS)
    assert torch.equal(lines.drawn(g, volts, Side.ROWS), first) and made.call_count == 1
    g[0, 0, 0] *= 2
    assert not torch.equal(lines.drawn(g, volts, Side.ROWS), first) and made.call_count == 2
    assert not lines.drawn(torch.zeros_like(g), volts, Side.ROWS).any()


def test_the_approximate_method_is_exact_for_equal_inputs_and_never_too_high():
    g = 1e-5 + 1e-3 * torch.rand(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    volts = torch.rand(2, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) - 0.5
    exact, fast = (LineResistance(Wires(**LINES, method=method)) for method in ("exact", "approximate"))
    same = torch.full_like(volts, 0.3)
    torch.testing.assert_close(fast.drawn(g, same, Side.ROWS), exact.drawn(g, same, Side.ROWS), rtol=1e-9, atol=0.0)
    taken = [(volts * lines.drawn(g, volts, Side.ROWS)).sum(2) for lines in (fast, exact)]
    assert bool((taken[0] <= taken[1]).all()) and bool((taken[0] > 0).all())


def test_transistors_take_their_part_as_a_series_resistance(quiet_board):
    board = quiet_board(physics=ON | {"wires": Wires(transistor=2e3)})
    volts, g = vectors(PART, Side.COLS), series(board.chip.tiles(PART), 2e3)
    wanted = float((volts.square().sum(1) * g.sum(1)).sum()) * SECONDS
    assert joules(board, Read(PART, volts, Side.COLS)) == pytest.approx(wanted, rel=1e-12)


def test_a_drooping_supply_lowers_every_vector_by_its_own_share(quiet_board):
    supply = Supply(ohms=1e3, volts=5.0)
    board = quiet_board(physics=ON | {"wires": Wires(**LINES), "supply": supply})
    volts, g = vectors(PART, Side.ROWS), board.chip.tiles(PART)
    share = supply.share(volts.abs() @ g.sum(2).unsqueeze(-1))
    wanted = float(balance(g, volts * share, Side.ROWS).delivered.sum()) * SECONDS
    assert joules(board, Read(PART, volts, Side.ROWS)) == pytest.approx(wanted, rel=1e-9)


def test_widths_of_one_line_are_exact(quiet_board, spec_of):
    board = quiet_board(spec_of(reading={"input_coding": "width"}), physics=ON | {"wires": Wires(**LINES)})
    volts, g = torch.zeros(1, 1, 3, dtype=torch.float64), board.chip.tiles(PART)
    volts[0, 0, 1] = -0.2
    wanted = float(balance(g, volts.expand(2, -1, -1), Side.ROWS).delivered.sum()) * SECONDS
    assert joules(board, Read(PART, volts, Side.ROWS, Sense(), (0, 0))) == pytest.approx(wanted, rel=1e-9)
    twice = torch.tensor([[[0.2, 0.1, 0.0]]], dtype=torch.float64)
    usual = quiet_board(spec_of(reading={"input_coding": "width"}), physics=ON)
    got, ideal = (joules(b, Read(PART, twice, Side.ROWS, Sense(), (0, 0))) for b in (board, usual))
    assert 0.8 * ideal < got < ideal


def test_a_cell_read_alone_takes_volts_times_its_current(quiet_board, spec_of):
    cell = Blocks((1,), (0,), (0,), 6, 5)
    spec = spec_of(drive=Side.ROWS)  # gate lines cross the word lines: one path at a time
    board = quiet_board(spec, physics=ON | {"wires": Wires(**LINES)})
    amps = board.execute([ReadCells(cell, Sense(0.2), Side.ROWS)])[0]
    assert amps.joules == pytest.approx(0.2 * float(amps.value.double().sum()) * SECONDS, rel=1e-6)
    passive = quiet_board(spec_of(selector="passive", drive=Side.ROWS), physics=ON | {"wires": Wires(**LINES)})
    g = passive.chip.tiles(cell)
    seen = passive_cells(g, Circuit.of(20.0, 30.0, ENDS[Side.ROWS]), Bias.FLOAT)
    got = joules(passive, ReadCells(cell, Sense(0.2, unselected=Bias.FLOAT), Side.ROWS))
    assert got == pytest.approx(0.04 * float(seen.sum()) * SECONDS, rel=1e-6)


def test_a_pulse_takes_what_its_cell_and_its_path_turn_to_heat(quiet_board, spec_of):
    spec = spec_of(writing={"gate_curve": ((0.5, 1e-6), (3.0, 1.0))})
    board = quiet_board(spec, physics=ON | {"wires": Wires(**LINES)}, states=1e9)  # the cell does not move
    g = torch.zeros(1, 6, 5, dtype=torch.float64)
    g[0, 2, 3] = board.chip.state["g"][1, 2, 3]
    volts = torch.zeros(1, 1, 6, dtype=torch.float64)
    volts[0, 0, 2] = 1.0
    heat, shape = balance(g, volts, Side.ROWS), Shape(1.0, 1e-6, 3.0)
    got = joules(board, Pulse(Blocks((1,), (2,), (3,), 1, 1), torch.tensor(5), shape, shape))
    assert got == pytest.approx(5e-6 * float(heat.delivered), rel=1e-6)
    assert got > 5e-6 * float(heat.cells) * 1.005
