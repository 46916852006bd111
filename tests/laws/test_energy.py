"""Energy in the cells, against slow sums over single cells."""

from __future__ import annotations

import itertools

import pytest
import torch

from hil.contract import Bias, Blocks, Kind, Outer, Probe, Pulse, Ramp, Read, ReadCells, Sense, Shape, Side, Stop, Wait
from hil.contract.cost import coincidences
from sim_backend.energy import Energy
from sim_backend.supply import Supply

ON = {"energy": Energy(read_seconds=1e-3)}
UP, DOWN = Shape(1.0, 1e-6, 3.0), Shape(1.2, 2e-6, 3.0)
PART = Blocks((2, 0), (1, 3), (2, 0), 3, 2)


def vectors(blocks: Blocks, drive: Side, batch: int = 3) -> torch.Tensor:
    source = torch.Generator().manual_seed(batch)
    return 0.2 * (2 * torch.rand(len(blocks), batch, blocks.lines(drive), generator=source, dtype=torch.float64) - 1)


def joules(board, op) -> float:
    return board.execute([op])[0].joules


@pytest.mark.parametrize("drive", list(Side))
@pytest.mark.parametrize("averages", [1, 3])
def test_a_read_takes_v_squared_g_in_every_cell(quiet_board, drive, averages):
    board = quiet_board(physics=ON)
    volts, g = vectors(PART, drive), board.chip.state["g"]
    slow = 0.0
    for t, b, r, c in itertools.product(range(2), range(3), range(3), range(2)):
        v = float(volts[t, b, c if drive is Side.COLS else r])
        slow += v * v * float(g[PART.kernel[t], PART.row[t] + r, PART.col[t] + c]) * 1e-3 * averages
    assert joules(board, Read(PART, volts, drive, Sense(averages=averages))) == pytest.approx(slow, rel=1e-12)


def test_tiles_that_share_a_feed_take_energy_each(quiet_board):
    board = quiet_board(physics=ON)
    volts = vectors(PART, Side.COLS)
    shared = joules(board, Read(PART, volts[:1], Side.COLS, Sense(), (0, 0)))
    assert shared == pytest.approx(joules(board, Read(PART, volts[[0, 0]], Side.COLS)), rel=1e-12)


def test_cells_read_one_by_one_take_it_on_their_whole_line(quiet_board, whole):
    board = quiet_board(physics=ON)
    g, blocks = board.chip.state["g"], whole(board.spec)
    every = joules(board, ReadCells(blocks, Sense(0.2, averages=2), Side.COLS))
    assert every == pytest.approx(2 * 0.04 * 1e-3 * float(g.sum()), rel=1e-12)
    mask = torch.zeros(4, 6, 5, dtype=torch.bool)
    mask[1, 2, 3] = True
    some = joules(board, ReadCells(blocks, Sense(0.2), Side.COLS, mask))
    assert some == pytest.approx(0.04 * 1e-3 * float(g[1, :, 3].sum()), rel=1e-12)  # its gate line is column 3


@pytest.mark.parametrize("amps", [None, 5e-5])
def test_pulses_take_volts_times_current_times_width(quiet_board, amps):
    board = quiet_board(physics=ON)
    up, down = (Shape(s.volts, s.seconds, s.gate, amps) for s in (UP, DOWN))
    counts = torch.randint(-3, 4, PART.shape, generator=torch.Generator().manual_seed(1))
    before = board.chip.state["g"].clone()
    got = joules(board, Pulse(PART, counts, up, down))
    after, slow = board.chip.state["g"], 0.0
    for t, r, c in itertools.product(range(2), range(3), range(2)):
        at, n = (PART.kernel[t], PART.row[t] + r, PART.col[t] + c), int(counts[t, r, c])
        shape = up if n > 0 else down
        current = min(shape.volts * float(before[at] + after[at]) / 2, amps or 1e-2)
        slow += abs(n) * shape.volts * current * shape.seconds
    assert got == pytest.approx(slow, rel=1e-12)


def test_compliance_width_and_amplitude_move_the_energy_of_a_pulse(quiet_board):
    def taken(volts: float = 1.0, seconds: float = 1e-6, amps: float | None = None) -> float:
        shape = Shape(volts, seconds, 3.0, amps)
        return joules(quiet_board(physics=ON, states=1e6), Pulse(PART, torch.tensor(1), shape, shape))

    usual = taken()
    assert taken(seconds=2e-6) == pytest.approx(2 * usual, rel=1e-3)
    assert taken(volts=1.2) == pytest.approx(1.44 * usual, rel=1e-3)
    assert taken(amps=1e-5) == pytest.approx(12 * 1.0 * 1e-5 * 1e-6, rel=1e-9) and taken(amps=1e-5) < usual


