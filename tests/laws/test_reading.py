"""Laws of the read chain: Kirchhoff, converter grids, rails, noise and its averages."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from hil.contract import Blocks, Flag, Range, Read, ReadCells, Sense, Side
from hil.converters import Converter, difference, pair_differences, pick_range, sensing
from sim_backend import periphery
from sim_backend.board import SimBoard

RANGE = Range(negative=3e-5, positive=5e-5, step=1e-7)


def vectors(blocks: Blocks, drive: Side, batch: int, *, feeds: int | None = None, scale: float = 0.2) -> torch.Tensor:
    source = torch.Generator().manual_seed(batch)
    shape = (feeds or len(blocks), batch, blocks.lines(drive))
    return scale * (2 * torch.rand(shape, generator=source, dtype=torch.float64) - 1)


def read(board: SimBoard, op):
    (got,) = board.execute([op])
    return got


# -- Ohm and Kirchhoff -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drive", list(Side))
@pytest.mark.parametrize("feed", [None, (1, 0, 1, 1), (0, 0, 0, 0)])
def test_a_read_is_the_sum_over_the_driven_line(quiet_board, whole, drive, feed):
    board = quiet_board()
    blocks = whole(board.spec)
    feeds = None if feed is None else max(feed) + 1
    volts = vectors(blocks, drive, 7, feeds=feeds)
    got = read(board, Read(blocks, volts, drive, Sense(), feed))
    g = board.chip.state["g"]
    fed = volts if feed is None else volts[list(feed)]
    wanted = torch.einsum("tbr,trc->tbc" if drive is Side.ROWS else "tbc,trc->tbr", fed, g)
    torch.testing.assert_close(got.value, wanted, rtol=1e-13, atol=0.0)
    assert got.flags is None and got.applied is None


def test_a_read_of_parts_of_kernels_sees_those_cells_only(quiet_board):
    board = quiet_board()
    blocks = Blocks((2, 0), (1, 3), (2, 0), 3, 2)
    volts = vectors(blocks, Side.ROWS, 4)
    got = read(board, Read(blocks, volts, Side.ROWS))
    g = board.chip.state["g"]
    torch.testing.assert_close(got.value[0], volts[0] @ g[2, 1:4, 2:4])
    torch.testing.assert_close(got.value[1], volts[1] @ g[0, 3:6, 0:2])


def test_chunks_of_tiles_change_nothing_without_noise(quiet_board, whole, monkeypatch):
    board = quiet_board()
    blocks = whole(board.spec)
    for feed in (None, (1, 0, 1, 1), (0, 0, 0, 0)):
        volts = vectors(blocks, Side.COLS, 9, feeds=None if feed is None else max(feed) + 1)
        op = Read(blocks, volts, Side.COLS, Sense(averages=2), feed)
        one = read(board, op).value
        monkeypatch.setattr(periphery, "CHUNK", 60)
        torch.testing.assert_close(read(board, op).value, one, rtol=1e-14, atol=0.0)
        monkeypatch.undo()


def test_flags_of_chunks_land_on_their_tiles(quiet_board, spec_of, whole, monkeypatch):
    board = quiet_board(spec_of(reading={"ranges": (RANGE,)}))
    blocks = whole(board.spec)
    volts = torch.zeros(4, 9, 5, dtype=torch.float64)
    volts[2, 3] = 0.5
    monkeypatch.setattr(periphery, "CHUNK", 60)
    got = read(board, Read(blocks, volts, Side.COLS))
    assert got.flags.nonzero()[:, :2].unique(dim=0).tolist() == [[2, 3]]


def test_cells_read_one_by_one_obey_ohm(quiet_board, whole):
    board = quiet_board()
    got = read(board, ReadCells(whole(board.spec), Sense(-0.13), Side.COLS))
    torch.testing.assert_close(got.value, -0.13 * board.chip.state["g"])


def test_masked_cells_are_nan_and_flagged(quiet_board, whole):
    board = quiet_board()
    mask = torch.rand(4, 6, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    got = read(board, ReadCells(whole(board.spec), Sense(0.2), Side.COLS, mask))
    assert torch.equal(got.value.isnan(), ~mask)
    assert torch.equal(got.flags, (~mask * int(Flag.NOT_MEASURED)).to(torch.uint8))
    assert torch.equal(got.value[mask], 0.2 * board.chip.state["g"][mask])


def test_pairs_are_even_minus_odd_lines(quiet_board, spec_of, whole):
    board = quiet_board(spec_of())
    op = Read(whole(board.spec), vectors(whole(board.spec), Side.COLS, 3), Side.COLS)
    lines, pairs = read(board, op).value, read(board, replace(op, pairs=True)).value
    assert torch.equal(pairs, lines[..., 0::2] - lines[..., 1::2])


# -- converters --------------------------------------------------------------------------------------------------------


def test_inputs_are_driven_on_the_grid(quiet_board, spec_of, whole):
    step = 3e-3
    board = quiet_board(spec_of(reading={"volts_step": step}))
    blocks = whole(board.spec)
    volts = vectors(blocks, Side.COLS, 6)
    kept = volts.clone()
    on_grid = (volts / step).round() * step
    off, on = (read(board, Read(blocks, v, Side.COLS)).value for v in (volts, on_grid))
    assert torch.equal(off, on)
    assert torch.equal(volts, kept)
    cell = read(board, ReadCells(blocks, Sense(0.1004), Side.COLS)).value
    torch.testing.assert_close(cell, 33 * step * board.chip.state["g"], rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_outputs_are_whole_codes(quiet_board, spec_of, whole, dtype):
    board = quiet_board(spec_of(reading={"ranges": (RANGE,)}), dtype=dtype, amplifier_noise=1e-6)
    blocks = whole(board.spec)
    got = read(board, Read(blocks, vectors(blocks, Side.COLS, 50), Side.COLS)).value
    codes = (got / RANGE.step).round()
    assert torch.equal(codes * RANGE.step, got)
    assert len(codes.unique()) > 100


def test_a_value_at_or_beyond_a_rail_keeps_the_rail_and_a_flag(quiet_board, spec_of, whole):
    board = quiet_board(spec_of(reading={"ranges": (RANGE,)}))
    blocks = whole(board.spec)
    volts = vectors(blocks, Side.COLS, 300, scale=0.5)
    exact = torch.einsum("tbc,trc->tbr", volts, board.chip.state["g"])
    got = read(board, Read(blocks, volts, Side.COLS))
    codes = (exact / RANGE.step).round()
    high, low = codes >= 500, codes <= -300
    assert int(high.sum()) > 50 and int(low.sum()) > 50
    assert torch.equal(got.flags, (high * int(Flag.SAT_HIGH) + low * int(Flag.SAT_LOW)).to(torch.uint8))
    assert torch.equal(got.value, codes.clamp(-300, 500) * RANGE.step)


def test_no_flags_without_a_rail(quiet_board, spec_of, whole):
    board = quiet_board(spec_of(reading={"ranges": (RANGE,)}))
    blocks = whole(board.spec)
    assert read(board, Read(blocks, vectors(blocks, Side.COLS, 4, scale=1e-3), Side.COLS)).flags is None


def test_a_rail_touched_by_one_of_the_averaged_conversions_is_flagged(quiet_board, spec_of, whole):
    board = quiet_board(spec_of(reading={"ranges": (RANGE,)}), amplifier_noise=1e-6)
    blocks = whole(board.spec)
    op = ReadCells(blocks, Sense(0.49e-4 / 200e-6, averages=64), Side.COLS)
    board.chip.state["g"].fill_(200e-6)
    got = read(board, op)
    assert float((got.flags == int(Flag.SAT_HIGH)).float().mean()) > 0.99
    assert float(got.value.mean()) < RANGE.positive


def test_the_narrowest_range_that_holds_the_full_scale_is_taken():
    wide, middle, narrow = (Range(negative=a, positive=2 * a, step=a / 1000) for a in (1e-3, 1e-4, 1e-5))
    ranges = (wide, middle, narrow)
    picks = {None: wide, 1e-6: narrow, 1e-5: narrow, 1.1e-5: middle, 5e-4: wide, 1.0: wide}
    assert all(pick_range(ranges, full_scale) is chosen for full_scale, chosen in picks.items())
    assert pick_range((), 1.0) is None
    assert sensing(narrow) == Converter(-1e-5, 2e-5, 1e-8)


def test_a_narrower_range_resolves_more(quiet_board, spec_of, whole):
    ranges = (Range(negative=1e-3, positive=1e-3, step=1e-6), Range(negative=1e-4, positive=1e-4, step=1e-7))
    board = quiet_board(spec_of(reading={"ranges": ranges}))
    blocks = whole(board.spec)

    def error(full_scale: float | None) -> float:
        got = read(board, ReadCells(blocks, Sense(0.2, full_scale=full_scale), Side.COLS)).value
        return float((got - 0.2 * board.chip.state["g"]).abs().max())

    assert error(5e-5) <= 0.5e-7 + 1e-15 < error(None) <= 0.5e-6 + 1e-15


def test_differences_turn_the_rails_of_the_minus_reading():
    a, b = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 5.0])
    high, low = int(Flag.SAT_HIGH), int(Flag.SAT_LOW)
    plus = torch.tensor([high, 0, 0], dtype=torch.uint8)
    minus = torch.tensor([0, low, high | int(Flag.COMPLIANCE)], dtype=torch.uint8)
    value, flags = difference(a, b, plus, minus)
    assert value.tolist() == [2.0, 0.0, -3.0] and flags.tolist() == [high, high, low | int(Flag.COMPLIANCE)]
    assert difference(a, b)[1] is None
    assert difference(a, b, None, minus)[1].tolist() == [0, high, low | int(Flag.COMPLIANCE)]
    lines = torch.tensor([[5.0, 2.0, 1.0, 4.0]])
    value, flags = pair_differences(lines, torch.tensor([[0, high, low, 0]], dtype=torch.uint8))
    assert value.tolist() == [[3.0, -3.0]] and flags.tolist() == [[low, low]]
    assert pair_differences(lines, None)[1] is None


# -- noise -------------------------------------------------------------------------------------------------------------


def noise_of(board: SimBoard, op) -> torch.Tensor:
    """What noise added to a read of the whole tiny chip."""
    g = board.chip.state["g"]
    exact = op.sense.volts * g if isinstance(op, ReadCells) else torch.einsum("tbc,trc->tbr", op.volts, g)
    return read(board, op).value - exact


def test_read_noise_is_the_norm_of_the_voltages_times_the_conductance_noise(quiet_board, whole):
    board = quiet_board(read_noise=2e-6)
    blocks = whole(board.spec)
    one = vectors(blocks, Side.COLS, 1)[:, :, :]
    op = Read(blocks, one.expand(4, 4000, 5), Side.COLS)
    noise = noise_of(board, op)
    for tile in range(4):
        law = 2e-6 * float(one[tile].norm())
        assert float(noise[tile].std()) == pytest.approx(law, rel=0.03)
        assert float(noise[tile].mean()) == pytest.approx(0.0, abs=4 * law / math.sqrt(noise[tile].numel()))


@pytest.mark.parametrize("averages", [1, 2])
@pytest.mark.parametrize("feed", [(0, 0, 0, 0), (1, 0, 1, 1)])
def test_each_tile_gets_the_noise_of_its_own_feed_in_every_chunk(quiet_board, whole, monkeypatch, feed, averages):
    board = quiet_board(read_noise=2e-6)
    blocks = whole(board.spec)
    volts = torch.tensor([0.05, 0.2], dtype=torch.float64).view(2, 1, 1).expand(2, 1500, 5)[: max(feed) + 1]
    monkeypatch.setattr(periphery, "CHUNK", 2 * 1500 * 6)
    got = read(board, Read(blocks, volts, Side.COLS, Sense(averages=averages), feed)).value
    noise = got - torch.einsum("tbc,trc->tbr", volts[list(feed)], board.chip.state["g"])
    for tile, row in enumerate(feed):
        law = 2e-6 * float(volts[row, 0].norm()) / math.sqrt(averages)
        assert float(noise[tile].std()) == pytest.approx(law, rel=0.03)
    assert abs(float((noise[0] * noise[2]).mean())) < 0.05 * float(noise[0].std() * noise[2].std())


def test_amplifier_noise_does_not_depend_on_the_voltages(quiet_board, whole):
    board = quiet_board(amplifier_noise=3e-7)
    blocks = whole(board.spec)
    for scale in (0.0, 0.2):
        noise = noise_of(board, Read(blocks, vectors(blocks, Side.COLS, 1500, scale=scale), Side.COLS))
        assert float(noise.std()) == pytest.approx(3e-7, rel=0.03)


def test_both_noises_add_as_squares_in_a_cell_read(quiet_board, spec_of, whole):
    board = quiet_board(spec_of(kernels=300), read_noise=2e-6, amplifier_noise=3e-7)
    noise = noise_of(board, ReadCells(whole(board.spec), Sense(0.2), Side.COLS))
    assert float(noise.std()) == pytest.approx(math.hypot(0.2 * 2e-6, 3e-7), rel=0.03)


@pytest.mark.parametrize("n", [4, 16])
def test_averages_reduce_noise_by_the_root_of_their_number(quiet_board, whole, n):
    board = quiet_board(read_noise=2e-6, amplifier_noise=3e-7)
    blocks = whole(board.spec)
    op = Read(blocks, vectors(blocks, Side.COLS, 1).expand(4, 1000, 5), Side.COLS)
    once, averaged = (noise_of(board, replace(op, sense=Sense(averages=k))) for k in (1, n))
    for tile in range(4):
        assert float(once[tile].std() / averaged[tile].std()) == pytest.approx(math.sqrt(n), rel=0.06)


def test_more_of_each_noise_moves_the_result_further(quiet_board, whole):
    for name in ("read_noise", "amplifier_noise"):
        stds = []
        for value in (0.0, 1e-7, 1e-6):
            board = quiet_board(**{name: value})
            stds.append(float(noise_of(board, ReadCells(whole(board.spec), Sense(0.2), Side.COLS)).std()))
        assert stds[0] == 0.0 < 5 * stds[1] < stds[2], name


# -- gates -------------------------------------------------------------------------------------------------------------


def test_closed_gates_read_nothing_but_the_amplifier(quiet_board, whole):
    board = quiet_board(read_noise=1e-5)
    blocks = whole(board.spec)
    shut, just_open = Sense(0.2, gate=0.39), Sense(0.2, gate=0.4)
    assert not read(board, ReadCells(blocks, shut, Side.COLS)).value.any()
    assert not read(board, Read(blocks, vectors(blocks, Side.ROWS, 3), Side.ROWS, Sense(gate=0.0))).value.any()
    assert bool((read(board, ReadCells(blocks, just_open, Side.COLS)).value != 0).all())
    board = quiet_board(amplifier_noise=1e-6)
    assert float(read(board, ReadCells(blocks, shut, Side.COLS)).value.std()) == pytest.approx(1e-6, rel=0.3)


def test_a_passive_array_has_no_gates_to_close(quiet_board, spec_of, whole):
    board = quiet_board(spec_of(selector="passive"))
    assert bool((read(board, ReadCells(whole(board.spec), Sense(0.2), Side.COLS)).value != 0).all())
