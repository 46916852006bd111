"""The output side of a read: compliance, noise, amplifiers and converters turn exact currents into measured ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hil.contract import Flag
from hil.converters import Converter
from sim_backend.channels import Lines

Spread = Tensor | float
"""Standard deviation of the current noise in one conversion, A; a tensor that stands beside the currents, or a number.
"""


@dataclass(frozen=True, slots=True)
class Sensing:
    """How currents become values: noise is added and converted, several conversions are averaged.

    Args:
        averages: conversions of one value.
        adc: the converter; None for a continuous reading.
        generator: noise of this operation.
        lines: the amplifiers of the sensed lines, beside the currents; None for ones without errors.
        compliance: A, where a source holds the current; None for no limit.
        scale: where the board divides by the read voltage: that voltage over the one that its ranges are stated for.
    """

    averages: int
    adc: Converter | None
    generator: torch.Generator
    lines: Lines | None = None
    compliance: float | None = None
    scale: Tensor | None = None

    def part(self, tiles: slice, batch: slice) -> Sensing:
        """The same for a part of the currents [T, batch, sensed]."""
        if self.lines is None and self.scale is None:
            return self
        lines = None if self.lines is None else self.lines.take(tiles)
        return replace(self, lines=lines, scale=None if self.scale is None else self.scale[tiles, batch])

    def product_(self, amps: Tensor, volts: Tensor, k: Tensor, spread: Spread) -> Tensor | None:
        """Writes the measured currents of ``volts @ k`` into ``amps``; gives the flags, None for none."""
        if self.averages > 1 or self.compliance is not None or not isinstance(spread, Tensor):
            torch.bmm(volts, k, out=amps)
            return self.convert_(amps, spread)
        plain = None if self.lines is not None or self.scale is not None else self.adc
        one = 1.0 if plain is None else 1.0 / plain.step
        amps.normal_(generator=self.generator).mul_(spread * one)
        torch.baddbmm(amps, volts, k, alpha=one, out=amps)  # the product is added to its noise: one pass less
        return self._digits_(amps) if plain is None else plain.sample_codes_(amps)[1]  # in codes: another pass less

    def convert_(self, amps: Tensor, spread: Spread) -> Tensor | None:
        """Turns exact currents into measured ones, in place; gives the flags, None for none."""
        flags = None if self.compliance is None else _held_(amps, self.compliance)
        if self.averages == 1:
            return _both(flags, self._once_(amps, spread))
        if self.adc is None and self.lines is None and not isinstance(spread, Tensor) and spread == 0:
            return flags
        total = torch.zeros_like(amps)
        for _ in range(self.averages):
            once = amps.clone()
            flags = _both(flags, self._once_(once, spread))
            total += once
        torch.mul(total, 1.0 / self.averages, out=amps)
        return flags

    def _once_(self, amps: Tensor, spread: Spread) -> Tensor | None:
        if isinstance(spread, Tensor):
            amps.addcmul_(torch.empty_like(amps).normal_(generator=self.generator), spread)
        elif spread > 0:
            amps.add_(torch.empty_like(amps).normal_(generator=self.generator), alpha=spread)
        return self._digits_(amps)

    def _digits_(self, amps: Tensor) -> Tensor | None:
        """What amplifier and converter make of one conversion, in place."""
        if self.lines is not None:
            self.lines.made_(amps)
        if self.scale is not None and self.adc is not None:
            amps.div_(self.scale)
        flags = None if self.adc is None else self.adc.sample_(amps)[1]
        if self.scale is not None and self.adc is not None:
            amps.mul_(self.scale)
        if self.lines is not None:
            self.lines.corrected_(amps)
        return flags


def _held_(amps: Tensor, most: float) -> Tensor | None:
    """Holds currents at a compliance, in place; gives the flags, None for none."""
    if amps.numel() == 0 or (float(amps.amax()) <= most and float(amps.amin()) >= -most):
        return None
    flags = (amps.abs() > most).to(torch.uint8) * int(Flag.COMPLIANCE)
    amps.clamp_(-most, most)
    return flags


def _both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one | other
