"""The gate voltage below which the cells of a gated array conduct nothing."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.characterise.cells import Bench, read, read_volts, spread
from protocols.characterise.plan import GatePlan


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where cells open: they are shut at ``shut`` and conduct at ``opened``.

    Args:
        shut: V, the highest gate voltage tried at which the cells had less than half their current.
        opened: V, the lowest one at which it had more.
    """

    shut: float
    opened: float

    @property
    def volts(self) -> float:
        """The middle of the two."""
        return (self.shut + self.opened) / 2


def threshold(bench: Bench, plan: GatePlan) -> Threshold | None:
    """Reads one kernel at rising gate voltages, never above the board's own read gate; None without gates."""
    spec = bench.spec
    full = spec.reading.gate
    if spec.geometry.selector != "gated" or not full:
        return None
    blocks, volts = spread(spec, 1), read_volts(spec, 0.5)
    step = spec.writing.gate_step

    def current(gate: float) -> float:
        seen = read(bench, blocks, volts, 4, gate=gate)
        return float(seen.amps[seen.good].abs().sum())

    shut, opened = 0.0, full
    half = current(full) / 2
    for _ in range(2):
        tried = [shut + (opened - shut) * k / (plan.points - 1) for k in range(1, plan.points - 1)]
        for gate in tried if step is None else sorted({round(gate / step) * step for gate in tried}):
            if not shut < gate < opened:
                continue
            if current(gate) > half:
                opened = gate
                break
            shut = gate
    return Threshold(shut, opened)