def test_cycles_and_outer_products_take_the_energy_of_their_pulses(quiet_board):
    source = torch.Generator().manual_seed(1)
    bits = [torch.randint(-1, 2, (2, 1, n), generator=source).expand(2, 4, n).to(torch.int8) for n in (3, 2)]
    one, other = (quiet_board(physics=ON) for _ in range(2))
    outer = Outer(PART, *bits, UP, DOWN)
    assert joules(one, outer) == pytest.approx(joules(other, Pulse(PART, coincidences(outer), UP, DOWN)), rel=1e-12)
    twice = joules(quiet_board(physics=ON), Pulse(PART, torch.tensor(1), UP, DOWN, cycles=2, alternate=True))
    board = quiet_board(physics=ON)
    apart = [joules(board, Pulse(PART, torch.tensor(n), UP, DOWN)) for n in (1, -1)]
    assert twice == pytest.approx(sum(apart), rel=1e-12)


def test_a_ramp_takes_its_pulses_and_its_readings(quiet_board):
    points = torch.tensor([0.1, 0.2])  # below the threshold: nothing moves
    sign = torch.zeros(2, 3, 2, dtype=torch.int8)
    sign[0, 0] = 1
    board = quiet_board(physics=ON)
    g = board.chip.state["g"][2, 1, 2:4].sum()
    ramp = Ramp(PART, sign, Kind.SET, UP, "volts", points, 0, Sense(0.2), Stop(1.0, 1.0, 1.0))
    wanted = float(g) * ((0.1**2 + 0.2**2) * 1e-6 + 2 * 0.2**2 * 1e-3)
    assert joules(board, ramp) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("bias", "share"), [(Bias.HALF, 1 / 2), (Bias.THIRD, 1 / 3), (Bias.FLOAT, 0.0)])
def test_half_selected_cells_take_energy_too(quiet_board, spec_of, bias, share):
    board = quiet_board(spec_of(selector="passive"), physics=ON, threshold=5.0)
    shape, one = Shape(1.0, 1e-6, amps=1.0), Blocks((1,), (2,), (3,), 1, 1)
    g = board.chip.state["g"][1]
    lines = g[2].sum() + g[:, 3].sum() - 2 * g[2, 3]
    beside = lines if bias is Bias.HALF else g.sum() - g[2, 3]
    wanted = 4 * 1e-6 * float(g[2, 3] + share**2 * beside)
    op = Pulse(one, torch.tensor(-4), shape, shape, unselected=bias)
    assert joules(board, op) == pytest.approx(wanted, rel=1e-12)


def test_waits_and_probes_take_none_and_a_board_that_does_not_count_knows_none(quiet_board, whole):
    board = quiet_board(physics=ON)
    assert joules(board, Wait(5.0)) == 0.0 == joules(board, Probe(("temperature",)))
    assert joules(board, ReadCells(whole(board.spec), Sense(0.2, gate=0.1), Side.COLS)) == 0.0  # gates are shut
    off = quiet_board()
    ops = [Read(PART, vectors(PART, Side.COLS), Side.COLS), Pulse(PART, torch.tensor(1), UP, DOWN), Wait(1.0)]
    assert [outcome.joules for outcome in off.execute(ops)] == [None, None, None]


def test_longer_reads_take_more_and_a_drooping_supply_less(quiet_board):
    op = Read(PART, vectors(PART, Side.COLS), Side.COLS)
    usual = joules(quiet_board(physics=ON), op)
    longer = joules(quiet_board(physics={"energy": Energy(read_seconds=3e-3)}), op)
    assert longer == pytest.approx(3 * usual, rel=1e-12)
    assert joules(quiet_board(physics=ON | {"supply": Supply(ohms=1e4, volts=5.0)}), op) < 0.95 * usual


def test_inputs_that_are_widths_take_their_share_of_the_full_amplitude(quiet_board, spec_of):
    volts, g = vectors(PART, Side.COLS), quiet_board().chip.state["g"]
    board = quiet_board(spec_of(reading={"input_coding": "width"}), physics=ON)
    slow = 0.0
    for t, b in itertools.product(range(2), range(3)):
        most = float(volts[t, b].abs().max())
        for r, c in itertools.product(range(3), range(2)):
            cell = float(g[PART.kernel[t], PART.row[t] + r, PART.col[t] + c])
            slow += most * abs(float(volts[t, b, c])) * cell * 1e-3
    got = joules(board, Read(PART, volts, Side.COLS))
    assert got == pytest.approx(slow, rel=1e-12)
    assert got > joules(quiet_board(physics=ON), Read(PART, volts, Side.COLS))


def test_a_gate_that_holds_a_read_holds_its_energy(quiet_board, spec_of):
    spec = spec_of(writing={"gate_curve": ((0.5, 1e-6), (3.0, 1e-2))})
    board = quiet_board(spec, physics=ON | {"gate_limits_reads": True})
    volts, g, slow = vectors(PART, Side.COLS), board.chip.state["g"], 0.0
    for t, b, r, c in itertools.product(range(2), range(3), range(3), range(2)):
        v = abs(float(volts[t, b, c]))
        slow += v * min(v * float(g[PART.kernel[t], PART.row[t] + r, PART.col[t] + c]), 1e-6) * 1e-3
    assert joules(board, Read(PART, volts, Side.COLS, Sense(gate=0.5))) == pytest.approx(slow, rel=1e-12)
