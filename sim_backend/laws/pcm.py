"""Phase-change cells: pulses up crystallise step by step, a pulse down melts the cell back to its bottom.

A step up is that of ``exp_step``: step max(0, 1 - factor exp(-exponent x)) with x = (g - low) / (high - low), bounds
of the cell. What shows after a pulse is the state plus programming noise that depends on the state,

    sigma = (0.26348 + 1.9650 x - 1.1731 x^2) g_max / 25,   x = g / g_max   (g_max = 25 uS on the measured cells)

and is clipped at the bounds. Drift and read noise depend on time: ``sim_backend.aging.pcm``. The pair of cells behind
a weight, its refresh and the compensation of drift (outputs times s(t0) / s(t), both measured) are the host's.

Reference: aihwkit 1.2.0, PCMLikeNoiseModel and the PCM preset (after Nandakumar et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.contract.bounds import above_zero, not_negative
from sim_backend.laws.cell import Cell, Spread, step_gain, within_one
from sim_backend.laws.one_sided import reset
from sim_backend.laws.walking import walked

PROGRAMMING = (0.26348, 1.9650, -1.1731)
"""Programming noise in uS of a cell with 25 uS at most: coefficients of 1, x and x^2."""
MEASURED_MAX = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pcm(Cell):
    """The law of phase-change cells; ``zero`` says only where corrupt cells sit.

    Args:
        states: usual steps that fit into the window, before the factor in brackets.
        factor: weight of the exponential; below 0 the first steps are the largest.
        exponent: how fast steps change over the window.
        step_dtod: relative spread of the step between cells.
        step_std: cycle-to-cycle noise of one pulse up, in units of its step.
        noise_floor: what the noise of a pulse has beside its step, as a share of the window.
        noise_slope: how the noise of a pulse grows with the conductance above ``low``.
        programming_noise: how strong programming noise is; 1 as measured, 0 for none.
        reset: where a reset leaves the mean cell, as a share of the window.
        reset_dtod: spread of ``reset`` between cells, as a share of the window.
        reset_std: spread of ``reset`` from reset to reset, as a share of the window.
        reset_dose: usual pulses down that it takes; weaker pulses do nothing.
    """

    kind: Literal["pcm"] = "pcm"
    zero: float = 0.0
    states: float = 200.0
    factor: float = -27.235
    exponent: float = 5.0
    step_dtod: float = 0.0
    step_std: float = 0.0
    noise_floor: float = 0.0
    noise_slope: float = 0.0
    programming_noise: float = 1.0
    reset: float = 0.0
    reset_dtod: float = 0.0
    reset_std: float = 0.005
    reset_dose: float = 0.5

    def __post_init__(self) -> None:
        Cell.__post_init__(self)
        not_negative(self, "step_dtod", "step_std", "noise_floor", "noise_slope", "programming_noise")
        not_negative(self, "reset_dtod", "reset_std")
        above_zero(self, "states", "reset_dose")
        within_one(self, "reset")

    @property
    def kept(self) -> tuple[str, ...]:
        """See ``Cell``: a cell remembers how far it shows itself from its state."""
        return ("offset",) if self.programming_noise > 0 else ()

    def parameters(self, spread: Spread) -> dict[str, Tensor]:
        """``up`` is the usual step and ``bottom`` where a reset leaves a cell, relative to its bound, S."""
        step = self.window / self.states
        bottom = self.window * (self.reset + spread(self.reset_dtod)).clamp_(min=0.0)
        return {"up": step * step_gain(spread, self.step_dtod).abs_(), "bottom": bottom}

    def moved(
        self, g: Tensor, params: Mapping[str, Tensor], dose: Tensor, top: Tensor, generator: torch.Generator
    ) -> Tensor:
        """See ``Cell``: pulse by pulse, then resets."""
        raised = walked(g, params, dose.clamp(min=0.0), top, rate=self.rate, generator=generator)
        return reset(raised, params, dose, (self.reset_dose, self.reset_std * self.window), generator)

    def rate(self, g: Tensor, params: Mapping[str, Tensor], rising: Tensor) -> tuple[Tensor, Tensor | None]:
        """Size and noise of one usual pulse up, S."""
        above = g - params["low"]
        x = above / (params["high"] - params["low"]).clamp_(min=1e-6 * self.window)
        room = x.mul_(-self.exponent).exp_().mul_(-self.factor).add_(1.0).clamp_(min=0.0)
        size = room.mul_(params["up"])
        if self.step_std == 0:
            return size, None
        noise = size + self.noise_floor * self.window
        return size, noise.add_(above.clamp_(min=0.0), alpha=self.noise_slope).mul_(self.step_std)

    def write_spread(self, g: Tensor) -> Tensor:
        """See ``Cell``: programming noise."""
        return programming_noise(g, self.high) * self.programming_noise


def programming_noise(g: Tensor, g_max: float) -> Tensor:
    """Standard deviation of programmed conductances, S.

    Args:
        g: what was aimed at, S.
        g_max: conductance of a fully crystallised cell, S.
    """
    x, (a, b, c) = g / g_max, PROGRAMMING
    return (a + x * (b + c * x)).clamp_(min=0.0).mul_(g_max / MEASURED_MAX)
