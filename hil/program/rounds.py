"""One round of each method: pulses to the cells that want them, then reads."""

from __future__ import annotations

import torch
from torch import Tensor

from hil.contract import BoardSpec, Flag, Kind, Pulse, Ramp, Stop
from hil.errors import LimitExceeded, UsageError
from hil.program.methods import ByPulses, ByRamps
from hil.program.progress import Progress
from hil.program.ramps import GateRamp
from hil.program.report import CellState
from hil.usual import usual_pulse, usual_sense


def pulse_round(cells: Progress, how: ByPulses) -> None:
    """Sends usual pulses, as many as the remaining error asks for, and verifies."""
    step = cells.backend.spec.writing.step
    error = torch.where(cells.active, cells.target - cells.siemens, 0.0)
    counts = (error * (how.damping / step)).abs().ceil_().clamp_(max=how.most)
    counts = (counts * error.sign()).to(torch.int32)
    up, down = usual_pulse(cells.backend, up=True), usual_pulse(cells.backend, up=False)
    cells.backend.execute([Pulse(cells.blocks, counts, up, down)])
    cells.sent(counts.abs())
    before = cells.siemens
    cells.verify()
    moved = (cells.siemens - before) * error.sign() > 0.1 * counts.abs() * step
    cells.still = torch.where(moved, 0, cells.still + 1)
    cells.retire(cells.active & (cells.still >= how.give_up), CellState.STUCK)


def ramp_round(cells: Progress, how: ByRamps) -> None:
    """Sends SET ramps to cells below their window and RESET ramps to cells above it, and verifies."""
    before, low = cells.siemens, cells.siemens < cells.target
    spent = _ramp(cells, cells.active & low, Kind.SET, how)
    spent |= _ramp(cells, cells.active & ~low, Kind.RESET, how)
    cells.verify()
    moved = (cells.siemens - before).abs() > how.window / 2
    cells.still += cells.active & spent & ~moved
    cells.retire(cells.active & (cells.still >= how.give_up), CellState.STUCK)


def check_ramps(spec: BoardSpec, how: ByRamps) -> None:
    """Refuses ramps that a board cannot take, before anything is sent.

    Raises:
        UsageError: a ramp needs a gate, and the board has none.
        LimitExceeded: the current that ends a ramp lies above the board's limit of a cell.
    """
    if spec.geometry.selector == "passive":
        for name, ramp in (("set", how.set_ramp), ("reset", how.reset_ramp)):
            if isinstance(ramp, GateRamp) or ramp.gate is not None:
                raise UsageError(
                    f"the {name} ramp names a gate voltage, and {spec.identity.name} is a passive array without gates; "
                    f"write {name}: {{kind: volts, low: ..., high: ..., step: ...}}"
                )
    if how.amps_max is not None and not how.amps_max <= spec.limits.cell_amps:
        source = spec.source("limits.cell_amps")
        raise LimitExceeded("current that ends a ramp", how.amps_max, spec.limits.cell_amps, "A", "amps_max", source)


def _ramp(cells: Progress, wanted: Tensor, kind: Kind, how: ByRamps) -> Tensor:
    """Runs one ramp; gives the cells that went through all its points without stopping."""
    if not bool(wanted.any()):
        return torch.zeros_like(wanted)
    spec, up = cells.backend.spec, kind is Kind.SET
    ramp = how.set_ramp if up else how.reset_ramp
    volts, half = spec.limits.read_cell_volts, how.window / 2
    low, high = (cells.target - half) * volts, (cells.target + half) * volts
    shape, sign = ramp.shape(usual_pulse(cells.backend, up)), (wanted * (1 if up else -1)).to(torch.int8)
    sense, stop = usual_sense(spec, volts, how.averages), _stop(how, kind, low, high, spec)
    back = isinstance(ramp, GateRamp)  # a gate is stepped down again, never dropped
    op = Ramp(cells.blocks, sign, kind, shape, ramp.kind, ramp.points, 0, sense, stop, back=back)
    (outcome,) = cells.backend.execute([op])
    assert outcome.applied is not None and outcome.flags is not None
    cells.sent(outcome.applied)
    cells.retire(wanted & ((outcome.flags & int(Flag.ABORTED)) != 0), CellState.ABORTED)
    return wanted & ((outcome.flags & int(Flag.EXHAUSTED)) != 0)


def _stop(how: ByRamps, kind: Kind, low: Tensor, high: Tensor, spec: BoardSpec) -> Stop:
    """The rules of one direction; the evidence of switching ends SET ramps, rising currents end RESET ramps."""
    most = spec.limits.cell_amps if how.amps_max is None else how.amps_max
    if kind is Kind.SET:
        return Stop(low, high, most, slope=how.slope, flat=how.flat, hits=how.hits)
    never = float("inf")
    jump, rise = (never if amps is None else amps for amps in (how.jump, how.rise))
    return Stop(low, high, most, jump=jump, rise=rise, rises=how.rises, rise_after=how.rise_after)
