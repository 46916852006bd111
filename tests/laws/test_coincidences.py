"""Coincidence counts against closed forms, single slots and aihwkit; sums over a batch; what saturates."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pulse_trains import DOWN, UP, Trains, trains

from hil.batch_added import batch_added
from hil.contract import Blocks, Outer, Shape
from hil.contract.cost import coincidences, cost
from sim_backend.board import SimBoard
from sim_backend.config import SimulatorConfig
from sim_backend.laws.constant_step import ConstantStep
from sim_backend.laws.soft_bounds import SoftBounds
from sim_backend.pulsed.saturation import full_trains

ORACLE = json.loads((Path(__file__).parent.parent / "oracles/coincidences_aihwkit.json").read_text(encoding="utf-8"))
X, D, STEP = torch.tensor([0.8, 0.4], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64), 0.002
USUAL = {"low": 0.0, "high": 1.0, "volts_up": 1.0, "volts_down": 1.2, "seconds": 1e-6}


def covariance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - a.mean()) * (b - b.mean())).mean())


@pytest.mark.parametrize(
    ("rate", "slots", "p_x", "p_d", "mean", "variance", "shared"),
    [
        (0.01, 2, (1.0, 0.5), 1.0, (2.0, 1.0), (0.0, 0.5), 0.0),
        (0.048, 10, (0.97980, 0.48990), 0.97980, (9.6, 4.8), (0.3840, 2.4960), 0.09502),
        (0.05, 11, (0.95346, 0.47673), 0.95346, (10.0, 5.0), (0.90909, 2.72727), 0.22186),
        (0.05, 10, (1.0, 0.5), 1.0, (10.0, 5.0), (0.0, 2.5), 0.0),
        (0.5, 31, (1.0, 0.5), 1.0, (31.0, 15.5), (0.0, 7.75), 0.0),
    ],
)
def test_counts_have_the_mean_variance_and_covariance_of_the_closed_form(rate, slots, p_x, p_d, mean, variance, shared):
    """facts/rpu.md 2. At rate 0.05 k is 10 up to rounding, so the length of that train is given."""
    made = trains(X, D, rate, STEP, slots=slots if rate == 0.05 else None)
    assert made.slots == slots
    assert made.x.tolist() == pytest.approx(p_x, abs=1e-5) and float(made.d) == pytest.approx(p_d, abs=1e-5)
    tiles = 40_000
    n = coincidences(made.outer(tiles, seed=1)).double()[:, 0]
    for j in (0, 1):
        q = p_x[j] * p_d
        assert slots * q * (1 - q) == pytest.approx(variance[j], rel=1e-3, abs=1e-9)
        assert float(n[:, j].mean()) == pytest.approx(mean[j], abs=4 * math.sqrt(variance[j] / tiles))
        assert float(n[:, j].var()) == pytest.approx(variance[j], rel=0.03, abs=1e-12)
    assert slots * p_d * p_x[0] * p_x[1] * (1 - p_d) == pytest.approx(shared, rel=1e-3, abs=1e-9)
    spread = math.sqrt((variance[0] * variance[1] + shared**2) / tiles)
    assert covariance(n[:, 0], n[:, 1]) == pytest.approx(shared, abs=4 * spread + 1e-9)


def test_cells_of_a_column_are_correlated_and_cells_that_share_no_line_are_not():
    made = Trains(torch.tensor([0.5, -0.3]), torch.tensor([0.6, 0.7]), 20)
    tiles = 40_000
    n = coincidences(made.outer(tiles, seed=2)).double()
    wanted = -20 * 0.6 * 0.5 * 0.3 * (1 - 0.6)  # one of the two rows is negative
    assert covariance(n[:, 0, 0], n[:, 1, 0]) == pytest.approx(wanted, rel=0.05)
    alone = 4 * math.sqrt(float(n[:, 0, 0].var() * n[:, 1, 1].var()) / tiles)
    assert abs(covariance(n[:, 0, 0], n[:, 1, 1])) <= alone < 0.2 * abs(wanted)


@pytest.mark.parametrize("slots", [1, 31, 3000])
def test_one_product_gives_what_single_slots_add_up_to(slots):
    made = Trains(0.9 * (2 * torch.rand(7) - 1), 2 * torch.rand(5) - 1, slots)
    op = made.outer(3, seed=slots)
    wanted = torch.zeros(3, 7, 5, dtype=torch.int32)
    for slot in range(slots):
        wanted += op.row_bits[:, slot, :, None].int() * op.col_bits[:, slot, None, :].int()
    assert torch.equal(coincidences(op), wanted)


def test_the_price_counts_every_coincidence(spec_of):
    op = Trains(torch.linspace(-0.9, 0.9, 6), torch.linspace(0.8, -0.8, 5), 31).outer(4, seed=3)
    assert cost(op, spec_of()).pulses == int(coincidences(op).abs().sum()) > 0


def test_update_management_makes_probabilities_independent_of_how_the_product_is_split():
    one, other = trains(X, D, 0.048, STEP), trains(10 * X, 0.1 * D, 0.048, STEP)
    assert torch.allclose(one.x, other.x) and torch.allclose(one.d, other.d) and one.slots == other.slots


def test_a_train_that_is_too_short_gives_31_of_100_and_its_cells_are_counted():
    op = trains(X, D, 0.5, STEP).outer(1000, seed=4)
    asked = 0.5 * 0.8 * 0.5 / STEP
    assert float(coincidences(op)[:, 0, 0].double().mean()) / asked == pytest.approx(0.31, rel=1e-6)
    assert full_trains(op) == 1000 + int((coincidences(op)[:, 0, 1] == 31).sum())
    enough = trains(X, D, 0.048, STEP).outer(1000, seed=4)
    assert full_trains(enough) == int((coincidences(enough).abs() == 10).sum())
    assert full_trains(replace(op, row_bits=op.row_bits[:, :1], col_bits=op.col_bits[:, :1])) == 0


@pytest.mark.parametrize("row", ORACLE["rows"], ids=lambda row: f"BL={row['BL']}")
def test_one_update_of_a_chip_follows_aihwkit(row, spec_of):
    """Through the board: 100 kernels of 64 x 64 constant-step cells, a window of 1.2 for weights of +-0.6."""
    step, slots = ORACLE["dw_min"], row["BL"]
    law = ConstantStep(**USUAL | {"high": 1.2}, states=1.2 / step)
    board = SimBoard(spec_of(kernels=100, rows=64, cols=64), SimulatorConfig(law=law), seed=1)
    gain = math.sqrt(ORACLE["lr"] / (step * slots))
    p_x, p_d = min(1.0, abs(ORACLE["x"]) * gain), min(1.0, abs(ORACLE["d"]) * gain)
    made = Trains(torch.full((64,), p_d), torch.full((64,), p_x), slots)
    before = board.chip.state["g"].clone()
    board.execute([made.outer(100, 5, Shape(1.0, 1e-6, 3.0), Shape(1.2, 1e-6, 3.0))])
    change = (board.chip.state["g"] - before).double()
    q = p_x * p_d
    formula = slots * q * step, math.sqrt(slots * q * (1 - q)) * step
    for mean, std in (formula, (row["mean"], row["std"])):
        assert float(change.mean()) == pytest.approx(mean, rel=0.02)
        assert float(change.std()) == pytest.approx(std, rel=0.03, abs=1e-9)


def updates_of(spec, number: int, rate: float = 1.0) -> list[Outer]:
    """Updates of all cells of a tiny board with signs of their own."""
    source, kernels = torch.Generator().manual_seed(6), spec.geometry.kernels
    ops = []
    for seed in range(number):
        d, x = (rate * (2 * torch.rand(n, generator=source) - 1) for n in (spec.geometry.rows, spec.geometry.cols))
        ops.append(Trains(d, x, 10).outer(kernels, seed, Shape(1.0, 1e-6, 3.0), Shape(1.2, 1e-6, 3.0)))
    return ops


def final(spec, law, ops) -> SimBoard:
    board = SimBoard(spec, SimulatorConfig(law=law, dtype="float64"), seed=7)
    board.execute(ops)
    return board


def test_batch_added_counts_are_exact_for_constant_steps(spec_of):
    spec, law = spec_of(), ConstantStep(**USUAL, states=5000, step_dtod=0.3)
    ops = updates_of(spec, 8)
    one_by_one, added = final(spec, law, ops), final(spec, law, batch_added(ops))
    torch.testing.assert_close(added.chip.state["g"], one_by_one.chip.state["g"], rtol=1e-12, atol=0.0)
    assert torch.equal(added.chip.state["pulses"], one_by_one.chip.state["pulses"])
    assert int((added.chip.state["pulses"]).max()) > 20


def test_batch_added_counts_keep_the_noise_of_all_pulses(spec_of):
    """Counts that cancel leave their noise: variance s^2 (u + v), not s^2 |u - v|."""
    spec, noise = spec_of(kernels=400), 0.5
    ops = updates_of(spec, 8)
    quiet = final(spec, ConstantStep(**USUAL, states=5000), batch_added(ops)).chip
    for way in (ops, batch_added(ops)):
        noisy = final(spec, ConstantStep(**USUAL, states=5000, step_std=noise), way).chip
        z = (noisy.state["g"] - quiet.state["g"]) / (noise / 5000 * quiet.state["pulses"].clamp(min=1).sqrt())
        z = z[quiet.state["pulses"] > 0]
        assert float(z.mean()) == pytest.approx(0.0, abs=4 / math.sqrt(z.numel()))
        assert float(z.std()) == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize("states", [50, 1000])
def test_batch_added_counts_of_soft_bounds_err_within_what_is_stated(states, spec_of):
    spec, law = spec_of(), SoftBounds(**USUAL, states=states)
    ops = updates_of(spec, 8)
    one_by_one, added = final(spec, law, ops), final(spec, law, batch_added(ops))
    up, down = (pulse.counts.abs().double() for pulse in batch_added(ops))
    pull = 2 / states
    lower = one_by_one.chip.state["g"] - added.chip.state["g"]
    most = up * down * pull**2
    assert bool((lower >= -1e-12).all()) and bool((lower <= most + 1e-12).all())
    assert float(lower.max()) > 0.2 * float(most.max()) * (1 - pull) ** 50  # it is an approximation


def test_updates_that_differ_in_more_than_their_bits_are_not_added():
    one = Trains(torch.ones(2), torch.ones(2), 3).outer(1, 0)
    with pytest.raises(ValueError, match="no update"):
        batch_added([])
    for other in (
        replace(one, blocks=Blocks((0,), (1,), (0,), 2, 2)),
        replace(one, up=Shape(1.1, 1e-6)),
        replace(one, down=UP, up=DOWN),
    ):
        with pytest.raises(ValueError, match="share blocks, pulse shapes"):
            batch_added([one, other])
