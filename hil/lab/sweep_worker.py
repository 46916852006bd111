"""What a worker of a sweep does: one run from beginning to end, or from its last checkpoint.

A worker shares nothing with ``hil sweep`` but the sweep's folder. The operator's wish to end reaches it as a small file
there, which works for processes of this machine and for a cluster with a shared disk alike.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.errors import HilError, UsageError

WISH = "stop"
"""Name of the file in which a sweep tells its workers to end."""
STOP, ABORT = "stop\n", "abort\n"
_LOOK = 0.2
"""s between two looks for it."""
_IN_USE = 20.0
"""s to wait for a worker that was thought dead and is not."""


@dataclass(frozen=True, slots=True)
class Order:
    """One run to do; plain values, since it travels to another process.

    Args:
        folder: the run's folder, absolute.
        wish: the file that tells to end, absolute.
        run: content of the run file; its board is an absolute path.
    """

    folder: str
    wish: str
    run: Mapping[str, Any]


def prepare() -> None:
    """Readies a worker process: one thread, and no life of its own when the process that made it is gone."""
    import multiprocessing

    os.environ["OMP_NUM_THREADS"] = "1"
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)  # the record and checkpoints of a run bear it

        threading.Thread(target=follow, daemon=True, name="parent").start()


def conduct(order: Order) -> dict[str, Any]:
    """Does a run, or goes on with it; gives its result, whatever happens, as plain JSON values.

    Besides what ``RunResult.as_dict`` gives there is ``seconds``, the wall time, s, and of a deployment ``numbers``.
    """
    from hil.lab.job import failure
    from hil.lab.stop import StopToken

    begun, stop = time.perf_counter(), StopToken()
    try:
        with _obeying(Path(order.wish), stop):
            found = _run(order, stop)
    except HilError as error:
        found = failure(str(error), error.exit_code)
    except Exception as error:  # the sweep goes on; its table tells what this was
        found = failure(f"unexpected problem: {type(error).__name__}: {error}", 1)
    return {**found, "seconds": time.perf_counter() - begun}


def _run(order: Order, stop: Any) -> dict[str, Any]:
    from hil.lab import sweep_jobs

    folder = Path(order.folder)
    _wait_until_free(folder)
    return sweep_jobs.carry_out(order.run, folder, stop)


def _wait_until_free(folder: Path) -> None:
    """Waits for another process that still does this very run.

    Raises:
        UsageError: it did not end in time.
    """
    from hil.lab.claim import claimed

    deadline = time.monotonic() + _IN_USE
    while folder.is_dir() and not folder.is_symlink():
        try:
            with claimed(folder):
                return
        except UsageError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK)


@contextmanager
def _obeying(wish: Path, stop: Any) -> Generator[None]:
    """Turns the file of the sweep into wishes of a stop token while the body runs."""
    ended = threading.Event()

    def look() -> None:
        while True:
            try:
                text = wish.read_text(encoding="utf-8")
            except (OSError, ValueError):
                text = ""
            if text == ABORT:
                stop.abort("the sweep was aborted")
            elif text == STOP:
                stop.stop()
            if ended.wait(_LOOK):
                return

    looking = threading.Thread(target=look, daemon=True, name="wish")
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join(timeout=5.0)
