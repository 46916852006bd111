"""Commands that answer a question with a table and a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.lab.telling import Json, Settings, observer, tell

Out = Annotated[Path | None, typer.Option(help="Folder to make for the results.")]


def study(
    name: Annotated[str, typer.Argument(metavar="angle|size|tau|xor", help="Which study.")],
    out: Out = None,
    seeds: Annotated[int | None, typer.Option(help="Networks for each point, all trained at once.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer points, under 20 s.")] = False,
    as_json: Json = False,
) -> None:
    """Studies an algorithm on many small networks at once, without a chip, beside the papers' figures."""
    from hil.lab import studies

    written = studies.study(name, out=out, seeds=seeds, quick=quick)
    tell(written.lines(), written.as_dict(), as_json)


def compare(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG...", help="Run files.")],
    out: Out = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Runs several run files and puts accuracy, reads, pulses and lab time beside each other."""
    from hil.lab.compare import compare as run_all

    found = run_all(configs, out=out, overrides=settings or (), observer=lambda: observer(as_json))
    tell(found.lines(), found.as_dict(), as_json)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command()(study)
    app.command()(compare)
