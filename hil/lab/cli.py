"""The command line. Heavy packages are imported inside the commands, so that ``hil --help`` is quick."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.errors import HilError
from hil.lab import cli_boards, cli_characterize, cli_device, cli_studies, cli_sweep
from hil.lab.telling import Json, Settings, discard_stdout, observer, tell

if TYPE_CHECKING:
    from hil.lab.job import RunResult

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


@app.command()
def run(
    config: RunFile,
    out: Annotated[Path | None, typer.Option(help="Folder to make for the run.")] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Runs a run file: programs the chip, trains, and writes a run folder with a report."""
    from hil.lab import runs

    _finish(runs.run(config, out=out, overrides=settings or (), observer=observer(as_json)), as_json)


@app.command()
def resume(
    folder: RunFolder,
    board: Annotated[str | None, typer.Option(help="The URL of the run's board, where it has another now.")] = None,
    as_json: Json = False,
) -> None:
    """Goes on with a run from its last checkpoint."""
    from hil.lab import runs

    _finish(runs.resume(folder, url=board, observer=observer(as_json)), as_json)


@app.command()
def check(config: RunFile, settings: Settings = None, as_json: Json = False) -> None:
    """Tries the first steps on a simulator of the board and says what the whole run would take."""
    from dataclasses import asdict

    from hil.lab.forecast import forecast
    from hil.lab.runs import read_plan

    found = forecast(read_plan(config, settings or ()))
    tell(found.lines(), {"status": "done", **asdict(found), "within_budget": found.within_budget}, as_json)
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
    kind: Annotated[str, typer.Argument(metavar="run|board|sweep", help="Which kind of file.")] = "run",
) -> None:
    """Prints the JSON schema of run files, board files or sweep files, for completion in editors."""
    from hil.lab import config as configuration
    from hil.lab.boardfile import BoardFile
    from hil.lab.runfile import RunConfig
    from hil.lab.sweepfile import SweepConfig

    kinds: dict[str, Any] = {"run": RunConfig, "board": BoardFile, "sweep": SweepConfig}
    if kind not in kinds:
        raise typer.BadParameter(f"{kind!r} is neither run nor board nor sweep")
    typer.echo(json.dumps(configuration.json_schema(kinds[kind]), indent=1))


def _finish(result: RunResult, as_json: bool) -> None:
    """Tells how a run ended, and ends the command with its exit code."""
    from hil.lab.signals import signals
    from hil.lab.stop import StopToken
    from hil.units import duration

    lines = [f"{result.status} after {result.steps} steps" + (f": {result.error}" if result.error else "")]
    if result.test_accuracy is not None:
        software = result.software_accuracy
        beside = "" if software is None else f" (software {100 * software:.1f} %)"
        lines.append(f"test accuracy {100 * result.test_accuracy:.1f} %{beside}")
        hours = result.lab_seconds / 3600
        lines.append(f"on the real board: {f'{hours:.1f} h' if hours >= 0.05 else duration(result.lab_seconds)}")
    if result.link is not None:
        lines.append(f"link: {result.link}")
    lines.append(f"board: {result.safe}")
    lines.append(f"report: {result.run_dir / 'report.html'}")
    if result.status in ("stopped", "aborted") or result.exit_code in (3, 6):
        lines.append(f"go on with: hil resume {result.run_dir}")
    with signals(StopToken(), lambda text: None):  # the run is over; what it came to is told all the same
        tell(lines, result.as_dict(), as_json)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


cli_boards.register(app)
cli_characterize.register(app)
cli_device.register(app)
cli_studies.register(app)
cli_sweep.register(app)


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point: every error of the house becomes a sentence and an exit code, never a traceback.

    Args:
        argv: the command line without its first word; None for that of the process.
    """
    from hil.lab.signals import Interrupted, interruptible

    words = sys.argv[1:] if argv is None else list(argv)
    as_json = "--json" in words
    try:
        with interruptible():
            code = _guarded(words, as_json)
    except Interrupted as error:
        code = _failed(f"ended by the operator ({error})", 4, as_json)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()
    sys.exit(code)


def _guarded(words: list[str], as_json: bool) -> int:
    """Runs the command of the command line and gives its exit code."""
    try:
        code = app(words, prog_name="hil", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except HilError as error:
        return _failed("\n".join([str(error), *_notes(error)]), error.exit_code, as_json)
    except BrokenPipeError:
        discard_stdout()
        return 0
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's way of saying that the command line is wrong
            return _misused(error, as_json)
        if os.environ.get("HIL_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}"
        text = "\n".join([f"unexpected problem, please report it: {what}", *_notes(error)])
        return _failed(text, 1, as_json)


def _notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", []))


def _misused(error: Any, as_json: bool) -> int:
    from typer import rich_utils

    rich_utils.rich_format_error(error)
    return _failed(str(error.format_message()), 2, as_json, told=True)


def _failed(text: str, code: int, as_json: bool, *, told: bool = False) -> int:
    """Tells of an error in words on stderr and, where asked for, as the last line of stdout; gives the code back."""
    from hil.lab.job import failure

    if not told:
        typer.echo(text, err=True)
    if as_json:
        typer.echo(json.dumps(failure(text, code)))
    return code
