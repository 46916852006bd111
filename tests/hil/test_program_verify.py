"""What verifying does beside reading: waits, looks at neighbours, relaxation, and a report that hides nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hil.contract import Bias, ReadCells, Wait
from hil.lab.guard import Guard
from hil.program import ByPulses, CellState, ProgramReport, Relaxation, program
from sim_backend.aging.leak import Leak

PULSES = ByPulses(window=2e-6, rounds=40, allowed=0.0)


def targets(low=40e-6, high=170e-6) -> torch.Tensor:
    return low + (high - low) * torch.rand(4, 6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def report_of(error: list[float], state: list[CellState]) -> ProgramReport:
    target = torch.full((1, 1, len(error)), 100e-6, dtype=torch.float64)
    siemens = target + torch.tensor(error, dtype=torch.float64)
    codes = torch.tensor(state, dtype=torch.uint8).view(1, 1, -1)
    pulses = torch.ones(target.shape, dtype=torch.int64)
    return ProgramReport(target, siemens, codes, pulses, 3, 0, siemens)


def test_lab_time_passes_before_the_confirming_read(quiet_board, spec_of, whole, mocker):
    board = quiet_board(spec_of())
    sent = mocker.spy(board, "execute")
    program(Guard(board), "test", whole(board.spec), targets(), replace(PULSES, delay=0.5))
    lists = [call.args[0] for call in sent.call_args_list]
    confirming = [ops for ops in lists if isinstance(ops[-1], ReadCells) and ops[-1].sense.averages == PULSES.confirm]
    assert confirming and all(isinstance(ops[0], Wait) and ops[0].seconds == 0.5 for ops in confirming)
    assert sum(isinstance(op, Wait) for ops in lists for op in ops) == len(confirming)


def test_both_values_of_a_cell_are_reported(quiet_board, whole, mocker):
    """Of every cell: what the read said that first saw it inside, and what was read last."""
    board = quiet_board(read_noise=1.5e-6)
    sent = mocker.spy(board, "execute")
    target, method = targets(), replace(PULSES, allowed=1.0)
    report = program(board, "test", whole(board.spec), target, method)
    first, last = torch.full((4, 6, 5), torch.nan, dtype=torch.float64), torch.zeros(4, 6, 5, dtype=torch.float64)
    false_hits = 0
    for call, (got, *_) in zip(sent.call_args_list, sent.spy_return_list, strict=True):
        (op,) = call.args[0]
        if isinstance(op, ReadCells):
            value = got.value / 0.2
            inside = op.mask & ((value - target).abs() <= method.window)
            if op.sense.averages == method.averages:
                first = torch.where(inside & first.isnan(), value, first)
            else:
                false_hits += int((op.mask & ~inside).sum())
            last = torch.where(op.mask, value, last)
    assert torch.equal(report.first.nan_to_num(), first.nan_to_num())
    assert torch.equal(report.siemens, last)
    assert report.false_hits == false_hits > 0 and f"{false_hits} false hits" in str(report)
    torch.testing.assert_close(report.error, last - target)
    hits = report.state == int(CellState.HIT)
    assert bool(((report.first - target)[hits].abs() <= method.window).all())


def test_disturbed_neighbours_are_found_and_written_again(quiet_board, spec_of, whole):
    """Half the write voltage moves the cells beside; reading them again brings back all that was lost."""
    spec = spec_of(selector="passive", writing={"biases": (Bias.HALF,)}, limits={"half_select_volts": 2.0})
    method, target = ByPulses(window=4e-6, rounds=200, give_up=200, allowed=1.0), targets(60e-6, 150e-6)
    lost = {}
    for every in (0, 100):
        board = quiet_board(spec, physics={"half_select": True}, threshold=0.3, volts_per_decade=0.6)
        report = program(board, "test", whole(spec), target, replace(method, neighbours_every=every))
        assert report.count(CellState.HIT) == 120
        lost[every] = int(((board.chip.state["g"] - target).abs() > method.window).sum())
        assert (report.disturbed > 0) == (every > 0)
    assert lost[0] > 30 and lost[100] == 0, lost


def test_neighbours_are_read_in_kernels_that_got_their_pulses(quiet_board, whole, mocker):
    """One kernel is at its targets from the start: nothing is written there, and nothing read again."""
    board = quiet_board()
    target = targets()
    target[2] = board.chip.state["g"][2]
    sent = mocker.spy(board, "execute")
    report = program(board, "test", whole(board.spec), target, replace(PULSES, neighbours_every=200))
    masks = [op.mask for call in sent.call_args_list for op in call.args[0] if isinstance(op, ReadCells)]
    read = torch.stack(masks).sum(0)
    assert int(read[2].max()) == 2  # the first read and its confirmation
    assert int(read[[0, 1, 3]].max()) > 4 and report.disturbed == 0


def test_cells_that_relax_are_written_again(quiet_board, whole):
    """A leak takes cells out of their window; a round of relaxation waits, reads and writes those again, no other."""
    leaking = {"physics": {"aging": Leak(lifetime=20.0)}}
    plain, kept = quiet_board(**leaking), quiet_board(**leaking)
    method = replace(PULSES, window=4e-6, allowed=1.0)
    report = program(plain, "test", whole(plain.spec), targets(), method)
    assert report.count(CellState.HIT) == 120 and report.relaxed == 0
    relaxed = program(kept, "test", whole(kept.spec), targets(), replace(method, relaxation=Relaxation(wait=1.0)))
    assert relaxed.relaxed > 0 and f"{relaxed.relaxed} relaxed" in str(relaxed)
    again = relaxed.pulses != report.pulses
    assert bool(again.any()) and bool((relaxed.pulses >= report.pulses).all())
    outside = (relaxed.siemens - targets()).abs() > method.window
    assert torch.equal(relaxed.state == int(CellState.MISSED), outside)  # the last look is the truth
    assert kept.now() >= plain.now() + 2.0


def test_nothing_is_waited_for_when_nothing_relaxes(quiet_board, whole, mocker):
    board = quiet_board()
    sent = mocker.spy(board, "execute")
    report = program(board, "test", whole(board.spec), targets(), replace(PULSES, relaxation=Relaxation(rounds=5)))
    waits = [op for call in sent.call_args_list for op in call.args[0] if isinstance(op, Wait)]
    assert len(waits) == 1 and report.relaxed == 0 and report.rounds <= PULSES.rounds


def test_a_histogram_counts_every_cell_once(quiet_board, whole):
    board = quiet_board(read_noise=1e-6)
    mask = torch.rand(4, 6, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    method = replace(PULSES, rounds=4, allowed=1.0)
    report = program(board, "test", whole(board.spec), targets(), method, mask=mask)
    edges, counts = report.histogram(10)
    assert edges.shape == (11,) and float(edges[0]) == float(report.error[mask].min())
    assert {state: int(count.sum()) for state, count in counts.items()} == {
        state: report.count(state) for state in CellState if state is not CellState.LEFT
    }
    assert report.count(CellState.MISSED) > 0 and report.count(CellState.HIT) > 0


def test_a_histogram_puts_errors_where_they_belong():
    report = report_of([-4e-6, 0.0, 1e-6, 4e-6, 9.0], [CellState.HIT] * 3 + [CellState.STUCK, CellState.LEFT])
    edges, counts = report.histogram(4)
    torch.testing.assert_close(edges, torch.tensor([-4e-6, -2e-6, 0.0, 2e-6, 4e-6], dtype=torch.float64))
    assert counts[CellState.HIT].tolist() == [1, 0, 2, 0] and counts[CellState.STUCK].tolist() == [0, 0, 0, 1]
    assert CellState.LEFT not in counts and counts[CellState.MISSED].tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        report.histogram(0)


@pytest.mark.parametrize("states", [[], [CellState.LEFT], [CellState.HIT, CellState.HIT]])
def test_a_histogram_of_equal_errors_or_none_has_edges_that_rise(states):
    report = report_of([2e-6] * len(states), states)
    edges, counts = report.histogram(3)
    assert bool((edges.diff() > 0).all())
    assert sum(int(count.sum()) for count in counts.values()) == sum(s is not CellState.LEFT for s in states)


def test_a_summary_tells_errors_and_pulses():
    lines = report_of([1e-6, -3e-6, 5e-6], [CellState.HIT, CellState.HIT, CellState.STUCK]).lines()
    assert lines[0] == "3 cells: 2 hit, 0 missed, 1 stuck, 0 aborted; 3 pulses in 3 rounds"
    assert lines[1] == "error of hits: mean -1 µS, rms 2.236 µS"
    assert lines[2] == "pulses a cell: mean 1.0, most 1"
