"""Drift: the same cells read twice, a time apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Wait
from protocols.characterise.cells import Bench, read, read_volts, spread
from protocols.characterise.noise import Noise
from protocols.characterise.plan import DriftPlan


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """How conductances changed.

    Args:
        seconds: s of lab time between the two reads.
        before: [n] S.
        after: [n] S.
        mean: S, mean change.
        mean_error: S.
        spread: S, standard deviation of the changes of cells beyond read noise; 0 when it is not above the noise.
        relative: mean change over mean conductance.
        relative_error: its standard error.
    """

    seconds: float
    before: Tensor
    after: Tensor
    mean: float
    mean_error: float
    spread: float
    relative: float
    relative_error: float

    @property
    def resolved(self) -> bool:
        """Whether the mean change is beyond three standard errors."""
        return abs(self.mean) > 3 * self.mean_error


def drift(bench: Bench, plan: DriftPlan, noise: Noise) -> Drift:
    """Reads cells, waits, and reads them again."""
    spec, blocks = bench.spec, spread(bench.spec, plan.kernels)
    volts = read_volts(spec)
    began = bench.backend.now()
    first = read(bench, blocks, volts, plan.averages)
    bench.backend.execute([Wait(plan.seconds)])
    middle = bench.backend.now()
    second = read(bench, blocks, volts, plan.averages)
    good = first.good & second.good
    before, after = first.siemens[good], second.siemens[good]
    if before.numel() == 0:
        before = after = torch.zeros(1, dtype=torch.float64)
    change = after - before
    sigma2 = 2 * noise.siemens(volts, plan.averages) ** 2
    variance = float(change.var()) if change.numel() > 1 else 0.0
    mean, error, level = float(change.mean()), (variance / change.numel()) ** 0.5, float(before.mean())
    scale = level or 1.0
    seconds = max(plan.seconds, middle - began)
    excess = variance - sigma2
    seen = excess > 3 * sigma2 * (2 / change.numel()) ** 0.5
    return Drift(seconds, before, after, mean, error, excess**0.5 if seen else 0.0, mean / scale, abs(error / scale))
