"""The test's end of a virtual board's control port."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any

from hil.errors import LinkLost, LinkTimeout
from instruments.virtual.tcp_side import split


class Control:
    """Looks inside a virtual board, and breaks it.

    Args:
        url: of the control port, ``tcp://host:port``.
        seconds: the longest wait for an answer.

    Raises:
        LinkLost: nothing listens there.
    """

    def __init__(self, url: str, seconds: float = 5.0) -> None:
        self.url = url
        self._seconds = seconds
        self._kept = bytearray()
        try:
            self._socket = socket.create_connection(split(url), timeout=seconds)
        except OSError as problem:
            raise LinkLost(url, f"the control port cannot be reached ({problem})") from problem

    def ask(self, do: str, **arguments: Any) -> Any:
        """Has something done, and gives its value.

        Raises:
            ValueError: the board refused; its words are the text.
            LinkTimeout: there was no answer in time.
            LinkLost: the board is gone.
        """
        request = json.dumps({"do": do, **arguments}).encode() + b"\n"
        started = time.monotonic()
        try:
            self._socket.settimeout(self._seconds)
            self._socket.sendall(request)
            while b"\n" not in self._kept:
                left = started + self._seconds - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._socket.settimeout(left)
                got = self._socket.recv(1 << 16)
                if not got:
                    raise LinkLost(self.url, "the board closed its control port")
                self._kept += got
        except TimeoutError as problem:
            waited = time.monotonic() - started
            raise LinkTimeout(self.url, f"answer to {do}", waited, len(self._kept)) from problem
        except OSError as problem:
            raise LinkLost(self.url, str(problem)) from problem
        line, _, self._kept = self._kept.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["value"]

    def inspect(self, what: str, **arguments: Any) -> Any:
        """Asks about the inside of the board."""
        return self.ask("inspect", what=what, **arguments)

    def fault(self, kind: str, count: int = 1) -> None:
        """Makes a fault happen to the next commands."""
        self.ask("fault", kind=kind, count=count)

    def faults(
        self,
        rates: Mapping[str, float] | None = None,
        script: Iterable[tuple[int, str]] | None = None,
        seed: int | None = None,
    ) -> None:
        """Changes the schedule of faults; what is not given stays."""
        plan = None if script is None else [list(item) for item in script]
        self.ask("faults", rates=None if rates is None else dict(rates), script=plan, seed=seed)

    def freeze(self, seconds: float) -> None:
        """Hangs the board for a while; the lines stay."""
        self.ask("freeze", seconds=seconds)

    def disconnect(self) -> int:
        """Cuts all clients off; gives how many there were."""
        return self.ask("disconnect")

    def counters(self) -> dict[str, Any]:
        """What the board has seen."""
        return self.ask("counters")

    def close(self) -> None:
        """Lets go of the control port."""
        self._socket.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
