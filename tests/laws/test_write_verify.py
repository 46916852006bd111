"""Statistics of write-verify: what coded reads, confirming reads, delays and waits are worth, in closed form."""

from __future__ import annotations

from dataclasses import replace
from math import erf, sqrt

import pytest
import torch

from hil.contract import Blocks, Side, Wait
from hil.program import ByPulses, CellState, Relaxation, program
from hil.program.coded import CodedReads
from hil.program.reading import SingleReads
from sim_backend.aging.relaxation import Relaxation as Relaxing
from sim_backend.aging.relaxation import SpreadAt
from sim_backend.faults import Faults

SIZE = {"kernels": 8, "rows": 15, "cols": 15}


def blocks_of(spec) -> Blocks:
    kernels, rows, cols = spec.cells
    return Blocks(tuple(range(kernels)), (0,) * kernels, (0,) * kernels, rows, cols)


def spread(reader, board, repeats: int) -> float:
    """Variance of the read conductance of a cell, S^2."""
    everything = torch.ones(board.spec.cells, dtype=torch.bool)
    error = torch.stack([reader.read(everything, 1) - board.chip.state["g"] for _ in range(repeats)])
    return float(error.square().mean())


@pytest.mark.parametrize(
    ("reading", "factor"), [({}, 1 / 16), ({"volts_low": 0.0}, 4 / 16)], ids=["both signs", "one sign"]
)
@pytest.mark.parametrize("drive", list(Side))
def test_amplifier_noise_of_coded_reads(quiet_board, spec_of, drive, reading, factor):
    """Variance over that of single reads: 1 / N for both signs, and 4 / N for one, N = 16 patterns for 15 lines.

    The S-matrix of order n = N - 1 alone has 4 n / (n + 1)^2; its dark pattern makes it (n + 1) / n of that. 36,000
    samples each: 3 % are four sigma of the ratio.
    """
    board = quiet_board(spec_of(drive=drive, reading=reading, **SIZE), amplifier_noise=1e-7)
    blocks = blocks_of(board.spec)
    single = spread(SingleReads(board, blocks), board, 20)
    coded = spread(CodedReads(board, blocks, torch.float64), board, 20)
    assert single == pytest.approx((1e-7 / 0.2) ** 2, rel=0.03)
    assert coded / single == pytest.approx(factor, rel=0.04)


def test_noise_of_the_cells_gains_nothing(quiet_board, spec_of):
    """Every pattern hears the noise of all n cells: n / N of a single read's variance, for patterns of 1 and -1."""
    board = quiet_board(spec_of(**SIZE), read_noise=1e-6)
    blocks = blocks_of(board.spec)
    coded = spread(CodedReads(board, blocks, torch.float64), board, 20)
    assert coded == pytest.approx(15 / 16 * 1e-12, rel=0.04)


@pytest.mark.parametrize("confirm", [1, 2, 8])
def test_hits_of_cells_that_do_not_move(quiet_board, spec_of, confirm):
    """A stuck cell a distance d from its target counts as done with p = p1 pc in each verify, and p falls with confirm.

    p1 and pc are the probabilities that a reading with the noise of its conversions lies inside the window.
    """
    noise, window, away, averages = 2e-6, 3e-6, 4e-6, 2
    board = quiet_board(spec_of(kernels=8, rows=25, cols=25), read_noise=noise, faults=Faults(fraction=1.0))
    board.chip.state["g"][:] = 100e-6
    method = ByPulses(window=window, rounds=1, averages=averages, confirm=confirm, allowed=1.0)
    target = torch.full(board.spec.cells, 100e-6 + away, dtype=torch.float64)
    report = program(board, "test", blocks_of(board.spec), target, method)

    def inside(conversions: int) -> float:
        sigma = noise / sqrt(2 * conversions)
        return (erf((away + window) / sigma / 2) - erf((away - window) / sigma / 2)) / 2

    p1, pc = inside(averages), inside(confirm)
    cells, verifies = target.numel(), 2  # before and after the one round
    hit = 1 - (1 - p1 * pc) ** verifies
    false_hits = p1 * (1 - pc) * (1 + (1 - p1 * pc))
    assert report.count(CellState.HIT) == pytest.approx(cells * hit, abs=5 * sqrt(cells * hit))
    assert report.false_hits == pytest.approx(cells * false_hits, abs=5 * sqrt(cells * false_hits))
    seen = int((~report.first.isnan()).sum())
    assert seen == pytest.approx(cells * (1 - (1 - p1 * pc - p1 * (1 - pc)) ** verifies), abs=5 * sqrt(cells * p1))


def relaxing(spread: float) -> Relaxing:
    """A deviation of ``spread`` uS between 0.9 and 1 s after the last pulse, whatever the conductance."""
    return Relaxing(ages=(SpreadAt(age=1.0, microsiemens=(spread,)),), scale=100e-6, first=0.9)


def relaxing_board(quiet_board, spec_of):
    """5,000 cells that are programmed in far less time than they take to relax."""
    timing = {"read_event": 1e-9, "write_event": 1e-9}
    spec = spec_of(kernels=8, rows=25, cols=25, timing=timing, writing={"seconds": 1e-9})
    return quiet_board(spec, physics={"aging": relaxing(3.0)}, states=400.0, seconds=1e-9)


def programmed(board, method):
    target = 80e-6 + 60e-6 * torch.rand(board.spec.cells, generator=torch.Generator().manual_seed(3)).double()
    return program(board, "test", blocks_of(board.spec), target, method)


def outside_later(board, report, method) -> float:
    """Share of hits outside their window when all has relaxed."""
    board.execute([Wait(2.0)])
    hits = report.state == int(CellState.HIT)
    return float(((board.chip.state["g"] - report.target).abs() > method.window)[hits].double().mean())


RELAXED = ByPulses(window=4e-6, rounds=40, damping=0.9, allowed=1.0)


def test_each_round_of_relaxation_takes_the_same_share_again(quiet_board, spec_of):
    """Written cells relax by a fresh draw, so that r rounds leave q^(r + 1) of them outside, q for one draw."""
    board = relaxing_board(quiet_board, spec_of)
    q = outside_later(board, programmed(board, RELAXED), RELAXED)
    assert 0.1 < q < 0.6
    for rounds in (1, 2):
        board = relaxing_board(quiet_board, spec_of)
        report = programmed(board, replace(RELAXED, relaxation=Relaxation(wait=2.0, rounds=rounds)))
        left = report.count(CellState.MISSED) / report.target.numel()
        assert left == pytest.approx(q ** (rounds + 1), rel=0.15)
        assert outside_later(board, report, RELAXED) == 0  # what the last look called a hit is one


def test_a_delay_longer_than_relaxation_confirms_no_cell_that_relaxed(quiet_board, spec_of):
    """Each cell then is confirmed where it stays, and the others are refused; without it a third leaves its window."""
    board = relaxing_board(quiet_board, spec_of)
    report = programmed(board, replace(RELAXED, delay=2.0))
    assert outside_later(board, report, RELAXED) == 0
    assert report.false_hits > 1000 and report.count(CellState.HIT) > 4900
