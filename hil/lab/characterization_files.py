"""The files of a characterised board: numbers as JSON, cells as CSV and safetensors, and what the simulator loads."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from hil.lab import config, tables
from hil.lab.boardfile import BoardFile, SimulatedBoard
from hil.lab.characterization import Fits
from hil.lab.characterization_figures import figures
from hil.lab.config import Loaded
from hil.lab.plain import Plain
from protocols.characterise.response import single_steps
from protocols.characterise.stuck import Cell
from sim_backend.config import DeviceFile

_FORMAT = "crossbar-hil characterization 1"
_UNMODELLED = ("input_levels", "input_coding")


@dataclass(frozen=True, slots=True)
class About:
    """What the files say about the measurement.

    Args:
        board: the board's file.
        plan: the plan as given.
        dtype: number format of the board's currents.
        date: when it was measured, UTC.
        command: what was called.
        ledger: what it cost.
    """

    board: Loaded[BoardFile]
    plan: Mapping[str, Plain]
    dtype: str
    date: str
    command: str
    ledger: Mapping[str, float | int]

    @property
    def source(self) -> str:
        """Where the numbers come from, in one sentence."""
        who = self.board.value.spec.identity
        made = "simulated, seen as a board" if isinstance(self.board.value, SimulatedBoard) else "measured"
        return f"{made}: {who.vendor} {who.model} {who.serial} on {self.date} by `{self.command}`"


def write_files(folder: Path, fits: Fits, about: About, status: str) -> list[str]:
    """Writes what was found and gives the names of the files.

    Raises:
        StorageError: a file cannot be written.
    """
    files: dict[str, bytes | str] = {"characterization.json": json.dumps(_summary(fits, about, status), indent=1)}
    if fits.kinds is not None:
        files["stuck.csv"] = _stuck_rows(fits)
    files["chip.safetensors"] = _chip(fits)
    trains = fits.findings.response
    if trains is not None and bool((trains.counts == 1).any()):
        files["samples.csv"] = _samples(fits, about)
    device = device_file(fits, about)
    if device is not None:
        files["device.yaml"] = config.dump(device)
        files["board.yaml"] = config.dump(board_file(fits, about, device))
    files |= figures(fits)
    for name, data in files.items():
        tables.write(folder / name, data)
    return list(files)


def device_file(fits: Fits, about: About) -> dict[str, Plain] | None:
    """A device file with the fitted law, as plain values; None where no law could be fitted."""
    if fits.law is None:
        return None
    writing = about.board.value.spec.writing
    numbers = {name: value.value for name, value in fits.law.numbers.items()}
    numbers["up_down"] = max(-1.0, min(1.0, numbers["up_down"]))
    law: dict[str, Plain] = {"kind": "soft_bounds"}
    law |= {name: f"{max(numbers.pop(name), 0.0)!r} S" for name in ("low", "high")}
    law |= dict(numbers.items()) | ({"log_normal": True} if fits.law.log_normal else {})
    law |= {
        "volts_up": f"{writing.up_volts!r} V",
        "volts_down": f"{writing.down_volts!r} V",
        "seconds": f"{writing.seconds!r} s",
    }
    said = "; threshold, volts_per_decade and compliance_volts were not measured and are the law's defaults"
    device: dict[str, Plain] = {"source": about.source + said, "law": law}
    config.from_mapping(device, DeviceFile, "device.yaml")  # what is written can be read
    return device


def board_file(fits: Fits, about: About, device: Mapping[str, Plain]) -> dict[str, Plain]:
    """The file of a simulated board that behaves like the measured one."""
    f, spec = fits.findings, about.board.value.spec
    plain = cast("dict[str, Any]", copy.deepcopy(about.board.plain["spec"]))
    for name in _UNMODELLED:
        plain.get("reading", {}).pop(name, None)
    plain["identity"]["model"] = f"{plain['identity'].get('model', '')} (characterised)".strip()
    simulator: dict[str, Any] = {"source": about.source, "dtype": about.dtype, "law": device["law"]}
    if f.noise is not None:
        simulator |= {"read_noise": f"{f.noise.cell!r} S", "amplifier_noise": f"{f.noise.amplifier!r} A"}
    if spec.geometry.selector == "gated":
        simulator["gate_threshold"] = f"{_threshold(fits, about)!r} V"
    if f.stuck is not None:
        simulator["faults"] = _faults(fits)
    if f.amplifiers is not None:
        simulator |= _channels(fits, about)
    if fits.lines is not None:
        simulator |= _wires(fits, about)
    board: dict[str, Plain] = {"kind": "simulated", "spec": plain, "simulator": simulator}
    config.from_mapping(board, cast(Any, SimulatedBoard), "board.yaml")  # what is written can be read
    return board


def _threshold(fits: Fits, about: About) -> float:
    """The gate threshold, measured or half the lowest gate voltage in use."""
    if fits.findings.gates is not None:
        return fits.findings.gates.volts
    spec = about.board.value.spec
    return 0.5 * min(g for g in (spec.writing.up_gate, spec.writing.down_gate, spec.reading.gate, 10.0) if g)


def _faults(fits: Fits) -> dict[str, Any]:
    f = fits.findings
    assert f.stuck is not None
    stuck = int(f.stuck.stuck.sum())
    if stuck == 0:
        return {"fraction": 0.0}
    shares = {k.name.lower(): fits.count(k) for k in (Cell.LOW, Cell.HIGH, Cell.VALUE, Cell.OPEN, Cell.SHORT)}
    found: dict[str, Any] = {"fraction": stuck / f.stuck.stuck.numel(), **shares}
    shorts = f.stuck.siemens[fits.kinds == int(Cell.SHORT)] if fits.kinds is not None else torch.empty(0)
    shorts = shorts[shorts.isfinite()]
    if shorts.numel():
        found["short_siemens"] = f"{float(shorts.median())!r} S"
    return found


def _channels(fits: Fits, about: About) -> dict[str, Any]:
    """Errors of the amplifiers, where they are beyond the errors of measuring them."""
    found = {q.name: q for q in fits.quantities()}
    offset, gain = found["amplifier offset, rms over lines"], found.get("gain of rows, rms over lines")
    part: dict[str, Any] = {}
    if offset.error is not None and offset.value > 2 * offset.error:
        part["offset"] = f"{offset.value!r} A"
    if gain is not None and gain.error is not None and gain.value > 2 * gain.error:
        part["gain"] = gain.value
    return {"amplifiers": {"source": about.source, **part}} if part else {}


def _wires(fits: Fits, about: About) -> dict[str, Any]:
    """Line resistances that are resolved."""
    fit = fits.lines
    assert fit is not None
    part = {f"{name}_segment": f"{getattr(fit, name)!r} ohm" for name in ("word", "bit") if fit.resolved(name)}
    return {"wires": {"source": about.source, **part}} if part else {}


def _summary(fits: Fits, about: About, status: str) -> dict[str, Any]:
    who, limits = about.board.value.spec.identity, about.board.value.spec.limits
    found: dict[str, Any] = {
        "format": _FORMAT, "status": status, "date": about.date, "command": about.command,
        "board": asdict(who),
        "read_cell_volts": limits.read_cell_volts, "plan": dict(about.plan), "ledger": dict(about.ledger),
        "results": fits.plain(), "left_out": dict(fits.findings.left_out),
    }  # fmt: skip
    lines: dict[str, Any] = {}
    f = fits.findings
    if f.amplifiers is not None:
        lines["offset, A"] = _numbers(f.amplifiers.offset)
        lines["offset error, A"] = _numbers(f.amplifiers.offset_error)
    if f.gains is not None:
        lines |= {"gain of rows": _numbers(f.gains.rows), "gain of columns": _numbers(f.gains.cols)}
    if f.noise is not None:
        lines["noise of one conversion: V, A, error A"] = [
            list(row) for row in zip(*map(_numbers, (f.noise.volts, f.noise.amps, f.noise.amps_error)), strict=True)
        ]
    return {**found, "lines": lines}


def _numbers(values: Tensor) -> list[float | None]:
    return [float(x) if math.isfinite(float(x)) else None for x in values]


def _stuck_rows(fits: Fits) -> str:
    """One line for each stuck or weak cell."""
    found, what = fits.findings.stuck, fits.kinds
    assert found is not None and what is not None
    rows: list[tuple[tables.Cell, ...]] = []
    for place in (found.stuck | found.weak).nonzero():
        t, r, c = (int(i) for i in place)
        name = Cell(int(what[t, r, c])).name.lower() if bool(found.stuck[t, r, c]) else "weak"
        siemens = float(found.siemens[t, r, c])
        g = siemens if math.isfinite(siemens) else None
        rows.append((found.blocks.kernel[t], r, c, name, round(float(found.confidence[t, r, c]), 6), g))
    return tables.as_csv(("kernel", "row", "col", "kind", "confidence", "siemens"), rows)


def _samples(fits: Fits, about: About) -> str:
    """Single pulses, as ``hil device fit`` reads them; noise takes some cells below 0, where no table begins."""
    trains, writing = fits.findings.response, about.board.value.spec.writing
    assert trains is not None
    before, change, up = single_steps(trains)
    names = {True: ("set", writing.up_volts), False: ("reset", writing.down_volts)}
    rows = [
        (max(float(g), 0.0), float(dg), *names[bool(is_up)], writing.seconds)
        for g, dg, is_up in zip(before, change, up, strict=True)
    ]
    return tables.as_csv(("G (S)", "dG (S)", "polarity", "volts (V)", "width (s)"), rows)


def _chip(fits: Fits) -> bytes:
    """Maps over the measured kernels; ``X.kernels`` names those of map X."""
    from safetensors.torch import save

    f = fits.findings
    found: dict[str, Tensor] = {}
    if f.scan is not None:
        found |= {"scan.siemens": f.scan.siemens, "scan.alive": f.scan.alive}
    if f.stuck is not None and fits.kinds is not None:
        s = f.stuck
        maps = {"first": s.first, "up": s.up, "down": s.down, "confidence": s.confidence, "kind": fits.kinds}
        found |= {f"stuck.{name}": value for name, value in maps.items()}
        found["stuck.kernels"] = torch.tensor(s.blocks.kernel)
    if f.forming is not None:
        found |= {"forming.tried": f.forming.tried, "forming.formed": f.forming.formed}
    if f.noise is not None:
        found["noise.cells"] = f.noise.of_cells
    if f.response is not None:
        r = f.response
        found |= {"response.up": r.up, "response.down": r.down, "response.counts": r.counts, "response.cells": r.cells}
        found["response.kernels"] = torch.tensor(r.blocks.kernel)
    if fits.law is not None:
        law = fits.law
        found |= {"law.low": law.low, "law.high": law.high, "law.up": law.up, "law.down": law.down}
    kinds = ", ".join(f"{int(k)} {k.name.lower()}" for k in Cell)
    tensors = {n: (t.float() if t.dtype == torch.float64 else t).contiguous() for n, t in found.items()}
    return save(tensors, {"format": _FORMAT, "stuck.kind": kinds, "units": "SI; siemens"})
