"""Fitting the soft-bounds law to trains, and line resistance to reads: exact where there is no noise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hil.contract import Bias, Side
from sim_backend.fit.device import curves, fit_soft_bounds
from sim_backend.fit.lines import CellReads, LineFit, fit_lines, path_ohms
from sim_backend.laws.soft_bounds import SoftBounds
from sim_backend.wires import LineResistance, Wires

COUNTS = torch.full((30,), 6)


def trains(cells: int, cycles: int = 2, sigma: float = 0.0, seed: int = 0, **law: float) -> tuple[Tensor, Tensor]:
    """Trains of a law, up and down, [cycles, points + 1, cells], read with a standard error."""
    usual = {"low": 10e-6, "high": 210e-6, "states": 100.0, "volts_up": 1.0, "volts_down": 1.0, "seconds": 1e-6}
    made = SoftBounds(**usual | law)  # pyright: ignore[reportArgumentType]
    source = torch.Generator().manual_seed(seed)
    params = {name: p.flatten() for name, p in made.build((1, 1, cells), source, torch.float64).items()}
    g = params["low"].clone()
    found: dict[int, list[Tensor]] = {1: [], -1: []}
    for _ in range(cycles):
        for sign in (1, -1):
            readings = [g]
            for count in COUNTS.tolist():
                g = made.pulse(g, params, torch.full_like(g, sign * count), None, source)
                readings.append(g)
            shown = torch.stack(readings)
            found[sign].append(shown + sigma * torch.randn(shown.shape, generator=source, dtype=shown.dtype))
    return torch.stack(found[1]), torch.stack(found[-1])


def test_without_noise_the_law_comes_back_exactly() -> None:
    up, down = trains(50, high_dtod=0.1, step_dtod=0.2)
    fit = fit_soft_bounds(up, down, COUNTS, 0.0)
    assert fit.misfit < 2e-3  # cells of different rates do not add up to one exponential
    assert fit.left_out == 0
    one = fit_soft_bounds(*trains(5), COUNTS, 0.0).numbers
    assert one["low"].value == pytest.approx(10e-6, rel=1e-5)
    assert one["high"].value == pytest.approx(210e-6, rel=1e-5)
    assert one["states"].value == pytest.approx(100, rel=1e-4)
    assert one["step_dtod"].value < 1e-5


@pytest.mark.parametrize("step_std", [0.3, 1.0])
def test_cycle_noise_is_told_from_read_noise(step_std: float) -> None:
    up, down = trains(600, sigma=1e-6, step_std=step_std, step_dtod=0.2, high_dtod=0.1, seed=1)
    number = fit_soft_bounds(up, down, COUNTS, 1e-6).numbers
    assert number["step_std"].value == pytest.approx(step_std, rel=0.1)
    assert number["states"].value == pytest.approx(100, rel=0.05)
    assert number["high"].value == pytest.approx(210e-6, rel=0.02)
    assert number["step_dtod"].value == pytest.approx(0.2, rel=0.15)


@pytest.mark.parametrize("write_std", [0.6, 3.0])
def test_write_noise_is_told_from_read_noise_and_cycle_noise(write_std: float) -> None:
    up, down = trains(600, sigma=1e-6, step_std=0.3, write_std=write_std, seed=6)
    number = fit_soft_bounds(up, down, COUNTS, 1e-6).numbers
    assert number["write_std"].value == pytest.approx(write_std, rel=0.1)
    most = 0.36 if write_std < 1 else 1.0  # three steps of write noise hide it; what is left is a bound
    assert 0.24 < number["step_std"].value < most
    assert number["states"].value == pytest.approx(100, rel=0.05)
    none = fit_soft_bounds(*trains(600, sigma=1e-6, step_std=0.3, seed=6), COUNTS, 1e-6).numbers["write_std"]
    assert none.value <= 0.3


@pytest.mark.parametrize(("log_normal", "spread"), [(True, 0.6), (False, 0.2)])
def test_steps_that_are_spread_log_normally_are_told(log_normal: bool, spread: float) -> None:
    made = trains(600, cycles=1, step_dtod=spread, log_normal=log_normal, seed=8)
    fit = fit_soft_bounds(*made, COUNTS, 0.0)
    assert fit.log_normal is log_normal
    assert fit.numbers["step_dtod"].value == pytest.approx(spread, rel=0.15)
    assert fit.numbers["states"].value == pytest.approx(100, rel=0.1)


def test_read_noise_alone_is_no_cycle_noise() -> None:
    found = fit_soft_bounds(*trains(400, sigma=1.5e-6, seed=2), COUNTS, 1.5e-6).numbers["step_std"]
    assert found.value < 0.12
    assert found.value < 4 * found.error + 0.05


def test_spreads_without_the_noise_of_the_fit() -> None:
    """All cells are equal; what spreads their fits is the noise, and two cycles tell how much that is."""
    number = fit_soft_bounds(*trains(500, sigma=2e-6, step_std=0.3, seed=3), COUNTS, 2e-6).numbers
    assert number["step_dtod"].value < 0.03
    assert number["high_dtod"].value < 0.01


def test_errors_shrink_with_the_root_of_the_cells() -> None:
    few, many = (
        fit_soft_bounds(*trains(n, sigma=1e-6, high_dtod=0.1, seed=4), COUNTS, 1e-6).numbers["high"].error
        for n in (100, 1600)
    )
    assert few / many == pytest.approx(4.0, rel=0.3)


def test_mean_errors_hold_what_they_promise() -> None:
    """Over 12 chips the deviation of the fitted upper bound is about its stated error."""
    pulls: list[float] = []
    for seed in range(12):
        found = fit_soft_bounds(*trains(200, sigma=1e-6, high_dtod=0.1, seed=seed), COUNTS, 1e-6).numbers["high"]
        pulls.append((found.value - 210e-6) / found.error)
    assert math.sqrt(sum(p * p for p in pulls) / len(pulls)) < 1.8


def test_what_no_law_fits_is_refused() -> None:
    flat = torch.full((1, 31, 5), 1e-4, dtype=torch.float64)
    with pytest.raises(ValueError, match="do not go up and down"):
        fit_soft_bounds(flat, flat, COUNTS, 1e-6)
    with pytest.raises(ValueError, match="at least 3 cells"):
        fit_soft_bounds(flat[..., :2], flat[..., :2], COUNTS, 1e-6)


def test_curves_find_slow_and_fast_rates() -> None:
    at = torch.arange(0, 200, 5).double()
    rates = torch.tensor([0.002, 0.01, 0.05, 0.3], dtype=torch.float64)
    data = (1.0 - 0.8 * torch.exp(-rates * at[:, None])).unsqueeze(0)
    found = curves(data, at)
    torch.testing.assert_close(found.rate[0], rates, rtol=2e-4, atol=0.0)
    torch.testing.assert_close(found.bound[0], torch.ones(4, dtype=torch.float64), rtol=1e-4, atol=0.0)


# -- line resistance ---------------------------------------------------------------------------------------------------


def reads(
    r_word: float, r_bit: float, *, gates: Side, unselected: Bias, noise: float = 0.0
) -> tuple[dict[Side, CellReads], dict[Side, Tensor], dict[Side, Tensor], Tensor]:
    source = torch.Generator().manual_seed(0)
    g = 20e-6 + 180e-6 * torch.rand(1, 12, 10, generator=source, dtype=torch.float64)
    wires = LineResistance(Wires(word_segment=r_word, bit_segment=r_bit))
    cells, volts, amps = {}, {}, {}
    for side, lines in ((Side.ROWS, 12), (Side.COLS, 10)):
        shown = wires.cells(g, side, unselected, gates)
        shown = shown + 5 * noise * torch.randn(shown.shape, generator=source, dtype=torch.float64)
        cells[side] = CellReads(shown, 5 * noise, unselected, gates)
        volts[side] = 0.1 * (torch.arange(lines) % torch.tensor([[1], [2], [3]]) == 0).double()
        exact = torch.einsum("bd,tds->tbs", volts[side], wires.matrix(g, side))
        amps[side] = exact + noise * torch.randn(exact.shape, generator=source, dtype=torch.float64)
    return cells, volts, amps, g


@pytest.mark.parametrize("gates", [Side.COLS, Side.ROWS])
@pytest.mark.parametrize("unselected", [Bias.FLOAT, Bias.GROUND])
@pytest.mark.parametrize(("r_word", "r_bit"), [(2.0, 1.0), (0.5, 8.0)])
def test_line_resistance_comes_back_exactly_without_noise(
    gates: Side, unselected: Bias, r_word: float, r_bit: float
) -> None:
    cells, volts, amps, g = reads(r_word, r_bit, gates=gates, unselected=unselected)
    fit = fit_lines(cells, volts, amps, 0.0)
    assert fit.word == pytest.approx(r_word, rel=1e-4)
    assert fit.bit == pytest.approx(r_bit, rel=1e-4)
    assert fit.resolved("word") and fit.resolved("bit")
    series = path_ohms(cells[Side.COLS], Side.COLS, fit)
    behind = 1 / (1 / cells[Side.COLS].siemens - series)
    torch.testing.assert_close(behind, g, rtol=1e-4, atol=0.0)
    assert float(series.max()) > float(series.min())


def test_cell_reads_of_a_passive_array_tell_nothing_about_its_lines() -> None:
    """The reason why it is not tried there: with the other lines grounded they add up to the array read."""
    wires = LineResistance(Wires(word_segment=5.0, bit_segment=3.0))
    g = 1e-4 * torch.rand(1, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    cells = wires.cells(g, Side.ROWS, Bias.GROUND, None)
    torch.testing.assert_close(cells, wires.matrix(g, Side.ROWS), rtol=1e-9, atol=0.0)


def test_line_resistance_within_its_error_with_noise_and_none_is_not_resolved() -> None:
    for r_word, r_bit in ((2.0, 1.0), (0.0, 0.0)):
        cells, volts, amps, _ = reads(r_word, r_bit, gates=Side.COLS, unselected=Bias.FLOAT, noise=2e-8)
        fit = fit_lines(cells, volts, amps, 2e-8)
        assert abs(fit.word - r_word) < 4 * fit.word_error
        assert abs(fit.bit - r_bit) < 4 * fit.bit_error
        assert fit.resolved("word") is fit.resolved("bit") is (r_word > 0)
        assert 0.3 < fit.misfit < 3


def test_gains_of_lines_drop_out() -> None:
    cells, volts, amps, _ = reads(2.0, 1.0, gates=Side.COLS, unselected=Bias.FLOAT)
    gain = 1 + 0.02 * torch.linspace(-1, 1, 12, dtype=torch.float64)
    both = CellReads(cells[Side.COLS].siemens * gain[:, None], 0.0, Bias.FLOAT, Side.COLS)
    fit = fit_lines({Side.COLS: both}, {Side.COLS: volts[Side.COLS]}, {Side.COLS: amps[Side.COLS] * gain}, 0.0)
    assert fit.word == pytest.approx(2.0, rel=0.03)
    assert fit.bit == pytest.approx(1.0, rel=0.06)


def test_a_kernel_with_an_unknown_cell_is_left_out() -> None:
    cells, volts, amps, _ = reads(1.0, 1.0, gates=Side.COLS, unselected=Bias.FLOAT)
    cells[Side.ROWS].siemens[0, 3, 4] = torch.nan
    with pytest.raises(ValueError, match="all its cells"):
        fit_lines(cells, volts, amps, 0.0)
    assert LineFit(1.0, 0.4, 1.0, 0.1, 1.0).resolved("bit")
    assert not LineFit(1.0, 0.4, 1.0, 0.1, 1.0).resolved("word")
