"""Write-verify: cells end in their window, broken cells are given up, and the report tells the truth."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hil.contract import Blocks, Pulse, Ramp, ReadCells
from hil.errors import LimitExceeded, ProgramFailed
from hil.lab.guard import Guard
from hil.lowering import Lowering
from hil.program import ByPulses, ByRamps, CellState, program
from sim_backend.board import SimBoard
from sim_backend.faults import Faults

PULSES = ByPulses(window=2e-6, rounds=40, allowed=0.0)
RAMPS = ByRamps(
    window=5e-6, set_volts=1.2, gate_low=0.5, gate_high=2.0, gate_step=0.01,
    reset_low=0.6, reset_high=1.8, reset_step=0.01, rounds=4, allowed=0.0, jump=50e-6,
)  # fmt: skip
CURVE = {"gate_curve": ((0.5, 2e-6), (2.0, 200e-6)), "down_gate": 3.0}


def targets(shape, low=40e-6, high=170e-6, dtype=torch.float64) -> torch.Tensor:
    return low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


def cells(board, blocks: Blocks) -> torch.Tensor:
    return torch.stack(
        [board.chip.state["g"][k, r : r + blocks.n_rows, c : c + blocks.n_cols]
         for k, r, c in zip(blocks.kernel, blocks.row, blocks.col, strict=True)]
    )  # fmt: skip


@pytest.mark.parametrize("method", [PULSES, RAMPS], ids=["pulses", "ramps"])
def test_every_cell_of_a_quiet_board_ends_in_its_window(quiet_board, spec_of, method):
    board = quiet_board(spec_of(writing=CURVE))
    blocks = Blocks((0, 2), (1, 0), (0, 1), 4, 4)
    target = targets(blocks.shape)
    report = program(board, "test", blocks, target, method)
    assert report.count(CellState.HIT) == 32
    assert float((cells(board, blocks) - target).abs().max()) <= method.window
    torch.testing.assert_close(report.siemens, cells(board, blocks))
    taken = torch.stack([board.chip.state["pulses"][0, 1:5, 0:4], board.chip.state["pulses"][2, 0:4, 1:5]])
    assert torch.equal(report.pulses, taken.to(torch.int64))
    assert 0 < report.rounds <= method.rounds
    assert str(report).startswith("32 cells: 32 hit")


@pytest.mark.parametrize("method", [PULSES, RAMPS], ids=["pulses", "ramps"])
def test_cells_in_their_window_get_no_pulse(quiet_board, whole, method):
    board = quiet_board()
    report = program(board, "test", whole(board.spec), board.chip.state["g"].clone(), method)
    assert report.rounds == 0 and not report.pulses.any() and report.count(CellState.HIT) == 120


def test_only_masked_cells_are_touched(quiet_board, whole):
    board = quiet_board()
    mask = torch.rand(4, 6, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    before = board.chip.state["g"].clone()
    report = program(board, "test", whole(board.spec), targets((4, 6, 5)), PULSES, mask=mask)
    assert torch.equal(board.chip.state["g"][~mask], before[~mask])
    assert torch.equal(report.state == int(CellState.LEFT), ~mask)


@pytest.mark.parametrize("method", [PULSES, RAMPS], ids=["pulses", "ramps"])
def test_a_hit_is_confirmed_by_a_second_averaged_read(quiet_board, spec_of, whole, mocker, method):
    board = quiet_board(spec_of(writing=CURVE), read_noise=1e-6)
    sent = mocker.spy(board, "execute")
    report = program(board, "test", whole(board.spec), targets((4, 6, 5)), replace(method, allowed=1.0))
    reads = [(i, op) for i, call in enumerate(sent.call_args_list) for op in call.args[0] if isinstance(op, ReadCells)]
    confirmed = torch.zeros(4, 6, 5, dtype=torch.bool)
    for i, op in reads:
        if op.sense.averages == method.confirm:
            value = sent.spy_return_list[i][0].value / op.sense.volts
            confirmed |= op.mask & ((value - targets((4, 6, 5))).abs() <= method.window)
    assert torch.equal(report.state == int(CellState.HIT), confirmed)
    assert report.count(CellState.HIT) > 100


@pytest.mark.parametrize("kind", ["low", "high", "open", "short", "value"])
@pytest.mark.parametrize("method", [PULSES, RAMPS], ids=["pulses", "ramps"])
def test_stuck_cells_are_given_up_and_not_hammered(quiet_board, spec_of, whole, method, kind):
    shares = {"low": 0.0, "high": 0.0, "open": 0.0, "short": 0.0, "value": 0.0} | {kind: 1.0}
    board = quiet_board(spec_of(writing=CURVE), faults=Faults(fraction=0.2, **shares), read_noise=2e-7)
    target = targets((4, 6, 5))
    report = program(board, "test", whole(board.spec), target, replace(method, allowed=1.0))
    stuck = board.chip.state["stuck"] & ((board.chip.state["g"] - target).abs() > 4 * method.window)
    assert int(stuck.sum()) > 10
    assert bool((report.state[stuck] == int(CellState.STUCK)).all())
    assert not bool((report.state[~board.chip.state["stuck"]] == int(CellState.STUCK)).any())
    points = {ByPulses: 6 * 20, ByRamps: 2 * 151}[type(method)]
    assert int(report.pulses[stuck].max()) <= points


def test_no_cell_gets_more_than_its_rounds_allow(quiet_board, whole, mocker):
    board = quiet_board(states=5000.0)  # steps far smaller than the method believes
    method = ByPulses(window=1e-7, rounds=3, most=7, give_up=100, allowed=1.0)
    sent = mocker.spy(board, "execute")
    report = program(board, "test", whole(board.spec), targets((4, 6, 5)), method)
    assert int(report.pulses.max()) <= 3 * 7
    pulses = [op for call in sent.call_args_list for op in call.args[0] if isinstance(op, Pulse)]
    assert len(pulses) == 3 and max(int(op.counts.abs().max()) for op in pulses) == 7


def test_too_many_misses_raise_with_their_facts(quiet_board, whole):
    board = quiet_board(faults=Faults(fraction=0.3, low=0.0, high=0.0, open=1.0))
    with pytest.raises(ProgramFailed) as caught:
        program(board, "layer7", whole(board.spec), targets((4, 6, 5)), replace(PULSES, allowed=0.1))
    error = caught.value
    stuck = int(board.chip.state["stuck"].sum())
    assert (error.layer, error.failed, error.cells, error.allowed) == ("layer7", stuck, 120, 0.1)
    assert "0 S instead of" in error.worst and error.worst.startswith("block ")
    assert f"layer7: {stuck} of 120 cells" in str(error)


def test_clipped_weights_are_reported(quiet_board, whole):
    board = quiet_board()
    report = program(board, "test", whole(board.spec), targets((4, 6, 5)), PULSES, clipped=3)
    assert str(report).endswith("3 weights clipped")


@pytest.mark.parametrize("native", [True, False], ids=["native", "minimum board"])
@pytest.mark.parametrize("by", ["pulses", "ramps"])
def test_the_daffodil_board_is_programmed_behind_its_guard(board_file, by, native):
    """On the noisy board with 5 % stuck cells nearly all others end in their window; limits hold all the way."""
    file = board_file("daffodil")
    known = file.spec.abilities.ops if native else ("ReadCells", "Pulse", "Wait")
    spec = replace(file.spec, abilities=replace(file.spec.abilities, ops=known))
    board = SimBoard(spec, file.simulator, seed=4)
    guard = Guard(board)
    backend = Lowering(guard)
    blocks = Blocks((3,), (0,), (0,), 20, 12)
    target = targets(blocks.shape, low=40e-6, high=150e-6, dtype=torch.float32)
    method = {
        "pulses": ByPulses(window=8e-6, allowed=0.2),
        "ramps": ByRamps(
            window=12e-6, set_volts=1.5, gate_low=0.6, gate_high=1.4, gate_step=0.02, reset_low=0.6, reset_high=1.4,
            reset_step=0.01, jump=8e-6, allowed=0.2, rounds=4,
        ),
    }[by]  # fmt: skip
    report = program(backend, "test", blocks, target, method)
    stuck = board.chip.state["stuck"][3, 0:20, 0:12].unsqueeze(0)
    hit = report.state == int(CellState.HIT)
    assert float(hit[~stuck].float().mean()) > 0.95
    error = (cells(board, blocks) - target).abs()
    assert float((error[hit] <= method.window + 1.2e-6).float().mean()) > 0.98  # three sigma of the confirming read
    assert int(guard.wear.run[3, 0:20, 0:12].max()) >= int(report.pulses.max())
    assert int(board.chip.state["pulses"].sum()) == int(report.pulses.sum())
    if by == "ramps":
        assert bool(backend.notes) != native


def test_ramps_stop_at_the_jump_rule(quiet_board, spec_of, whole, mocker):
    board = quiet_board(spec_of(writing=CURVE))
    sent = mocker.spy(board, "execute")
    program(board, "test", whole(board.spec), targets((4, 6, 5)), replace(RAMPS, jump=3e-6, allowed=1.0))
    ramps = [op for call in sent.call_args_list for op in call.args[0] if isinstance(op, Ramp)]
    assert {op.stop.jump for op in ramps} == {3e-6, float("inf")}


@pytest.mark.parametrize(
    ("value", "key"), [(9e-6, "siemens_low"), (211e-6, "siemens_high"), (float("nan"), "siemens_high")]
)
def test_a_target_outside_the_window_of_the_board_is_refused(quiet_board, spec_of, value, key):
    spec = replace(spec_of(), where={f"limits.{key}": "board.yaml:7"})
    board = quiet_board(spec)
    blocks = Blocks((1,), (2,), (1,), 2, 2)
    target = torch.tensor([[[10e-6, 210e-6], [value, 100e-6]]])  # the ends are float32, and inside
    before = board.snapshot()
    with pytest.raises(LimitExceeded, match=r"target conductance .*\(kernel 1, row 3, column 1\), set in board.yaml:7"):
        program(board, "test", blocks, target, PULSES)
    assert all(torch.equal(before[name], now) for name, now in board.snapshot().items())
    others = torch.tensor([[[True, True], [False, True]]])
    report = program(board, "test", blocks, target, replace(PULSES, allowed=1.0), mask=others)
    assert report.count(CellState.LEFT) == 1 and int(report.pulses.sum()) > 0


@pytest.mark.parametrize(
    "change", [{"window": 0.0}, {"rounds": 0}, {"averages": 0}, {"confirm": 0}, {"allowed": 1.5}, {"give_up": 0}]
)
def test_a_method_that_makes_no_sense_is_refused(change):
    for method in (PULSES, RAMPS):
        with pytest.raises(ValueError, match=f"{next(iter(change))} must"):
            replace(method, **change)
    with pytest.raises(ValueError, match="gate_low 3 V lies above gate_high 2 V"):
        replace(RAMPS, gate_low=3.0)
