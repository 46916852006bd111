"""Constant-step cells: every pulse moves a cell equally far, until it meets a bound.

    g' = g +- step (1 + s xi); k pulses: g' = g +- step (k + s sqrt(k) xi)

exact for normal pulse noise away from the bounds. Reference: Gokmen and Vlasov 2016; aihwkit 1.2.0, ConstantStep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sim_backend.laws.cell import StepCell, rising, root_


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantStep(StepCell):
    """The law of constant-step cells; its numbers are those of ``Cell`` and ``StepCell``."""

    kind: Literal["constant_step"] = "constant_step"

    def moved(
        self, g: Tensor, params: Mapping[str, Tensor], dose: Tensor, top: Tensor, generator: torch.Generator
    ) -> Tensor:
        """See ``Cell``."""
        step = torch.lerp(params["down"], params["up"], rising(dose))
        if self.step_std == 0:
            return torch.addcmul(g, step, dose)
        noise = torch.randn(g.shape, generator=generator, dtype=g.dtype).mul_(root_(dose.abs()))
        return step.mul_(noise.mul_(self.step_std).add_(dose)).add_(g)
