"""Converters and amplifiers around the cells.

A read goes: input codes, cells (and wires), noise, amplifier rails, output codes. Work goes in chunks of tiles of about
1 MB, because a fused read of a whole chip falls out of the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hil.contract import BoardSpec, Read, Sense
from hil.converters import Converter, pick_range, sensing
from sim_backend.config import SimulatorConfig
from sim_backend.doors import Conduction

CHUNK = 1 << 18


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

    def read(self, g: Tensor, op: Read, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Currents [T, batch, sensed] A and flags of a vector read of cells ``g`` [T, R, C] S."""
        k = self._wires.matrix(g, op.drive)
        volts = op.volts.to(g.dtype)
        if self._inputs is not None:
            volts = self._inputs.quantise_(volts.clone())
        tiles, batch, sensed = k.shape[0], volts.shape[1], k.shape[2]
        amps = torch.empty(tiles, batch, sensed, dtype=g.dtype)
        chunk = max(1, CHUNK // max(batch * sensed, 1))
        found: list[tuple[int, Tensor]] = []
        for first in range(0, tiles, chunk):
            last = min(first + chunk, tiles)
            fed = volts[first:last] if op.feed is None else volts[list(op.feed[first:last])]
            part = amps[first:last]
            torch.bmm(fed, k[first:last], out=part)
            flags = self._convert(part, self._spread(fed), op.sense, generator)
            if flags is not None:
                found.append((first, flags))
        if not found:
            return amps, None
        flags = torch.zeros(amps.shape, dtype=torch.uint8)
        for first, part in found:
            flags[first : first + part.shape[0]] = part
        return amps, flags

    def cells(self, g: Tensor, sense: Sense, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Currents [T, R, C] A and flags of cells read one by one."""
        volts = torch.tensor(float(sense.volts or 0.0), dtype=g.dtype)
        if self._inputs is not None:
            volts = self._inputs.quantise_(volts)
        amps = g * volts
        flags = self._convert(amps, self._spread(volts.view(1, 1, 1)), sense, generator)
        return amps, flags

    def _spread(self, volts: Tensor) -> Tensor | float:
        """Standard deviation of the current noise in one conversion, A: [T, batch, 1], or one number."""
        if self._read_noise == 0:
            return self._amplifier_noise
        power = volts.square().sum(-1, keepdim=True).mul_(self._read_noise**2)
        return power.add_(self._amplifier_noise**2).sqrt_()

    def _convert(
        self, amps: Tensor, spread: Tensor | float, sense: Sense, generator: torch.Generator
    ) -> Tensor | None:
        """Adds noise and converts, in place; several conversions are averaged."""
        noisy = isinstance(spread, Tensor) or spread > 0
        chosen = pick_range(self._ranges, sense.full_scale)
        if not noisy and chosen is None:
            return None
        if sense.averages == 1:
            return self._conversion(amps, spread if noisy else None, chosen and sensing(chosen), generator)
        total, flags = torch.zeros_like(amps), None
        for _ in range(sense.averages):
            once = amps.clone()
            seen = self._conversion(once, spread if noisy else None, chosen and sensing(chosen), generator)
            total += once
            flags = seen if flags is None else flags if seen is None else flags | seen
        amps.copy_(total.div_(sense.averages))
        return flags

    def _conversion(
        self, amps: Tensor, spread: Tensor | float | None, adc: Converter | None, generator: torch.Generator
    ) -> Tensor | None:
        if spread is not None:
            noise = torch.empty_like(amps).normal_(generator=generator)
            amps.addcmul_(noise, spread) if isinstance(spread, Tensor) else amps.add_(noise, alpha=spread)
        return None if adc is None else adc.sample_(amps)[1]
