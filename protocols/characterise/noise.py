"""Read noise, told apart from amplifier noise by how the variance of a current grows with the voltage.

One conversion of a cell shows G V + V n_G + n_A, so that its variance is sigma_A^2 + sigma_G^2 V^2. Differences of
successive reads (von Neumann 1941) keep slow drift out. A converter with the step d turns a variance s^2 into

    E var = s^2 + d^2 (1/12 - sum_n exp(-4 pi^2 n^2 s^2 / d^2) / (2 pi^2 n^2))

averaged over cells whose currents lie anywhere between two codes (Widrow 1956: the characteristic function of rounding
noise); it is inverted exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from protocols.characterise.amplifiers import Levels

_TERMS = 40
_LEAST = 0.02
"""Noise below this share of a code's step hardly ever changes a code, and cannot be told from none."""


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """Noise of one conversion.

    Args:
        volts: [L] V, levels used.
        amps: [L] A, rms at each level, without the rounding of the converter.
        amps_error: [L] A.
        amplifier: A, rms of the amplifier.
        amplifier_error: A.
        cell: S, rms conductance noise of a cell.
        cell_error: S.
        rounding: A, rms of the converter's rounding, step / sqrt(12).
        resolved: noise is large enough to be seen through the codes.
        of_cells: [T, R, C] S, rms of each cell at the highest voltage, amplifier noise included; NaN where not good.
    """

    volts: Tensor
    amps: Tensor
    amps_error: Tensor
    amplifier: float
    amplifier_error: float
    cell: float
    cell_error: float
    rounding: float
    resolved: bool
    of_cells: Tensor

    def siemens(self, volts: float, averages: int) -> float:
        """Standard error of a conductance read at a voltage, S, the rounding of the converter included."""
        variance = (self.amplifier**2 + self.rounding**2) / volts**2 + self.cell**2
        return math.sqrt(variance / averages)


def noise(data: Levels, step: float | None) -> Noise:
    """Fits the variance of currents against the square of the voltage."""
    diffs = data.amps.diff(dim=1)
    variance = diffs.square().mean(1) / 2  # [L, T, R, C]
    pooled = torch.stack([level[data.good].mean() for level in variance])
    samples = int(data.good.sum()) * diffs.shape[1]
    relative = math.sqrt(3.0 / max(samples, 1))  # of a variance made of successive differences
    error = relative * pooled
    if step is not None:
        higher = unrounded(pooled + error, step)
        pooled = unrounded(pooled, step)
        error = higher - pooled
    used = torch.ones(len(pooled), dtype=torch.bool)
    if step is not None:  # at 0 V all currents lie at the same place between two codes
        used &= (data.volts > 0) | (pooled.sqrt() > 0.6 * step)
    v2, y, error = data.volts[used].square(), pooled[used], error[used]
    weight = 1.0 / error.clamp(min=1e-6 * relative * float(y.max()) + 1e-42).square()
    design = torch.stack([torch.ones_like(v2), v2 / float(v2.max())], 1)
    inverse = torch.inverse(design.T @ (weight[:, None] * design))
    found = (inverse @ (design.T @ (weight * y))).clamp(min=0.0)
    found[1] /= float(v2.max())
    errors = inverse.diagonal().clamp(min=0.0).sqrt()
    amplifier, cell = (math.sqrt(float(f)) for f in found)
    rounding = 0.0 if step is None else step / math.sqrt(12.0)
    return Noise(
        volts=data.volts[used],
        amps=y.sqrt(),
        amps_error=error / (2 * y.sqrt()).clamp(min=1e-30),
        amplifier=amplifier,
        amplifier_error=_of_root(float(errors[0]), amplifier),
        cell=cell,
        cell_error=_of_root(float(errors[1]) / float(v2.max()), cell),
        rounding=rounding,
        resolved=step is None or bool(y.max().sqrt() > _LEAST * step),
        of_cells=torch.where(data.good, variance[-1].sqrt() / float(data.volts[-1]), torch.nan),
    )


def unrounded(variance: Tensor, step: float) -> Tensor:
    """The variance before a converter of a step, from the mean variance after it, by bisection."""
    n = torch.arange(1, _TERMS + 1, dtype=torch.float64)

    def rounded(s2: Tensor) -> Tensor:
        lost = torch.exp(-4 * math.pi**2 * n.square() * s2[:, None]) / (2 * math.pi**2 * n.square())
        return s2 + 1 / 12 - lost.sum(1)

    wanted = variance / step**2
    zero = float(rounded(torch.zeros(1, dtype=torch.float64))[0])  # what the finite sum leaves of 1/12
    low, high = torch.zeros_like(wanted), wanted.clone()
    for _ in range(60):
        middle = (low + high) / 2
        above = rounded(middle) - zero * torch.exp(-400 * middle) > wanted
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2 * step**2


def _of_root(error: float, root: float) -> float:
    """The error of a root from that of its square; of an upper bound where the root is 0."""
    return error / (2 * root) if root**2 > error else math.sqrt(error)
