"""Ctrl-C and SIGTERM: the first Ctrl-C ends a run in an orderly way, the second and SIGTERM at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from hil.lab.stop import StopToken


@contextmanager
def signals(stop: StopToken, tell: Callable[[str], None]) -> Iterator[None]:
    """Turns signals into wishes of a stop token while the body runs.

    Args:
        stop: the run's token.
        tell: shows the operator what will happen.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if stop.stop_wanted:
            stop.abort("second Ctrl-C")
            tell("aborting: no further operation is sent")
        else:
            stop.stop()
            tell("stopping after this step; Ctrl-C again ends at once")

    def on_terminate(number: int, frame: FrameType | None) -> None:
        stop.abort("SIGTERM")

    before = signal.signal(signal.SIGINT, on_interrupt), signal.signal(signal.SIGTERM, on_terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
