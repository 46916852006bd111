"""The commands about boards: which there are, who uses them, their safe state, and virtual ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hil.lab.telling import Json

Board = Annotated[str, typer.Argument(metavar="BOARD", help="A board file, or the URL of a board.")]


def safe(board: Board, as_json: Json = False) -> None:
    """Switches every output of a board off, whoever uses it, and says whether that could be confirmed."""
    from hil.lab.emergency import made_safe
    from hil.lab.signals import signals
    from hil.lab.stop import StopToken

    with signals(StopToken(), lambda text: None):  # nothing comes between a board and its safe state
        name, found = made_safe(board)
    plain = {"board": name, "confirmed": found.confirmed, "outputs": dict(found.outputs)}
    typer.echo(json.dumps(plain) if as_json else f"{name}: {found}")
    if not found.confirmed:
        raise typer.Exit(3)


def who(as_json: Json = False) -> None:
    """Tells which boards are in use on this machine, and by whom."""
    from dataclasses import asdict

    from instruments.ownership import owners

    found = owners()
    if as_json:
        typer.echo(json.dumps([asdict(owner) for owner in found]))
        return
    for owner in found:
        run = f", run {owner.run}" if owner.run else ""
        typer.echo(f"{owner.board:<24}process {owner.pid} of {owner.user} on {owner.host}{run}, since {owner.since}")
    if not found:
        typer.echo("no board is in use")


def boards(
    url: Annotated[str | None, typer.Argument(help="Meet the board behind this URL; leave it out for a list.")] = None,
    describe: Annotated[bool, typer.Option(help="Print what the board says it is, as a board file.")] = False,
    as_json: Json = False,
) -> None:
    """Lists where boards may be, or meets one: asks who it is, and shows what came back."""
    from hil.errors import UsageError
    from hil.lab import config, meeting

    if url is None:
        if describe:
            raise UsageError("--describe needs the URL of a board")
        places = meeting.places()
        plain = [{"url": place.url, "about": place.about} for place in places]
        lines = [f"{place.url:<44}{place.about}" for place in places]
        typer.echo(
            json.dumps(plain) if as_json else "\n".join(lines or ["no serial port and no VISA resource is here"])
        )
    elif describe:
        said = meeting.description(url)
        typer.echo(json.dumps(said) if as_json else config.dump(said).rstrip("\n"))
    else:
        met = meeting.meet(url)
        typer.echo(json.dumps(met.as_dict()) if as_json else "\n".join(met.lines()))
        if not met.speaks:
            raise typer.Exit(3)


def emulate(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="A board file.")],
    *,
    seed: Annotated[int, typer.Option(min=0, help="Seed of chip and noise, where the file names none.")] = 0,
    tcp: Annotated[str | None, typer.Option(help="host:port to listen at; port 0 lets the system choose.")] = None,
    pty: Annotated[bool, typer.Option(help="Offer a serial line.")] = False,
    pty_link: Annotated[str | None, typer.Option(help="A symbolic link to keep at the serial line.")] = None,
    control: Annotated[str | None, typer.Option(help="host:port of the control port for tests.")] = None,
    time: Annotated[str, typer.Option(help="asap, real, or a speed such as x10.")] = "asap",
    baud: Annotated[int | None, typer.Option(min=10, help="Pace of all lines, as an 8N1 serial line has it.")] = None,
    rate: Annotated[str | None, typer.Option(help='Pace of all lines, e.g. "1 MB/s".')] = None,
    round_trip: Annotated[str, typer.Option(help='How late every answer is, e.g. "2 ms".')] = "0 s",
    faults: Annotated[Path | None, typer.Option(help="A YAML file: the probability of each fault.")] = None,
    personality: Annotated[str | None, typer.Option(help="The wire protocol; the file's own by default.")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Write the addresses into this file as well.")] = None,
) -> None:
    """Behaves like a board, in a process of its own; prints one line of JSON with its addresses when it is ready."""
    from hil.errors import UsageError
    from hil.lab import config
    from hil.lab.checkpoint import write_atomically
    from hil.lab.emulate import emulate as served
    from hil.lab.opening import read_board
    from hil.units import parse
    from instruments.virtual.faults import FaultSettings
    from instruments.virtual.shell import ShellSettings

    chosen = FaultSettings() if faults is None else config.load(config.find(faults), FaultSettings).value
    if rate is not None and baud is not None:
        raise UsageError("--baud and --rate are two words for the same; give one")
    try:
        pace = None if baud is None else baud / 10
        settings = ShellSettings(
            tcp=tcp if tcp or pty else "127.0.0.1:0", pty=pty, pty_link=pty_link, control=control, time=time,
            rate=pace if rate is None else parse(rate, "B/s"), round_trip=parse(round_trip, "s"), faults=chosen,
            seed=seed,
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(f"hil emulate: {error}") from None

    def ready(line: str) -> None:
        if ready_file is not None:
            try:
                write_atomically(ready_file, line.encode())
            except OSError as error:
                raise UsageError(f"--ready-file {ready_file}: cannot be written ({error.strerror or error})") from error
        typer.echo(line)

    try:
        served(read_board(board), settings, ready, seed=seed, baud=baud, personality=personality)
    except OSError as error:
        raise UsageError(f"hil emulate cannot offer its lines: {error.strerror or error}") from error


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (boards, emulate, safe, who):
        app.command()(command)
