"""Exponential-step cells: the step falls off exponentially as a cell fills, in each direction with its own constants.

    z = 2 scale w / (w_max - w_min) + shift                     (bounds of the cell)
    up:   w' = w + step max(0, 1 - up_factor exp(up_exponent z))
    down: w' = w - step max(0, 1 - down_factor exp(-down_exponent z))

The noise of a pulse is s (|change| + noise_floor (w_max - w_min) + noise_slope |w|) xi, mean bounds. ``states`` counts
the step before the factor in brackets.

Reference: aihwkit 1.2.0, ExpStep, there called a, b, A and gamma.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.contract.bounds import not_negative
from sim_backend.laws.cell import StepCell
from sim_backend.laws.walking import walked


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpStep(StepCell):
    """The law of exponential-step cells.

    Args:
        scale: stretches the weight in z.
        shift: moves the weight in z.
        up_factor: weight of the exponential in pulses up; below 0 steps are larger than the usual one.
        down_factor: the same in pulses down.
        up_exponent: how fast steps up change with z.
        down_exponent: how fast steps down change with z.
        noise_floor: what the noise of a pulse has beside its step, as a share of the window.
        noise_slope: how the noise of a pulse grows with the distance from ``zero``.
    """

    kind: Literal["exp_step"] = "exp_step"
    scale: float = 0.244
    shift: float = 0.2425
    up_factor: float = 0.00081
    down_factor: float = 0.36833
    up_exponent: float = 12.44625
    down_exponent: float = 12.78785
    noise_floor: float = 0.0
    noise_slope: float = 0.0

    def __post_init__(self) -> None:
        StepCell.__post_init__(self)
        not_negative(self, "noise_floor", "noise_slope")

    def moved(
        self, g: Tensor, params: Mapping[str, Tensor], dose: Tensor, top: Tensor, generator: torch.Generator
    ) -> Tensor:
        """See ``Cell``: pulse by pulse."""
        return walked(g, params, dose, top, rate=self.rate, generator=generator)

    def rate(self, g: Tensor, params: Mapping[str, Tensor], rising: Tensor) -> tuple[Tensor, Tensor | None]:
        """Size and noise of one usual pulse, S."""
        weight = g - self.zero_siemens
        window = (params["high"] - params["low"]).clamp_(min=1e-6 * self.window)
        z = (2.0 * self.scale * weight).div_(window).add_(self.shift)
        exponent = rising * (self.up_exponent + self.down_exponent) - self.down_exponent
        factor = rising * (self.up_factor - self.down_factor) + self.down_factor
        room = torch.exp(z.mul_(exponent)).mul_(factor).neg_().add_(1.0).clamp_(min=0.0)
        size = torch.lerp(params["down"], params["up"], rising).mul_(room)
        if self.step_std == 0:
            return size, None
        noise = size + self.noise_floor * self.window
        return size, noise.add_(weight.abs_(), alpha=self.noise_slope).mul_(self.step_std)
