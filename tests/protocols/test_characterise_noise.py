"""What characterising says about converters, amplifiers and noise, against boards whose numbers are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hil.contract import BoardSpec, Range, Side
from protocols.characterise.amplifiers import Levels, amplifiers, code_step, gains, levels, two_way
from protocols.characterise.cells import Bench, Seen, on_grid, read, spread
from protocols.characterise.gates import threshold
from protocols.characterise.noise import noise, unrounded
from protocols.characterise.plan import GatePlan, NoisePlan
from sim_backend.board import SimBoard
from sim_backend.channels import AmplifierErrors
from sim_backend.config import SimulatorConfig
from sim_backend.laws.soft_bounds import SoftBounds

PLAN = NoisePlan(kernels=4, repeats=64)


def bench(board: SimBoard) -> Bench:
    return Bench(board, torch.ones(board.spec.cells, dtype=torch.bool))


def with_step(spec_of: Callable[..., BoardSpec], step: float | None) -> BoardSpec:
    ranges = () if step is None else (Range(negative=2e-4, positive=2e-4, step=step),)
    return spec_of(reading={"ranges": ranges, "volts_step": 1e-3})


@pytest.mark.parametrize("step", [None, 1e-7, 4e-7, 1e-6], ids=["continuous", "fine", "of the noise", "coarse"])
def test_read_noise_and_amplifier_noise_are_told_apart(
    quiet_board: Callable[..., SimBoard], spec_of: Callable[..., BoardSpec], step: float | None
) -> None:
    board = quiet_board(with_step(spec_of, step), read_noise=2e-6, amplifier_noise=3e-7, seed=1)
    data = levels(bench(board), PLAN)
    found = noise(data, step)
    assert found.resolved
    assert found.amplifier == pytest.approx(3e-7, rel=0.1)
    assert found.cell == pytest.approx(2e-6, rel=0.1)
    assert abs(found.amplifier - 3e-7) < 4 * found.amplifier_error
    assert abs(found.cell - 2e-6) < 4 * found.cell_error
    assert 0 < found.amplifier_error < 2e-8


@pytest.mark.parametrize(("read_noise", "amplifier_noise"), [(3e-6, 0.0), (0.0, 2e-7)])
def test_a_source_that_is_not_there_is_within_its_error_of_none(
    quiet_board: Callable[..., SimBoard], read_noise: float, amplifier_noise: float
) -> None:
    board = quiet_board(read_noise=read_noise, amplifier_noise=amplifier_noise, seed=2)
    found = noise(levels(bench(board), PLAN), None)
    assert found.cell == pytest.approx(read_noise, rel=0.1, abs=4 * found.cell_error)
    assert found.amplifier == pytest.approx(amplifier_noise, rel=0.1, abs=4 * found.amplifier_error)


def test_noise_that_codes_hide_is_not_resolved(
    quiet_board: Callable[..., SimBoard], spec_of: Callable[..., BoardSpec]
) -> None:
    board = quiet_board(with_step(spec_of, 1e-6))
    assert not noise(levels(bench(board), PLAN), 1e-6).resolved


@pytest.mark.parametrize("sigma", [0.1, 0.25, 0.5, 2.0])
def test_rounding_is_taken_out_exactly(sigma: float) -> None:
    """Cells anywhere between two codes, rounded; below half a code Sheppard's correction would be off by up to 80 %."""
    source = torch.Generator().manual_seed(7)
    means = torch.rand(4000, 1, generator=source, dtype=torch.float64)
    seen = (means + sigma * torch.randn(4000, 60, generator=source, dtype=torch.float64)).round()
    found = unrounded(seen.var(1).mean().view(1), 1.0).sqrt()
    assert float(found) == pytest.approx(sigma, rel=0.02)


def test_no_noise_stays_none_through_codes() -> None:
    assert float(unrounded(torch.zeros(1, dtype=torch.float64), 1e-6).sqrt()) < 0.02e-6


def synthetic(amps: Tensor, volts: Tensor) -> Levels:
    good = torch.ones(amps.shape[2:], dtype=torch.bool)
    return Levels(volts, amps, torch.zeros(amps.shape, dtype=torch.uint8), good, 1)


def test_slow_drift_is_no_noise() -> None:
    source = torch.Generator().manual_seed(3)
    volts = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64)
    quiet = 1e-7 * torch.randn(3, 60, 1, 10, 10, generator=source, dtype=torch.float64)
    drifting = quiet + 1e-6 * torch.linspace(0, 1, 60).view(1, -1, 1, 1, 1).double()
    still, moved = (noise(synthetic(amps, volts), None).amplifier for amps in (quiet, drifting))
    assert still == pytest.approx(1e-7, rel=0.03)
    assert moved == pytest.approx(still, rel=0.05)


# -- converters and amplifiers -----------------------------------------------------------------------------------------


