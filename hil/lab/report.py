"""The report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import json
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from hil.errors import HilError
from hil.lab import checkpoint as checkpoints
from hil.lab import config
from hil.lab.figures import canvas, mosaic, png
from hil.lab.record import Record, StepRow
from hil.units import duration, engineering

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 62rem; margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
.sub { color: #66707f; margin: .2rem 0 1.6rem }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0 }
.card { background: #f4f6f9; border-radius: .6rem; padding: .7rem 1.1rem; min-width: 8rem }
.card b { display: block; font-size: 1.35rem; font-weight: 600 } .card span { color: #66707f; font-size: .85rem }
.bad { background: #fdecea } .bad b { color: #b3261e }
img { max-width: 100% } figure { margin: 0 } figcaption { color: #66707f; font-size: .85rem }
table { border-collapse: collapse; font-size: .9rem } td, th { text-align: left; padding: .2rem 1.2rem .2rem 0 }
th { color: #66707f; font-weight: 500 } pre { background: #f4f6f9; padding: 1rem; border-radius: .6rem; overflow: auto;
font-size: .8rem }
"""
_CURVES = "Left: cost of each batch and its running mean. Right: share of the test samples right, measured on the chip."
_MAPS = "All kernels side by side, as at the last checkpoint."
_BLUE, _ORANGE, _GREY = "#2563a8", "#d9730d", "#9aa4b2"


def write_report(folder: Path) -> Path:
    """Writes ``report.html`` into a run folder from its record and its last checkpoint.

    Raises:
        CheckpointError: the folder is no run.
        StorageError: the file cannot be written.
    """
    record = Record(folder / "run.db")
    try:
        page = _page(folder, record)
    finally:
        record.close()
    path = folder / "report.html"
    checkpoints.store(path, page)
    return path


def _page(folder: Path, record: Record) -> str:
    result = _result(folder)
    steps, board = record.steps(), _board(folder)
    name = html.escape(str(_plain(folder).get("name", folder.name)))
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title><style>{_STYLE}</style>",
        f"<h1>{name}</h1><p class=sub>{html.escape(folder.name)}, written {time.strftime('%Y-%m-%d %H:%M')}</p>",
        _cards(result, steps),
    ]
    if result.get("error"):
        parts.append(f"<h2>Why it ended early</h2><pre>{html.escape(str(result['error']))}</pre>")
    if steps:
        accuracy = record.evaluations("test_accuracy")
        parts.append("<h2>Training</h2>" + _figure(_training(steps, accuracy), _CURVES))
    if "chip.g" in board or "wear.run" in board:
        parts.append("<h2>Chip</h2>" + _figure(_chip(board), _MAPS))
    parts += [_totals(steps), _events(record), _settings(folder)]
    return "\n".join(parts) + "</html>\n"


# -- parts of the page -------------------------------------------------------------------------------------------------


def _cards(result: dict[str, Any], steps: list[StepRow]) -> str:
    last = steps[-1] if steps else None
    cards = [("status", str(result.get("status", "unfinished")), result.get("exit_code", 0) != 0)]
    for key, label in (("test_accuracy", "test accuracy"), ("software_accuracy", "software")):
        if result.get(key) is not None:
            cards.append((label, f"{100 * float(result[key]):.1f} %", False))
    if last is not None:
        cards += [
            ("steps", f"{last.step + 1:,}", False),
            ("lab time", duration(last.lab_seconds), False),
            ("pulses", f"{last.pulses:,}", False),
            ("read events", f"{last.reads:,}", False),
        ]
        if last.joules:
            cards.append(("energy in the array", engineering(last.joules, "J"), False))
    safe = str(result.get("safe", "SAFE NOT CONFIRMED: the run did not end"))
    cards.append(("board", safe, not safe.startswith("SAFE confirmed")))
    shown = (
        f"<div class='card{' bad' if bad else ''}'><b>{html.escape(value)}</b><span>{html.escape(label)}</span></div>"
        for label, value, bad in cards
    )
    return f"<div class=cards>{''.join(shown)}</div>"


