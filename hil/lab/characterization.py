"""What characterising a board found: measurements and what was fitted to them, as numbers with errors and units."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hil.contract import BoardSpec
from hil.lab import tables
from hil.units import engineering
from protocols.characterise.sequence import Findings
from protocols.characterise.stuck import Cell, kinds
from sim_backend.fit.device import DeviceFit, fit_soft_bounds
from sim_backend.fit.lines import CellReads, LineFit, fit_lines, path_ohms

_LAW_UNITS = {"low": "S", "high": "S"}
_NOTHING = {"S": 1e-14, "A": 1e-14}


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number of a characterisation.

    Args:
        name: what it is, in the words of the simulator's configuration where it has one.
        value: in SI.
        error: standard error in SI; None where there is none.
        unit: SI unit; empty for a plain number.
        note: what to know about it.
    """

    name: str
    value: float
    error: float | None
    unit: str
    note: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON values; a number that is not finite is null."""
        numbers = {"value": self.value, "error": self.error}
        known = {key: x if x is not None and math.isfinite(x) else None for key, x in numbers.items()}
        return {**known, "unit": self.unit, **({"note": self.note} if self.note else {})}


@dataclass(frozen=True, slots=True, eq=False)
class Fits:
    """Measurements and fits.

    Args:
        findings: the measurements.
        law: the fitted law; None where it could not be fitted.
        lines: the fitted line resistance; None where it was not measured.
        kinds: uint8 [T, R, C], what each cell of the stuck map is; None without one.
    """

    findings: Findings
    law: DeviceFit | None
    lines: LineFit | None
    kinds: Tensor | None

    def count(self, kind: Cell) -> int:
        """Cells of a kind."""
        return 0 if self.kinds is None else int((self.kinds == int(kind)).sum())

    def quantities(self) -> list[Quantity]:
        """All numbers, in the order in which they were measured."""
        f, found = self.findings, list[Quantity]()
        if f.gates is not None:
            half = (f.gates.opened - f.gates.shut) / 2
            found.append(
                Quantity("gate_threshold", f.gates.volts, half, "V", "half the distance of the voltages tried")
            )
        if f.amplifiers is not None:
            a = f.amplifiers
            error = float(a.offset_error.square().nanmean().sqrt())
            rms = _beyond(float(a.offset.square().nanmean()), error)
            found.append(Quantity("amplifier offset, rms over lines", rms, error, "A", "error: of one line"))
            if a.step is not None:
                found.append(Quantity("code step", a.step, None, "A"))
            for end, value, railed in (("lowest", a.lowest, a.railed_low), ("highest", a.highest, a.railed_high)):
                found.append(
                    Quantity(f"{end} current", value, None, "A", "a rail" if railed else "no rail was reached")
                )
            found.append(
                Quantity("bend of the lines", a.bend, a.bend_error, "", "largest, of the current at full voltage")
            )
        if f.noise is not None:
            n = f.noise
            note = "" if n.resolved else "not resolved: the codes hardly ever change"
            found += [
                Quantity("amplifier_noise", n.amplifier, n.amplifier_error, "A", note),
                Quantity("read_noise", n.cell, n.cell_error, "S", note),
            ]
        if f.gains is not None:
            for side, g, error in (
                ("rows", f.gains.rows, f.gains.rows_error),
                ("columns", f.gains.cols, f.gains.cols_error),
            ):
                name = f"gain of {side}, rms over lines"
                found.append(Quantity(name, _beyond(float(g.var()), error), error, "", "amplifier over driver"))
        found += self._wires() + self._drift() + self._cells() + self._law()
        return found

    def plain(self) -> dict[str, Any]:
        """All numbers by name, as JSON values."""
        return {q.name: q.plain() for q in self.quantities()}

    def lines_of_text(self) -> list[str]:
        """All numbers as a table."""
        rows: list[tuple[tables.Cell, ...]] = []
        for q in self.quantities():
            error = "-" if q.error is None else _shown(q.error, q.unit)
            rows.append((q.name, _shown(q.value, q.unit), error, q.note))
        return tables.as_text(("", "value", "error", ""), rows)

    def _wires(self) -> list[Quantity]:
        if self.lines is None:
            return []
        found: list[Quantity] = []
        for name in ("word", "bit"):
            value, error = getattr(self.lines, name), getattr(self.lines, f"{name}_error")
            note = "" if self.lines.resolved(name) else f"not resolved: below {engineering(value + 3 * error, 'ohm')}"
            found.append(Quantity(f"{name}_segment", value, error, "ohm", note))
        return found

    def _drift(self) -> list[Quantity]:
        d = self.findings.drift
        if d is None:
            return []
        after = f"in {d.seconds:g} s of lab time"
        note = after if d.resolved else f"{after}; not resolved"
        return [
            Quantity("drift of the mean", d.mean, d.mean_error, "S", note),
            Quantity(
                "spread of the drift", d.spread, None, "S", after if d.spread else f"{after}; not above read noise"
            ),
        ]

    def _cells(self) -> list[Quantity]:
        found = self.findings.stuck
        if found is None:
            return []
        total = found.stuck.numel()
        share = int(found.stuck.sum()) / total
        sure = float(found.confidence[found.stuck].mean()) if share else 1.0
        error = math.sqrt(max(share * (1 - share), 1 / total) / total)
        note = f"of {total:,}; {100 * sure:.1f} % sure on average"
        if not found.clear:
            note += f"; the median cell hardly moves in {found.pulses} pulses: most are stuck, or give more pulses"
        stuck = [Quantity("stuck cells", share, error, "", note)]
        by_kind = [
            Quantity(f"stuck: {kind.name.lower()}", self.count(kind), None, "", "cells")
            for kind in (Cell.LOW, Cell.HIGH, Cell.VALUE, Cell.OPEN, Cell.SHORT)
        ]
        weak = Quantity("weak cells", int(found.weak.sum()), None, "", "move less than a tenth of the median")
        return [*stuck, *by_kind, weak, *self._formed()]

    def _formed(self) -> list[Quantity]:
        forming = self.findings.forming
        if forming is None:
            return []
        tried = Quantity("forming: tried", int(forming.tried.sum()), None, "", "cells without current")
        return [tried, Quantity("forming: formed", int(forming.formed.sum()), None, "", "cells")]

    def _law(self) -> list[Quantity]:
        if self.law is None:
            return []
        numbers = [Quantity(name, v.value, v.error, _LAW_UNITS.get(name, "")) for name, v in self.law.numbers.items()]
        trains = self.findings.response
        left = 0.0 if trains is None else trains.reached
        far = f"{100 * left:.1f} % of a train's movement came in its last fifth" if left > 0.1 else ""
        return [*numbers, Quantity("misfit of the law", self.law.misfit, None, "", far or "of the window, rms")]


def fitted(findings: Findings, spec: BoardSpec, say: Callable[[str], None]) -> Fits:
    """Fits what was measured; what cannot be fitted is told and left out."""
    lines, ohms = _lines(findings, spec, say)
    law = _law(findings, ohms, say)
    return Fits(findings, law, lines, _kinds(findings, spec, law))


def _lines(findings: Findings, spec: BoardSpec, say: Callable[[str], None]) -> tuple[LineFit | None, Tensor | None]:
    data, side, gates = findings.lines, spec.geometry.drive, spec.geometry.gate_lines
    if data is None or gates is None:
        return None, None
    cells = {s: CellReads(g, data.siemens_error, data.unselected, gates) for s, g in data.siemens.items()}
    try:
        fit = fit_lines(cells, data.volts, data.amps, data.amps_error)
    except ValueError as error:
        say(f"line resistance: {error}")
        return None, None
    seen = fit.resolved("word") or fit.resolved("bit")
    return fit, path_ohms(cells[side], side, fit)[0] if seen and side in cells else None


def _law(findings: Findings, ohms: Tensor | None, say: Callable[[str], None]) -> DeviceFit | None:
    trains = findings.response
    if trains is None:
        return None
    up, down, first = trains.up, trains.down, _first(findings)
    if ohms is not None:  # cells behind their wires, as the simulator has them
        series = ohms.flatten().repeat(len(trains.blocks))[trains.cells]
        up, down = (1 / (1 / t.clamp(min=1e-12) - series) for t in (up, down))
        first = None if first is None else 1 / (1 / first.clamp(min=1e-12) - series)
    try:
        return fit_soft_bounds(up, down, trains.counts, trains.sigma, first)
    except ValueError as error:
        say(f"response: {error}")
        return None


def _first(findings: Findings) -> Tensor | None:
    """The cells of the trains as they were found, where the stuck map saw them all."""
    trains, found = findings.response, findings.stuck
    if trains is None or found is None or not set(trains.blocks.kernel) <= set(found.blocks.kernel):
        return None
    place = [found.blocks.kernel.index(k) for k in trains.blocks.kernel]
    return found.first[place].flatten()[trains.cells]


def _kinds(findings: Findings, spec: BoardSpec, law: DeviceFit | None) -> Tensor | None:
    found, scan = findings.stuck, findings.scan
    if found is None or scan is None:
        return None
    if law is None:
        low, high = torch.full((2,), spec.limits.siemens_low), torch.full((2,), spec.limits.siemens_high)
    else:
        low, high = law.low, law.high
    return kinds(found, scan.siemens[list(found.blocks.kernel)], low, high)


def _shown(value: float, unit: str) -> str:
    """A number for people; what rounding leaves of 0 is 0."""
    if abs(value) < _NOTHING.get(unit, 1e-6):
        return f"0 {unit}".rstrip()
    return engineering(value, unit) if unit else f"{value:.4g}"


def _beyond(square: float, error: float) -> float:
    """An rms without what noise alone would give; 0 where nothing is left."""
    return math.sqrt(max(square - error**2, 0.0))
