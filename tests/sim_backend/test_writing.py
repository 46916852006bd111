"""Pulses on the simulated chip: which cells move, by how much, and what holds them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hil.contract import Blocks, Flag, Kind, Outer, Pulse, Ramp, Sense, Shape, Stop
from sim_backend.gates import Gates

UP, DOWN = Shape(1.0, 1e-6, 3.0), Shape(1.2, 1e-6, 3.0)


def change(board, op) -> torch.Tensor:
    """How an operation changes the chip, S."""
    before = board.chip.state["g"].clone()
    board.execute([op])
    return board.chip.state["g"] - before


def test_counts_move_cells_in_their_direction_and_zero_leaves_them(quiet_board, whole):
    board = quiet_board()
    counts = torch.randint(-2, 3, (4, 6, 5), generator=torch.Generator().manual_seed(1))
    moved = change(board, Pulse(whole(board.spec), counts, UP, DOWN))
    assert torch.equal(moved.sign().long(), counts.sign())


@pytest.mark.parametrize("sign", [1, -1])
def test_a_usual_pulse_in_the_middle_is_one_step_either_way(quiet_board, whole, sign):
    """Each direction is counted from its own usual amplitude."""
    board = quiet_board(start_dtod=0.0)
    moved = change(board, Pulse(whole(board.spec), torch.tensor(sign), UP, DOWN))
    torch.testing.assert_close(moved, torch.full_like(moved, sign * 200e-6 / 100), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int64])
def test_counts_of_any_integer_type_mean_the_same(quiet_board, whole, dtype):
    one, other = quiet_board(), quiet_board()
    blocks = whole(one.spec)
    counts = torch.randint(0, 3, (4, 6, 5), generator=torch.Generator().manual_seed(1))
    for board, typed in ((one, counts.int()), (other, counts.to(dtype))):
        (got,) = board.execute([Pulse(blocks, typed, UP, DOWN, cycles=3, alternate=True)])
        assert torch.equal(got.applied, (3 * counts).int())
    assert torch.equal(one.chip.state["g"], other.chip.state["g"])


def test_a_block_touches_its_own_cells_only(quiet_board):
    board = quiet_board()
    blocks = Blocks((1, 3), (2, 0), (0, 3), 3, 2)
    moved = change(board, Pulse(blocks, torch.tensor(1), UP, DOWN)) != 0
    wanted = torch.zeros(4, 6, 5, dtype=torch.bool)
    wanted[1, 2:5, 0:2] = wanted[3, 0:3, 3:5] = True
    assert torch.equal(moved, wanted)


def test_alternate_cycles_turn_the_sign_and_count_every_pulse(quiet_board, whole):
    one, other = quiet_board(), quiet_board()
    blocks, counts = whole(one.spec), torch.tensor([[[2, -1, 0, 1, 3]]])
    (got,) = one.execute([Pulse(blocks, counts, UP, DOWN, cycles=5, alternate=True)])
    other.execute([Pulse(blocks, counts * sign, UP, DOWN) for sign in (1, -1, 1, -1, 1)])
    assert torch.equal(one.chip.state["g"], other.chip.state["g"])
    assert torch.equal(got.applied, (counts.abs() * 5).int().expand(4, 6, 5))
    assert torch.equal(one.chip.state["pulses"], got.applied)


def test_an_outer_is_one_pulse_for_each_slot_where_row_and_column_fire(quiet_board, whole):
    one, other = quiet_board(), quiet_board()
    blocks = whole(one.spec)
    source = torch.Generator().manual_seed(2)
    rows = (torch.rand(4, 9, 6, generator=source) < 0.5) * (1 - 2 * (torch.arange(6) % 2))
    cols = (torch.rand(4, 9, 5, generator=source) < 0.5) * -1
    (got,) = one.execute([Outer(blocks, rows.to(torch.int8), cols.to(torch.int8), UP, DOWN)])
    counts = sum(rows[:, s, :, None] * cols[:, s, None, :] for s in range(9))
    other.execute([Pulse(blocks, counts, UP, DOWN)])
    assert torch.equal(got.applied, counts.abs().int())
    assert torch.equal(one.chip.state["g"], other.chip.state["g"])


def test_pulses_below_the_threshold_are_applied_and_change_nothing(quiet_board, whole):
    board = quiet_board()
    op = Pulse(whole(board.spec), torch.tensor(5), replace(UP, volts=0.59), replace(DOWN, volts=0.59))
    assert not change(board, op).any() and not change(board, replace(op, counts=torch.tensor(-5))).any()
    assert int(board.chip.state["pulses"].min()) == 10


def test_amplitude_of_each_cell_counts(quiet_board, whole):
    board = quiet_board(start_dtod=0.0)
    volts = torch.linspace(0.5, 1.5, 30, dtype=torch.float64).view(6, 5)
    moved = change(board, Pulse(whole(board.spec), torch.tensor(1), replace(UP, volts=volts), DOWN))
    assert not moved[:, volts < 0.6].any()
    assert bool((moved[:, volts >= 0.6].diff(dim=1) > 0).all())


@pytest.mark.parametrize("sign", [1, -1])
def test_a_gate_below_its_threshold_writes_nothing(quiet_board, whole, sign):
    board = quiet_board(start_dtod=0.0)
    op = Pulse(whole(board.spec), torch.tensor(5 * sign), replace(UP, gate=0.39), replace(DOWN, gate=0.39))
    assert not change(board, op).any()
    open_enough = replace(op, up=replace(UP, gate=3.0), down=replace(DOWN, gate=0.41))
    assert bool((change(board, open_enough) != 0).all())


def test_the_gate_holds_the_conductance_that_pulses_up_can_reach(quiet_board, spec_of, whole):
    curve = ((0.5, 10e-6), (2.5, 200e-6))
    board = quiet_board(spec_of(writing={"gate_curve": curve}), start=0.0, start_dtod=0.0)
    blocks = whole(board.spec)
    reached = []
    for gate in (0.6, 0.9, 1.2):
        board.execute([Pulse(blocks, torch.tensor(2000), replace(UP, gate=gate), DOWN)])
        reached.append(float(board.chip.state["g"].mean()))
        amps = Gates(board.spec, 0.4).let_through(replace(UP, gate=gate))
        assert reached[-1] == pytest.approx(amps / 0.6, rel=1e-6)
    assert reached == sorted(reached)
    before = board.chip.state["g"].clone()
    board.execute([Pulse(blocks, torch.tensor(100), replace(UP, gate=0.6), DOWN)])
    assert torch.equal(board.chip.state["g"], before)  # a lower gate does not take back


def test_each_cell_has_its_own_gate(quiet_board, spec_of, whole):
    curve = ((0.5, 10e-6), (2.5, 200e-6))
    board = quiet_board(spec_of(writing={"gate_curve": curve}), start=0.0, start_dtod=0.0)
    gate = torch.linspace(0.3, 1.2, 5, dtype=torch.float64)
    board.execute([Pulse(whole(board.spec), torch.tensor(2000), replace(UP, gate=gate), DOWN)])
    g = board.chip.state["g"]
    assert torch.equal(g[..., 0], torch.full((4, 6), 10e-6, dtype=torch.float64))
    assert bool((g[..., 1:].diff(dim=-1) > 0).all())


def test_the_gate_curve_is_read_log_log_and_flat_beyond_its_ends(spec_of):
    gates = Gates(spec_of(writing={"gate_curve": ((0.5, 1e-6), (1.0, 4e-6), (2.0, 64e-6))}), 0.4)

    def amps(gate: float) -> float:
        got = gates.let_through(replace(UP, gate=gate))
        assert float(gates.let_through(replace(UP, gate=torch.tensor([gate])))[0]) == pytest.approx(got, rel=1e-6)
        return got

    assert amps(1.0) == pytest.approx(4e-6) and amps(0.5**0.5) == pytest.approx(2e-6)
    assert amps(2.0**0.5) == pytest.approx(16e-6)
    assert amps(0.45) == pytest.approx(1e-6) and amps(3.0) == pytest.approx(64e-6)
    assert amps(0.39) == 0.0


def test_a_source_compliance_and_a_gate_hold_together(spec_of):
    gates = Gates(spec_of(writing={"gate_curve": ((0.5, 1e-6), (2.5, 1e-3))}), 0.4)
    assert gates.let_through(replace(UP, gate=2.5, amps=1e-4)) == 1e-4
    assert gates.let_through(replace(UP, gate=0.5, amps=1e-4)) == pytest.approx(1e-6)
    both = gates.let_through(replace(UP, gate=torch.tensor([0.5, 2.5], dtype=torch.float64), amps=1e-4))
    assert both.tolist() == pytest.approx([1e-6, 1e-4])
    assert Gates(spec_of(selector="passive"), None).let_through(Shape(1.0, 1e-6)) is None
    assert Gates(spec_of(selector="passive"), None).let_through(Shape(1.0, 1e-6, amps=2e-5)) == 2e-5


@pytest.mark.parametrize("kind", [Kind.SET, Kind.RESET])
def test_a_ramp_pulse_is_worth_as_much_as_a_pulse_of_its_shape(quiet_board, whole, kind):
    """A ramp down is counted from the usual amplitude of pulses down, which differs from that of pulses up."""
    one, other = quiet_board(), quiet_board()
    blocks = whole(one.spec)
    sign = 1 if kind is Kind.SET else -1
    stop = Stop(1.0, 0.0, 1.0)
    points = torch.tensor([1.1], dtype=torch.float64)
    signs = torch.full((4, 6, 5), sign, dtype=torch.int8)
    one.execute([Ramp(blocks, signs, kind, Shape(0.0, 1e-6, 3.0), "volts", points, 0, Sense(0.2), stop)])
    shape = Shape(1.1, 1e-6, 3.0)
    other.execute([Pulse(blocks, torch.tensor(sign), shape, shape)])
    assert torch.equal(one.chip.state["g"], other.chip.state["g"])


def test_sensing_inside_the_pulse_reads_at_the_pulses_amplitude(quiet_board, spec_of, whole):
    board = quiet_board(spec_of(reading={"inside_pulse": True}))
    blocks = whole(board.spec)
    signs = torch.ones(4, 6, 5, dtype=torch.int8)
    points = torch.tensor([0.3], dtype=torch.float64)
    ramp = Ramp(blocks, signs, Kind.SWEEP, Shape(0.0, 1e-6, 3.0), "volts", points, 0, Sense(None), Stop(0.0, 0.0, 1.0))
    (got,) = board.execute([ramp])
    assert torch.equal(got.value, 0.3 * board.chip.state["g"])
    volts = torch.linspace(0.1, 0.5, 5, dtype=torch.float64)
    by_gate = replace(ramp, shape=Shape(volts, 1e-6), knob="gate", points=torch.tensor([3.0], dtype=torch.float64))
    (got,) = board.execute([by_gate])
    assert torch.equal(got.value, volts * board.chip.state["g"])


def test_a_ramp_stops_each_cell_at_its_own_point(quiet_board, whole):
    board = quiet_board(start=0.1)
    target = torch.linspace(60e-6, 180e-6, 30, dtype=torch.float64).view(6, 5).expand(4, 6, 5) * 0.2
    points = torch.arange(0.6, 1.8, 0.02, dtype=torch.float64)
    signs = torch.ones(4, 6, 5, dtype=torch.int8)
    shape, stop = Shape(0.0, 1e-6, 3.0), Stop(target, target, 1.0)
    op = Ramp(whole(board.spec), signs, Kind.SET, shape, "volts", points, 0, Sense(0.2), stop)
    (got,) = board.execute([op])
    assert bool((got.flags == int(Flag.STOPPED)).all())
    assert bool((got.value >= target).all())
    assert len(got.applied.unique()) > 5 and int(got.applied.max()) < 60
    assert torch.equal(got.value, 0.2 * board.chip.state["g"])