def _totals(steps: list[StepRow]) -> str:
    if not steps:
        return ""
    last, count = steps[-1], len(steps)
    rows = [
        ("lists of operations", f"{last.lists:,}", f"{last.lists / count:.2f}"),
        ("read events", f"{last.reads:,}", f"{last.reads / count:,.1f}"),
        ("programming events", f"{last.writes:,}", f"{last.writes / count:,.1f}"),
        ("pulses", f"{last.pulses:,}", f"{last.pulses / count:,.1f}"),
        ("flagged values", f"{last.flagged:,}", f"{last.flagged / count:,.1f}"),
        ("lab time", duration(last.lab_seconds), duration(last.lab_seconds / count)),
    ]
    if last.half_selects:
        rows.append(("half-selected cells", f"{last.half_selects:,}", f"{last.half_selects / count:,.1f}"))
    if last.joules:
        each = engineering(last.joules / count, "J")
        rows.append(("energy in the array", engineering(last.joules, "J"), each))
    body = "".join(f"<tr><td>{a}</td><td>{b}</td><td>{c}</td></tr>" for a, b, c in rows)
    return f"<h2>What it took</h2><table><tr><th></th><th>in all</th><th>a step</th></tr>{body}</table>"


def _events(record: Record) -> str:
    rows = "".join(
        f"<tr><td>{time.strftime('%H:%M:%S', time.localtime(at))}</td><td>{max(step, 0)}</td>"
        f"<td>{html.escape(kind)}</td><td>{html.escape(text)}</td></tr>"
        for step, at, kind, text in record.events()[-200:]
    )
    doubt = record.in_doubt()
    note = f"<p>{len(doubt)} lists have no outcome; they may have been applied.</p>" if doubt else ""
    head = "<tr><th>time</th><th>step</th><th></th><th></th></tr>"
    return f"<h2>Events</h2>{note}<table>{head}{rows}</table>"


def _settings(folder: Path) -> str:
    text = "".join(
        f"<h2>{title}</h2><pre>{html.escape((folder / name).read_text())}</pre>"
        for title, name in (("Run file", "run.yaml"), ("Board file", "board.yaml"))
        if (folder / name).is_file()
    )
    return text + "<p class=sub>Software limits are no interlock for people or equipment.</p>"


# -- figures -----------------------------------------------------------------------------------------------------------


def _figure(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    return f"<figure><img alt='' src='data:image/png;base64,{data}'><figcaption>{caption}</figcaption></figure>"


def _training(steps: list[StepRow], accuracy: list[tuple[int, float]]) -> bytes:
    figure = canvas(9.6, 3.4)
    left, right = figure.subplots(1, 2)
    at, loss = np.array([row.step for row in steps]), np.array([row.loss for row in steps])
    left.plot(at, loss, color=_GREY, lw=0.5, alpha=0.7)
    width = max(1, len(loss) // 50)
    smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
    left.plot(at[width - 1 :], smooth, color=_BLUE, lw=1.8)
    left.set(xlabel="step", ylabel="cost", ylim=(0, None))
    if accuracy:
        done = [max(step + 1, 0) for step, _ in accuracy]
        right.plot(done, [100 * value for _, value in accuracy], color=_ORANGE, lw=1.8, marker="o", ms=3)
    right.set(xlabel="step", ylabel="test accuracy, %", ylim=(0, 100))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e9ee", lw=0.6)
    return png(figure)


def _chip(board: dict[str, Tensor]) -> bytes:
    maps: list[tuple[str, np.ndarray[Any, Any], str]] = []
    if "chip.g" in board:
        maps.append(("conductance, µS", 1e6 * board["chip.g"].double().numpy(), "viridis"))
    if "wear.run" in board:
        maps.append(("pulses in this run", board["wear.run"].double().numpy(), "magma"))
    figure = canvas(9.6, 2.9)
    for axis, (title, cells, colours) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps, strict=True):
        top = float(np.percentile(cells, 99.5)) or 1.0  # a few shorts would hide everything else
        image = axis.imshow(mosaic(cells), cmap=colours, vmin=0.0, vmax=top, interpolation="nearest", aspect="equal")
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_axis_off()
        beyond = "max" if cells.max() > top else "neither"
        figure.colorbar(image, ax=axis, fraction=0.025, pad=0.01, extend=beyond)
    return png(figure)


# -- what the folder holds ---------------------------------------------------------------------------------------------


def _result(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "result.json").read_text())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _plain(folder: Path) -> dict[str, Any]:
    from hil.lab.runfile import RunConfig

    try:
        return dict(config.load(folder / "run.yaml", RunConfig).plain)
    except HilError:
        return {}


def _board(folder: Path) -> dict[str, Tensor]:
    """The board's tensors of the last checkpoint; nothing when there is none that can be read."""
    newest = checkpoints.latest(folder)
    try:
        return {} if newest is None else dict(checkpoints.read(newest).board)
    except HilError:
        return {}
