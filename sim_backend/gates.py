"""Gates of a 1T1R array: they open cells and hold the current of a pulse."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hil.contract import BoardSpec, Shape


class Gates:
    """The selectors of a chip.

    Args:
        spec: the board; its gate curve gives the current that a gate voltage lets through.
        threshold: V below which a cell is cut off; None on a passive array.
    """

    def __init__(self, spec: BoardSpec, threshold: float | None) -> None:
        self._threshold = threshold
        self._read_gate = spec.reading.gate
        self._known: dict[float, float] = {}
        curve = spec.writing.gate_curve if spec.writing.compliance == "gate" else ()
        self._volts = torch.tensor([v for v, _ in curve], dtype=torch.float64)
        self._amps = torch.tensor([a for _, a in curve], dtype=torch.float64)

    def shut(self, gate: float | None) -> bool:
        """Whether a read gate voltage (None: the board's own) cuts all cells off."""
        gate = self._read_gate if gate is None else gate
        return self._threshold is not None and gate is not None and gate < self._threshold

    def read_limit(self, gate: float | None) -> float | None:
        """The current that a read gate voltage (None: the board's own) lets through a cell, A; None for no limit."""
        gate = self._read_gate if gate is None else gate
        if self._threshold is None or gate is None or not self._volts.numel():
            return None
        return float(self._curve(float(gate)))

    def let_through(self, shape: Shape) -> float | Tensor | None:
        """The current that a pulse can carry through a cell, A; None where nothing holds it."""
        gate = None
        if self._threshold is not None and shape.gate is not None and self._volts.numel():
            gate = self._curve(shape.gate)
        if shape.amps is None:
            return gate
        if gate is None:
            return shape.amps
        return gate.clamp(max=shape.amps) if isinstance(gate, Tensor) else min(gate, shape.amps)

    def _curve(self, gate: float | Tensor) -> float | Tensor:
        """Interpolates the gate curve log-log above the threshold; the ends continue flat."""
        if isinstance(gate, Tensor):
            return self._log_log(gate.to(torch.float64)).to(gate.dtype)
        if gate not in self._known:
            if len(self._known) > 4096:
                self._known.clear()
            self._known[gate] = float(self._log_log(torch.tensor([float(gate)], dtype=torch.float64))[0])
        return self._known[gate]

    def _log_log(self, gate: Tensor) -> Tensor:
        x, y = self._volts.log(), self._amps.clamp(min=1e-15).log()
        at = gate.clamp(min=1e-9).log()
        if x.numel() == 1:
            amps = torch.full_like(gate, math.exp(float(y[0])))
        else:
            right = torch.searchsorted(x, at.contiguous()).clamp(1, x.numel() - 1)
            share = ((at - x[right - 1]) / (x[right] - x[right - 1])).clamp(0.0, 1.0)
            amps = (y[right - 1] + share * (y[right] - y[right - 1])).exp()
        return torch.where(gate < (self._threshold or 0.0), 0.0, amps)
