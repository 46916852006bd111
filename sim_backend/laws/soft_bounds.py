"""Soft-bounds cells: each pulse moves a cell by a fixed share of its distance to a bound.

One usual pulse moves a cell at ``zero`` (the middle, if nothing else is said) by (high - low) / states. The share is
that of the mean cell; between cells it spreads with the step, not with the bounds.

Reference: Fusi and Abbott 2007 (soft bounds); Gokmen and Vlasov 2016 for the pulse noise. The closed form for k equal
pulses is in ``relaxing``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sim_backend.laws.cell import Spread, StepCell, rising
from sim_backend.laws.relaxing import as_pull, relaxed


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftBounds(StepCell):
    """The law of soft-bounds cells; its numbers are those of ``Cell`` and ``StepCell``."""

    kind: Literal["soft_bounds"] = "soft_bounds"

    def __post_init__(self) -> None:
        StepCell.__post_init__(self)
        if not 0 < self.zero < 1:
            raise ValueError(f"zero must lie inside the window, got {self.zero:g}: steps count from it to the bounds")

    def parameters(self, spread: Spread) -> dict[str, Tensor]:
        """``up`` and ``down``: the share of the distance that one usual pulse goes."""
        steps = StepCell.parameters(self, spread)
        far_up, far_down = self.window * (1.0 - self.zero), self.window * self.zero
        return {"up": as_pull(steps["up"] / far_up), "down": as_pull(steps["down"] / far_down)}

    def moved(
        self, g: Tensor, params: Mapping[str, Tensor], dose: Tensor, top: Tensor, generator: torch.Generator
    ) -> Tensor:
        """See ``Cell``: the exact mean and variance of |dose| equal pulses, with one normal number a cell."""
        side = rising(dose)
        pull = torch.lerp(params["down"], params["up"], side)
        distance = torch.lerp(params["low"], top, side).sub_(g)
        return relaxed(distance, pull, dose.abs(), self.step_std, generator).add_(g)

    def symmetry_point(self, params: Mapping[str, Tensor]) -> Tensor:
        """Where a pulse up and one down are equally large, S."""
        up, down = params["up"], params["down"]
        return (up * params["high"] + down * params["low"]) / (up + down)
