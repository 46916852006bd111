"""Power-step cells: the step is a power of the room that is left in the window.

    up:   w' = w + step ((w_max - w) / (w_max - w_min))^gamma (1 + s xi)
    down: w' = w - step ((w - w_min) / (w_max - w_min))^gamma (1 + s xi)

with the bounds of the cell. ``states`` counts the step at the far bound, the largest one.

Reference: aihwkit 1.2.0, PowStep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.contract.bounds import above_zero, not_negative
from sim_backend.laws.cell import Spread, StepCell, step_gain
from sim_backend.laws.walking import walked


@dataclass(frozen=True, slots=True, kw_only=True)
class PowStep(StepCell):
    """The law of power-step cells.

    Args:
        power: the exponent gamma; 0 is the constant step, 1 the soft bound.
        power_dtod: relative spread of the exponent between cells.
        power_up_down: how much lower the exponent of pulses down is than that of pulses up, relative.
        power_up_down_dtod: spread of ``power_up_down`` between cells.
    """

    kind: Literal["pow_step"] = "pow_step"
    power: float = 1.0
    power_dtod: float = 0.0
    power_up_down: float = 0.0
    power_up_down_dtod: float = 0.0

    def __post_init__(self) -> None:
        StepCell.__post_init__(self)
        not_negative(self, "power_dtod", "power_up_down_dtod")
        above_zero(self, "power")

    def parameters(self, spread: Spread) -> dict[str, Tensor]:
        """Steps in S, and the exponents ``up_power`` and ``down_power``, built like steps."""
        params = StepCell.parameters(self, spread)
        gain, bias = step_gain(spread, self.power_dtod), spread(self.power_up_down_dtod)
        up = self.power * (gain + bias + min(0.0, self.power_up_down)).abs_()
        down = self.power * (gain - bias - max(0.0, self.power_up_down)).abs_()
        return params | {"up_power": up, "down_power": down}

    def moved(
        self, g: Tensor, params: Mapping[str, Tensor], dose: Tensor, top: Tensor, generator: torch.Generator
    ) -> Tensor:
        """See ``Cell``: pulse by pulse."""
        return walked(g, params, dose, top, rate=self.rate, generator=generator)

    def rate(self, g: Tensor, params: Mapping[str, Tensor], rising: Tensor) -> tuple[Tensor, Tensor | None]:
        """Size and noise of one usual pulse, S."""
        low, high = params["low"], params["high"]
        bound = torch.lerp(low, high, rising)
        room = (bound - g).abs_().div_((high - low).clamp_(min=1e-6 * self.window)).clamp_(0.0, 1.0)
        room.pow_(torch.lerp(params["down_power"], params["up_power"], rising))
        size = room.mul_(torch.lerp(params["down"], params["up"], rising))
        return size, None if self.step_std == 0 else size * self.step_std
