"""Weights and pairs of conductances.

A weight is the difference of the two cells of a pair: w = (G+ - G-) / scale. Either both cells carry it, or the plus
cell alone does and the minus cell is a fixed reference. Inputs become volts and currents become outputs by constant
factors, so that y = W x whatever the board.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.contract import BoardSpec
from hil.units import Siemens, Volts

Reference = Literal["middle", "low", "fixed"]
"""Where the cells of a zero weight sit: both in the ``middle`` of the window, both at its ``low`` end, or in the middle
with the minus cell ``fixed`` there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairMapping:
    """How a layer's numbers become physical quantities.

    Args:
        siemens_low: lowest conductance used.
        siemens_high: highest conductance used.
        w_max: the largest weight: one cell of its pair at the top, the other at the bottom or at the reference.
        x_max: the input that is driven with ``volts``.
        volts: read voltage of an input of ``x_max``.
        reference: where the cells of a zero weight sit; with ``fixed`` the minus cell stays there.
    """

    siemens_low: Siemens
    siemens_high: Siemens
    w_max: float = 1.0
    x_max: float = 1.0
    volts: Volts
    reference: Reference = "middle"

    def __post_init__(self) -> None:
        if not 0 <= self.siemens_low < self.siemens_high:
            raise ValueError(f"siemens_low {self.siemens_low} must lie below siemens_high {self.siemens_high}")
        if min(self.w_max, self.x_max, self.volts) <= 0:
            raise ValueError("w_max, x_max and volts must be above 0")

    @property
    def scale(self) -> float:
        """S per unit of weight."""
        reach = (self.siemens_high - self.siemens_low) / (2 if self.fixed else 1)
        return reach / self.w_max

    @property
    def fixed(self) -> bool:
        """Whether the minus cells are references that updates leave alone."""
        return self.reference == "fixed"

    @property
    def volts_per_input(self) -> float:
        """V per unit of input."""
        return self.volts / self.x_max

    @property
    def gain(self) -> float:
        """Output per A of difference current."""
        return 1.0 / (self.scale * self.volts_per_input)

    def pair(self, weights: Tensor) -> tuple[Tensor, Tensor, int]:
        """The conductances of weights.

        Args:
            weights: any shape.

        Returns:
            G+ and G- in S, and how many weights lie outside +-w_max and were mapped to the end of the window; callers
            report that number.
        """
        bounded = weights.clamp(-self.w_max, self.w_max)
        clipped = int((bounded != weights).sum())
        middle = (self.siemens_low + self.siemens_high) / 2
        if self.reference == "middle":
            half = bounded * (self.scale / 2)
            return middle + half, middle - half, clipped
        if self.fixed:
            return middle + bounded * self.scale, torch.full_like(bounded, middle), clipped
        return (
            self.siemens_low + bounded.clamp(min=0) * self.scale,
            self.siemens_low - bounded.clamp(max=0) * self.scale,
            clipped,
        )

    def weights(self, plus: Tensor, minus: Tensor) -> Tensor:
        """The weights of pairs of conductances in S."""
        return (plus - minus) / self.scale

    def step(self, spec: BoardSpec) -> float:
        """The change of weight that one usual pulse on one cell makes in the middle of the window."""
        return spec.writing.step / self.scale


def usual_mapping(
    spec: BoardSpec,
    *,
    w_max: float = 1.0,
    x_max: float = 1.0,
    margin: float = 0.0,
    reference: Reference = "middle",
) -> PairMapping:
    """The mapping that uses a board's whole window and its full read voltage.

    Args:
        spec: the board.
        w_max: see ``PairMapping``.
        x_max: see ``PairMapping``.
        margin: share of the window left free at both ends.
        reference: see ``PairMapping``.
    """
    low, high = spec.limits.siemens_low, spec.limits.siemens_high
    free = margin * (high - low)
    return PairMapping(
        siemens_low=low + free,
        siemens_high=high - free,
        w_max=w_max,
        x_max=x_max,
        volts=spec.limits.read_array_volts,
        reference=reference,
    )


def rms(values: Tensor) -> float:
    """Root of the mean square, in float64."""
    return float(values.to(torch.float64).square().mean().sqrt())
