"""Inputs of a vector read: how many levels they have, and the converters that make them.

A board with n levels counts them from 0 to the largest magnitude of a vector, that is to its read voltage: entry v of a
vector of amplitude A is made as A k / (n - 1) with a whole number k, of either sign. Two levels are binary inputs. A
board that codes inputs as widths keeps A and shortens the pulse: ohmic cells then carry the same charge as at A k /
(n - 1), and only the energy is another one. Inputs as bit planes are several conversions with weights; they are not
simulated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hil.contract import BoardSpec
from hil.converters import Converter
from hil.errors import Unsupported
from sim_backend.channels import Lines


class Inputs:
    """The input side of a board.

    Args:
        spec: the board.

    Raises:
        Unsupported: the board codes inputs as bit planes.
    """

    def __init__(self, spec: BoardSpec) -> None:
        reading = spec.reading
        if reading.input_coding == "bits":
            at = spec.source("reading.input_coding")
            text = "the simulator does not model it: each bit plane is a conversion of its own, with its own noise; "
            text += f"set in {at}" if at else "leave it out"
            raise Unsupported("reading.input_coding", spec.identity.name, text)
        self.as_widths = reading.input_coding == "width"
        self._levels = reading.input_levels
        step = reading.volts_step
        self._grid = None if step is None else Converter(reading.volts_low, reading.volts_high, step)

    def made(self, volts: Tensor, lines: Lines | None, out: Tensor | None = None) -> Tensor:
        """Voltages [T, batch, driven] as drivers make them; never in the caller's memory unless nothing changes.

        Args:
            volts: as asked for.
            lines: errors of the drivers; None for none.
            out: memory that the result may take.
        """
        if self._levels is not None:
            volts = _levelled(volts, self._levels)
        return self.converted(volts, lines, out)

    def converted(self, volts: Tensor, lines: Lines | None, out: Tensor | None = None) -> Tensor:
        """The same without levels: what a driver makes of a voltage that is its own amplitude."""
        if lines is not None:
            volts = lines.corrected_(volts.clone())
        if self._grid is not None:
            volts = torch.mul(volts, 1.0 / self._grid.step, out=out).round_().mul_(self._grid.step)
        return volts if lines is None else lines.made_(volts)


def amplitudes(volts: Tensor) -> Tensor:
    """The largest magnitude of each vector, [.., batch, 1]."""
    return volts.abs().amax(-1, keepdim=True)


def _levelled(volts: Tensor, levels: int) -> Tensor:
    most = amplitudes(volts)
    unit = most.clamp(min=torch.finfo(volts.dtype).tiny) / (levels - 1)
    return (volts / unit).round_().mul_(unit)
