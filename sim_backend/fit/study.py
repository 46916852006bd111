"""Tables of a device whose law is known: how far they are from it, by the number of samples and of bins.

The truth is a soft-bounds cell: a pulse moves it by a share of its distance to a bound, with additive normal noise, and
the window holds it, so that what is measured is the change within the window. In units of the window, x = (g - low) /
(high - low):

    up:   dx = step (1 - x) + (noise + slope (1 - x)) xi        down: dx = -step x + (noise + slope x) xi

Reference: Fusi and Abbott 2007 for soft bounds; the idea of measuring a table's bias on synthetic data with a known
distribution is that of Yousuf et al., arXiv 2211.15925. All numbers are this project's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hil.contract.bounds import above_zero, not_negative
from sim_backend.fit.binning import Binning, fit
from sim_backend.fit.samples import Samples
from sim_backend.fit.sampling import JumpSampler

_GRID = 200
_CONDUCTANCES = 101


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The known device.

    Args:
        low: lower bound, S.
        high: upper bound, S.
        step: share of the distance to the bound that a pulse goes.
        noise: standard deviation of a jump at the bound it goes to, as a share of the window.
        slope: what the standard deviation has more at the other bound.
    """

    low: float = 10e-6
    high: float = 110e-6
    step: float = 0.04
    noise: float = 0.02
    slope: float = 0.02

    def __post_init__(self) -> None:
        not_negative(self, "low", "noise", "slope")
        above_zero(self, "step")
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} S must lie below high {self.high:g} S")

    @property
    def window(self) -> float:
        """The window, S."""
        return self.high - self.low

    def jump(self, g: Tensor, up: Tensor, xi: Tensor) -> Tensor:
        """The change of each cell within the window, S, for standard normal ``xi``."""
        x = (g - self.low) / self.window
        room = torch.where(up, 1.0 - x, x)
        mean = torch.where(up, self.step, -self.step) * room
        moved = x + mean + (self.noise + self.slope * room) * xi
        return (moved.clamp(0.0, 1.0) - x) * self.window

    def draw(self, g: Tensor, up: Tensor, generator: torch.Generator) -> Tensor:
        """One jump of each cell, S, as ``JumpSampler.draw``."""
        return self.jump(g, up, torch.randn(g.shape, generator=generator, dtype=g.dtype))

    def quantile(self, g: Tensor, up: Tensor, u: Tensor) -> Tensor:
        """The jump below which a share ``u`` of the jumps lies, S, as ``JumpSampler.quantile``."""
        return self.jump(g, up, torch.special.ndtri(u).to(g.dtype))

    def samples(self, points: int, seed: int) -> Samples:
        """Measures ``points`` pulses per polarity, at conductances spread evenly at random."""
        source = torch.Generator().manual_seed(seed)
        g = self.low + self.window * torch.rand(2 * points, generator=source, dtype=torch.float64)
        up = torch.arange(2 * points) < points
        return Samples.of(g.numpy(), self.draw(g, up, source).numpy(), up.numpy())


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a table of the truth is made.

    Args:
        points: samples per polarity.
        binning: how they are binned.
        plain: resample the nearest bin, as plain binning does; else interpolate between bins.
    """

    points: int
    binning: Binning
    plain: bool = True

    def table(self, truth: Truth, seed: int) -> JumpSampler:
        """A table of new samples."""
        table = fit(truth.samples(self.points, seed), self.binning)
        return JumpSampler(table, rows="nearest" if self.plain else "between")


def distance(truth: Truth, sampler: JumpSampler) -> tuple[float, float]:
    """How far a table is from the truth: mean Wasserstein-1 (S) and Kolmogorov-Smirnov over the window and polarities.

    Both come from the quantile functions: W1 = int_0^1 |q - q_true| du; KS by counting quantiles below each other.
    """
    u = (torch.arange(_GRID, dtype=torch.float64) + 0.5) / _GRID
    g = torch.linspace(truth.low, truth.high, _CONDUCTANCES, dtype=torch.float64).unsqueeze(1)
    shape = (_CONDUCTANCES, _GRID)
    wasserstein, ks = [], []
    for up in (torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)):
        mine = sampler.quantile(g.expand(shape), up, u.expand(shape))
        true = truth.quantile(g.expand(shape), up, u.expand(shape))
        wasserstein.append(float((mine - true).abs().mean()))
        ks.append(float(_ks(mine, true).mean()))
    return float(np.mean(wasserstein)), float(np.mean(ks))


def _ks(a: Tensor, b: Tensor) -> Tensor:
    """The largest distance of the cumulative distributions of rows of equally many rising quantiles, [rows]."""
    both = torch.cat([a, b], 1)
    shares = [torch.searchsorted(rows.contiguous(), both, right=True) / rows.shape[1] for rows in (a, b)]
    return (shares[0] - shares[1]).abs().amax(1)
