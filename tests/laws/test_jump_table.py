"""The law that draws its jumps from a table: it reproduces the table, pulse by pulse, inside its window."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from hil.contract import Shape
from hil.errors import ConfigError
from sim_backend.fit.binning import Binning, fit
from sim_backend.fit.files import as_text
from sim_backend.fit.sampling import JumpSampler
from sim_backend.fit.study import Truth
from sim_backend.fit.table import Jumps, JumpTable
from sim_backend.laws.jump_table import JumpTableLaw

N = 20_000
TABLE = JumpTable(
    Jumps(np.array([1e-5, 3e-5, 4e-5]), np.array([-1e-6, 0.0, 1e-6, 3e-6]),
          np.array([[0.1, 0.3, 0.8, 1.0], [0.0, 0.5, 0.5, 1.0], [0.4, 0.9, 1.0, 1.0]])),
    Jumps(np.array([2e-5, 5e-5]), np.array([-2e-6, -1e-6, 0.0]), np.array([[0.0, 0.2, 1.0], [0.5, 0.7, 1.0]])),
)  # fmt: skip


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def put(table: JumpTable, folder: Path) -> JumpTable:
    for name, text in as_text(table).items():
        (folder / name).write_text(text, encoding="utf-8")
    return table


def law(folder: Path, table: JumpTable = TABLE, **changes: Any) -> JumpTableLaw:
    put(table, folder)
    usual: dict[str, Any] = {
        "low": 1e-5, "high": 4.5e-5, "volts_up": 1.5, "volts_down": 1.2, "seconds": 1e-6, "table": str(folder),
        "digest": table.digest(),
    }  # fmt: skip
    return JumpTableLaw(**usual | changes)


def pulsed(model: JumpTableLaw, g: float, dose: float, n: int = N, seed: int = 0, ceiling: float | None = None):
    params = {k: v.view(-1) for k, v in model.build((1, 1, n), gen(99), torch.float64).items()}
    start = torch.full((n,), g, dtype=torch.float64)
    top = None if ceiling is None else torch.full_like(start, ceiling)
    return model.pulse(start, params, torch.full_like(start, dose), top, gen(seed))


def follows(jumps: torch.Tensor, dg: np.ndarray, cdf: np.ndarray) -> None:
    """The cdf at every level, within the Kolmogorov-Smirnov bound for a chance of 1e-6."""
    bound = stats.kstwo.isf(1e-6, jumps.numel())
    tiny = 1e-15  # jumps are differences of conductances, so that an atom is met but for rounding
    seen = np.array([float((jumps <= level + tiny).double().mean()) for level in dg])
    assert np.abs(seen - cdf).max() < bound


@pytest.mark.parametrize("levels", ["between", "level"])
@pytest.mark.parametrize(("up", "row"), [(True, 0), (True, 1), (True, 2), (False, 0), (False, 1)])
def test_sampling_reproduces_each_row_of_the_table(levels, up, row):
    jumps = TABLE.of(up)
    g = torch.full((N,), float(jumps.g[row]), dtype=torch.float64)
    found = JumpSampler(TABLE, levels=levels).draw(g, torch.full((N,), up), gen())
    follows(found, jumps.dg, jumps.cdf[row])
    assert float(found.min()) >= jumps.dg[0] and float(found.max()) <= jumps.dg[-1]
    if levels == "level":
        assert set(found.tolist()) <= set(jumps.dg.tolist())


def test_between_levels_probability_is_spread_evenly():
    g = torch.full((N,), 1e-5, dtype=torch.float64)
    found = JumpSampler(TABLE).draw(g, torch.ones(N, dtype=torch.bool), gen())
    inside = found[(found > 1e-6) & (found < 3e-6)]
    assert stats.kstest(inside.numpy(), stats.uniform(1e-6, 2e-6).cdf).pvalue > 1e-6 and inside.numel() > 3000


def test_between_rows_quantiles_go_in_proportion():
    sampler = JumpSampler(TABLE)
    u = torch.tensor([0.05, 0.2, 0.55, 0.93], dtype=torch.float64)
    up = torch.ones(4, dtype=torch.bool)
    ends = [sampler.quantile(torch.full_like(u, g), up, u) for g in (1e-5, 3e-5)]
    quarter = sampler.quantile(torch.full_like(u, 1.5e-5), up, u)
    assert torch.allclose(quarter, 0.75 * ends[0] + 0.25 * ends[1], rtol=1e-12, atol=1e-20)
    nearest = JumpSampler(TABLE, rows="nearest")
    assert torch.equal(nearest.quantile(torch.full_like(u, 1.9e-5), up, u), ends[0])
    assert torch.equal(nearest.quantile(torch.full_like(u, 2.1e-5), up, u), ends[1])
    outside = sampler.quantile(torch.full_like(u, 9e-5), up, u)
    assert torch.equal(outside, sampler.quantile(torch.full_like(u, 4e-5), up, u))


def test_the_mean_is_that_of_the_draws():
    for rows in ("between", "nearest"):
        for levels in ("between", "level"):
            sampler = JumpSampler(TABLE, rows=rows, levels=levels)
            for g, up in ((1e-5, True), (1.7e-5, True), (3.9e-5, True), (2e-5, False), (3e-5, False)):
                at, flags = torch.full((N,), g, dtype=torch.float64), torch.full((N,), up)
                found = sampler.draw(at, flags, gen())
                error = 4 * float(found.std()) / math.sqrt(N)
                assert float(found.mean()) == pytest.approx(float(sampler.mean(at[:1], flags[:1])), abs=error + 1e-15)


def test_the_rule_of_levels_shifts_jumps_of_a_smooth_law_up_by_half_a_level():
    dg = np.linspace(-5e-6, 5e-6, 21)
    one = Jumps(np.array([1e-5]), dg, stats.norm(0, 1e-6).cdf(dg)[None, :])
    g, up = torch.full((1,), 1e-5, dtype=torch.float64), torch.ones(1, dtype=torch.bool)
    found = [float(JumpSampler(JumpTable(one, one), levels=levels).mean(g, up)) for levels in ("between", "level")]
    assert found[0] == pytest.approx(0.0, abs=1e-10) and found[1] == pytest.approx(0.25e-6, rel=1e-3)


def test_extreme_random_numbers_stay_in_their_row():
    sampler = JumpSampler(TABLE)
    for up in (True, False):
        jumps = TABLE.of(up)
        for row in range(len(jumps.g)):
            g = torch.full((3,), float(jumps.g[row]), dtype=torch.float64)
            u = torch.tensor([0.0, 1e-300, 1.0], dtype=torch.float64)
            found = sampler.quantile(g, torch.full((3,), up), u)
            assert float(found.min()) >= jumps.dg[0] and float(found.max()) <= jumps.dg[-1]
            assert float(found[2]) == jumps.dg[np.searchsorted(jumps.cdf[row], 1.0)]


def test_cells_of_a_whole_tensor_are_drawn_each_at_its_own_place():
    g = 1e-5 + 3e-5 * torch.rand(4, 5, 6, generator=gen(1))
    up = torch.rand(4, 5, 6, generator=gen(2)) < 0.5
    sampler = JumpSampler(TABLE)
    found = sampler.draw(g, up, gen(3))
    assert found.shape == g.shape and found.dtype == torch.float32
    u = torch.rand(g.shape, generator=gen(3), dtype=torch.float64)
    for place in ((0, 0, 0), (3, 4, 5), (1, 2, 3)):
        one = sampler.quantile(g[place].view(1), up[place].view(1), u[place].view(1))
        assert float(one) == float(found[place])


# -- the law -----------------------------------------------------------------------------------------------------------


def test_one_pulse_follows_the_table(tmp_path):
    model = law(tmp_path)
    follows(pulsed(model, 3e-5, 1.0) - 3e-5, TABLE.up.dg, TABLE.up.cdf[1])
    follows(pulsed(model, 2e-5, -1.0) - 2e-5, TABLE.down.dg, TABLE.down.cdf[0])


def test_pulses_at_once_are_the_same_pulses_one_by_one(tmp_path):
    """Ten at once draw what ten operations draw of one generator: equal bit by bit."""
    model = law(tmp_path)
    params = {k: v.view(-1) for k, v in model.build((1, 1, 500), gen(), torch.float64).items()}
    start = torch.full((500,), 2.5e-5, dtype=torch.float64)
    for sign in (1.0, -1.0):
        source, one = gen(5), start
        for _ in range(10):
            one = model.pulse(one, params, torch.full_like(start, sign), None, source)
        assert torch.equal(model.pulse(start, params, torch.full_like(start, 10 * sign), None, gen(5)), one)


def test_cells_with_fewer_pulses_stop_earlier(tmp_path):
    model = law(tmp_path, noise=0.0)
    dose = torch.tensor([3.0, -1.0, 0.0, 2.0], dtype=torch.float64)
    params = {k: v.view(-1) for k, v in model.build((1, 1, 4), gen(), torch.float64).items()}
    start = torch.full((4,), 2.5e-5, dtype=torch.float64)
    found = model.pulse(start, params, dose, None, gen())
    for k, count in enumerate((3, -1, 0, 2)):
        alone = float(pulsed(model, 2.5e-5, float(count), n=1)[0]) if count else 2.5e-5
        assert float(found[k]) == pytest.approx(alone, rel=1e-12)


def test_many_pulses_by_rounds_agree_with_single_ones(tmp_path):
    """600 pulses, 128 of them single: mean within 4 standard errors and 0.2 % of the window, std within 10 %."""
    truth = Truth(step=0.004, noise=0.003, slope=0.003)
    table = fit(truth.samples(3000, 0), Binning(bins=8))
    model = law(tmp_path, table, low=2e-5, high=1e-4)
    params = {k: v.view(-1) for k, v in model.build((1, 1, 1500), gen(), torch.float64).items()}
    one = torch.full((1500,), 3e-5, dtype=torch.float64)
    at_once = model.pulse(one, params, torch.full_like(one, 600.0), None, gen(2))
    source = gen(3)
    for _ in range(600):
        one = model.pulse(one, params, torch.ones_like(one), None, source)
    error = 4 * float(one.std()) / math.sqrt(1500 / 2) + 0.002 * model.window
    assert float(at_once.mean()) == pytest.approx(float(one.mean()), abs=error)
    assert float(at_once.std()) == pytest.approx(float(one.std()), rel=0.1)


def test_a_part_of_a_pulse_has_its_part_of_mean_and_variance(tmp_path):
    model = law(tmp_path)
    whole, part = (pulsed(model, 3e-5, dose, seed=7) - 3e-5 for dose in (1.0, 0.25))
    assert float(part.mean()) == pytest.approx(0.25 * float(whole.mean()), abs=4 * float(whole.std()) / math.sqrt(N))
    assert float(part.std()) == pytest.approx(0.5 * float(whole.std()), rel=0.03)


def test_cells_stay_in_their_window_and_below_the_compliance_ceiling(tmp_path):
    model = law(tmp_path)
    assert float(pulsed(model, 4.4e-5, 50.0).max()) <= 4.5e-5 and float(pulsed(model, 1.1e-5, -50.0).min()) == 1e-5
    held = pulsed(model, 3e-5, 50.0, ceiling=3.2e-5)
    assert float(held.max()) == 3.2e-5 and float(pulsed(model, 3e-5, 50.0).max()) > 3.2e-5
    assert float(pulsed(model, 3e-5, 5.0, ceiling=2e-5).max()) == 3e-5  # a low ceiling takes nothing back


def test_noise_off_gives_the_mean_and_more_noise_a_wider_spread(tmp_path):
    spreads = [float((pulsed(law(tmp_path, noise=noise), 2e-5, 1.0) - 2e-5).std()) for noise in (0.0, 0.5, 1.0, 2.0)]
    assert spreads[0] < 1e-18 and spreads[1] < spreads[2] < spreads[3]
    assert spreads[1] == pytest.approx(0.5 * spreads[2], rel=0.03)
    quiet = pulsed(law(tmp_path, noise=0.0), 3e-5, 1.0, n=1)
    assert float(quiet[0]) - 3e-5 == pytest.approx(TABLE.up.means[1], rel=1e-9)


def test_spread_between_cells_widens_the_mean_jumps(tmp_path):
    spreads = [float(pulsed(law(tmp_path, noise=0.0, step_dtod=s), 1e-5, 1.0).std()) for s in (0.0, 0.1, 0.3)]
    mean = abs(TABLE.up.means[0])
    assert spreads[0] < 1e-18
    assert spreads[1] == pytest.approx(0.1 * mean, rel=0.03) and spreads[2] == pytest.approx(0.3 * mean, rel=0.03)


def test_the_usual_pulse_is_that_of_the_table(tmp_path):
    model = law(tmp_path, seconds_down=4e-6, threshold=0.5)
    assert model.strength(Shape(1.5, 1e-6), True) == 1.0 and model.strength(Shape(1.2, 4e-6), False) == 1.0
    assert model.strength(Shape(1.2, 1e-6), False) == 0.25 and model.strength(Shape(0.4, 1e-6), True) == 0.0
    assert law(tmp_path).strength(Shape(1.2, 1e-6), False) == 1.0


def test_equal_seeds_give_equal_cells(tmp_path):
    model = law(tmp_path, step_dtod=0.1)
    assert torch.equal(pulsed(model, 2e-5, 7.0, seed=1), pulsed(model, 2e-5, 7.0, seed=1))
    assert not torch.equal(pulsed(model, 2e-5, 7.0, seed=1), pulsed(model, 2e-5, 7.0, seed=2))


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match=rf"has the digest {TABLE.digest()}; write it"):
        law(tmp_path, digest="")
    with pytest.raises(ConfigError, match=r"no file \*set_axis"):
        (tmp_path / "other").mkdir()
        replace(law(tmp_path), table=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="low and high must lie where the table was measured.*55 µS"):
        law(tmp_path, high=1e-4)
    for name in ("noise", "step_dtod", "seconds_down"):
        with pytest.raises(ValueError, match=name):
            law(tmp_path, **{name: -1.0})


def test_the_board_runs_on_it(tmp_path):
    """A simulated board takes the law as any other; its pulses move cells within the window."""
    from sim_backend.chip import Chip
    from sim_backend.config import SimulatorConfig

    chip = Chip((1, 4, 5), SimulatorConfig(law=law(tmp_path)), gen())  # type: ignore[arg-type]
    before = chip.state["g"].clone()
    from hil.contract import Blocks

    counts = torch.zeros(1, 4, 5, dtype=torch.int32)
    counts[0, 1] = 3
    usual = Shape(1.5, 1e-6), Shape(1.2, 1e-6)
    chip.pulse(Blocks((0,), (0,), (0,), 4, 5), counts, *usual, limits=(None, None), generator=gen(1))
    moved = chip.state["g"] != before
    assert moved[0, 1].all() and moved.sum() == 5
    assert chip.snapshot()["law.gain"].shape == (1, 4, 5)
