"""The virtual board's shell: a program that gives a personality its lines, its time, its faults and its end."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import os
import signal
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.units import BytesPerSecond, Seconds
from instruments.virtual.clock import DeviceTime, Watch
from instruments.virtual.control import ControlPort
from instruments.virtual.faults import FaultSchedule, FaultSettings
from instruments.virtual.insides import Insides, Tally, complain
from instruments.virtual.personality import Personality
from instruments.virtual.tcp_side import TcpPort, split, url_of
from instruments.virtual.turns import Turns


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellSettings:
    """How a virtual board is reached, how fast it is, and what goes wrong.

    Args:
        tcp: ``host:port`` to listen at; port 0 lets the system choose. None: no network.
        pty: whether there is a serial line.
        pty_link: a symbolic link to keep at the serial line; with it, a disconnect fault really hangs up.
        control: ``host:port`` of the control port, on this machine only; None: there is none.
        time: ``asap``, ``real``, or a speed such as ``x10``.
        rate: B/s of each line and direction; None: bytes take no time.
        round_trip: s that an answer is late even when it is short.
        silence: s after which a board forgets a message that has arrived in part.
        faults: how often each fault happens.
        seed: of the faults.
        script: faults at given commands, (number, kind); the first command has the number 1.
    """

    tcp: str | None = "127.0.0.1:0"
    pty: bool = False
    pty_link: str | None = None
    control: str | None = None
    time: str = "asap"
    rate: BytesPerSecond | None = None
    round_trip: Seconds = 0.0
    silence: Seconds = 0.05
    faults: FaultSettings = field(default_factory=FaultSettings)
    seed: int = 0
    script: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        DeviceTime.of(self.time)
        if self.rate is not None and not 1.0 <= self.rate < math.inf:
            raise ValueError(f"rate must be at least 1 B/s, got {self.rate}")
        if not 0.0 <= self.round_trip <= 60.0:
            raise ValueError(f"round_trip must lie between 0 and 60 s, got {self.round_trip}")
        if not 0.001 <= self.silence <= 60.0:
            raise ValueError(f"silence must lie between 0.001 and 60 s, got {self.silence}")
        for name in ("tcp", "control"):
            address = getattr(self, name)
            with _named(name):
                host = split(address)[0] if address is not None else "localhost"
            if name == "control" and not _is_here(host):
                raise ValueError(f"control must listen on this machine only, got {host[:40]!r}; it has no password")
        if self.pty_link is not None and not self.pty:
            raise ValueError("pty_link needs pty")
        with _named("script"):
            FaultSchedule(self.faults, self.seed, self.script)


@contextmanager
def _named(name: str) -> Generator[None]:
    """Puts the name of a field before the text of a ValueError."""
    try:
        yield
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from problem


def _is_here(host: str) -> bool:
    """Whether a host's name can only mean this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(personality: Personality, settings: ShellSettings, ready: Callable[[dict[str, Any]], None]) -> None:
    """Serves a board until SIGTERM or SIGINT; then all clients are gone and all lines closed.

    Args:
        personality: the board.
        settings: lines, time and faults.
        ready: called once with the addresses, when clients can come: ``tcp``, ``pty`` and ``control`` as far as
            there are such, and ``pid``.

    Raises:
        OSError: an address is taken, or there is no serial line on this system.
    """
    asyncio.run(_serve({"": personality}, settings, lambda found: ready({**found[""], "pid": os.getpid()})))


def serve_bench(
    instruments: Mapping[str, Personality], settings: ShellSettings, ready: Callable[[dict[str, Any]], None]
) -> None:
    """Serves several instruments of one bench, each at lines of its own, as ``serve`` does.

    Args:
        instruments: each by its name.
        settings: of all; addresses must leave the choice of ports to the system.
        ready: called once with the addresses of each by its name, and ``pid``.

    Raises:
        OSError: an address is taken, or there is no serial line on this system.
    """
    asyncio.run(_serve(instruments, settings, lambda found: ready({**found, "pid": os.getpid()})))


async def _serve(
    boards: Mapping[str, Personality], settings: ShellSettings, ready: Callable[[dict[str, Any]], None]
) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, ended.set)
    with ExitStack() as closing:
        ready({name: await _opened(board, settings, closing) for name, board in boards.items()})
        await ended.wait()
    await asyncio.sleep(0.01)  # lets the closed connections go


async def _opened(personality: Personality, settings: ShellSettings, closing: ExitStack) -> dict[str, Any]:
    """Opens the lines of one board and gives their addresses."""
    loop = asyncio.get_running_loop()
    insides, controls = _insides(loop, personality, settings), set[asyncio.Transport]()
    closing.callback(_end, insides, controls)
    addresses: dict[str, Any] = {}
    if settings.tcp is not None:
        server = await loop.create_server(lambda: TcpPort(insides), *split(settings.tcp))
        closing.callback(server.close)
        addresses["tcp"] = url_of(server)
    if settings.pty:
        from instruments.virtual.pty_side import PtyPort  # POSIX only

        port = PtyPort(insides, Path(settings.pty_link).absolute() if settings.pty_link is not None else None)
        closing.callback(port.close)
        addresses["pty"] = port.url
    if settings.control is not None:
        server = await loop.create_server(lambda: ControlPort(insides, controls), *split(settings.control))
        closing.callback(server.close)
        addresses["control"] = url_of(server)
    insides.watch.look()
    return addresses


def _insides(loop: asyncio.AbstractEventLoop, personality: Personality, settings: ShellSettings) -> Insides:
    """Puts together what all lines share."""
    tally = Tally()

    def look(now: float) -> float | None:
        try:
            return personality.tick(now)
        except Exception as problem:
            complain(tally, "the watchdog", problem)
            return None

    def lost(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        complain(tally, "the shell", context.get("exception") or RuntimeError(context.get("message", "")))

    loop.set_exception_handler(lost)
    watch = Watch(loop, look)
    turns = Turns(loop, DeviceTime.of(settings.time), tally, watch.look)
    faults = FaultSchedule(settings.faults, settings.seed, settings.script)
    pace = settings.rate, settings.round_trip, settings.silence
    return Insides(loop, personality, turns, faults, watch, tally, *pace)


def _end(insides: Insides, controls: set[asyncio.Transport]) -> None:
    """Ends all conversations; a board that has an owner makes itself safe."""
    insides.turns.close()
    for line in list(insides.lines):
        line.drop()
    insides.watch.stop()
    for transport in list(controls):
        transport.abort()
