"""Forming: cells without any current get one careful ramp, a RESET at once, and a read that tells what became of them.

Forming cannot be undone. It is tried where the plan asks for it and the board allows it, on cells that do not move and
show no current: a cell in a low state is left alone.

Reference: the public forming procedures of 1T1R arrays (facts on device data, 3.1 and 3.7): the gate is stepped up at a
fixed amplitude, the ramp ends at a current, and a RESET follows at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hil.contract import Kind, Ramp, Stop
from hil.usual import usual_pulse
from protocols.characterise.cells import Bench, cell_sense, pulse, read, read_volts, spread
from protocols.characterise.plan import FormingPlan
from protocols.characterise.stuck import StuckMap

_SURE = 3.0
"""Standard errors of a reading within which a cell shows no current."""
_LEAST = 1e-9
"""S; a board without noise may still round."""


@dataclass(frozen=True, slots=True, eq=False)
class Forming:
    """What came of forming.

    Args:
        tried: bool [K, R, C].
        formed: bool [K, R, C].
        why: why it was not tried; empty when it was.
    """

    tried: Tensor
    formed: Tensor
    why: str = ""


def form(bench: Bench, plan: FormingPlan, found: StuckMap) -> Forming:
    """Forms the cells that neither move nor show any current at the usual read voltage.

    Args:
        bench: the board and its cells, those of the map included.
        plan: how.
        found: the stuck map; its readings are precise enough to tell a low cell from one without current.
    """
    spec, none = bench.spec, torch.zeros_like(bench.alive)
    if spec.limits.forming == "never":
        return Forming(none, none, "the board allows no forming")
    least = _SURE * found.sigma
    if least > plan.formed / 4:
        return Forming(none, none, "reads are too noisy to tell cells without current from low ones")
    tried = none.clone()
    tried[list(found.blocks.kernel)] = found.stuck & (found.siemens.abs() <= max(least, _LEAST))
    tried &= bench.alive
    if not bool(tried.any()):
        return Forming(none, none, "no cell is without current")
    only, blocks = bench.without(~tried), spread(spec, None)
    bench.backend.execute([_ramp(bench, plan, tried)])
    pulse(only, blocks, -1)
    seen = read(only, blocks, read_volts(spec), 4)
    return Forming(tried, tried & seen.good & (seen.siemens > max(plan.formed / 10, least)))


def _ramp(bench: Bench, plan: FormingPlan, cells: Tensor) -> Ramp:
    spec, usual = bench.spec, usual_pulse(bench.backend, up=True)
    volts = min(spec.limits.form_volts, spec.limits.line_volts)
    sense = cell_sense(spec, read_volts(spec), 2)
    level = plan.formed * read_volts(spec)
    stop = Stop(level, torch.inf, spec.limits.form_amps)
    gated = spec.geometry.selector == "gated"
    top = min(spec.limits.gate_volts or 0.0, spec.writing.up_gate or 0.0) if gated else volts
    step = spec.limits.gate_step if gated else spec.limits.slew
    points = _points(top, plan.points, step)
    shape = replace(usual, volts=volts) if gated else usual
    knob = "gate" if gated else "volts"
    return Ramp(
        spread(spec, None), cells.to(torch.int8), Kind.FORM, shape, knob, points, 0, sense, stop, back=gated
    )  # fmt: skip


def _points(top: float, wanted: int, largest: float | None) -> Tensor:
    """Steps up to ``top``; never larger than the board allows."""
    count = wanted if not largest else max(wanted, int(top / largest) + 2)
    return torch.linspace(top / count, top, count, dtype=torch.float64)
