"""The command that characterises a board."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hil.lab.telling import Json, Settings, tell


def characterize(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="A board file, or the URL of a board.")],
    *,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to make for the files.")] = None,
    plan: Annotated[Path | None, typer.Option(help="A plan file; the usual plan by default.")] = None,
    settings: Settings = None,
    dry: Annotated[bool, typer.Option("--dry", help="Say what the plan would cost, and send nothing.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of a simulated board whose file names none.")] = 0,
    as_json: Json = False,
) -> None:
    """Measures a board: converters, noise, stuck cells, response to pulses, line resistance. Writes simulator files."""
    from dataclasses import asdict

    from hil.lab.characterizing import Characterized
    from hil.lab.characterizing import characterize as characterized
    from hil.lab.console import Lines

    say = Lines(sys.stderr if as_json else sys.stdout).say
    found = characterized(board, plan=plan, out=out, overrides=settings or (), seed=seed, say=say, dry=dry)
    if not isinstance(found, Characterized):
        tell([], {"status": "done", "lab_seconds": found.seconds, **asdict(found)}, as_json)
        return
    tell(found.lines(), found.as_dict(), as_json)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(characterize)
