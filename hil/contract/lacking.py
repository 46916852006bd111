"""What a board cannot do by itself: one judge for the lowering, the simulator and every driver."""

from __future__ import annotations

from hil.contract.ops import Op, Probe, Ramp, Read
from hil.contract.spec import BoardSpec


def lacking(op: Op, spec: BoardSpec) -> str:
    """Why a board cannot carry out an operation as it is; an empty text when it can."""
    name = type(op).__name__
    if name not in spec.abilities.ops:
        return f"it knows {', '.join(sorted(spec.abilities.ops))}"
    match op:
        case Read():
            return _read(op, spec)
        case Ramp() if op.sense.volts is None and not spec.reading.inside_pulse:
            return "it cannot read inside a pulse"
        case Probe():
            unknown = [probe for probe in op.names if probe not in spec.abilities.probes]
            known = ", ".join(spec.abilities.probes) or "none"
            return f"it has no probe {unknown[0]!r}; it has {known}" if unknown else ""
        case _:
            return ""


def _read(op: Read, spec: BoardSpec) -> str:
    most = spec.abilities.largest_batch
    if op.pairs and not spec.reading.pairs:
        return "it cannot subtract the lines of a pair"
    if most is not None and op.volts.shape[1] > most:
        return f"it takes at most {most} vectors at a time"
    if not spec.abilities.signed_read and op.volts.numel() and float(op.volts.min()) < 0:
        return "its inputs cannot be negative"
    return ""
