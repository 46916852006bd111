"""Ctrl-C, SIGTERM and a closed terminal: the first Ctrl-C ends a run in an orderly way, all others at once.

While a board is open, signals only set a stop token, so that no operation is cut in its middle. Before and after, they
raise ``Interrupted``.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType

from hil.lab.stop import StopToken

_NAMES = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "SIGHUP": "terminal closed"}
"""SIGHUP does not exist everywhere."""


class Interrupted(BaseException):
    """A signal came while no board was open; no ``Exception``, so that nothing takes it for a failure of its own."""


@contextmanager
def signals(stop: StopToken, tell: Callable[[str], None]) -> Generator[None]:
    """Turns signals into wishes of a stop token while the body runs.

    Args:
        stop: the run's token.
        tell: shows the operator what will happen.
    """

    def on_signal(name: str) -> None:
        if name == "SIGINT" and not stop.stop_wanted:
            stop.stop()
            _tell("stopping after this step (in the set-up: at its end); Ctrl-C again ends at once")
        else:
            stop.abort("second Ctrl-C" if name == "SIGINT" else _NAMES[name])
            _tell(f"aborting ({_NAMES[name]}): no further operation is sent")

    def _tell(text: str) -> None:
        with suppress(RuntimeError):  # the signal came while this very stream was being written to
            tell(text)

    with _handled(on_signal):
        yield


@contextmanager
def interruptible() -> Generator[None]:
    """Lets the first signal raise ``Interrupted`` while the body runs; those after it find it ending already."""
    armed = True

    def on_signal(name: str) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Interrupted(_NAMES[name])

    with _handled(on_signal):
        try:
            yield
        finally:
            armed = False


@contextmanager
def _handled(on_signal: Callable[[str], None]) -> Generator[None]:
    """Installs a handler; only the main thread can. A SIGHUP that the caller ignores (nohup) stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, frame: FrameType | None) -> None:
        on_signal(signal.Signals(number).name)

    wanted = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    kept = [s for s in wanted if s is signal.SIGINT or signal.getsignal(s) is not signal.SIG_IGN]
    before = [(s, signal.signal(s, handler)) for s in kept]
    try:
        yield
    finally:
        for number, old in before:
            signal.signal(number, old)
