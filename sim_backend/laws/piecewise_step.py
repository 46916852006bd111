"""Piecewise-linear cells: the step is read from a measured profile over the window of the cell.

Nodes lie equally spaced from the lower to the upper bound of a cell, and the step is interpolated between them; one
node is the constant step. Reference: aihwkit 1.2.0, PiecewiseStep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sim_backend.laws.cell import StepCell
from sim_backend.laws.walking import walked


@dataclass(frozen=True, slots=True, kw_only=True)
class PiecewiseStep(StepCell):
    """The law of cells with a step profile.

    Args:
        nodes_up: step of a pulse up at each node, in units of the usual step.
        nodes_down: step of a pulse down at each node, in units of the usual step.
    """

    kind: Literal["piecewise_step"] = "piecewise_step"
    nodes_up: tuple[float, ...] = (1.0,)
    nodes_down: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        StepCell.__post_init__(self)
        for name in ("nodes_up", "nodes_down"):
            nodes = getattr(self, name)
            if not nodes or min(nodes) < 0 or max(nodes) <= 0:
                raise ValueError(f"{name} must hold steps of at least 0, and not all 0, got {list(nodes)}")

    def moved(
        self, g: Tensor, params: Mapping[str, Tensor], dose: Tensor, top: Tensor, generator: torch.Generator
    ) -> Tensor:
        """See ``Cell``: pulse by pulse."""
        return walked(g, params, dose, top, rate=self.rate, generator=generator)

    def rate(self, g: Tensor, params: Mapping[str, Tensor], rising: Tensor) -> tuple[Tensor, Tensor | None]:
        """Size and noise of one usual pulse, S."""
        low, high = params["low"], params["high"]
        at = (g - low).div_((high - low).clamp_(min=1e-6 * self.window)).clamp_(0.0, 1.0)
        room = torch.lerp(_profile(self.nodes_down, at), _profile(self.nodes_up, at), rising)
        size = room.mul_(torch.lerp(params["down"], params["up"], rising))
        return size, None if self.step_std == 0 else size * self.step_std


def _profile(nodes: tuple[float, ...], at: Tensor) -> Tensor:
    """Interpolates nodes at shares of the window from 0 to 1."""
    values = torch.tensor(nodes, dtype=at.dtype)
    if len(nodes) == 1:
        return values.expand(at.shape)
    place = at * (len(nodes) - 1)
    left = place.floor().clamp_(max=len(nodes) - 2)
    index = left.long()
    return torch.lerp(values[index], values[index + 1], place.sub_(left))
