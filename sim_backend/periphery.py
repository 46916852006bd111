"""Converters and amplifiers around the cells.

A read goes: input codes, cells (and wires), noise, amplifier rails, output codes. Work goes in chunks of tiles that
stay in the cache, because a fused read of a whole chip falls out of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import BoardSpec, Cells, Read, Sense
from hil.converters import Converter, pick_range, sensing
from sim_backend.config import SimulatorConfig
from sim_backend.doors import Conduction

CHUNK = 1 << 18
"""Most currents that are handled at once: one megabyte in float32."""

Spread = Tensor | float
"""Standard deviation of the current noise in one conversion, A: [feeds, batch, 1], or one number."""


@dataclass(frozen=True, slots=True)
class _Sensing:
    """How currents become values: noise is added and converted, several conversions are averaged."""

    averages: int
    adc: Converter | None
    generator: torch.Generator

    def product_(self, amps: Tensor, volts: Tensor, k: Tensor, spread: Spread) -> Tensor | None:
        """Writes the measured currents of ``volts @ k`` into ``amps``; gives the flags, None for none."""
        if self.averages > 1 or not isinstance(spread, Tensor):
            torch.bmm(volts, k, out=amps)
            return self.convert_(amps, spread)
        amps.normal_(generator=self.generator).mul_(spread)
        torch.baddbmm(amps, volts, k, out=amps)  # the product is added to its noise: one pass less
        return None if self.adc is None else self.adc.sample_(amps)[1]

    def convert_(self, amps: Tensor, spread: Spread) -> Tensor | None:
        """Turns exact currents into measured ones, in place; gives the flags, None for none."""
        if self.averages == 1:
            return self._once_(amps, spread)
        if self.adc is None and not isinstance(spread, Tensor) and spread == 0:
            return None
        total, flags = torch.zeros_like(amps), None
        for _ in range(self.averages):
            once = amps.clone()
            seen = self._once_(once, spread)
            total += once
            flags = seen if flags is None else flags if seen is None else flags | seen
        torch.mul(total, 1.0 / self.averages, out=amps)
        return flags

    def _once_(self, amps: Tensor, spread: Spread) -> Tensor | None:
        if isinstance(spread, Tensor):
            amps.addcmul_(torch.empty_like(amps).normal_(generator=self.generator), spread)
        elif spread > 0:
            amps.add_(torch.empty_like(amps).normal_(generator=self.generator), alpha=spread)
        return None if self.adc is None else self.adc.sample_(amps)[1]


class Periphery:
    """The analog chain of a board.

    Args:
        spec: input grid and current ranges.
        config: noise.
        wires: what lies between cells and amplifiers.
    """

    def __init__(self, spec: BoardSpec, config: SimulatorConfig, wires: Conduction) -> None:
        reading = spec.reading
        step = reading.volts_step
        self._inputs = None if step is None else Converter(reading.volts_low, reading.volts_high, step)
        self._ranges = reading.ranges
        self._read_noise, self._amplifier_noise = config.read_noise, config.amplifier_noise
        self._wires = wires

    def read(
        self, g: Tensor, op: Read, generator: torch.Generator, *, shut: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Currents [T, batch, sensed] A and flags of a vector read.

        Args:
            g: conductances of the cells, [T, R, C] S.
            op: the operation.
            generator: its noise.
            shut: the gates are closed, so that the cells add no noise.
        """
        k, volts = self._wires.matrix(g, op.drive), self._driven(op.volts.to(g.dtype))
        spread, sense = self._spread(volts, shut=shut), self._sensing(op.sense, generator)
        tiles, feed = k.shape[0], op.feed
        if volts.shape[0] == 1 < tiles:  # one feed for all tiles needs no copies
            volts, feed = volts.expand(tiles, -1, -1), None
            spread = spread.expand(tiles, -1, -1) if isinstance(spread, Tensor) else spread
        amps = torch.empty(tiles, volts.shape[1], k.shape[2], dtype=g.dtype)
        flags: Tensor | None = None
        chunk = max(1, CHUNK // max(volts.shape[1] * k.shape[2], 1))
        for first in range(0, tiles, chunk):
            part = slice(first, first + chunk)
            chosen = part if feed is None else list(feed[part])
            noise = spread[chosen] if isinstance(spread, Tensor) else spread
            seen = sense.product_(amps[part], volts[chosen], k[part], noise)
            if seen is not None:
                flags = torch.zeros(amps.shape, dtype=torch.uint8) if flags is None else flags
                flags[part] = seen
        return amps, flags

    def cells(
        self, g: Tensor, volts: Cells, sense: Sense, generator: torch.Generator, *, shut: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Currents [T, R, C] A and flags of cells read one by one, each at its volts; arguments as in ``read``."""
        volts = self._driven(torch.as_tensor(volts, dtype=g.dtype).unsqueeze(-1))
        amps = g * volts.squeeze(-1)
        spread = self._spread(volts, shut=shut)
        spread = spread.squeeze(-1) if isinstance(spread, Tensor) else spread
        return amps, self._sensing(sense, generator).convert_(amps, spread)

    def _driven(self, volts: Tensor) -> Tensor:
        """Input voltages as the converters make them; never in the caller's memory."""
        return volts if self._inputs is None else self._inputs.quantised(volts)

    def _sensing(self, sense: Sense, generator: torch.Generator) -> _Sensing:
        chosen = pick_range(self._ranges, sense.full_scale)
        return _Sensing(sense.averages, None if chosen is None else sensing(chosen), generator)

    def _spread(self, volts: Tensor, *, shut: bool) -> Spread:
        if self._read_noise == 0 or shut:
            return self._amplifier_noise
        power = volts.square().matmul(torch.full((volts.shape[-1], 1), self._read_noise**2, dtype=volts.dtype))
        return power.add_(self._amplifier_noise**2).sqrt_()
