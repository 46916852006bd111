"""Soft-bounds cells: each pulse moves a cell by a fixed share of its distance to a bound.

``states`` is the number of usual pulses that fit into the window at the slope of its middle, so one usual pulse moves a
cell in the middle by (high - low) / states.

Reference: Fusi and Abbott 2007 (soft bounds); Gokmen and Vlasov 2016 for the pulse noise. The closed form for k equal
pulses follows from the recursion g' = c + (g - c)(1 - a (1 + s xi)).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.contract import Shape
from hil.contract.bounds import above_zero, not_negative
from hil.units import Seconds, Siemens, Volts


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftBounds:
    """The law of soft-bounds cells.

    Args:
        low: lower bound of the mean cell.
        high: upper bound of the mean cell.
        low_dtod: spread of the lower bound between cells, relative to the window.
        high_dtod: spread of the upper bound between cells, relative to the window.
        states: pulses that fit into the window.
        step_dtod: relative spread of the step between cells.
        up_down: how much weaker a pulse down is than one up, relative.
        up_down_dtod: spread of ``up_down`` between cells.
        step_std: cycle-to-cycle noise of one pulse, in units of its step.
        volts_up: amplitude of a usual pulse that raises the conductance.
        volts_down: amplitude of a usual pulse that lowers it.
        seconds: width of a usual pulse.
        threshold: amplitude below which nothing switches.
        volts_per_decade: amplitude that makes a pulse ten times stronger.
        compliance_volts: voltage left across a cell when compliance ends a pulse that raises its conductance.
        start: conductance of a fresh cell, as a share of the window.
        start_dtod: spread of ``start`` between cells.
    """

    kind: Literal["soft_bounds"] = "soft_bounds"
    low: Siemens
    high: Siemens
    low_dtod: float = 0.0
    high_dtod: float = 0.0
    states: float = 100.0
    step_dtod: float = 0.0
    up_down: float = 0.0
    up_down_dtod: float = 0.0
    step_std: float = 0.0
    volts_up: Volts
    volts_down: Volts
    seconds: Seconds
    threshold: Volts = 0.0
    volts_per_decade: Volts = 0.5
    compliance_volts: Volts = 0.6
    start: float = 0.5
    start_dtod: float = 0.0

    def __post_init__(self) -> None:
        not_negative(self, "low", "low_dtod", "high_dtod", "step_dtod", "up_down_dtod", "step_std", "start_dtod")
        not_negative(self, "threshold")
        above_zero(self, "states", "volts_up", "volts_down", "seconds", "volts_per_decade", "compliance_volts")
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} S must lie below high {self.high:g} S")
        if not 0 <= self.start <= 1:
            raise ValueError(f"start must lie between 0 and 1, got {self.start}")

    def build(self, shape: tuple[int, int, int], generator: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
        """See ``Law``. Parameters: ``low`` and ``high`` in S, ``up`` and ``down`` the share of one usual pulse."""

        def spread(std: float) -> Tensor:
            return std * torch.randn(shape, generator=generator, dtype=dtype)

        window = self.high - self.low
        low = (self.low + window * spread(self.low_dtod)).clamp_(min=0.0)
        high = torch.maximum(self.high + window * spread(self.high_dtod), low + 0.05 * window)
        gain, bias = 1.0 + spread(self.step_dtod), spread(self.up_down_dtod)
        share = 2.0 / self.states
        up = (share * (gain + bias)).clamp_(1e-6, 0.999)
        down = (share * (1.0 - self.up_down) * (gain - bias)).clamp_(1e-6, 0.999)
        return {"low": low, "high": high, "up": up, "down": down}

    def initial(self, params: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """See ``Law``."""
        low, high = params["low"], params["high"]
        share = self.start + self.start_dtod * torch.randn(low.shape, generator=generator, dtype=low.dtype)
        return low + (high - low) * share.clamp_(0.0, 1.0)

    def bounds(self, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """See ``Law``."""
        return params["low"], params["high"]

    def strength(self, shape: Shape, up: bool) -> float | Tensor:
        """See ``Law``: exponential in the amplitude above a sharp threshold, proportional to the width."""
        usual = self.volts_up if up else self.volts_down
        width = shape.seconds / self.seconds
        if isinstance(shape.volts, Tensor):
            factor = torch.pow(10.0, (shape.volts - usual) / self.volts_per_decade)
            return width * torch.where(shape.volts >= self.threshold, factor, 0.0)
        if shape.volts < self.threshold:
            return 0.0
        return width * math.pow(10.0, (shape.volts - usual) / self.volts_per_decade)

    def ceiling(self, amps: float | Tensor) -> float | Tensor:
        """See ``Law``."""
        return amps / self.compliance_volts

    def pulse(
        self,
        g: Tensor,
        params: Mapping[str, Tensor],
        dose: Tensor,
        ceiling: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """See ``Law``: the exact mean and variance of |dose| equal pulses, with one normal per cell."""
        low, high = params["low"], params["high"]
        rising, count = dose > 0, dose.abs()
        bound = torch.where(rising, high, low)
        if ceiling is not None:
            bound = torch.where(rising, torch.maximum(torch.minimum(bound, ceiling), g), bound)
        stay = 1.0 - torch.where(rising, params["up"], params["down"])
        kept = torch.pow(stay, count)
        distance = g - bound
        moved = bound + distance * kept
        if self.step_std > 0:
            second = stay * stay + ((1.0 - stay) * self.step_std).square_()
            variance = (torch.pow(second, count) - kept * kept).clamp_(min=0.0)
            noise = torch.randn(g.shape, generator=generator, dtype=g.dtype)
            moved += distance.abs() * variance.sqrt_() * noise
        return torch.minimum(torch.maximum(moved, low), torch.where(rising, torch.maximum(bound, low), high))
