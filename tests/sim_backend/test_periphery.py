"""How a read is cut into chunks, and that effects which are off change nothing."""

from __future__ import annotations

import pytest
import torch

from hil.contract import Bias, Blocks, Pulse, Read, ReadCells, Sense, Shape, Side
from sim_backend import periphery
from sim_backend.board import SimBoard
from sim_backend.channels import AmplifierErrors, DriverErrors
from sim_backend.config import SimulatorConfig
from sim_backend.supply import Supply
from sim_backend.wires import LineResistance, Wires

OFF = {
    "drivers": DriverErrors(), "amplifiers": AmplifierErrors(gain_left=0.0), "supply": Supply(ohms=0.0, volts=5.0),
    "gate_limits_reads": True, "half_select": True,
}  # fmt: skip


def batch_read(blocks: Blocks, batch: int, **more) -> Read:
    source = torch.Generator().manual_seed(batch)
    volts = 0.2 * torch.rand(len(blocks), batch, blocks.n_cols, generator=source)
    return Read(blocks, volts, Side.COLS, **more)


@pytest.mark.parametrize(("tiles", "batch"), [(1, 96), (4, 96), (4, 7)])
def test_noise_does_not_depend_on_how_a_read_is_cut(noisy_board, monkeypatch, tiles, batch):
    """Pieces of whole sixteens of numbers draw the same noise as one; others draw other noise of the same size."""
    blocks = Blocks(tuple(range(tiles)), (0,) * tiles, (0,) * tiles, 6, 5)
    whole = noisy_board().execute([batch_read(blocks, batch)])[0].value
    monkeypatch.setattr(periphery, "CHUNK", 6 * 32)
    cut = noisy_board().execute([batch_read(blocks, batch)])[0].value
    if batch == 96:
        torch.testing.assert_close(cut, whole, rtol=0, atol=1.01e-7)  # a code, where a product is rounded otherwise
    assert float((cut - whole).std()) < 1e-6


def test_all_vectors_of_a_large_tile_are_cut_and_come_in_order(quiet_board, monkeypatch):
    board = quiet_board()
    blocks = Blocks((0, 3), (0, 0), (0, 0), 6, 5)
    op = batch_read(blocks, 101)
    wanted = torch.einsum("tbc,trc->tbr", op.volts.double(), board.chip.tiles(blocks))
    monkeypatch.setattr(periphery, "CHUNK", 6 * 32)
    torch.testing.assert_close(board.execute([op])[0].value, wanted)
    pieces = list(periphery._chunks(2, 101, 6, whole=False))
    assert [(p[0].start, p[1].start, p[1].stop) for p in pieces[:4]] == [
        (0, 0, 32),
        (0, 32, 64),
        (0, 64, 96),
        (0, 96, 128),
    ]
    assert len(pieces) == 8 and len(list(periphery._chunks(2, 101, 6, whole=True))) == 2


@pytest.mark.parametrize("averages", [1, 3])
def test_effects_of_size_zero_change_no_number(noisy_board, spec_of, whole, averages):
    ops = [
        batch_read(whole(spec_of()), 5, sense=Sense(averages=averages)),
        ReadCells(whole(spec_of()), Sense(0.2, averages=averages), Side.ROWS),
        Pulse(whole(spec_of()), torch.tensor(2), Shape(1.0, 1e-6, 3.0), Shape(1.0, 1e-6, 3.0), unselected=Bias.HALF),
        batch_read(whole(spec_of()), 5),
    ]
    plain, with_all = noisy_board().execute(ops), noisy_board(physics=OFF).execute(ops)
    for one, other in zip(plain, with_all, strict=True):
        if one.value is not None:
            torch.testing.assert_close(one.value, other.value, rtol=0, atol=1.01e-7 / averages)


def test_every_effect_at_once_with_line_resistance(spec_of, whole, quiet_board):
    """The door to wires: currents one by one and through K agree, droop and channels included."""
    law = quiet_board().chip.law
    physics = SimulatorConfig(
        law=law, dtype="float64", gate_threshold=0.4, drivers=DriverErrors(gain=0.1, offset=1e-3),
        amplifiers=AmplifierErrors(gain=0.1), supply=Supply(ohms=100.0, volts=5.0),
    )  # fmt: skip
    got = {}
    for reads in (1e-6, 1e6):
        wires = LineResistance(Wires(word_segment=20.0, bit_segment=10.0, reads_per_write=reads, tolerance=1e-13))
        board = SimBoard(spec_of(), physics, wires=wires)
        ops = [
            batch_read(whole(board.spec), 3),
            Read(whole(board.spec), torch.full((1, 2, 5), 0.1), Side.COLS, feed=(0,) * 4),
        ]
        got[reads] = [outcome.value for outcome in board.execute(ops)]
    for one, other in zip(*got.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=0.0)
    straight = SimBoard(spec_of(), physics).execute([batch_read(whole(spec_of()), 3)])[0].value
    assert straight is not None
    assert float((straight - got[1e6][0]).abs().max()) > 1e-3 * float(straight.abs().max())
