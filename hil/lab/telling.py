"""How commands talk: to a person on the terminal, or to a program in one line of JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hil.lab.job import Observer

Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Replaces a setting.")]
Json = Annotated[bool, typer.Option("--json", help="Prints one JSON object as the last line of stdout.")]


def observer(as_json: bool) -> Observer:
    """Who watches a run: a progress bar on a terminal, lines elsewhere; beside JSON they go to stderr."""
    from hil.lab.console import Bar, Lines

    if as_json:
        return Lines(sys.stderr)
    return Bar() if sys.stdout.isatty() else Lines(sys.stdout)


def tell(lines: list[str], data: dict[str, Any], as_json: bool) -> None:
    """Prints what a command found; beside JSON the lines go to stderr."""
    try:
        for line in lines:
            typer.echo(line, err=as_json)
        if as_json:
            typer.echo(json.dumps(data))
    except BrokenPipeError:  # the exit code still counts
        discard_stdout()


def discard_stdout() -> None:
    """Whoever read the output is gone; what is left of it goes nowhere, without complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
