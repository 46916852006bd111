"""From samples to rows: equal and quantile bins, levels of change, and what is kept of the samples."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from hil.errors import UsageError
from sim_backend.fit.binning import Binning, binned, change_levels, equal_edges, fit, quantile_edges
from sim_backend.fit.optimising import held_out_score, mixed_edges, optimised_edges
from sim_backend.fit.samples import Samples
from sim_backend.fit.scores import ranked_score
from sim_backend.fit.study import Truth
from sim_backend.fit.table import JumpTable


def skewed(n: int, seed: int = 0) -> np.ndarray:
    return 1e-6 * np.random.default_rng(seed).lognormal(2.0, 0.7, n)


@pytest.mark.parametrize(("n", "bins"), [(1000, 10), (1003, 10), (57, 8), (10, 10), (200, 1)])
def test_quantile_bins_hold_equal_counts(n, bins):
    g = skewed(n)
    counts = np.bincount(np.searchsorted(quantile_edges(g, bins), g, side="right"), minlength=bins)
    assert len(counts) == bins and counts.sum() == n and counts.max() - counts.min() <= 1


def test_equal_bins_are_equally_wide_and_empty_ones_make_no_row():
    g = np.array([1.0, 1.1, 1.2, 9.9, 10.0]) * 1e-6
    edges = equal_edges(g, 9)
    assert np.diff(edges) == pytest.approx(np.full(7, 1e-6))
    table = binned(g, g, edges)
    assert table.g == pytest.approx([1.1e-6, 9.95e-6])


def test_a_row_stands_at_the_mean_of_its_samples_and_keeps_their_mean():
    source = np.random.default_rng(1)
    g, dg = skewed(500), 1e-6 * source.normal(size=500)
    table = binned(g, dg, quantile_edges(g, 5))
    order = np.argsort(g, kind="stable").reshape(5, 100)
    assert table.g == pytest.approx(g[order].mean(1))
    spacing = np.diff(table.dg).max()
    assert np.abs(table.means - dg[order].mean(1)).max() < 0.1 * spacing
    ranked = np.sort(dg[order[2]])
    inside = table.cdf[2, :-1] - np.searchsorted(ranked, table.dg[:-1], side="right") / 100
    assert np.abs(inside).max() <= 0.5 / 100 + 1e-12  # a sample at a level counts half


def test_discrete_changes_keep_their_mean():
    """A coarse converter makes few different changes; spreading their probability must not shift the mean."""
    source = np.random.default_rng(2)
    dg = 1e-6 * source.integers(-2, 4, 4000)
    table = binned(np.full(4000, 1e-5) + 1e-9 * source.random(4000), dg, np.zeros(0))
    assert table.means[0] == pytest.approx(dg.mean(), abs=0.02e-6)


def test_levels_rise_span_the_changes_and_are_as_many_as_asked_for():
    dg = 1e-6 * np.random.default_rng(3).standard_t(2, 3000)
    axis = change_levels(dg, 64)
    assert axis[0] == dg.min() and axis[-1] == dg.max() and 60 <= len(axis) <= 64 and (np.diff(axis) > 0).all()
    assert change_levels(np.zeros(5), 64).tolist() == [0.0]
    assert change_levels(dg, 2).tolist() == [dg.min(), dg.max()]


def test_one_sample_a_polarity_makes_a_table_and_none_does_not():
    one = Samples.of(np.array([1e-5, 2e-5]), np.array([1e-6, -2e-6]), np.array([True, False]))
    table = fit(one)
    assert table.up.means.tolist() == [1e-6] and table.down.means.tolist() == [-2e-6]
    with pytest.raises(ValueError, match="both polarities"):
        fit(one.of_polarity(True))


def test_bins_follow_the_number_of_samples():
    assert [Binning().bins_for(n) for n in (1, 50, 1000, 8000)] == [2, 4, 10, 20]
    assert Binning(bins=7).bins_for(8000) == 7
    for name in ("bins", "levels", "trials"):
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            Binning(**{name: 0})


def test_mixed_edges_contain_both_plain_binnings():
    g = skewed(300)
    assert mixed_edges(g, 6, 0.0, 0.0) == pytest.approx(equal_edges(g, 6))
    assert (mixed_edges(g, 6, 1.0, 0.0) == quantile_edges(g, 6)).all()
    for skew in (-1.0, 1.0):
        edges = mixed_edges(g, 6, 0.3, skew)
        assert (np.diff(edges) > 0).all() and g.min() < edges[0] and edges[-1] < g.max()
    assert mixed_edges(g, 6, 0.0, 1.0)[0] < mixed_edges(g, 6, 0.0, -1.0)[0]


def test_without_optuna_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **more):
        if name == "optuna":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r"needs optuna; install it with: pip install 'crossbar-hil\[sweep\]'"):
        fit(Truth().samples(20, 0), Binning(method="optimised"))


def test_the_held_out_score_prefers_a_sensible_number_of_bins():
    """With 500 samples, 8 bins predict better than one bin and than 250."""
    mine = Truth().samples(500, 0).of_polarity(True)
    fold = np.arange(500) % 4
    found = {bins: held_out_score(mine, fold, quantile_edges(mine.g, bins)) for bins in (1, 8, 250)}
    assert found[8] < found[1] and found[8] < found[250]
    lonely = mine.take(np.arange(1))
    assert held_out_score(lonely, np.zeros(1, dtype=int), np.zeros(0)) == pytest.approx(0.0, abs=1e-20)


def test_optimised_bins_are_not_worse_than_equal_ones_and_the_same_for_a_seed():
    pytest.importorskip("optuna")
    mine = Truth().samples(400, 0).of_polarity(True)
    binning = Binning(method="optimised", trials=12, bins=40, seed=5)
    edges = optimised_edges(mine, binning)
    fold = np.arange(400) % 4
    order = np.random.default_rng(5).permutation(400)
    shuffled = mine.take(order)
    best, equal, quantile = (
        held_out_score(shuffled, fold, e) for e in (edges, equal_edges(mine.g, 40), quantile_edges(mine.g, 40))
    )
    assert best <= min(equal, quantile) and (optimised_edges(mine, binning) == edges).all()
    fresh = Truth().samples(2000, 1).of_polarity(True)
    tables = [binned(mine.g, mine.dg, chosen) for chosen in (edges, equal_edges(mine.g, 40))]
    scores = [ranked_score(JumpTable(jumps, jumps), fresh) for jumps in tables]
    assert scores[0] <= scores[1]
