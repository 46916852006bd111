"""Laws of half-selected cells: who sees what, how often, and how far it moves them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hil.contract import Bias, Blocks, Kind, Outer, Pulse, Ramp, Sense, Shape, Stop
from hil.contract.cost import cost
from hil.errors import CheckpointError
from sim_backend.aging.pcm import PcmDrift

ON = {"half_select": True}
PULSE = Shape(2.0, 1e-6, amps=1e-3)
LAW = {"threshold": 0.0, "start_dtod": 0.0, "volts_down": 1.0}
ONE = Blocks((1,), (2,), (3,), 1, 1)


def passive(spec_of, quiet_board, **law):
    return quiet_board(spec_of(selector="passive", limits={"write_volts": 5.0}), physics=ON, **LAW | law)


def one_pulse(board, bias: Bias | None, count: int = 1) -> torch.Tensor:
    """How far all cells moved, S."""
    before = board.chip.state["g"].clone()
    board.execute([Pulse(ONE, torch.tensor(count), PULSE, PULSE, unselected=bias)])
    return board.chip.state["g"] - before


def usual(board, strength: float) -> float:
    """How far a cell in the middle goes up with a pulse of this strength, S."""
    return 100e-6 * (1 - (1 - 1 / 50) ** strength)


def on_lines() -> torch.Tensor:
    """Cells that share a line with the selected one."""
    cells = torch.zeros(4, 6, 5, dtype=torch.bool)
    cells[1, 2, :] = cells[1, :, 3] = True
    cells[1, 2, 3] = False
    return cells


def test_half_the_voltage_reaches_the_cells_of_both_lines_and_no_others(quiet_board, spec_of):
    board = passive(spec_of, quiet_board)
    moved, lines = one_pulse(board, Bias.HALF, 3), on_lines()
    assert torch.equal(board.chip.state["half_selects"], 3 * lines.int())
    lines[1, 2, 3] = True
    assert not moved[~lines].any()
    lines[1, 2, 3] = False
    expected = usual(board, 3 * 10 ** (0.0 / 0.4))  # half of 2 V is the usual 1 V
    torch.testing.assert_close(moved[lines], torch.full_like(moved[lines], expected), rtol=1e-9, atol=0.0)


def test_a_third_of_the_voltage_reaches_all_others_too_the_other_way_round(quiet_board, spec_of):
    board = passive(spec_of, quiet_board)
    moved, lines = one_pulse(board, Bias.THIRD, 2), on_lines()
    elsewhere = torch.zeros_like(lines)
    elsewhere[1] = ~lines[1]
    elsewhere[1, 2, 3] = False
    assert torch.equal(board.chip.state["half_selects"], 2 * (lines | elsewhere).int())
    expected = usual(board, 2 * 10 ** ((2 / 3 - 1.0) / 0.4))
    torch.testing.assert_close(moved[lines], torch.full_like(moved[lines], expected), rtol=1e-9, atol=0.0)
    torch.testing.assert_close(moved[elsewhere], torch.full_like(moved[elsewhere], -expected), rtol=1e-9, atol=0.0)
    assert not moved[[0, 2, 3]].any()


@pytest.mark.parametrize("count", [1, -1])
def test_disturb_goes_the_way_of_the_pulse_and_a_third_disturbs_less_than_half(quiet_board, spec_of, count):
    sizes = {}
    for bias in (Bias.HALF, Bias.THIRD, Bias.FLOAT, Bias.GROUND):
        moved = one_pulse(passive(spec_of, quiet_board), bias, count)[on_lines()]
        sizes[bias] = float(moved.abs().mean())
        assert bool((moved * count >= 0).all())
    assert sizes[Bias.HALF] > 2 * sizes[Bias.THIRD] > 0.0 == sizes[Bias.FLOAT] == sizes[Bias.GROUND]


def test_drift_does_not_undo_what_a_half_select_did(quiet_board, spec_of):
    """Aging shows conductances since the last pulse of a cell; a pulse on another cell moves it all the same."""
    spec, still = spec_of(selector="passive", limits={"write_volts": 5.0}), PcmDrift(exponent=0.0)
    with_aging = quiet_board(spec, physics=ON | {"aging": still}, **LAW)
    moved = one_pulse(with_aging, Bias.HALF, 3)
    assert torch.equal(moved, one_pulse(passive(spec_of, quiet_board), Bias.HALF, 3))
    assert bool((moved[on_lines()] > 0).all())


def test_nothing_moves_below_the_threshold_but_it_is_counted(quiet_board, spec_of):
    board = passive(spec_of, quiet_board, threshold=1.01)
    assert not one_pulse(board, Bias.HALF)[on_lines()].any()
    assert torch.equal(board.chip.state["half_selects"], on_lines().int())
    assert bool(one_pulse(passive(spec_of, quiet_board, threshold=0.99), Bias.HALF)[on_lines()].any())


def test_gated_arrays_and_boards_without_the_switch_have_none(quiet_board, spec_of):
    gated = quiet_board(physics=ON, **LAW)
    op = Pulse(ONE, torch.tensor(1), replace(PULSE, gate=3.0), replace(PULSE, gate=3.0), unselected=Bias.HALF)
    before = gated.chip.state["g"].clone()
    gated.execute([op])
    changed = (gated.chip.state["g"] != before).nonzero().tolist()
    assert changed == [[1, 2, 3]] and "chip.half_selects" not in gated.snapshot()
    off = quiet_board(spec_of(selector="passive"), **LAW)
    assert not one_pulse(off, Bias.HALF)[on_lines()].any() and "chip.half_selects" not in off.snapshot()


def test_the_boards_own_scheme_counts_where_the_pulse_names_none(quiet_board, spec_of):
    spec = spec_of(selector="passive", writing={"biases": (Bias.HALF, Bias.THIRD)})
    board = quiet_board(spec, physics=ON, **LAW)
    one_pulse(board, None)
    assert torch.equal(board.chip.state["half_selects"], on_lines().int())


@pytest.mark.parametrize("bias", [Bias.HALF, Bias.THIRD])
def test_cells_count_as_many_events_as_are_priced(quiet_board, spec_of, bias):
    board = passive(spec_of, quiet_board)
    blocks = Blocks((2, 0, 2), (1, 3, 4), (2, 0, 0), 2, 2)
    source = torch.Generator().manual_seed(1)
    counts = torch.randint(-3, 4, blocks.shape, generator=source)
    bits = [torch.randint(-1, 2, (3, 1, 2), generator=source).expand(3, 4, 2).to(torch.int8) for _ in range(2)]
    pulse = Pulse(blocks, counts, PULSE, PULSE, cycles=3, alternate=True, unselected=bias)
    ops = [pulse, Outer(blocks, *bits, PULSE, PULSE, bias)]
    board.execute(ops)
    priced = sum(cost(op, board.spec).half_selects for op in ops)
    assert int(board.chip.state["half_selects"].sum()) == priced > 100


def test_ramps_disturb_as_well(quiet_board, spec_of):
    board = passive(spec_of, quiet_board)
    sign = torch.ones(1, 1, 1, dtype=torch.int8)
    sense, stop = Sense(0.2, amps=1e-3, unselected=Bias.HALF), Stop(1.0, 1.0, 1.0)
    ramp = Ramp(ONE, sign, Kind.SET, PULSE, "volts", torch.tensor([1.0, 1.5, 2.0]), 0, sense, stop)
    before = board.chip.state["g"].clone()
    board.execute([ramp])
    assert torch.equal(board.chip.state["half_selects"], 3 * on_lines().int())
    assert bool((board.chip.state["g"] > before)[on_lines()].all())


def test_counts_add_up_over_tiles_as_in_a_slow_loop(quiet_board, spec_of):
    board = passive(spec_of, quiet_board, threshold=9.0)
    blocks = Blocks((2, 2), (0, 3), (0, 2), 3, 3)
    counts = torch.randint(-2, 3, blocks.shape, generator=torch.Generator().manual_seed(2))
    board.execute([Pulse(blocks, counts, PULSE, PULSE, unselected=Bias.HALF)])
    slow = torch.zeros(4, 6, 5, dtype=torch.int32)
    for t, r, c in counts.nonzero().tolist():
        row, col = blocks.row[t] + r, blocks.col[t] + c
        for i in range(6):
            for j in range(5):
                if (i == row) != (j == col):
                    slow[2, i, j] += abs(int(counts[t, r, c]))
    assert torch.equal(board.chip.state["half_selects"], slow)


def test_stuck_cells_are_counted_and_stay(quiet_board, spec_of):
    board = passive(spec_of, quiet_board)
    board.chip.state["stuck"][1, 2] = True
    moved = one_pulse(board, Bias.HALF)
    assert not moved[1, 2].any() and bool(moved[1, 0, 3] != 0)
    assert torch.equal(board.chip.state["half_selects"], on_lines().int())


def test_half_selects_are_saved_and_restored(quiet_board, spec_of):
    one, other = passive(spec_of, quiet_board), passive(spec_of, quiet_board)
    one_pulse(one, Bias.THIRD)
    other.restore(one.snapshot())
    assert torch.equal(other.chip.state["half_selects"], one.chip.state["half_selects"])
    assert torch.equal(one_pulse(one, Bias.HALF), one_pulse(other, Bias.HALF))
    saved = one.snapshot()
    del saved["chip.half_selects"]
    with pytest.raises(CheckpointError, match="half_selects"):
        other.restore(saved)


def test_disturb_repeats_itself_with_noise(quiet_board, spec_of):
    one, other = (passive(spec_of, quiet_board, step_std=0.5) for _ in range(2))
    assert torch.equal(one_pulse(one, Bias.HALF, 3), one_pulse(other, Bias.HALF, 3))
    moved = one_pulse(one, Bias.HALF, 3)[on_lines()]
    assert float(moved.std()) > 0.1 * float(moved.mean())
