"""The two ramps that a method can take in either direction: by the gate and by the amplitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.contract import Shape
from hil.contract.bounds import above_zero, not_negative
from hil.units import Volts


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRamp:
    """Steps the gate at one amplitude, as in IGVVA; the gate is stepped back down afterwards.

    Args:
        volts: amplitude of every pulse.
        low: first gate voltage.
        high: last gate voltage.
        step: step of the gate.
    """

    kind: Literal["gate"] = "gate"
    volts: Volts
    low: Volts
    high: Volts
    step: Volts

    def __post_init__(self) -> None:
        above_zero(self, "volts")
        _rising(self)

    @property
    def points(self) -> Tensor:
        """The gate voltages, [steps] V."""
        return _points(self)

    def shape(self, usual: Shape) -> Shape:
        """A pulse of the ramp; what the ramp does not name is that of the board's usual pulse."""
        return Shape(self.volts, usual.seconds, usual.gate, usual.amps)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoltsRamp:
    """Steps the amplitude at one gate voltage, as in ISPVA; boards without gates leave ``gate`` out.

    Args:
        low: first amplitude.
        high: last amplitude.
        step: step of the amplitude.
        gate: gate voltage of every pulse; None for that of the board's usual pulse.
    """

    kind: Literal["volts"] = "volts"
    low: Volts
    high: Volts
    step: Volts
    gate: Volts | None = None

    def __post_init__(self) -> None:
        not_negative(self, "gate")
        _rising(self)

    @property
    def points(self) -> Tensor:
        """The amplitudes, [steps] V."""
        return _points(self)

    def shape(self, usual: Shape) -> Shape:
        """A pulse of the ramp; what the ramp does not name is that of the board's usual pulse."""
        return Shape(0.0, usual.seconds, usual.gate if self.gate is None else self.gate, usual.amps)


AnyRamp = GateRamp | VoltsRamp


def _rising(ramp: AnyRamp) -> None:
    above_zero(ramp, "step")
    not_negative(ramp, "low")
    if ramp.low > ramp.high:
        raise ValueError(f"low {ramp.low:g} V lies above high {ramp.high:g} V")


def _points(ramp: AnyRamp) -> Tensor:
    return torch.arange(ramp.low, ramp.high + ramp.step / 2, ramp.step, dtype=torch.float64)
