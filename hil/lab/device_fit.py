"""Fits a jump table to samples and writes it with a device file that the simulator loads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.errors import UsageError
from hil.lab import config, tables
from hil.lab.plain import Plain
from hil.units import engineering
from sim_backend.fit.binning import Binning, fit
from sim_backend.fit.files import as_text
from sim_backend.fit.samples import Samples, read_samples
from sim_backend.fit.sampling import JumpSampler
from sim_backend.fit.scores import Scores, floor, score
from sim_backend.fit.table import JumpTable

DEVICE_FILE = "device.yaml"
_NAMES = {True: "set", False: "reset"}


@dataclass(frozen=True, slots=True)
class Pick:
    """Which pulses of one polarity to fit, where a file holds several shapes.

    Args:
        volts: V; None for any.
        seconds: s; None for any.
    """

    volts: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a fit left behind.

    Args:
        folder: where table and device file are.
        table: the table.
        fitted: pulses it was made of.
        scores: for each polarity, against the pulses held out, and what the table scores against itself.
        warnings: what makes it doubtful.
    """

    folder: Path
    table: JumpTable
    fitted: Samples
    scores: dict[str, tuple[Scores, Scores]]
    warnings: Sequence[str]

    def lines(self) -> list[str]:
        """What a technician sees."""
        columns = ("polarity", "fitted", "rows", "held out", "KS", "its floor", "W1, uS", "its floor", "MMD^2")
        rows: list[tuple[tables.Cell, ...]] = []
        for up, name in _NAMES.items():
            counts = (len(self.fitted.of_polarity(up)), len(self.table.of(up).g))
            found = self.scores.get(name)
            if found is None:
                rows.append((name, *counts, 0, None, None, None, None, None))
                continue
            one, least = found
            widths = (one.ks, least.ks, 1e6 * one.wasserstein, 1e6 * least.wasserstein, one.mmd)
            rows.append((name, *counts, one.samples, *widths))
        said = [f"warning: {warning}" for warning in self.warnings]
        return [
            *said, *tables.as_text(columns, rows), f"digest {self.table.digest()}",
            f"table and device file: {self.folder}; use it in a board file with  device: {self.folder / DEVICE_FILE}",
        ]  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        scores = {
            name: {"held_out": one.samples, "ks": one.ks, "wasserstein": one.wasserstein, "mmd": one.mmd,
                   "ks_floor": least.ks, "wasserstein_floor": least.wasserstein}
            for name, (one, least) in self.scores.items()
        }  # fmt: skip
        counts = dict(zip(_NAMES.values(), self.fitted.counts(), strict=True))
        return {
            "status": "done", "folder": str(self.folder), "digest": self.table.digest(), "fitted": counts,
            "scores": scores, "warnings": list(self.warnings),
        }  # fmt: skip


def fit_file(
    path: Path, out: Path, binning: Binning, *, picks: tuple[Pick, Pick] = (Pick(), Pick()), held_out: float = 0.2
) -> Fitted:
    """Reads samples, fits a table to them, judges it by samples it has not seen, and writes a folder.

    Args:
        path: CSV of samples.
        out: folder to make.
        binning: how samples are binned; its seed also draws the split.
        picks: which set and reset pulses to use.
        held_out: share of the samples to judge by; 0 for none.

    Raises:
        ConfigError: the samples cannot be read.
        UsageError: they hold several pulse shapes or only one polarity, or the folder is there already.
        StorageError: the folder cannot be written.
    """
    if not 0 <= held_out < 1:
        raise UsageError(f"--held-out must be at least 0 and below 1, got {held_out:g}")
    samples = _picked(read_samples(path), picks)
    fitted, held = samples.split(held_out, binning.seed) if held_out else (samples, None)
    warnings = samples.warnings()
    table = fit(fitted, binning)
    folder = tables.new_folder(out)
    scores: dict[str, tuple[Scores, Scores]] = {}
    if held is not None:
        sampler = JumpSampler(table)
        for up, name in _NAMES.items():
            if len(held.of_polarity(up)) >= 2:
                judged = (
                    score(sampler, held, up=up, seed=binning.seed),
                    floor(sampler, held, up=up, seed=binning.seed),
                )
                scores[name] = judged
    for name, text in as_text(table).items():
        tables.write(folder / name, text)
    tables.write(folder / DEVICE_FILE, device_file(table, samples, folder, f"{path.name}, {binning.method} bins"))
    return Fitted(folder, table, fitted, scores, warnings)


def _picked(samples: Samples, picks: tuple[Pick, Pick]) -> Samples:
    """The samples of one pulse shape per polarity."""
    for (up, name), pick in zip(_NAMES.items(), picks, strict=True):
        samples = samples.with_shape(up, pick.volts, pick.seconds)
        shapes = samples.shapes(up)
        if not shapes:
            wanted = "" if pick == Pick() else " of the shape asked for"
            raise UsageError(f"there are no {name} pulses{wanted}; a table needs both polarities")
        if len(shapes) > 1:
            seen = ", ".join(f"{_shape(volts, seconds)} ({count:,})" for volts, seconds, count in shapes[:8])
            more = f" and {len(shapes) - 8} more" if len(shapes) > 8 else ""
            raise UsageError(
                f"the {name} pulses have {len(shapes)} shapes: {seen}{more}; a table is of one, choose it with "
                f"--{name}-volts and --{name}-width"
            )
    return samples


def _shape(volts: float, seconds: float) -> str:
    parts = [engineering(value, unit) for value, unit in ((volts, "V"), (seconds, "s")) if not math.isnan(value)]
    return " ".join(parts) or "unknown"


def device_file(table: JumpTable, samples: Samples, folder: Path, source: str) -> str:
    """A device file for the table, YAML; the window is that of the samples, as far as the table serves it."""
    low, high = table.reach
    usual = {up: samples.shapes(up)[0] for up in (True, False)}
    unknown = [what for k, what in enumerate(("amplitude", "width")) if any(math.isnan(usual[up][k]) for up in usual)]
    volts = {up: 1.0 if math.isnan(usual[up][0]) else usual[up][0] for up in usual}
    seconds = {up: 1e-6 if math.isnan(usual[up][1]) else usual[up][1] for up in usual}
    law: dict[str, Plain] = {
        "kind": "jump_table",
        "table": str(folder),
        "digest": table.digest(),
        "low": f"{max(low, float(samples.g.min()))!r} S",
        "high": f"{min(high, float(samples.g.max()))!r} S",
        "volts_up": f"{volts[True]!r} V",
        "volts_down": f"{volts[False]!r} V",
        "seconds": f"{seconds[True]!r} s",
    }
    if seconds[False] != seconds[True]:
        law["seconds_down"] = f"{seconds[False]!r} s"
    text = f"hil device fit of {source}"
    if unknown:
        text += f"; the samples do not say {' and '.join(unknown)} of the pulse, set them"
    return config.dump({"source": text, "law": law})
