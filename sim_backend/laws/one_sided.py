"""One-sided cells: pulses raise them in steps, and a pulse down takes them back to the bottom at once.

    up: w' = w + step (1 - slope w / w_max) (1 + s xi), w from 0

What belongs to a pair of such cells is the host's: which of the two a weight update pulses, when the pair is refreshed
(aihwkit: larger / w_max > 0.75 and smaller / w_max > 0.25), and rewriting the difference after both were reset. The
law knows one cell and offers what a refresh needs: a pulse down that resets.

Reference: aihwkit 1.2.0, OneSided and ``reset``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.contract.bounds import above_zero, not_negative
from sim_backend.laws.cell import Cell, Spread, step_gain, within_one
from sim_backend.laws.relaxing import as_pull, relaxed


@dataclass(frozen=True, slots=True, kw_only=True)
class OneSided(Cell):
    """The law of one-sided cells; ``zero`` says only where corrupt cells sit.

    Args:
        states: usual steps that fit into the window, at the slope of its bottom.
        slope: how much a step has shrunk at the upper bound, relative; 0 for the constant step.
        step_dtod: relative spread of the step between cells.
        step_std: cycle-to-cycle noise of one pulse up, in units of its step.
        reset: where a reset leaves the mean cell, as a share of the window.
        reset_dtod: spread of ``reset`` between cells, as a share of the window.
        reset_std: spread of ``reset`` from reset to reset, as a share of the window.
        reset_dose: usual pulses down that it takes; weaker pulses do nothing.
    """

    kind: Literal["one_sided"] = "one_sided"
    zero: float = 0.0
    states: float = 100.0
    slope: float = 0.0
    step_dtod: float = 0.0
    step_std: float = 0.0
    reset: float = 0.0
    reset_dtod: float = 0.0
    reset_std: float = 0.01
    reset_dose: float = 0.5

    def __post_init__(self) -> None:
        Cell.__post_init__(self)
        not_negative(self, "slope", "step_dtod", "step_std", "reset_dtod", "reset_std")
        above_zero(self, "states", "reset_dose")
        within_one(self, "reset")

    def parameters(self, spread: Spread) -> dict[str, Tensor]:
        """``up`` is the step at the bottom and ``bottom`` where a reset leaves a cell, relative to its bound, S."""
        step = self.window / self.states
        bottom = self.window * (self.reset + spread(self.reset_dtod)).clamp_(min=0.0)
        return {"up": step * step_gain(spread, self.step_dtod).abs_(), "bottom": bottom}

    def moved(
        self, g: Tensor, params: Mapping[str, Tensor], dose: Tensor, top: Tensor, generator: torch.Generator
    ) -> Tensor:
        """See ``Cell``."""
        low, step = params["low"], params["up"]
        pull = as_pull(step * (self.slope / self.window))
        distance = torch.addcmul(low, step, 1.0 / pull).sub_(g)
        raised = relaxed(distance, pull, dose.clamp(min=0.0), self.step_std, generator).add_(g)
        return reset(raised, params, dose, (self.reset_dose, self.reset_std * self.window), generator)


def reset(
    raised: Tensor, params: Mapping[str, Tensor], dose: Tensor, rule: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Puts cells with a strong enough pulse down to their ``bottom``.

    Args:
        raised: where the other cells are, S.
        params: ``low`` and ``bottom``, S.
        dose: signed usual pulses.
        rule: usual pulses down that a reset takes, and its spread from time to time in S.
        generator: noise of this operation.
    """
    down = dose <= -rule[0]
    if not bool(down.any()):
        return raised
    noise = torch.randn(raised.shape, generator=generator, dtype=raised.dtype)
    return torch.where(down, params["low"] + params["bottom"] + rule[1] * noise, raised)
