"""Converter codes and SI values: one code path for the simulator and for every driver.

A code is a whole number of steps, and zero is always a code. Values that come back from codes are ``code * step`` in
the caller's dtype, so that results do not depend on whether numbers crossed a wire as codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Flag, Range


@dataclass(frozen=True, slots=True)
class Converter:
    """A uniform grid of codes.

    Args:
        low: lowest value (SI).
        high: highest value (SI).
        step: value of one code (SI).
    """

    low: float
    high: float
    step: float

    @property
    def first(self) -> int:
        """The lowest code."""
        return round(self.low / self.step)

    @property
    def last(self) -> int:
        """The highest code."""
        return round(self.high / self.step)

    def codes(self, values: Tensor) -> Tensor:
        """The nearest codes of values, as whole numbers in the values' dtype; not bounded."""
        return (values * (1.0 / self.step)).round_()

    def values(self, codes: Tensor) -> Tensor:
        """The values of codes."""
        return codes * self.step

    def quantised(self, values: Tensor) -> Tensor:
        """The values of the nearest codes."""
        return self.codes(values).mul_(self.step)

    def sample_(self, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Converts values as an analog-to-digital converter does, in place.

        A value at or beyond the first or last code keeps the rail's value and is flagged; the flags are None when no
        value touched a rail.
        """
        return self.sample_codes_(values.mul_(1.0 / self.step))

    def sample_codes_(self, codes: Tensor) -> tuple[Tensor, Tensor | None]:
        """The same for values that are given in codes, not yet whole ones."""
        first, last = self.first, self.last
        codes.round_()
        flags = None
        if codes.numel() and (float(codes.amin()) <= first or float(codes.amax()) >= last):  # faster than aminmax
            flags = (codes >= last).to(torch.uint8) * int(Flag.SAT_HIGH)
            flags |= (codes <= first).to(torch.uint8) * int(Flag.SAT_LOW)
            codes.clamp_(first, last)
        return codes.mul_(self.step), flags


def difference(
    plus: Tensor, minus: Tensor, plus_flags: Tensor | None = None, minus_flags: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The difference of two readings and its flags; a minus reading at its high rail makes the difference too low."""
    flags = plus_flags
    if minus_flags is not None:
        rails = int(Flag.SAT_LOW | Flag.SAT_HIGH)
        turned = (minus_flags & (0xFF - rails)) | ((minus_flags & 1) << 1) | ((minus_flags & 2) >> 1)
        flags = turned if flags is None else flags | turned
    return plus - minus, flags


def pair_differences(amps: Tensor, flags: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Differences of neighbouring sensed lines, even minus odd: [..., sensed / 2] from [..., sensed]."""
    if flags is None:
        return difference(amps[..., 0::2], amps[..., 1::2])
    return difference(amps[..., 0::2], amps[..., 1::2], flags[..., 0::2], flags[..., 1::2])


def sensing(chosen: Range) -> Converter:
    """The converter of a current range: rails at ``-negative`` and ``+positive``."""
    return Converter(-chosen.negative, chosen.positive, chosen.step)


def pick_range(ranges: tuple[Range, ...], full_scale: float | None) -> Range | None:
    """The narrowest range that holds ``full_scale`` on both sides; the widest when None, or when none holds it.

    Args:
        ranges: the board's ranges, widest first.
        full_scale: A, the range wanted.
    """
    if not ranges:
        return None
    if full_scale is None:
        return ranges[0]
    return next((r for r in reversed(ranges) if min(r.negative, r.positive) >= full_scale), ranges[0])
