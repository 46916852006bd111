"""Soft-bounds cells seen against a reference: what shows is the cell minus its reference.

Steps are equal at ``zero`` whatever the bounds of a cell: one pulse goes step / |bound| of the distance to the cell's
own bound. The reference shifts what shows, window and all. With ``subtract_symmetry_point`` (the result of
zero-shifting) it also takes off the symmetry point, so that cells are symmetric at ``zero`` up to the reference's
spread. Nothing shows below 0 S.

    SP = (step_up - step_down) / (step_up / b_max - step_down / b_min)

Reference: aihwkit 1.2.0, SoftBoundsReference; Kim et al. 2019 (zero-shifting); Gong et al. 2022 for the arrays.
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
class SoftBoundsReference(StepCell):
    """The law of soft-bounds cells with a reference.

    Args:
        reference: mean of the reference, as a share of the window; what shows is lower by it.
        reference_dtod: spread of the reference between cells, as a share of the window.
        subtract_symmetry_point: the reference also takes off the symmetry point of the cell.
        slope_up_dtod: relative spread of the pull of pulses up between cells.
        slope_down_dtod: relative spread of the pull of pulses down between cells.
        additive: cycle noise does not shrink with the step.
    """

    kind: Literal["soft_bounds_reference"] = "soft_bounds_reference"
    reference: float = 0.0
    reference_dtod: float = 0.0
    subtract_symmetry_point: bool = False
    slope_up_dtod: float = 0.0
    slope_down_dtod: float = 0.0
    additive: bool = True

    def __post_init__(self) -> None:
        StepCell.__post_init__(self)
        not_negative(self, "reference_dtod", "slope_up_dtod", "slope_down_dtod")
        if not 0 < self.zero < 1:
            raise ValueError(f"zero must lie inside the window, got {self.zero:g}: steps count from it to the bounds")

    def build(self, shape: tuple[int, int, int], generator: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
        """See ``Law``. ``toward_high``, ``toward_low``: where pulses lead, S, as it shows; and the pulls there."""
        params = StepCell.build(self, shape, generator, dtype)
        spread, zero = Spread(shape, generator, dtype), self.zero_siemens
        up, down = params["up"], params["down"]
        corrupt = params["high"] == params["low"]
        b_max = (params["high"] - zero).clamp_(min=1e-3 * self.window)
        b_min = (zero - params["low"]).clamp_(min=1e-3 * self.window)
        params["up_pull"] = as_pull(up / b_max * (1.0 + spread(self.slope_up_dtod)).abs_())
        params["down_pull"] = as_pull(down / b_min * (1.0 + spread(self.slope_down_dtod)).abs_())
        shift = self.window * (self.reference + spread(self.reference_dtod))
        if self.subtract_symmetry_point:
            shift += (up - down) / (params["up_pull"] + params["down_pull"])
        shift.masked_fill_(corrupt, 0.0)
        params["toward_high"] = params["high"] - shift
        params["toward_low"] = params["low"] - shift
        for name, toward in (("low", "toward_low"), ("high", "toward_high")):
            params[name] = params[toward].clamp(min=0.0)
        return params

    def moved(
        self, g: Tensor, params: Mapping[str, Tensor], dose: Tensor, top: Tensor, generator: torch.Generator
    ) -> Tensor:
        """See ``Cell``: the closed forms of ``relaxing``."""
        side = rising(dose)
        pull = torch.lerp(params["down_pull"], params["up_pull"], side)
        distance = torch.lerp(params["toward_low"], params["toward_high"], side).sub_(g)
        if not self.additive:
            return relaxed(distance, pull, dose.abs(), self.step_std, generator).add_(g)
        jitter = None
        if self.step_std > 0:
            jitter = torch.lerp(params["down"], params["up"], side).mul_(self.step_std)
        return relaxed_additive(distance, pull, dose.abs(), jitter, generator).add_(g)

    def symmetry_point(self, params: Mapping[str, Tensor]) -> Tensor:
        """Where a pulse up and one down are equally large, S, as it shows."""
        up, down = params["up_pull"], params["down_pull"]
        return (up * params["toward_high"] + down * params["toward_low"]) / (up + down)
