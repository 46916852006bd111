"""The commands about device models: fit a jump table to measured pulses, look at it, study what it does to networks."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hil.lab.telling import Json, tell

device = typer.Typer(
    name="device", help="Device models from measured pulses: fit, plot and bias.", no_args_is_help=True
)
Width = Annotated[str | None, typer.Option(help='Which width, e.g. "1 us", where there are several.')]
Amplitude = Annotated[str | None, typer.Option(help='Which amplitude, e.g. "1.5 V", where there are several.')]


class _Method(Enum):
    """How samples are binned."""

    EQUAL = "equal"
    QUANTILE = "quantile"
    OPTIMISED = "optimised"


@device.command()
def fit(
    samples: Annotated[Path, typer.Argument(metavar="SAMPLES", help="CSV: G (uS), dG (uS), polarity, volts (V), ...")],
    out: Annotated[Path, typer.Option(metavar="TABLE", help="Folder to make for the table and its device file.")],
    *,
    method: Annotated[
        _Method, typer.Option(help="Bins of equal width or count, or found by Optuna.")
    ] = _Method.QUANTILE,
    bins: Annotated[
        int | None, typer.Option(help="Bins per polarity; by default the cube root of its samples.")
    ] = None,
    held_out: Annotated[float, typer.Option(help="Share of the samples to judge the table by; 0 for none.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of the split and the search.")] = 0,
    trials: Annotated[int, typer.Option(help="Binnings that the search tries.")] = 100,
    set_volts: Amplitude = None,
    set_width: Width = None,
    reset_volts: Amplitude = None,
    reset_width: Width = None,
    as_json: Json = False,
) -> None:
    """Fits a jump table to measured pulses, judges it by pulses held out, and writes it with a device file."""
    from hil.errors import UsageError
    from hil.lab.device_fit import Pick, fit_file
    from hil.units import parse
    from sim_backend.fit.binning import Binning

    try:
        binning = Binning(method=method.value, bins=bins, seed=seed, trials=trials)
        picks = [
            Pick(None if volts is None else parse(volts, "V"), None if width is None else parse(width, "s"))
            for volts, width in ((set_volts, set_width), (reset_volts, reset_width))
        ]
    except ValueError as error:
        raise UsageError(f"hil device fit: {error}") from None
    found = fit_file(samples, out, binning, picks=(picks[0], picks[1]), held_out=held_out)
    tell(found.lines(), found.as_dict(), as_json)


@device.command()
def plot(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Folder of a jump table, or folder and prefix.")],
    out: Annotated[Path, typer.Option(metavar="PNG", help="The picture to write.")],
    samples: Annotated[Path | None, typer.Option(help="CSV of samples to show behind it.")] = None,
    as_json: Json = False,
) -> None:
    """Draws a jump table: the mean and the spread of what one pulse does at each conductance."""
    from hil.lab.device_plot import plot_file

    found = plot_file(table, out, samples)
    tell(found.lines(), found.as_dict(), as_json)


@device.command()
def bias(
    out: Annotated[Path | None, typer.Option(help="Folder to make for the results.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer tables, under 30 s.")] = False,
    as_json: Json = False,
) -> None:
    """Studies how far off the accuracy of a network is on tables of a known device, by samples and bins."""
    from hil.lab import studies

    written = studies.study("modeling_bias", out=out, quick=quick)
    tell(written.lines(), written.as_dict(), as_json)


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.add_typer(device)
