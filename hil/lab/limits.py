"""Compares what an operation asks for with the limits of its board. It refuses, and never clips.

A limit is compared in the dtype of the request, so that 0.3 in float32 is not above a limit of 0.3. Comparisons are
written so that NaN, in the request or in the limit, refuses.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from math import isnan
from operator import itemgetter
from typing import NoReturn

import torch
from torch import Tensor

from hil.contract import Bias, Blocks, BoardSpec, Cells, Kind, Sense, Shape, Side
from hil.errors import InvalidOperation, LimitExceeded, UsageError
from hil.lab.wellformed import extremes, member, number, whole

_SHARES = {Bias.FLOAT: 1.0, Bias.GROUND: 1.0, Bias.HALF: 2.0, Bias.THIRD: 3.0}
_WORDS = {
    "line_volts": ("line voltage", "V"),
    "read_cell_volts": ("read voltage", "V"),
    "read_array_volts": ("read voltage", "V"),
    "write_volts": ("write voltage", "V"),
    "form_volts": ("forming voltage", "V"),
    "gate_volts": ("gate voltage", "V"),
    "half_select_volts": ("half-select voltage", "V"),
    "gate_step": ("step of the gate ramp", "V"),
    "slew": ("step of the amplitude ramp", "V"),
    "cell_amps": ("cell current", "A"),
    "form_amps": ("forming current", "A"),
    "line_amps": ("line current", "A"),
    "pulse_seconds": ("pulse width", "s"),
    "pulses_per_run": ("pulses per run", ""),
}


@lru_cache(maxsize=256)
def rounded(limit: float, dtype: torch.dtype) -> float:
    """A limit as a number of a dtype."""
    return torch.tensor(limit, dtype=dtype).item()


class LimitChecks:
    """The limits of one board.

    Args:
        spec: the board.
    """

    def __init__(self, spec: BoardSpec) -> None:
        self._spec, self._limits = spec, spec.limits
        self._gated = spec.geometry.selector == "gated"
        for part in (spec.limits, spec.reading):
            for item in fields(part):
                value = getattr(part, item.name)
                if isinstance(value, float) and (isnan(value) or (part is spec.limits and value < 0)):
                    raise UsageError(f"the board {spec.identity.name} has the unusable limit {item.name}: {value}")

    def at_most(self, name: str, value: float, where: str, dtype: torch.dtype = torch.float64) -> None:
        """Refuses a value above the limit of a name; a limit that the board does not set allows everything."""
        limit: float | None = getattr(self._limits, name)
        if limit is not None and not value <= rounded(limit, dtype):
            quantity, unit = _WORDS[name]
            raise LimitExceeded(quantity, value, limit, unit, where, self._spec.source(f"limits.{name}"))

    def refuse_read(self, value: float, limit: float, where: str, key: str) -> NoReturn:
        """Raises ``LimitExceeded`` for a read voltage, with the place that set the limit."""
        raise LimitExceeded("read voltage", value, limit, "V", where, self._spec.source(key))

    # -- reading ---------------------------------------------------------------------------------------------------

    def array_volts(self) -> tuple[tuple[float, str], tuple[float, str]]:
        """The lowest and the highest voltage of an array read, each with the key that sets it."""
        reading, limits = self._spec.reading, self._limits
        bounds = [(limits.read_array_volts, "limits.read_array_volts"), (limits.line_volts, "limits.line_volts")]
        lows = [*((-volts, key) for volts, key in bounds), (reading.volts_low, "reading.volts_low")]
        highs = [*bounds, (reading.volts_high, "reading.volts_high")]
        return max(lows, key=itemgetter(0)), min(highs, key=itemgetter(0))

    def cell_volts(self, op: str, volts: object, blocks: Blocks) -> float:
        """Checks the voltage of a cell that is read alone."""
        value, where, reading = number(op, "the read voltage", volts), place(blocks), self._spec.reading
        self.at_most("read_cell_volts", abs(value), where)
        self.at_most("line_volts", abs(value), where)
        if not value >= reading.volts_low:
            self.refuse_read(value, reading.volts_low, where, "reading.volts_low")
        if not value <= reading.volts_high:
            self.refuse_read(value, reading.volts_high, where, "reading.volts_high")
        return value

    def sense(self, op: str, sense: Sense, drive: Side, amps_limit: str) -> None:
        """Checks how a current is to be measured; ``amps_limit`` names the limit of its compliance current."""
        member(op, "sense", sense, Sense)
        if member(op, "drive", drive, Side) not in self._spec.reading.sides:
            raise InvalidOperation(op, f"the board cannot drive its {drive.value} in a read")
        whole(op, "averages", sense.averages)
        self.unselected(op, sense.unselected)
        if sense.gate is not None:
            self.gate(op, number(op, "the gate voltage", sense.gate))
        if sense.full_scale is not None and not number(op, "full_scale", sense.full_scale) > 0:
            raise InvalidOperation(op, f"full_scale must be above 0, got {sense.full_scale}")
        if sense.amps is not None:
            self._settable(op, number(op, "the compliance current", sense.amps), amps_limit)
        elif self._spec.writing.compliance == "source":
            raise InvalidOperation(op, "the board's source needs a compliance current; set sense.amps")

    # -- writing ---------------------------------------------------------------------------------------------------

    def shape(self, op: str, shape: Shape, blocks: Blocks, unselected: Bias | None, kind: Kind) -> float:
        """Checks one pulse shape, a private copy with finite numbers, and gives its largest amplitude."""
        where = place(blocks)
        if not shape.seconds > 0:
            raise InvalidOperation(op, f"the pulse width must be above 0, got {shape.seconds}")
        self.at_most("pulse_seconds", shape.seconds, where)
        peak = self.amplitude(op, shape.volts, where, unselected, kind)
        if shape.gate is not None:
            self.gate(op, shape.gate)
        elif self._gated:
            raise InvalidOperation(op, "a pulse on a gated array needs a gate voltage")
        self._held(op, shape.amps, "form_amps" if kind is Kind.FORM else "cell_amps")
        return peak

    def amplitude(self, op: str, volts: Cells, where: str, unselected: Bias | None, kind: Kind) -> float:
        """Checks the voltage across the selected, the half-selected and between any cell and ground."""
        low, high = extremes(volts)
        if not low >= 0:
            raise InvalidOperation(op, f"a pulse amplitude is a magnitude, got {low} V; the count gives the direction")
        dtype = volts.dtype if isinstance(volts, Tensor) else torch.float64
        self.at_most("form_volts" if kind is Kind.FORM else "write_volts", high, where, dtype)
        self.at_most("line_volts", high, where, dtype)
        if not self._gated:
            self.at_most("half_select_volts", high / self._share(unselected), where, dtype)
        return high

    def gate(self, op: str, gate: Cells) -> None:
        """Checks a gate voltage over ground; a gate line is a line, too."""
        low, high = extremes(gate)
        if not self._gated:
            raise InvalidOperation(op, "the board has no gates; leave the gate voltage out")
        if self._limits.gate_volts is None:
            raise InvalidOperation(op, "the board file sets no limits.gate_volts, so that no gate voltage is allowed")
        if not low >= 0:
            raise InvalidOperation(op, f"a gate voltage is counted from ground and at least 0, got {low} V")
        dtype = gate.dtype if isinstance(gate, Tensor) else torch.float64
        self.at_most("gate_volts", high, "gates", dtype)
        self.at_most("line_volts", high, "gates", dtype)

    def steps(self, knob: str, points: Tensor, where: str) -> None:
        """Checks the largest step of a ramp, up to the rounding of its points."""
        name = "gate_step" if knob == "gate" else "slew"
        limit: float | None = getattr(self._limits, name)
        if limit is None or points.shape[0] < 2:
            return
        exact = points.double()
        largest = exact.diff().abs().max().item()
        slack = 4 * torch.finfo(points.dtype).eps * exact.abs().max().item()
        if not largest <= limit + slack:
            self.at_most(name, largest, where)

    def unselected(self, op: str, bias: Bias | None) -> None:
        """Checks that the board can do to its unselected lines what is asked."""
        biases = self._spec.writing.biases
        if bias is not None and member(op, "unselected", bias, Bias) not in biases:
            known = ", ".join(b.value for b in biases) or "nothing"
            raise InvalidOperation(op, f"the board's unselected lines cannot do '{bias.value}'; they can do {known}")

    def _share(self, unselected: Bias | None) -> float:
        """How many times smaller the voltage of a half-selected cell is than that of the selected one."""
        biases = self._spec.writing.biases
        own = biases[0] if biases else Bias.GROUND
        return _SHARES[own if unselected is None else unselected]

    def _held(self, op: str, amps: float | None, limit: str) -> None:
        """Checks that something holds the current of a cell that is written."""
        compliance = self._spec.writing.compliance
        if amps is not None:
            self._settable(op, amps, limit)
        elif compliance == "source":
            raise InvalidOperation(op, "the board's source needs a compliance current; set amps")
        elif (
            compliance == "none" or (compliance == "gate" and not self._gated)
        ) and not self._limits.allow_uncompliant:
            raise InvalidOperation(
                op, "nothing holds the cell current on this board; set limits.allow_uncompliant in its board file"
            )

    def _settable(self, op: str, amps: float, limit: str) -> None:
        """Checks a compliance current; one that the board cannot set would hold nothing."""
        writing = self._spec.writing
        if writing.compliance != "source":
            raise InvalidOperation(op, "the board has no source whose compliance current can be set; leave amps out")
        if not amps > 0:
            raise InvalidOperation(op, f"the compliance current must be above 0, got {amps}")
        self.at_most(limit, amps, "compliance")
        for bound, key in ((writing.compliance_low, "compliance_low"), (writing.compliance_high, "compliance_high")):
            outside = bound is not None and not (amps >= bound if key == "compliance_low" else amps <= bound)
            if bound is not None and outside:
                source = self._spec.source(f"writing.{key}")
                raise LimitExceeded("compliance current", amps, bound, "A", "compliance", source)


def place(blocks: Blocks) -> str:
    """Names the kernels of blocks in a message."""
    more = f" and {len(blocks) - 1} more blocks" if len(blocks) > 1 else ""
    return f"kernel {blocks.kernel[0]}{more}"
