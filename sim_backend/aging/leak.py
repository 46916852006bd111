"""Leak and diffusion: cells fall back to a rest point with a time constant, and wander.

    dg = -(g - rest) / lifetime dt + diffusion dB

solved exactly for any span t (Ornstein and Uhlenbeck): with k = exp(-t / lifetime),

    g(t) = rest + (g - rest) k,   variance diffusion^2 lifetime (1 - k^2) / 2   (diffusion^2 t without a leak)

so that two spans are one. It has no memory of pulses. Reference: aihwkit 1.2.0, ``lifetime`` and ``diffusion``, once
per mini-batch there; Kim, Gokmen, Lee and Haensch 2017 for the leak of capacitor cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.contract.bounds import above_zero, not_negative
from hil.units import Seconds, Siemens


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Exponential decay and diffusion.

    Args:
        rest: where cells leak to.
        lifetime: time constant; None for no leak.
        lifetime_dtod: relative spread of the time constant between cells.
        diffusion: spread that a cell without leak gathers in one second, rms; it grows with the root of time.
        low: conductances never wander below.
        high: conductances never wander above; None for no bound.
        refresh: lab time that may pass before conductances are brought up to date; 0 for after every operation.
    """

    kind: Literal["leak"] = "leak"
    rest: Siemens = 0.0
    lifetime: Seconds | None = None
    lifetime_dtod: float = 0.0
    diffusion: Siemens = 0.0
    low: Siemens = 0.0
    high: Siemens | None = None
    refresh: Seconds = 0.0

    def __post_init__(self) -> None:
        above_zero(self, "lifetime")
        not_negative(self, "rest", "lifetime_dtod", "diffusion", "low", "refresh")
        if self.high is not None and self.high <= self.low:
            raise ValueError(f"high {self.high:g} S must lie above low {self.low:g} S")

    def tensors(self, state: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """What the chip keeps for it, see ``sim_backend.aging``: the leak rate of each cell, 1/s."""
        g = state["g"]
        rate = torch.zeros_like(g)
        if self.lifetime is not None:
            gain = 1.0 + self.lifetime_dtod * torch.randn(g.shape, generator=generator, dtype=g.dtype)
            rate = 1.0 / (self.lifetime * gain.abs_().clamp_(min=1e-3))
        return {"age.rate": rate, "age.passed": torch.zeros((), dtype=torch.float64)}

    def advance(self, state: Mapping[str, Tensor], seconds: float, generator: torch.Generator) -> bool:
        """See ``Aging``."""
        passed = state["age.passed"]
        passed += seconds
        span = float(passed)
        if span <= 0 or span < self.refresh:
            return False
        passed.zero_()
        g, stuck = state["g"], state["stuck"]
        exponent = state["age.rate"] * -span
        aged = torch.addcmul(g, torch.expm1(exponent), g - self.rest)
        if self.diffusion > 0:
            spread = _left(2.0 * exponent).mul_(span).sqrt_().mul_(self.diffusion)
            aged.addcmul_(spread, torch.randn(g.shape, generator=generator, dtype=g.dtype)).clamp_(self.low, self.high)
        aged = torch.where(stuck, g, aged)
        if torch.equal(aged, g):
            return False
        g.copy_(aged)
        return True


def _left(exponent: Tensor) -> Tensor:
    """(exp(x) - 1) / x, which is 1 at 0."""
    safe = torch.where(exponent == 0, -1.0, exponent)
    return torch.where(exponent == 0, 1.0, torch.expm1(safe) / safe)
