"""The measurements in their order, lowest voltage first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hil.contract import Backend
from protocols.characterise.amplifiers import Amplifiers, Gains, amplifiers, gains, levels
from protocols.characterise.cells import Bench
from protocols.characterise.drift import Drift, drift
from protocols.characterise.forming import Forming, form
from protocols.characterise.gates import Threshold, threshold
from protocols.characterise.lines import ArrayReads, array_reads, why_not
from protocols.characterise.noise import Noise, noise
from protocols.characterise.plan import Plan
from protocols.characterise.response import Trains, respond
from protocols.characterise.scan import Scan, scan
from protocols.characterise.stuck import StuckMap, stuck_map


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What has been measured so far; None for what was not.

    Args:
        left_out: why a measurement was not made, by its name.
    """

    scan: Scan | None = None
    gates: Threshold | None = None
    amplifiers: Amplifiers | None = None
    gains: Gains | None = None
    noise: Noise | None = None
    lines: ArrayReads | None = None
    drift: Drift | None = None
    stuck: StuckMap | None = None
    forming: Forming | None = None
    response: Trains | None = None
    left_out: dict[str, str] = field(default_factory=dict[str, str])

    def without(self, name: str, why: str) -> Findings:
        """The same, with the reason why a measurement was not made."""
        return replace(self, left_out={**self.left_out, name: why})


def measure(backend: Backend, plan: Plan) -> Iterator[tuple[str, Findings]]:
    """Makes the measurements of a plan.

    Yields:
        Before each measurement its name and what is known; at the end an empty name and all that is known.
    """
    spec, found = backend.spec, Findings()
    yield "scan", found
    first = scan(backend, plan.scan_share)
    bench = Bench(backend, first.alive)
    found = replace(found, scan=first)
    if plan.gates is not None:
        yield "gates", found
        opened = threshold(bench, plan.gates)
        found = replace(found, gates=opened) if opened else found.without("gates", "the array has no gates to tell")
    yield "noise", found
    data = levels(bench, plan.noise)
    lines = amplifiers(data)
    quiet = noise(data, lines.step)
    found = replace(found, amplifiers=lines, noise=quiet)
    yield "gains", found
    relative = gains(bench, plan.noise)
    found = replace(found, gains=relative) if relative else found.without("gains", "the board drives one side only")
    if spec.timing.parallel_kernels == 1:  # else each kernel has amplifiers of its own, and one was measured
        bench = replace(bench, offset=lines.offset.nan_to_num(0.0))
    if plan.lines is not None:
        why = why_not(spec)
        if why:
            found = found.without("lines", why)
        else:
            yield "lines", found
            found = replace(found, lines=array_reads(bench, plan.lines, quiet, first.siemens))
    if plan.drift is not None:
        yield "drift", found
        found = replace(found, drift=drift(bench, plan.drift, quiet))
    yield from _writing(bench, plan, found, quiet)


def _writing(bench: Bench, plan: Plan, found: Findings, quiet: Noise) -> Iterator[tuple[str, Findings]]:
    """What pulses cells."""
    whole = bench
    if plan.stuck is not None:
        yield "stuck", found
        found = replace(found, stuck=stuck_map(bench, plan.stuck, quiet))
        assert found.stuck is not None
        bench = bench.without(on_chip(found.stuck.stuck, found.stuck, bench.alive))
    if plan.forming is None:
        found = found.without("forming", "the plan does not ask for it")
    elif found.stuck is None:
        found = found.without("forming", "it needs the stuck map")
    else:
        yield "forming", found
        formed = form(whole, plan.forming, found.stuck)
        found = replace(found, forming=formed) if not formed.why else found.without("forming", formed.why)
    if plan.response is not None:
        yield "response", found
        found = replace(found, response=respond(bench, plan.response, quiet))
    yield "", found


def on_chip(cells: Tensor, measured: StuckMap, like: Tensor) -> Tensor:
    """Cells of the measured kernels as cells of the chip, bool [K, R, C]."""
    whole = torch.zeros_like(like)
    whole[list(measured.blocks.kernel)] = cells
    return whole
