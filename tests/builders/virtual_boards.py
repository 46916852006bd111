"""A virtual board in a process of its own, and a tiny personality that echoes lines.

``board(settings)`` starts one and waits for its ready line. Any importable factory can make the personality:
``board(settings, "my_module:my_factory", arguments)``; the factory gets ``**arguments``, which must be plain JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from instruments.virtual.control_client import Control
from instruments.virtual.faults import FaultSettings
from instruments.virtual.personality import Task, Work
from instruments.virtual.shell import ShellSettings, serve

LONGEST_LINE = 1 << 16


class Echo:
    """Answers each line with itself.

    ``work N S text`` takes N parts of S device seconds first; ``crunch S text`` keeps the processor for S real seconds,
    in parts of 10 ms; ``! text`` is urgent; ``boom text`` raises; ``big N`` answers N bytes; ``mute`` answers nothing;
    ``watch S`` starts a watchdog that any line feeds.
    """

    def __init__(self) -> None:
        self.began: list[str] = []
        self.done: list[str] = []
        self.notes: list[str] = []
        self.armed: list[str] = []
        self.limit: float | None = None
        self.fed = 0.0

    def converse(self, client: str) -> EchoConversation:
        return EchoConversation(self)

    def tick(self, now: float) -> float | None:
        if self.limit is None:
            return None
        if now - self.fed >= self.limit:
            self.limit = None
            self.notes.append("watchdog")
            return None
        return self.fed + self.limit

    def misbehave(self, fault: str) -> bool:
        if fault == "busy":
            self.armed.append(fault)
        return fault == "busy"

    def inspect(self, what: str, arguments: Mapping[str, Any]) -> Any:
        if what not in ("began", "done", "notes"):
            raise ValueError(f"there is no {what!r}")
        return getattr(self, what)

    def work(self, line: bytes) -> Work:
        if self.limit is not None:
            self.fed = time.monotonic()
        word, *rest = line.split(b" ")
        text = line.decode("latin-1")
        self.began.append(text)
        if self.armed:
            return self.armed.pop().encode() + b"\n"
        if word == b"work":
            for _ in range(int(rest[0])):
                yield float(rest[1])
        elif word == b"crunch":
            until = time.perf_counter() + float(rest[0])
            while time.perf_counter() < until:
                time.sleep(0.01)
                yield 0.0
        elif word == b"boom":
            raise RuntimeError(text)
        elif word == b"watch":
            self.limit, self.fed = float(rest[0]), time.monotonic()
        self.done.append(text)
        if word == b"mute":
            return b""
        return (b"x" * int(rest[0]) if word == b"big" else line) + b"\n"


class EchoConversation:
    """One client of an echo."""

    def __init__(self, board: Echo) -> None:
        self._board = board
        self._part = b""

    def receive(self, data: bytes) -> Iterable[Task]:
        *lines, self._part = (self._part + data).split(b"\n")
        if len(self._part) > LONGEST_LINE:
            self._part = b""
        return [Task(self._board.work(line), urgent=line.startswith(b"!")) for line in lines]

    def silent(self) -> None:
        if self._part:
            self._board.notes.append(f"silence after {len(self._part)}")
        self._part = b""

    def lost(self) -> None:
        self._board.notes.append("lost")


@dataclasses.dataclass
class Board:
    """A virtual board that runs.

    Attributes:
        process: its process.
        addresses: what its ready line said.
    """

    process: subprocess.Popen[bytes]
    addresses: dict[str, Any]

    @property
    def tcp(self) -> tuple[str, int]:
        """Where a socket connects."""
        host, _, port = self.addresses["tcp"].removeprefix("tcp://").rpartition(":")
        return host, int(port)

    @property
    def device(self) -> str:
        """The serial line."""
        return self.addresses["pty"].removeprefix("serial://")

    def control(self) -> Control:
        """A connection to the control port, to be closed."""
        return Control(self.addresses["control"])

    def end(self, seconds: float = 5.0) -> tuple[int, str]:
        """Ends it as SIGTERM does; gives its exit status and what it said on standard error."""
        self.process.terminate()
        _, said = self.process.communicate(timeout=seconds)
        return self.process.returncode, said.decode()


@contextmanager
def board(
    settings: ShellSettings, factory: str = "virtual_boards:Echo", arguments: Mapping[str, Any] | None = None
) -> Generator[Board]:
    """Starts a virtual board, waits until it is ready, and ends it.

    Raises:
        RuntimeError: it ended, or was not ready within 20 s; the text is what it said on standard error.
    """
    plan = json.dumps([factory, dict(arguments or {}), dataclasses.asdict(settings)])
    process = subprocess.Popen(
        [sys.executable, "-c", "import virtual_boards; virtual_boards.main()", plan],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        line = _line(process, time.monotonic() + 20.0)
        if not line.endswith(b"\n"):
            process.kill()
            raise RuntimeError(f"the virtual board is not ready: {process.communicate()[1].decode()}")
        yield Board(process, json.loads(line))
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        except ValueError:  # a test has read its pipes to their end
            process.wait()


def _line(process: subprocess.Popen[bytes], until: float) -> bytes:
    """The first line of standard output, or what there is of it."""
    line = b""
    assert process.stdout is not None
    while not line.endswith(b"\n"):
        if not select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
            break
        got = os.read(process.stdout.fileno(), 1)
        if not got:
            break
        line += got
    return line


def main() -> None:
    """Serves the board that the command line describes."""
    factory, arguments, settings = json.loads(sys.argv[1])
    settings["faults"] = FaultSettings(**settings["faults"])
    settings["script"] = tuple((number, kind) for number, kind in settings["script"])
    module, _, name = factory.partition(":")
    personality = getattr(import_module(module), name)(**arguments)
    serve(personality, ShellSettings(**settings), lambda addresses: print(json.dumps(addresses), flush=True))
