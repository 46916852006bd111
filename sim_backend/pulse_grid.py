"""The converters behind a pulse: its amplitude, width and gate voltage are whole numbers of steps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hil.contract import BoardSpec, Cells, Shape


@dataclass(frozen=True, slots=True)
class PulseGrid:
    """The grid on which a board can make pulses.

    Args:
        volts: V, step of the amplitude; None for continuous.
        seconds: s, step of the width; None for continuous.
        gate: V, step of the gate voltage; None for continuous.
    """

    volts: float | None
    seconds: float | None
    gate: float | None

    @classmethod
    def of(cls, spec: BoardSpec) -> PulseGrid:
        """The grid of a board."""
        return cls(spec.writing.volts_step, spec.writing.seconds_step, spec.writing.gate_step)

    def made(self, shape: Shape) -> Shape:
        """The pulse that the board makes when it is asked for another: every part at its nearest step."""
        if self.volts is self.seconds is self.gate is None:
            return shape
        seconds = shape.seconds if self.seconds is None else round(shape.seconds / self.seconds) * self.seconds
        gate = None if shape.gate is None else _nearest(shape.gate, self.gate)
        return Shape(_nearest(shape.volts, self.volts), seconds, gate, shape.amps)


def _nearest(value: Cells, step: float | None) -> Cells:
    if step is None:
        return value
    return (value / step).round_().mul_(step) if isinstance(value, Tensor) else round(value / step) * step