def test_the_step_of_a_code_is_found_and_a_continuous_reading_has_none() -> None:
    source = torch.Generator().manual_seed(5)
    values = 1e-4 * torch.rand(3000, generator=source)
    step = 0.6103515625e-6
    codes = (values / step).round() * step
    assert code_step(codes.float()) == pytest.approx(step, rel=1e-4)
    assert code_step(codes + 1.7e-7) == pytest.approx(step, rel=1e-4)  # with an offset
    assert code_step(values.double()) is None
    assert code_step(torch.tensor([0.0, 1e-6, 4e-6])) is None  # too few to tell


def channelled(spec: BoardSpec, errors: AmplifierErrors) -> SimBoard:
    law = SoftBounds(low=10e-6, high=210e-6, volts_up=1.0, volts_down=1.2, seconds=1e-6, start_dtod=0.2)
    physics = SimulatorConfig(
        dtype="float64", law=law, read_noise=1e-7, amplifier_noise=2e-8, gate_threshold=0.4, amplifiers=errors
    )
    return SimBoard(spec, physics, 4)


def test_offsets_of_lines_are_found_within_their_errors(spec_of: Callable[..., BoardSpec]) -> None:
    spec = spec_of(kernels=4, rows=8, cols=6)
    board = channelled(spec, AmplifierErrors(offset=3e-7))
    found = amplifiers(levels(bench(board), PLAN))
    true = board.snapshot()["channel.amplifier"][1, 0, :8].double()  # gain, offset, and what is known of both
    assert float(true.std()) > 1e-7
    assert bool(((found.offset - true).abs() < 4.5 * found.offset_error + 1e-9).all())
    assert float(found.offset_error.max()) < 1e-8


def test_gains_of_lines_are_found_up_to_a_common_factor(spec_of: Callable[..., BoardSpec]) -> None:
    spec = spec_of(kernels=4, rows=8, cols=6)
    board = channelled(spec, AmplifierErrors(gain=0.02, offset=5e-7))
    found = gains(bench(board), PLAN)
    assert found is not None
    true = 1 + board.snapshot()["channel.amplifier"][0, 0].double()
    for mine, lines, error in ((found.rows, 8, found.rows_error), (found.cols, 6, found.cols_error)):
        theirs = true[:lines]
        assert bool(((mine / mine.mean() - theirs / theirs.mean()).abs() < 5 * error + 1e-6).all())
        assert error < 2e-3


def test_gains_survive_cells_that_are_missing() -> None:
    source = torch.Generator().manual_seed(9)
    g = 50e-6 + 100e-6 * torch.rand(1, 7, 5, generator=source, dtype=torch.float64)
    rows, cols = (1 + 0.05 * torch.randn(n, generator=source, dtype=torch.float64) for n in (7, 5))
    flags = torch.zeros(g.shape, dtype=torch.uint8)
    flags[0, 2, 3] = flags[0, 5, 1] = 2
    seen = [Seen(0.2 * amps, flags, 0.2) for amps in (g * rows[:, None], g * cols)]
    found = two_way(*seen)
    assert found is not None
    ratio = found.rows[:, None] / found.cols
    torch.testing.assert_close(ratio, rows[:, None] / cols, rtol=1e-6, atol=0.0)


def test_one_sided_boards_have_no_gains(
    quiet_board: Callable[..., SimBoard], spec_of: Callable[..., BoardSpec]
) -> None:
    board = quiet_board(spec_of(reading={"sides": (Side.COLS,)}))
    assert gains(bench(board), PLAN) is None


def test_offsets_that_are_known_are_taken_off_readings(
    quiet_board: Callable[..., SimBoard], spec_of: Callable[..., BoardSpec]
) -> None:
    board = quiet_board(spec_of())
    plain = bench(board)
    offset = torch.arange(6, dtype=torch.float64) * 1e-6
    blocks = spread(board.spec, None)
    raw, off = (read(b, blocks, 0.2, 1).amps for b in (plain, replace(plain, offset=offset)))
    torch.testing.assert_close(raw - off, offset[:, None].expand(raw.shape), rtol=1e-6, atol=1e-15)


def test_voltages_lie_on_the_grid_and_never_above(spec_of: Callable[..., BoardSpec]) -> None:
    spec = spec_of(reading={"volts_step": 1.220703125e-3})
    assert on_grid(spec, 0.3) == pytest.approx(245 * 1.220703125e-3)
    assert on_grid(spec, 100 * 1.220703125e-3) == pytest.approx(100 * 1.220703125e-3)
    assert on_grid(spec_of(), 0.3) == 0.3


# -- gates -------------------------------------------------------------------------------------------------------------


def test_the_gate_threshold_is_bracketed(
    quiet_board: Callable[..., SimBoard], spec_of: Callable[..., BoardSpec]
) -> None:
    found = threshold(bench(quiet_board(spec_of())), GatePlan(points=9))
    assert found is not None
    assert found.shut < 0.4 <= found.opened
    assert found.opened - found.shut <= 3.0 / 64 * 1.01
    passive: Any = quiet_board(spec_of(selector="passive"))
    assert threshold(bench(passive), GatePlan()) is None
