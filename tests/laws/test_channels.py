"""Laws of the analog chain: errors of channels, droop of the supply, gates and compliance in a read, input levels."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from hil.contract import Blocks, Flag, Range, Read, ReadCells, Sense, Side
from sim_backend.aging.pcm import PcmDrift
from sim_backend.channels import AmplifierErrors, DriverErrors
from sim_backend.supply import Supply

WIDE = {"kernels": 2, "rows": 200, "cols": 150}


def vectors(board, blocks: Blocks, drive: Side = Side.COLS, batch: int = 7) -> torch.Tensor:
    source = torch.Generator().manual_seed(batch)
    return 0.2 * (2 * torch.rand(len(blocks), batch, blocks.lines(drive), generator=source, dtype=torch.float64) - 1)


def read(board, op):
    return board.execute([op])[0]


def product(board, volts: torch.Tensor, drive: Side = Side.COLS) -> torch.Tensor:
    g = board.chip.state["g"]
    return torch.einsum("tbc,trc->tbr" if drive is Side.COLS else "tbr,trc->tbc", volts, g)


# -- errors of channels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drive", list(Side))
def test_gain_and_offset_of_each_channel_act_on_its_line(quiet_board, whole, drive):
    errors = {"drivers": DriverErrors(offset=5e-3, gain=0.1), "amplifiers": AmplifierErrors(offset=1e-6, gain=0.05)}
    board = quiet_board(physics=errors)
    blocks = whole(board.spec)
    volts, params = vectors(board, blocks, drive), board.snapshot()
    side = "col" if drive is Side.COLS else "row"
    gain, offset = params[f"channel.{side}_driver"][:2, 0]
    out_gain, out_offset = params["channel.amplifier"][:2, 0, : blocks.lines(drive.other)]
    wanted = product(board, volts * (1 + gain) + offset, drive) * (1 + out_gain) + out_offset
    torch.testing.assert_close(read(board, Read(blocks, volts, drive)).value, wanted, rtol=1e-12, atol=0.0)
    got = read(board, ReadCells(blocks, Sense(0.2), drive)).value
    lines, outs = (-1, 1) if drive is Side.COLS else (1, -1)
    shape = (1, 1, -1) if lines == -1 else (1, -1, 1)
    across = (1, -1, 1) if outs == 1 else (1, 1, -1)
    cells = board.chip.state["g"] * (0.2 * (1 + gain) + offset).view(shape)
    wanted = cells * (1 + out_gain).view(across) + out_offset.view(across)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=0.0)


def test_kernels_share_channels_unless_they_work_at_the_same_time(quiet_board, spec_of, whole):
    errors = {"amplifiers": AmplifierErrors(gain=0.1)}
    for sets in (1, 2, 8):
        board = quiet_board(spec_of(timing={"parallel_kernels": sets}), physics=errors)
        board.chip.state["g"].fill_(1e-4)
        got = read(board, ReadCells(whole(board.spec), Sense(0.2), Side.COLS)).value
        same = [bool(torch.equal(got[0], other)) for other in got]
        assert same == [True, sets == 1, sets <= 2, sets == 1]


def test_a_block_has_the_channels_of_its_lines(quiet_board, whole):
    board = quiet_board(physics={"drivers": DriverErrors(offset=1e-2), "amplifiers": AmplifierErrors(gain=0.1)})
    everything = read(board, ReadCells(whole(board.spec), Sense(0.2), Side.COLS)).value
    part = Blocks((2, 0), (1, 3), (2, 0), 3, 2)
    got = read(board, ReadCells(part, Sense(0.2), Side.COLS)).value
    assert torch.equal(got, torch.stack([everything[2, 1:4, 2:4], everything[0, 3:6, 0:2]]))


@pytest.mark.parametrize("name", ["offset", "gain"])
@pytest.mark.parametrize("kind", [DriverErrors, AmplifierErrors])
def test_calibration_leaves_its_rest_and_more_error_moves_readings_further(quiet_board, spec_of, whole, kind, name):
    part = "drivers" if kind is DriverErrors else "amplifiers"
    unit = {"gain": 1.0, "offset": 0.2 if kind is DriverErrors else 2e-5}[name]  # at 0.2 V and 100 uS

    def spread(**given: Any) -> float:
        scaled: dict[str, Any] = {key: value * unit for key, value in given.items()}
        board = quiet_board(spec_of(**WIDE), physics={part: kind(**scaled)})
        board.chip.state["g"].fill_(1e-4)
        got = read(board, ReadCells(whole(board.spec), Sense(0.2), Side.COLS)).value[0]
        return float((got / 2e-5 - 1).std(unbiased=False))

    raw = [spread(**{name: value}) for value in (0.0, 0.01, 0.03)]
    assert raw[0] == pytest.approx(0.0, abs=1e-12)
    assert raw[1] == pytest.approx(0.01, rel=0.2) and raw[2] == pytest.approx(3 * raw[1], rel=1e-6)
    for left in (0.0, 0.001, 0.004):
        assert spread(**{name: 0.03, f"{name}_left": left}) == pytest.approx(left, rel=0.25, abs=1e-9)


def test_an_amplifier_that_is_calibrated_still_has_its_own_rails_and_codes(quiet_board, spec_of, whole):
    ranges = (Range(negative=3e-5, positive=3e-5, step=1e-7),)
    errors = AmplifierErrors(gain=0.2, gain_left=0.0)
    board = quiet_board(spec_of(reading={"ranges": ranges}), physics={"amplifiers": errors})
    board.chip.state["g"].fill_(400e-6)
    got = read(board, ReadCells(whole(board.spec), Sense(0.2), Side.COLS))  # 80 uA: above the rails of all channels
    gain = board.snapshot()["channel.amplifier"][0, 0, :6]
    assert bool((got.flags == int(Flag.SAT_HIGH)).all()) and float(gain.std()) > 0.05
    torch.testing.assert_close(got.value[0, :, 0] * (1 + gain), torch.full_like(gain, 3e-5))
    board.chip.state["g"].fill_(50e-6)
    board.chip.version += 1
    codes = read(board, ReadCells(whole(board.spec), Sense(0.2), Side.COLS)).value[0, :, 0] * (1 + gain) / 1e-7
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-6)


def test_channels_come_from_the_seed_and_leave_the_chip_alone(quiet_board):
    errors = {"drivers": DriverErrors(gain=0.1), "amplifiers": AmplifierErrors(gain=0.1)}
    one, two, other = (quiet_board(seed=seed, physics=errors).snapshot() for seed in (1, 1, 2))
    names = [name for name in one if name.startswith("channel.")]
    assert names == ["channel.row_driver", "channel.col_driver", "channel.amplifier"]
    assert all(torch.equal(one[name], two[name]) and not torch.equal(one[name], other[name]) for name in names)
    assert torch.equal(one["chip.g"], quiet_board(seed=1).snapshot()["chip.g"])


def test_channels_are_restored(quiet_board, whole):
    one, other = (quiet_board(seed=seed, physics={"drivers": DriverErrors(gain=0.1)}) for seed in (1, 2))
    other.restore(one.snapshot())
    op = ReadCells(whole(one.spec), Sense(0.2), Side.ROWS)
    assert torch.equal(read(one, op).value, read(other, op).value)


# -- supply ------------------------------------------------------------------------------------------------------------


def test_the_supply_falls_with_the_current_it_gives(quiet_board, whole):
    volts = vectors(quiet_board(), whole(quiet_board().spec))
    droop = []
    for ohms in (0.0, 100.0, 1000.0):
        board = quiet_board(physics={"supply": Supply(ohms=ohms, volts=5.0)})
        op = Read(whole(board.spec), volts, Side.COLS)
        ideal, got = product(board, volts), read(board, op).value
        share = got / ideal
        drawn = (volts.abs() @ board.chip.state["g"].sum(1).unsqueeze(-1)) * share[..., :1]
        torch.testing.assert_close(share, (1 - ohms * drawn / 5.0).expand_as(share), rtol=1e-12, atol=0.0)
        droop.append(float((1 - share).mean()))
    assert droop[0] == pytest.approx(0.0, abs=1e-15) and 0 < 5 * droop[1] < droop[2]


def test_cells_of_a_line_load_the_supply_together(quiet_board, whole):
    board = quiet_board(physics={"supply": Supply(ohms=1000.0, volts=5.0)})
    g = board.chip.state["g"]
    got = read(board, ReadCells(whole(board.spec), Sense(0.2), Side.COLS)).value
    share = 1 / (1 + 1000.0 / 5.0 * 0.2 * g.sum(1, keepdim=True))  # a gate line is a column: its rows are read at once
    torch.testing.assert_close(got, 0.2 * g * share)


# -- gates and compliance ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drive", list(Side))
def test_a_gate_limits_the_current_of_each_cell_that_is_read(quiet_board, spec_of, whole, drive):
    curve = {"gate_curve": ((0.5, 1e-6), (1.0, 1e-5), (3.0, 1e-2))}
    board = quiet_board(spec_of(writing=curve), physics={"gate_limits_reads": True})
    blocks, g = whole(board.spec), board.chip.state["g"]
    volts = vectors(board, blocks, drive)
    single = torch.einsum("tbc,trc->tbrc" if drive is Side.COLS else "tbr,trc->tbrc", volts, g)
    along = 3 if drive is Side.COLS else 2
    errors = []
    for gate, limit in ((3.0, 1e-2), (1.0, 1e-5), (0.5, 1e-6)):
        got = read(board, Read(blocks, volts, drive, Sense(gate=gate))).value
        torch.testing.assert_close(got, single.clamp(-limit, limit).sum(along), rtol=1e-9, atol=1e-18)
        errors.append(float((got - single.sum(along)).abs().mean()))
        cells = read(board, ReadCells(blocks, Sense(0.2, gate=gate), drive)).value
        torch.testing.assert_close(cells, (0.2 * g).clamp(max=limit))
    assert errors[0] < 1e-15 < errors[1] < errors[2]
    free = quiet_board(spec_of(writing=curve))
    torch.testing.assert_close(read(free, Read(blocks, volts, drive, Sense(gate=0.5))).value, single.sum(along))


def test_compliance_holds_a_measured_current_and_says_so(quiet_board, spec_of, whole):
    board = quiet_board(spec_of(selector="passive"), start_dtod=0.5)
    blocks = whole(board.spec)
    exact = 0.2 * board.chip.state["g"]
    got = read(board, ReadCells(blocks, Sense(0.2, amps=2e-5), Side.COLS))
    over = exact > 2e-5
    assert 5 < int(over.sum()) < over.numel() - 5
    assert torch.equal(got.flags, (over * int(Flag.COMPLIANCE)).to(torch.uint8))
    torch.testing.assert_close(got.value, exact.clamp(max=2e-5))
    assert read(board, ReadCells(blocks, Sense(0.2, amps=1e-3), Side.COLS)).flags is None
    volts = vectors(board, blocks)
    got = read(board, Read(blocks, volts, Side.COLS, Sense(amps=1e-5)))
    torch.testing.assert_close(got.value, product(board, volts).clamp(-1e-5, 1e-5))
    assert torch.equal(got.flags != 0, product(board, volts).abs() > 1e-5)


def test_compliance_lies_before_the_converter_and_its_noise(quiet_board, spec_of, whole):
    ranges = (Range(negative=1e-3, positive=1e-3, step=1e-6),)
    board = quiet_board(spec_of(selector="passive", reading={"ranges": ranges}), amplifier_noise=1e-6)
    board.chip.state["g"].fill_(200e-6)
    got = read(board, ReadCells(whole(board.spec), Sense(0.2, amps=1.05e-5, averages=16), Side.COLS))
    assert bool((got.flags == int(Flag.COMPLIANCE)).all())
    assert float(got.value.mean()) == pytest.approx(1.05e-5, rel=0.02) and float(got.value.std()) > 1e-7


# -- inputs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["amplitude", "width"])
@pytest.mark.parametrize("levels", [2, 3, 16])
def test_inputs_have_levels_that_count_from_the_largest_of_a_vector(quiet_board, spec_of, whole, levels, coding):
    board = quiet_board(spec_of(reading={"input_levels": levels, "input_coding": coding}))
    blocks = whole(board.spec)
    volts = vectors(board, blocks)
    most = volts.abs().amax(-1, keepdim=True)
    made = (volts / most * (levels - 1)).round() / (levels - 1) * most
    torch.testing.assert_close(read(board, Read(blocks, volts, Side.COLS)).value, product(board, made))
    on_levels = 0.1 * torch.randint(1 - levels, levels, volts.shape).double() / (levels - 1)
    on_levels[..., 0] = 0.1
    got = read(board, Read(blocks, on_levels, Side.COLS)).value
    torch.testing.assert_close(got, product(board, on_levels), rtol=1e-10, atol=1e-20)
    assert not read(board, Read(blocks, torch.zeros_like(volts), Side.COLS)).value.any()


def test_more_levels_are_nearer_to_the_product(quiet_board, spec_of, whole):
    errors = []
    for levels in (2, 4, 16, 256):
        board = quiet_board(spec_of(reading={"input_levels": levels}))
        volts = vectors(board, whole(board.spec), batch=50)
        got = read(board, Read(whole(board.spec), volts, Side.COLS)).value
        errors.append(float((got - product(board, volts)).square().mean().sqrt()))
    assert all(b < a / 2 for a, b in itertools.pairwise(errors))


def test_a_board_that_divides_by_the_read_voltage_resolves_small_vectors_as_well(quiet_board, spec_of, whole):
    ranges = (Range(negative=5e-4, positive=5e-4, step=1e-6),)
    errors = {}
    for divides in (False, True):
        board = quiet_board(spec_of(reading={"ranges": ranges, "normalised": divides}))
        blocks = whole(board.spec)
        for scale in (1.0, 0.01):
            volts = vectors(board, blocks) * scale
            got = read(board, Read(blocks, volts, Side.COLS))
            errors[divides, scale] = float((got.value - product(board, volts)).abs().max())
            if divides:  # codes of the ratio: current over the amplitude of its vector, at 0.5 V
                codes = got.value / (volts.abs().amax(-1, keepdim=True) / 0.5) / 1e-6
                torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-6)
    assert errors[False, 1.0] < 0.51e-6 and errors[False, 0.01] > 0.3e-6
    assert errors[True, 1.0] < 0.21e-6 and errors[True, 0.01] < 0.0021e-6
    cells = read(board, ReadCells(blocks, Sense(0.001), Side.COLS)).value
    assert float((cells - 0.001 * board.chip.state["g"]).abs().max()) < 0.51e-6 * 0.001 / 0.5


# -- noise of single cells ---------------------------------------------------------------------------------------------


def test_cells_have_the_read_noise_of_their_drift(quiet_board, spec_of, whole):
    drift = PcmDrift(g_max=210e-6, exponent_dtod=0.0)
    board = quiet_board(spec_of(kernels=1), physics={"aging": drift}, amplifier_noise=1e-8)
    blocks = whole(board.spec)
    one = vectors(board, blocks, batch=1)
    op = Read(blocks, one.expand(1, 5000, 5), Side.COLS)
    sigma = drift.read_noise(board.chip.state)[0]
    law = (one[0, 0].square() @ sigma.square().T + 1e-16).sqrt()
    torch.testing.assert_close(read(board, op).value[0].std(0), law, rtol=0.05, atol=0.0)
    many = ReadCells(blocks, Sense(0.2), Side.COLS)
    got = torch.stack([read(board, many).value for _ in range(600)])
    torch.testing.assert_close(got.std(0)[0], (0.2 * sigma).square().add(1e-16).sqrt(), rtol=0.15, atol=0.0)


def test_more_read_noise_of_the_drift_moves_readings_further_and_none_is_off(quiet_board, spec_of, whole):
    spreads = []
    for scale in (0.0, 0.3, 1.0):
        board = quiet_board(spec_of(kernels=1), physics={"aging": PcmDrift(exponent=0.0, read_noise_scale=scale)})
        volts = vectors(board, whole(board.spec), batch=1).expand(1, 400, 5)
        spreads.append(float(read(board, Read(whole(board.spec), volts, Side.COLS)).value.std(1).mean()))
    assert spreads[0] < 1e-18 < spreads[1] and spreads[2] == pytest.approx(spreads[1] / 0.3, rel=1e-6)


def test_averages_reduce_the_noise_of_single_cells(quiet_board, spec_of, whole):
    board = quiet_board(spec_of(kernels=1), physics={"aging": PcmDrift(exponent=0.0, g_max=210e-6)})
    blocks = whole(board.spec)
    op = Read(blocks, vectors(board, blocks, batch=1).expand(1, 3000, 5), Side.COLS)
    once, sixteen = (float(read(board, replace(op, sense=Sense(averages=n))).value.std(1).mean()) for n in (1, 16))
    assert once / sixteen == pytest.approx(math.sqrt(16), rel=0.05)
