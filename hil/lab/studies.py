"""Studies of the pure core as a technician asks for them: data in, a folder with tables and a figure out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.errors import UsageError
from hil.lab import figures, tables
from hil.lab.threads import one_thread
from protocols.studies.study import Series, Study, Table

ROOT = Path("runs")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a study is to do.

    Args:
        seeds: replicas; None for the study's own number.
        quick: fewer points, under 20 s.
        device: where to compute.
    """

    seeds: int | None = None
    quick: bool = False
    device: str = "cpu"

    def replicas(self, usual: int, quick: int) -> int:
        """Replicas to train."""
        return self.seeds or (quick if self.quick else usual)


@dataclass(frozen=True, slots=True)
class Written:
    """What a study left behind.

    Args:
        study: what it found.
        folder: where its files are.
        seconds: how long it took.
        device: where it was computed.
    """

    study: Study
    folder: Path
    seconds: float
    device: str

    def lines(self) -> list[str]:
        """What a technician sees."""
        study = self.study
        lines = [study.title, "", *_text(study.table)]
        for table in study.published:
            lines += ["", *_text(table)]
        lines += ["", *study.notes, f"{self.seconds:.1f} s on {self.device}; tables and figure: {self.folder}"]
        return lines

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        study = self.study
        rows = [dict(zip(study.table.columns, row, strict=True)) for row in study.table.rows]
        return {
            "status": "done", "study": study.name, "folder": str(self.folder), "seconds": self.seconds,
            "device": self.device, "rows": rows, "notes": list(study.notes),
        }  # fmt: skip


def study(name: str, *, out: Path | None = None, seeds: int | None = None, quick: bool = False) -> Written:
    """Runs a study and writes its folder: ``NAME.csv``, ``NAME.md``, ``NAME.png`` and the papers' tables as CSV.

    Args:
        name: which one.
        out: folder to make; None for a new one under ``runs``.
        seeds: replicas; None for the study's own number.
        quick: fewer points, under 20 s.

    Raises:
        UsageError: there is no such study, or the folder is there already.
        StorageError: the folder cannot be written.
    """
    if name not in STUDIES:
        raise UsageError(f"there is no study {name!r}; there are {', '.join(STUDIES)}")
    if seeds is not None and seeds < 1:
        raise UsageError(f"--seeds must be at least 1, got {seeds}")
    folder = tables.new_folder(out or ROOT / f"study-{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    effort = Effort(seeds, quick, _device())
    begun = time.perf_counter()
    with one_thread():
        found = STUDIES[name](effort)
    written = Written(found, folder, time.perf_counter() - begun, effort.device)
    _write(written)
    return written


# -- the studies -------------------------------------------------------------------------------------------------------


def _angle(effort: Effort) -> Study:
    from protocols.studies.angle import MARKS, angle

    marks = MARKS[:-1] if effort.quick else MARKS
    return angle(marks=marks, replicas=effort.replicas(16, 16), device=effort.device)


def _size(effort: Effort) -> Study:
    from protocols.studies.size import size

    widths = (8, 32, 128) if effort.quick else (8, 16, 32, 64, 128, 256)
    return size(_digits(), widths=widths, replicas=effort.replicas(8, 2), device=effort.device)


def _tau(effort: Effort) -> Study:
    from protocols.studies.tau import TAUS, tau

    taus = (1, 4, 16) if effort.quick else TAUS
    return tau(_digits(), taus_theta=taus, replicas=effort.replicas(4, 2), device=effort.device)


def _xor(effort: Effort) -> Study:
    from protocols.studies.xor import xor

    return xor(replicas=effort.replicas(256, 64), device=effort.device)


def _physics_aware(effort: Effort) -> Study:
    from protocols.studies.physics_aware import physics_aware

    steps = 500 if effort.quick else 1_500
    return physics_aware(seeds=effort.replicas(4, 4), steps=steps, device=effort.device)


def _residual(effort: Effort) -> Study:
    from protocols.studies.residual_learning import residual_learning

    steps, tile_steps = (4_000, 1_000) if effort.quick else (20_000, 3_000)
    return residual_learning(replicas=effort.replicas(5, 2), steps=steps, tile_steps=tile_steps)


def _modeling_bias(effort: Effort) -> Study:
    from hil.lab import device_bias as bias

    points, bins = (bias.QUICK_POINTS, bias.QUICK_BINS) if effort.quick else (bias.POINTS, bias.PLAIN_BINS)
    sets = 2 if effort.quick else 8
    return bias.modeling_bias(_digits(), points=points, bins=bins, sets=sets, replicas=effort.replicas(4, 4))


STUDIES: dict[str, Callable[[Effort], Study]] = {
    "angle": _angle, "physics_aware": _physics_aware, "size": _size, "tau": _tau, "xor": _xor,
    "modeling_bias": _modeling_bias, "residual": _residual,
}  # fmt: skip
"""All studies by name."""


def _digits() -> Any:
    from hil.lab.tasks import Digits
    from protocols.studies.training import Data

    samples = Digits().load(0)
    return Data(samples.train.x, samples.train.y, samples.test.x, samples.test.y)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


# -- what is written ---------------------------------------------------------------------------------------------------


def _write(written: Written) -> None:
    study, folder = written.study, written.folder
    tables.write(folder / f"{study.name}.csv", tables.as_csv(study.table.columns, study.table.rows))
    for number, table in enumerate(study.published, start=1):
        tables.write(folder / f"published-{number}.csv", tables.as_csv(table.columns, table.rows))
    tables.write(folder / f"{study.name}.png", figure(study))
    tables.write(folder / f"{study.name}.md", _markdown(written))


def _markdown(written: Written) -> str:
    study = written.study
    parts = [f"# {study.title}\n", f"![{study.title}]({study.name}.png)\n"]
    for table in (study.table, *study.published):
        parts.append(f"{table.title}\n\n{tables.as_markdown(table.columns, table.rows)}")
    parts.append("".join(f"- {note}\n" for note in study.notes))
    parts.append(f"Computed in {written.seconds:.1f} s on {written.device}.\n")
    return "\n".join(parts)


def _text(table: Table) -> list[str]:
    return [f"{table.title}:", *tables.as_text(table.columns, table.rows)]


def figure(study: Study) -> bytes:
    """The figure of a study, PNG: measured curves in colour, laws dashed, published numbers as open marks."""
    page = figures.canvas(8.4, 4.6)
    axes = page.subplots()
    _draw(axes, [line for line in study.series if line.kind != "published"], tables.COLOURS)
    _draw(axes, [line for line in study.series if line.kind == "published"], (tables.GREY,))
    axes.set(xlabel=study.x.label, ylabel=study.y.label)
    axes.set_xscale("log" if study.x.log else "linear")
    axes.set_yscale("log" if study.y.log else "linear")
    axes.set_title(study.title, loc="left", fontsize=10)
    tables.tidy(axes)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figures.png(page)


def _draw(axes: Any, lines: Sequence[Series], colours: Sequence[str]) -> None:
    marks = "oDs^vP"
    for number, line in enumerate(lines):
        colour, mark = colours[number % len(colours)], marks[number % len(marks)]
        if line.kind == "law":
            axes.plot(line.x, line.y, color="#1c2430", lw=1.2, ls="--", label=line.name)
        elif line.kind == "published":
            axes.plot(line.x, line.y, color=colour, lw=0.9, ls=":", marker=mark, ms=4.5, mfc="white", label=line.name)
        else:
            axes.plot(line.x, line.y, color=colour, lw=1.6, marker=mark, ms=4, label=line.name)
