"""The figures of a characterised board."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hil.lab.characterization import Fits
from hil.lab.figures import canvas, mosaic, png
from hil.lab.tables import COLOURS, GREY, tidy
from protocols.characterise.stuck import Cell

_CURVES = 24


def figures(fits: Fits) -> dict[str, bytes]:
    """The figures that the measurements allow, by the name of their file."""
    found: dict[str, bytes] = {}
    f = fits.findings
    if f.noise is not None and f.amplifiers is not None:
        found["noise.png"] = _noise(fits)
    if fits.kinds is not None:
        found["map.png"] = _map(fits)
    if f.response is not None and f.response.cells.numel():
        found["response.png"] = _response(fits)
    if fits.law is not None:
        found["cells.png"] = _cells(fits)
    return found


def _noise(fits: Fits) -> bytes:
    noise, amplifiers = fits.findings.noise, fits.findings.amplifiers
    assert noise is not None and amplifiers is not None
    page = canvas(8.4, 3.4)
    left, right = page.subplots(1, 2)
    volts, amps, error = (x.numpy() for x in (noise.volts, noise.amps, noise.amps_error))
    fine = np.linspace(0.0, float(volts.max()), 100)
    left.errorbar(1e3 * volts, 1e6 * amps, 3e6 * error, fmt="o", ms=4, color=COLOURS[0], label="measured, 3 errors")
    model = np.sqrt(noise.amplifier**2 + (noise.cell * fine) ** 2)
    left.plot(1e3 * fine, 1e6 * model, color=COLOURS[1], lw=1.6, label="amplifier and cell")
    left.axhline(1e6 * noise.amplifier, color=GREY, lw=0.9, ls="--", label="amplifier alone")
    top = 1.25 * float(max(amps.max(), model.max())) or 1e-12
    left.set(xlabel="read voltage, mV", ylabel="noise of one conversion, µA", ylim=(0, 1e6 * top))
    left.legend(frameon=False, fontsize=8, loc="lower right")
    lines = np.arange(len(amplifiers.offset))
    offset, spread = 1e9 * amplifiers.offset.numpy(), 2e9 * amplifiers.offset_error.numpy()
    right.errorbar(lines, offset, spread, fmt="o", ms=3, color=COLOURS[0])
    right.axhline(0.0, color=GREY, lw=0.8)
    right.set(xlabel="sensed line", ylabel="offset, nA (bars: 2 errors)")
    for axes, title in ((left, "Read noise"), (right, "Amplifier offsets")):
        axes.set_title(title, loc="left", fontsize=10)
        tidy(axes)
    return png(page)


def _response(fits: Fits) -> bytes:
    trains = fits.findings.response
    assert trains is not None
    page = canvas(8.4, 3.6)
    at = np.concatenate([[0], np.cumsum(trains.counts.numpy())])
    shown = torch.linspace(0, trains.up.shape[2] - 1, min(_CURVES, trains.up.shape[2])).long()
    panels = zip(page.subplots(1, 2, sharey=True), (trains.up, trains.down), ("SET", "RESET"), COLOURS, strict=False)
    for axes, train, title, colour in panels:
        axes.plot(at, 1e6 * train[0][:, shown].numpy(), color=GREY, lw=0.6, alpha=0.7)
        axes.plot(at, 1e6 * train.mean((0, 2)).numpy(), color=colour, lw=2.0, label="mean of all cells")
        model = _model(fits, at, is_up=title == "SET")
        if model is not None:
            axes.plot(at, 1e6 * model, color="#1c2430", lw=1.2, ls="--", label="fitted law")
        axes.set_title(f"{title}: {len(shown)} of {train.shape[2]} cells", loc="left", fontsize=10)
        axes.set(xlabel="pulses", ylim=(0, None))
        axes.legend(frameon=False, fontsize=8, loc="lower right" if title == "SET" else "upper right")
        tidy(axes)
        if title == "SET":
            axes.set_ylabel("conductance, µS")
    return png(page)


def _model(fits: Fits, at: Any, *, is_up: bool) -> Any:
    """The mean of the fitted laws of all cells, from where the trains began."""
    law, trains = fits.law, fits.findings.response
    if law is None or trains is None or law.left_out:
        return None
    train, bound, pull = (trains.up, law.high, law.up) if is_up else (trains.down, law.low, law.down)
    left = (1 - pull) ** torch.as_tensor(at)[:, None]
    return (bound - (bound - train[:, 0].mean(0)) * left).mean(1).numpy()


def _cells(fits: Fits) -> bytes:
    law = fits.law
    assert law is not None
    page = canvas(8.4, 2.9)
    steps = [(law.high - law.low) / 2 * pull for pull in (law.up, law.down)]
    panels = (
        ("Bounds", "conductance, µS", (("low", law.low), ("high", law.high))),
        ("Step in the middle of the window", "dG of one pulse, µS", (("up", steps[0]), ("down", steps[1]))),
        ("Up over down", "ratio of the steps", (("", law.up / law.down),)),
    )
    for axes, (title, label, parts) in zip(page.subplots(1, 3), panels, strict=True):
        scale = 1.0 if title == "Up over down" else 1e6
        whole = scale * torch.cat([values for _, values in parts])
        low, high = float(whole.quantile(0.002)), float(whole.quantile(0.998))
        edges = np.linspace(low, high if high > low * (1 + 1e-6) else low + abs(low) * 0.1 + 1e-9, 46)
        for (name, values), colour in zip(parts, COLOURS, strict=False):
            axes.hist(scale * values.numpy(), edges, color=colour, alpha=0.65, label=name or None)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set(xlabel=label, ylabel="cells")
        axes.set_axisbelow(True)
        if len(parts) > 1:
            axes.legend(frameon=False, fontsize=8)
        tidy(axes)
    return png(page)


def _map(fits: Fits) -> bytes:
    from matplotlib.colors import BoundaryNorm, ListedColormap

    found, what = fits.findings.stuck, fits.kinds
    assert found is not None and what is not None
    colours = ("#ffffff", "#e3e8ef", "#2563a8", "#d9730d", "#8b3fa8", "#1c2430", "#b3261e")
    siemens = 1e6 * found.first.numpy()
    height, width = mosaic(siemens).shape
    page = canvas(9.6, 1.3 + min(4.6 * height / width, 9.0))
    left, right = page.subplots(1, 2)
    known = siemens[np.isfinite(siemens)]
    top = float(np.percentile(known, 99.5)) if known.size else 1.0
    image = left.imshow(mosaic(siemens), cmap="viridis", vmin=0.0, vmax=top or 1.0, interpolation="nearest")
    page.colorbar(image, ax=left, location="bottom", shrink=0.6, aspect=40, pad=0.03, label="µS", extend="max")
    left.set_title("As found", loc="left", fontsize=10)
    right.imshow(
        mosaic(what.double().numpy()), cmap=ListedColormap(colours), norm=BoundaryNorm(np.arange(8) - 0.5, 7),
        interpolation="nearest",
    )  # fmt: skip
    right.set_title("What each cell is", loc="left", fontsize=10)
    for kind in (k for k in Cell if k is not Cell.UNKNOWN):
        label = f"{kind.name.lower()} {fits.count(kind):,}"
        right.plot([], [], "s", color=colours[int(kind)], label=label)
    right.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.01))
    for axes in (left, right):
        axes.set_axis_off()
        axes.set_anchor("N")
    return png(page)
