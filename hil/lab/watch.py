"""Looks at readings after the fact: cell current cannot be known before it is measured."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hil.contract import BoardSpec, Kind, Op, Outcome, Ramp, Read, ReadCells
from hil.errors import LimitBreached
from hil.lab.limits import rounded
from hil.lab.wellformed import extremes


class Watch:
    """Raises when a measured current passed its limit.

    Args:
        spec: the board. Line currents are watched only where the amplifiers' rails do not hold them.
    """

    def __init__(self, spec: BoardSpec) -> None:
        self._spec = spec
        rails = [max(r.negative, r.positive) for r in spec.reading.ranges]
        held = bool(rails) and max(rails) <= spec.limits.line_amps
        self._lines = spec.limits.line_current_rule == "watched" and not held

    def look(self, ops: Sequence[Op], outcomes: Sequence[Outcome]) -> None:
        """Looks at the readings of a list.

        Raises:
            LimitBreached: a current passed its limit.
        """
        limits = self._spec.limits
        for op, outcome in zip(ops, outcomes, strict=True):
            if outcome.value is None:
                continue
            if isinstance(op, Read):
                if self._lines:
                    self._compare("line current", op, outcome.value, limits.line_amps)
            elif isinstance(op, ReadCells):
                self._compare("cell current", op, outcome.value, limits.cell_amps)
            elif isinstance(op, Ramp):
                limit = limits.form_amps if op.kind is Kind.FORM else limits.cell_amps
                self._compare("cell current", op, outcome.value, limit)

    @staticmethod
    def _compare(quantity: str, op: Read | ReadCells | Ramp, amps: Tensor, limit: float) -> None:
        """Compares in one pass; values that were not measured are NaN and cost a second one."""
        if amps.numel() == 0:
            return
        low, high = extremes(amps)
        allowed = rounded(limit, amps.dtype)
        if -allowed <= low and high <= allowed:
            return
        size = amps.abs().nan_to_num_(0.0, posinf=torch.inf)
        most = size.max().item()
        if not most <= allowed:
            block = int(torch.unravel_index(size.argmax(), size.shape)[0])
            raise LimitBreached(quantity, most, limit, "A", f"kernel {op.blocks.kernel[block]}")
