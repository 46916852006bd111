"""Relaxation: after its last pulse a cell wanders away from where it was programmed, fast first, then ever slower.

The spread of the deviation is known at a few ages, as a polynomial of the programmed conductance; between them its
variance grows evenly with the logarithm of the age, from 0 at ``first``, and after the last it stays (both are choices
of this project). Cells make independent steps whose variance is the growth, so that two spans of time are one, in
law. Where a polynomial says that the variance fell, it stays.

Reference: Wan et al. 2022 for the effect; polynomials fitted to their data: aihwkit 1.2.0, ReRamWan2022NoiseModel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from hil.contract.bounds import above_zero, not_negative
from hil.units import Seconds, Siemens
from sim_backend.aging.ages import age_tensors, due, renewed, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadAt:
    """The spread at one age.

    Args:
        age: time since the last pulse.
        microsiemens: coefficients of 1, x, x^2, ... in uS, x the programmed conductance relative to ``scale``.
    """

    age: Seconds
    microsiemens: tuple[float, ...]

    def __post_init__(self) -> None:
        above_zero(self, "age")
        if not self.microsiemens:
            raise ValueError("microsiemens must hold at least one coefficient")

    def spread(self, x: Tensor) -> Tensor:
        """Standard deviation of the deviation, S."""
        total = torch.zeros_like(x)
        for coefficient in reversed(self.microsiemens):
            total.mul_(x).add_(coefficient)
        return total.clamp_(min=0.0).mul_(1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """Relaxation by polynomials.

    Args:
        ages: the spread at rising ages.
        scale: the conductance at which x is 1; higher ones count as 1.
        first: age at which relaxation begins.
        strength: how strong it is; 1 as measured, 0 for none.
        refresh: lab time that may pass before conductances are brought up to date; 0 for after every operation.
    """

    kind: Literal["relaxation"] = "relaxation"
    ages: tuple[SpreadAt, ...]
    scale: Siemens
    first: Seconds = 1e-3
    strength: float = 1.0
    refresh: Seconds = 0.0

    def __post_init__(self) -> None:
        above_zero(self, "scale", "first")
        not_negative(self, "strength", "refresh")
        times = [self.first, *(point.age for point in self.ages)]
        if len(times) < 2 or any(a >= b for a, b in pairwise(times)):
            raise ValueError("ages must rise, and begin after first")

    def tensors(self, state: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """What the chip keeps for it, see ``sim_backend.aging``; ``age.moved`` is the deviation of each cell, S."""
        extra = {"age.moved": torch.zeros_like(state["g"]), "age.variance": torch.zeros_like(state["g"])}
        return age_tensors(state["g"], state["pulses"]) | extra

    def advance(self, state: Mapping[str, Tensor], seconds: float, generator: torch.Generator) -> bool:
        """See ``Aging``."""
        fresh = renewed(state)
        if fresh is not None:
            state["age.moved"].view(-1)[fresh] = 0.0
            state["age.variance"].view(-1)[fresh] = 0.0
        if not due(state, seconds, self.refresh):
            return False
        moved, start = state["age.moved"], state["age.start"]
        variance = self.variance(start, state["age.clock"] - state["age.born"])
        growth = (variance - state["age.variance"]).clamp_(min=0.0)
        moved.addcmul_(growth.sqrt_(), torch.randn(start.shape, generator=generator, dtype=start.dtype))
        state["age.variance"].copy_(variance)
        return shown(state, (start + moved).clamp_(min=0.0))

    def variance(self, start: Tensor, age: Tensor) -> Tensor:
        """Variance of the deviation at an age in s, S^2."""
        x = (start / self.scale).clamp_(0.0, 1.0)
        log = age.clamp(min=self.first).log_()
        before, value, since = torch.zeros_like(x), torch.zeros_like(x), math.log(self.first)
        for point in self.ages:
            reached = torch.maximum(before, point.spread(x).square_())
            until = math.log(point.age)
            share = ((log - since) / (until - since)).clamp_(0.0, 1.0).to(x.dtype)
            value.addcmul_(share, reached - before)
            before, since = reached, until
        return value.mul_(self.strength**2)
