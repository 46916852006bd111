"""What a board usually does: its usual read and its usual pulses, as its spec gives them."""

from __future__ import annotations

from hil.contract import Backend, BoardSpec, Sense, Shape


def usual_sense(spec: BoardSpec, volts: float | None = None, averages: int = 1) -> Sense:
    """A read at ``volts`` (None in a product, which brings its own), with the compliance a source needs."""
    return Sense(volts, averages, amps=_compliance(spec))


def usual_pulse(backend: Backend, up: bool) -> Shape:
    """The board's usual pulse, raising or lowering the conductance."""
    writing = backend.spec.writing
    volts, gate = (writing.up_volts, writing.up_gate) if up else (writing.down_volts, writing.down_gate)
    return Shape(volts, writing.seconds, gate, _compliance(backend.spec))


def _compliance(spec: BoardSpec) -> float | None:
    """The compliance current of a source, A; None where gates or amplifiers hold the current."""
    return spec.writing.compliance_high if spec.writing.compliance == "source" else None
