"""Linear-step cells: the step shrinks in proportion to the weight, in each direction with its own slope.

    up:   w' = w + step (1 - slope w / w_max) (1 + s xi)
    down: w' = w - step (1 - slope w / w_min) (1 + s xi)

With additive noise the step is step (1 - slope w / bound + s xi). Slope 0 is the constant step, slope 1 the soft bound.
Capacitor cells (CMOS RPU) are near-linear cells of this law with a leak (``sim_backend.aging.leak``).

Reference: aihwkit 1.2.0, LinearStep; Kim, Gokmen, Lee and Haensch 2017 for the capacitor cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.contract.bounds import not_negative
from sim_backend.laws.cell import Spread, StepCell, rising
from sim_backend.laws.relaxing import as_pull, relaxed, relaxed_additive


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearStep(StepCell):
    """The law of linear-step cells.

    Args:
        slope_up: how much a step up has shrunk at the upper bound, relative.
        slope_down: how much a step down has shrunk at the lower bound, relative.
        slope_up_dtod: spread of ``slope_up`` between cells.
        slope_down_dtod: spread of ``slope_down`` between cells.
        own_bounds: a slope refers to the bound of the cell, not to that of the mean cell.
        additive: cycle noise does not shrink with the step.
    """

    kind: Literal["linear_step"] = "linear_step"
    slope_up: float = 0.0
    slope_down: float = 0.0
    slope_up_dtod: float = 0.0
    slope_down_dtod: float = 0.0
    own_bounds: bool = False
    additive: bool = False

    def __post_init__(self) -> None:
        StepCell.__post_init__(self)
        not_negative(self, "slope_up", "slope_down", "slope_up_dtod", "slope_down_dtod")
        if not 0 < self.zero < 1:
            raise ValueError(f"zero must lie inside the window, got {self.zero:g}: slopes count from it to the bounds")

    def build(self, shape: tuple[int, int, int], generator: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
        """See ``Law``. ``up`` and ``down`` in S at ``zero``; ``up_pull``, ``down_pull``: change of a step per S."""
        params = StepCell.build(self, shape, generator, dtype)
        spread, zero = Spread(shape, generator, dtype), self.zero_siemens
        for side, bound, slope, std in (
            ("up", self.high, self.slope_up, self.slope_up_dtod),
            ("down", self.low, self.slope_down, self.slope_down_dtod),
        ):
            mean = torch.full(shape, abs(bound - zero), dtype=dtype)
            own = (params["high" if side == "up" else "low"] - zero).abs_().clamp_(min=1e-6 * self.window)
            share = (slope + spread(std)).abs_() * params[side] / (own if self.own_bounds else mean)
            params[f"{side}_pull"] = as_pull(share)
        return params

    def moved(
        self, g: Tensor, params: Mapping[str, Tensor], dose: Tensor, top: Tensor, generator: torch.Generator
    ) -> Tensor:
        """See ``Cell``: the closed forms of ``relaxing``, toward the point where the step would be 0."""
        side = rising(dose)
        step = torch.lerp(params["down"], params["up"], side)
        pull = torch.lerp(params["down_pull"], params["up_pull"], side)
        weight = g - self.zero_siemens
        distance = torch.addcmul(-weight, dose.sign(), step / pull)
        if self.additive:
            jitter = step.mul_(self.step_std) if self.step_std > 0 else None
            return relaxed_additive(distance, pull, dose.abs(), jitter, generator).add_(g)
        return relaxed(distance, pull, dose.abs(), self.step_std, generator).add_(g)

    def symmetry_point(self, params: Mapping[str, Tensor]) -> Tensor:
        """Where a pulse up and one down are equally large, S; the window's ends where slopes are 0."""
        pull = params["up_pull"] + params["down_pull"]
        weight = (params["up"] - params["down"]) / pull
        return (self.zero_siemens + weight).clamp_(params["low"], params["high"])
