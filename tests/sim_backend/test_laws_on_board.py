"""Laws and agings on the simulated board: through the doors, saved and restored with the chip."""

from __future__ import annotations

import math

import pytest
import torch

from hil.contract import Blocks, Pulse, ReadCells, Sense, Shape, Side, Wait
from hil.lab import config
from sim_backend.aging.leak import Leak
from sim_backend.aging.pcm import PcmDrift
from sim_backend.board import SimBoard
from sim_backend.config import SimulatorConfig
from sim_backend.laws.constant_step import ConstantStep
from sim_backend.laws.pcm import Pcm

UP, DOWN = Shape(1.0, 1e-6, 3.0), Shape(1.2, 1e-6, 3.0)
USUAL = {"low": 10e-6, "high": 210e-6, "volts_up": 1.0, "volts_down": 1.2, "seconds": 1e-6}


def board_of(spec, law, aging=None, dtype="float64") -> SimBoard:
    return SimBoard(spec, SimulatorConfig(law=law, aging=aging, dtype=dtype, gate_threshold=0.4), seed=3)


def test_write_noise_does_not_walk_away_under_many_pulses(spec_of, whole):
    board = board_of(spec_of(), ConstantStep(**USUAL, states=1000, write_std=20.0))
    blocks = whole(board.spec)
    for sign in (1, -1) * 40:
        board.execute([Pulse(blocks, torch.tensor(sign), UP, DOWN)])
    state = board.chip.state["g"] - board.chip.params["offset"]
    torch.testing.assert_close(state, torch.full_like(state, 110e-6), rtol=1e-9, atol=0.0)
    shown = board.chip.state["g"] - state
    assert float(shown.std()) == pytest.approx(20 * 200e-6 / 1000, rel=0.3)  # 120 cells


def test_only_pulsed_cells_show_another_write_noise(spec_of):
    board = board_of(spec_of(), ConstantStep(**USUAL, write_std=5.0))
    board.execute([Pulse(Blocks((0,), (0,), (0,), 6, 5), torch.tensor(1), UP, DOWN)])
    before = board.chip.params["offset"].clone()
    board.execute([Pulse(Blocks((0,), (1,), (2,), 2, 2), torch.tensor(1), UP, DOWN)])
    changed = board.chip.params["offset"] != before
    assert int(changed.sum()) == 4 and bool(changed[0, 1:3, 2:4].all())


def test_the_aging_of_the_config_is_at_work_and_reads_see_it(spec_of, whole):
    board = board_of(spec_of(), ConstantStep(**USUAL), Leak(rest=10e-6, lifetime=100.0))
    blocks = whole(board.spec)
    first, _, second = board.execute(
        [ReadCells(blocks, Sense(0.2), Side.COLS), Wait(50.0), ReadCells(blocks, Sense(0.2), Side.COLS)]
    )
    passed = second.began - first.began
    wanted = 10e-6 + 100e-6 * math.exp(-passed / 100.0)
    torch.testing.assert_close(second.value / 0.2, torch.full_like(second.value, wanted), rtol=1e-9, atol=0.0)


def test_the_op_that_pulses_a_cell_starts_its_drift_anew(spec_of, whole):
    drift = PcmDrift(exponent_dtod=0.0, g_max=210e-6)
    law = Pcm(**USUAL, programming_noise=0.0, start=0.5)
    board = board_of(spec_of(), law, drift)
    board.execute([Wait(1e4)])
    assert float(board.chip.state["g"].max()) < 0.8 * 110e-6
    (done,) = board.execute([Pulse(whole(board.spec), torch.tensor(1), UP, DOWN)])
    start = board.chip.state["age.start"]
    expected = start * (1 + done.seconds / 20.0) ** -0.049
    torch.testing.assert_close(board.chip.state["g"], expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("name", ["pcm", "pcm_inference", "neurram", "capacitor", "reram_array_hfo2"])
def test_a_restored_chip_of_a_preset_goes_on_bit_for_bit(name, spec_of, whole):
    from pathlib import Path

    from sim_backend.config import DeviceFile

    file = Path(__file__).parent.parent.parent / "config" / "devices" / f"{name}.yaml"
    device = config.load(file, DeviceFile).value
    ops = [
        Pulse(whole(spec_of()), torch.tensor(2), UP, DOWN),
        Wait(30.0),
        Pulse(whole(spec_of()), torch.tensor(-1), UP, DOWN),
    ]
    one, other = (board_of(spec_of(), device.law, device.aging, "float32") for _ in range(2))
    one.execute(ops)
    other.restore(one.snapshot())
    one.execute(ops)
    other.execute(ops)
    ours, theirs = one.snapshot(), other.snapshot()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_tile_with_all_its_state_takes_at_most_64_bytes_a_cell(spec_of):
    law = ConstantStep(**USUAL, write_std=1.0)
    board = board_of(spec_of(kernels=1, rows=64, cols=64), law, PcmDrift(), "float32")
    held = sum(t.numel() * t.element_size() for t in board.snapshot().values())
    assert held / 4096 <= 64
