"""The outputs of a virtual board: what its lines were told, and in what order."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
from torch import Tensor

from hil.contract import Cells, Op, Outer, Pulse, Ramp, Read, ReadCells, SafeReport

NAMES = ("rows", "cols", "gates")
_KEPT = 10_000


class Outputs:
    """Rows, columns and gates of a board; on from the first operation that drives them until they are made safe.

    Attributes:
        history: the last changes, oldest first: ``("volts", V)`` and ``("outputs", "on" or "off")``.
    """

    def __init__(self) -> None:
        self.history: deque[tuple[str, Any]] = deque(maxlen=_KEPT)
        self.volts = 0.0
        self.on = False

    def drive(self, op: Op) -> None:
        """Puts the volts of an operation on the lines, which then come back to 0 V."""
        self.drive_to(peak_volts(op))

    def drive_to(self, peak: float | None) -> None:
        """Puts the largest volts of an operation on the lines; does nothing for one that drives none."""
        if peak is None:
            return
        if not self.on:
            self.on = True
            self.history.append(("outputs", "on"))
        self.raise_to(peak)

    def raise_to(self, volts: float) -> None:
        """Sets the lines."""
        if volts != self.volts:
            self.volts = volts
            self.history.append(("volts", volts))

    def make_safe(self) -> SafeReport:
        """0 V first, then the outputs off."""
        self.raise_to(0.0)
        if self.on:
            self.on = False
            self.history.append(("outputs", "off"))
        return self.report()

    def report(self) -> SafeReport:
        """The outputs as they are."""
        state = "on" if self.on else "off"
        return SafeReport(dict.fromkeys(NAMES, state), confirmed=not self.on)

    def facts(self) -> dict[str, Any]:
        """The outputs as plain values."""
        return {"on": self.on, "volts": self.volts}


def peak_volts(op: Op) -> float | None:
    """Largest voltage that an operation puts on a line, V; NaN when one of them is none; None when it drives none."""
    match op:
        case Read():
            return _peak(op.volts)
        case ReadCells():
            return _largest(op.sense.volts or 0.0)
        case Pulse() | Outer():
            return _largest(op.up.volts, op.down.volts)
        case Ramp():
            return _largest(op.points if op.knob == "volts" else op.shape.volts, op.sense.volts or 0.0)
        case _:
            return None


def _largest(*volts: Cells) -> float:
    peaks = [_peak(some) if isinstance(some, Tensor) else abs(some) for some in volts]
    return math.nan if any(map(math.isnan, peaks)) else max(peaks)


def _peak(volts: Tensor) -> float:
    if not volts.numel():
        return 0.0
    values = (volts if volts.is_floating_point() else volts.double()).numpy()
    return float(np.maximum(values.max(), -values.min()))  # NaN, where there is one
