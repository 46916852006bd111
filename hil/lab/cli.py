"""The command line. Heavy packages are imported inside the commands, so that ``hil --help`` is quick."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.errors import HilError

if TYPE_CHECKING:
    from hil.lab.job import Observer, RunResult

EXIT_CODES = "Exit codes: 0 done, 2 bad config or usage, 3 instrument, 4 ended by the operator, 5 safety, 6 storage."

app = typer.Typer(
    name="hil",
    help="Trains neural networks on memristor crossbar chips with the chip in the loop.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

RunFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A run file, e.g. config/runs/digits_node.yaml.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Replaces a setting.")]
Json = Annotated[bool, typer.Option("--json", help="Prints one JSON object as the last line of stdout.")]


@app.command()
def run(
    config: RunFile,
    out: Annotated[Path | None, typer.Option(help="Folder to make for the run.")] = None,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Runs a run file: programs the chip, trains, and writes a run folder with a report."""
    from hil.lab import runs

    _finish(runs.run(config, out=out, overrides=settings or (), observer=_observer(as_json)), as_json)


@app.command()
def resume(folder: RunFolder, as_json: Json = False) -> None:
    """Goes on with a run from its last checkpoint."""
    from hil.lab import runs

    _finish(runs.resume(folder, observer=_observer(as_json)), as_json)


@app.command()
def check(config: RunFile, settings: Set = None, as_json: Json = False) -> None:
    """Tries the first steps on a simulator of the board and says what the whole run would take."""
    from dataclasses import asdict

    from hil.lab.forecast import forecast
    from hil.lab.runs import read_plan

    found = forecast(read_plan(config, settings or ()))
    _print(found.lines(), {"status": "done", **asdict(found), "within_budget": found.within_budget}, as_json)
    if not found.within_budget:
        raise typer.Exit(5)


@app.command()
def report(folder: RunFolder) -> None:
    """Writes the report of a run anew."""
    from hil.lab.report import write_report
    from hil.lab.runs import read_folder

    read_folder(folder)
    typer.echo(write_report(folder))


@app.command()
def safe(board: Annotated[str, typer.Argument(metavar="BOARD", help="A board file.")]) -> None:
    """Switches every output of a board off, and says whether that could be confirmed."""
    from hil.lab.build import open_board

    backend = open_board(board)
    found = backend.make_safe()
    backend.close()
    typer.echo(f"{backend.spec.identity.name}: {found}")
    if not found.confirmed:
        raise typer.Exit(3)


@app.command()
def doctor() -> None:
    """Looks at the installation and says what would go wrong."""
    from hil.lab.doctor import examine

    findings = examine()
    for finding in findings:
        typer.echo(f"{'ok ' if finding.good else 'BAD'}  {finding.name:<14}{finding.text}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(2)


@app.command()
def schema(
    kind: Annotated[str, typer.Argument(metavar="run|board", help="Which kind of file.")] = "run",
) -> None:
    """Prints the JSON schema of run files or board files, for completion in editors."""
    from hil.lab import config as configuration
    from hil.lab.runfile import RunConfig, SimulatedBoard

    kinds: dict[str, Any] = {"run": RunConfig, "board": SimulatedBoard}
    if kind not in kinds:
        raise typer.BadParameter(f"{kind!r} is neither run nor board")
    typer.echo(json.dumps(configuration.json_schema(kinds[kind]), indent=1))


def _observer(as_json: bool) -> Observer:
    from hil.lab.console import Bar, Lines

    if as_json:
        return Lines(sys.stderr)
    return Bar() if sys.stdout.isatty() else Lines(sys.stdout)


def _finish(result: RunResult, as_json: bool) -> None:
    """Tells how a run ended, and ends the command with its exit code."""
    lines = [f"run folder: {result.run_dir}", f"report: {result.run_dir / 'report.html'}", result.safe]
    if result.test_accuracy is not None:
        software = result.software_accuracy
        beside = "" if software is None else f" (software {100 * software:.1f} %)"
        lines.append(f"test accuracy {100 * result.test_accuracy:.1f} %{beside}")
        hours = result.lab_seconds / 3600
        lines.append(f"on the real board: {hours:.1f} h" if hours >= 0.1 else _short(result.lab_seconds))
    if result.error:
        lines.append(f"{result.status}: {result.error}")
    _print(lines, result.as_dict(), as_json)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _short(seconds: float) -> str:
    from hil.units import engineering

    return f"on the real board: {engineering(seconds, 's')}"


def _print(lines: list[str], data: dict[str, Any], as_json: bool) -> None:
    for line in lines:
        typer.echo(line, err=as_json)
    if as_json:
        typer.echo(json.dumps(data))


def main() -> None:
    """The entry point: every error of the house becomes a sentence and an exit code, never a traceback."""
    code = _guarded(lambda: app(standalone_mode=True))
    sys.stdout.flush()
    sys.exit(code)


def _guarded(command: Callable[[], Any]) -> int:
    try:
        command()
    except HilError as error:
        typer.echo(str(error), err=True)
        if "--json" in sys.argv:
            typer.echo(json.dumps({"status": "failed", "exit_code": error.exit_code, "error": str(error)}))
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0
