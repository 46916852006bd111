"""Coded reads give every cell of a block what a cell-by-cell read gives, within the limits of an array read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.contract import Blocks, Range, Read, ReadCells, Side
from hil.errors import UsageError
from hil.lab.guard import Guard
from hil.lowering import Lowering
from hil.program import ByPulses, CellState, program
from hil.program.coded import CodedReads, hadamard_code, s_code, sylvester

ONE_SIGN = {"volts_low": 0.0}


def everything(blocks: Blocks) -> torch.Tensor:
    return torch.ones(blocks.shape, dtype=torch.bool)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(lines=st.integers(1, 70), signed=st.booleans())
def test_a_code_gives_every_line_and_no_offset(lines: int, signed: bool) -> None:
    code = hadamard_code(lines) if signed else s_code(lines)
    order = len(code.patterns)
    assert lines < order <= 2 * lines and order & (order - 1) == 0
    assert torch.equal(code.decode @ code.patterns, torch.eye(lines, dtype=torch.float64))
    assert torch.equal(code.decode.sum(1), torch.zeros(lines, dtype=torch.float64))
    assert sorted(code.patterns.unique().tolist()) == ([-1.0, 1.0] if signed else [0.0, 1.0])
    noise = code.decode.square().sum(1)  # variance of a cell, for variance 1 of a reading
    assert torch.equal(noise, torch.full_like(noise, (1 if signed else 4) / order))


def test_without_the_dark_pattern_it_is_the_s_matrix() -> None:
    """S of order n has the inverse 2 / (n + 1) (2 S^T - J), whose rows square to 4 n / (n + 1)^2."""
    code, n = s_code(31), 31
    assert not code.patterns[0].any()  # the dark one
    s = code.patterns[1:]
    inverse = 2 / (n + 1) * (2 * s.T - 1)
    torch.testing.assert_close(inverse @ s, torch.eye(n, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.equal(code.decode[:, 1:], inverse)
    assert inverse.square().sum(1).allclose(torch.full((n,), 4 * n / (n + 1) ** 2, dtype=torch.float64))


def test_sylvester_matrices_are_orthogonal() -> None:
    h = sylvester(16)
    assert torch.equal(h @ h.T, 16 * torch.eye(16, dtype=torch.float64))


@pytest.mark.parametrize("reading", [{}, ONE_SIGN], ids=["both signs", "one sign"])
@pytest.mark.parametrize("drive", list(Side))
def test_coded_reads_are_exact_without_noise(quiet_board, spec_of, whole, drive, reading):
    board = quiet_board(spec_of(drive=drive, reading=reading))
    blocks = whole(board.spec)
    siemens = CodedReads(board, blocks, torch.float64).read(everything(blocks), 1)
    torch.testing.assert_close(siemens, board.chip.state["g"], rtol=1e-12, atol=0)


@pytest.mark.parametrize("abilities", [{"signed_read": False}, {"largest_batch": 3}], ids=["unsigned", "small batches"])
def test_they_fit_what_the_board_can_do(quiet_board, spec_of, whole, mocker, abilities):
    board = quiet_board(spec_of(abilities=abilities))
    blocks, sent = whole(board.spec), mocker.spy(board, "execute")
    siemens = CodedReads(board, blocks, torch.float64).read(everything(blocks), 1)
    torch.testing.assert_close(siemens, board.chip.state["g"], rtol=1e-12, atol=0)
    (ops,) = sent.call_args.args
    assert all(isinstance(op, Read) for op in ops) and sum(op.volts.shape[1] for op in ops) == 8
    assert len(ops) == (3 if "largest_batch" in abilities else 1)


def test_only_blocks_with_wanted_cells_are_read_within_the_array_voltage(quiet_board, spec_of, whole, mocker):
    board = quiet_board(spec_of(limits={"read_array_volts": 0.05}))
    blocks, wanted = whole(board.spec), torch.zeros(4, 6, 5, dtype=torch.bool)
    wanted[1, 2, 3] = wanted[3, 0, 0] = True
    sent = mocker.spy(board, "execute")
    reader = CodedReads(Guard(board), blocks, torch.float64)
    siemens = reader.read(wanted, 2)
    assert torch.equal(siemens[[0, 2]].isnan(), torch.ones(2, 6, 5, dtype=torch.bool))
    torch.testing.assert_close(siemens[[1, 3]], board.chip.state["g"][[1, 3]], rtol=1e-12, atol=0)
    ((op,),) = sent.call_args.args
    assert op.blocks.kernel == (1, 3) and float(op.volts.abs().max()) == 0.05 and op.sense.averages == 2
    assert torch.equal(reader.read(torch.zeros_like(wanted), 2).isnan(), torch.ones_like(wanted))
    assert sent.call_args.args == ([],)


def test_lines_that_rail_are_read_cell_by_cell(quiet_board, spec_of, mocker):
    rails = (Range(negative=60e-6, positive=60e-6, step=1e-9),)  # a whole line draws up to 120 uA, a cell 40 uA
    board = quiet_board(spec_of(reading={"ranges": rails}))
    board.chip.state["g"][:] = 20e-6
    board.chip.state["g"][0, 2] = 150e-6  # 5 cells at 0.2 V: 150 uA
    blocks, sent = Blocks((0, 1), (0, 0), (0, 0), 6, 5), mocker.spy(board, "execute")
    siemens = CodedReads(board, blocks, torch.float64).read(everything(blocks), 1)
    torch.testing.assert_close(siemens, board.chip.state["g"][:2], rtol=0, atol=1e-8)
    (again,) = [op for call in sent.call_args_list for op in call.args[0] if isinstance(op, ReadCells)]
    assert again.mask is not None and again.mask.nonzero()[:, :2].unique(dim=0).tolist() == [[0, 2]]


def test_offsets_of_amplifiers_drop_out(quiet_board, spec_of, whole, mocker):
    board = quiet_board(spec_of())
    blocks, execute = whole(board.spec), board.execute

    def shifted(ops):
        return [replace(got, value=got.value + 3e-6) for got in execute(ops)]

    mocker.patch.object(board, "execute", shifted)
    siemens = CodedReads(board, blocks, torch.float64).read(everything(blocks), 1)
    torch.testing.assert_close(siemens, board.chip.state["g"], rtol=1e-9, atol=0)


@pytest.mark.parametrize("reading", [{}, ONE_SIGN], ids=["both signs", "one sign"])
def test_cells_are_programmed_with_coded_reads_alone(quiet_board, spec_of, whole, mocker, reading):
    board = quiet_board(spec_of(reading=reading))
    target = 40e-6 + 130e-6 * torch.rand(4, 6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    sent = mocker.spy(board, "execute")
    method = ByPulses(window=2e-6, rounds=40, allowed=0.0, coded=True)
    report = program(Lowering(Guard(board)), "test", whole(board.spec), target, method)
    assert report.count(CellState.HIT) == 120
    assert float((board.chip.state["g"] - target).abs().max()) <= 2e-6
    kinds = {type(op).__name__ for call in sent.call_args_list for op in call.args[0]}
    assert kinds == {"Read", "Pulse"}


def test_a_board_that_measures_no_vectors_refuses(quiet_board, spec_of, whole):
    board = quiet_board(spec_of(ops=("ReadCells", "Pulse", "Wait")))
    method = ByPulses(window=2e-6, coded=True)
    with pytest.raises(UsageError, match="tiny knows Pulse, ReadCells, Wait; leave coded out"):
        program(Lowering(board), "test", whole(board.spec), board.chip.state["g"].clone(), method)
