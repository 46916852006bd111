"""How well a table describes pulses it has not seen.

Held-out pulses are sorted into bands of conductance with equal counts; in each band their changes are compared with as
many draws of the table at the same conductances, several times over.

* Kolmogorov-Smirnov: the largest distance of the two cumulative distributions, mean over bands.
* Wasserstein-1: the area between them, S, mean over bands; 0.5 uS means that jumps are off by 0.5 uS.
* Maximum mean discrepancy: of (G, dG) as a whole, each in units of its standard deviation; squared and unbiased, so
  that it can fall below 0. Kernel exp(-d^2 / (2 m^2)), m the median distance. Reference: Gretton et al. 2012, eq. 3.

A perfect table does not score 0: ``floor`` is what two independent draws of the table itself score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from sim_backend.fit.samples import Samples
from sim_backend.fit.sampling import JumpSampler
from sim_backend.fit.table import Array, JumpTable

BANDS = 10
LEAST_IN_BAND = 20
DRAWS = 8
"""Draws of the table for each held-out pulse."""
MOST_PAIRS = 1000
"""Pulses that the maximum mean discrepancy looks at."""
_GRID = 64


@dataclass(frozen=True, slots=True)
class Scores:
    """Distances of a table from the pulses of one polarity.

    Args:
        samples: pulses it was judged by.
        ks: Kolmogorov-Smirnov.
        wasserstein: Wasserstein-1, S.
        mmd: squared maximum mean discrepancy.
    """

    samples: int
    ks: float
    wasserstein: float
    mmd: float


def score(sampler: JumpSampler, held: Samples, *, up: bool, seed: int = 0) -> Scores:
    """Compares a table with held-out pulses of one polarity.

    Args:
        sampler: draws from the table.
        held: pulses that were not fitted; those of the other polarity are left out.
        up: the polarity.
        seed: of the draws.

    Raises:
        ValueError: there are fewer than 2 pulses.
    """
    mine = held.of_polarity(up)
    if len(mine) < 2:
        raise ValueError(f"a score needs at least 2 held-out pulses of a polarity, got {len(mine)}")
    return _compared(sampler, mine.g, mine.dg, up, seed)


def floor(sampler: JumpSampler, held: Samples, *, up: bool, seed: int = 0) -> Scores:
    """What the table scores against as many draws of itself; arguments as in ``score``."""
    g = held.of_polarity(up).g
    return _compared(sampler, g, drawn(sampler, g, up, seed + 1), up, seed)


def drawn(sampler: JumpSampler, g: Array, up: bool, seed: int) -> Array:
    """One draw at each conductance, S."""
    at = torch.from_numpy(np.ascontiguousarray(g))
    return sampler.draw(at, torch.full(at.shape, up), torch.Generator().manual_seed(seed)).numpy()


def ranked_score(table: JumpTable, samples: Samples) -> float:
    """The continuous ranked probability score of a table, mean over pulses, S; smaller is better.

    As twice the mean quantile loss: CRPS = 2 int_0^1 (1{y < q(u)} - u) (q(u) - y) du, which follows from its definition
    (Gneiting and Raftery 2007, eq. 20) by exchanging the integrals.
    """
    sampler = JumpSampler(table)
    u = (torch.arange(_GRID, dtype=torch.float64) + 0.5) / _GRID
    shape = (len(samples), _GRID)
    g, y = (torch.from_numpy(np.ascontiguousarray(values)).unsqueeze(1) for values in (samples.g, samples.dg))
    up = torch.from_numpy(samples.up).unsqueeze(1).expand(shape)
    ahead = sampler.quantile(g.expand(shape), up, u.expand(shape)) - y
    return float(2.0 * ((ahead > 0).double() - u).mul_(ahead).mean())


def bands_of(g: Array, least: int = LEAST_IN_BAND) -> list[np.ndarray]:
    """Places of the pulses of each band, from low to high conductance."""
    count = max(1, min(BANDS, len(g) // least))
    return np.array_split(np.argsort(g, kind="stable"), count)


def _compared(sampler: JumpSampler, g: Array, dg: Array, up: bool, seed: int) -> Scores:
    draws = drawn(sampler, np.tile(g, DRAWS), up, seed).reshape(DRAWS, -1)
    ks, wasserstein, weights = [], [], []
    for band in bands_of(g):
        seen, made = dg[band], draws[:, band].ravel()
        ks.append(ks_distance(seen, made))
        wasserstein.append(float(stats.wasserstein_distance(seen, made)))
        weights.append(len(band))
    mean_ks, mean_wasserstein = (float(np.average(values, weights=weights)) for values in (ks, wasserstein))
    return Scores(len(g), mean_ks, mean_wasserstein, _discrepancy(g, dg, draws[0], seed))


def ks_distance(a: Array, b: Array) -> float:
    """The largest distance of two empirical cumulative distributions."""
    both = np.concatenate([a, b])
    shares = [np.searchsorted(np.sort(values), both, side="right") / len(values) for values in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


def _discrepancy(g: Array, dg: Array, made: Array, seed: int) -> float:
    """The squared maximum mean discrepancy of (g, dg) and (g, made)."""
    chosen = np.random.default_rng(seed).permutation(len(g))
    one, other = chosen[::2][:MOST_PAIRS], chosen[1::2][:MOST_PAIRS]  # different pulses, so that draws are independent
    if len(other) < 2:
        return 0.0
    scale = np.array([g.std() or 1.0, dg.std() or 1.0])
    x = np.stack([g[one], dg[one]], 1) / scale
    y = np.stack([g[other], made[other]], 1) / scale
    return mmd(x, y)


def mmd(x: Array, y: Array) -> float:
    """The squared maximum mean discrepancy of points x [n, d] and y [m, d], unbiased; n and m at least 2."""
    both = np.concatenate([x, y])
    squares = np.square(both).sum(1)
    distance = np.maximum(squares[:, None] + squares - 2.0 * both @ both.T, 0.0)
    median = float(np.median(distance[np.triu_indices(len(both), 1)])) or 1.0
    kernel = np.exp(-distance / (2.0 * median))
    np.fill_diagonal(kernel, 0.0)
    n, m = len(x), len(y)
    inside_x, inside_y = kernel[:n, :n].sum() / (n * (n - 1)), kernel[n:, n:].sum() / (m * (m - 1))
    return float(inside_x + inside_y - 2.0 * kernel[:n, n:].mean())
