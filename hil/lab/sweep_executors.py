"""Who does the runs of a sweep: processes of this machine, or the workers of a Dask cluster.

Both are executors of ``concurrent.futures``. A future that ends with an exception means that its worker died, since the
work itself gives every failure back as a result.
"""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.connection
import signal
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from hil.errors import LinkLost, UsageError
from hil.lab.plain import printable

_CONNECT = 20.0
"""s in which a cluster must answer."""
_END = 10.0
"""s in which an idle worker process must end before it is killed."""


class Processes(Executor):
    """Fresh processes of this machine, each in a pool of its own.

    A ``ProcessPoolExecutor`` that loses one process gives up all its work and does not say whose fault it was; with a
    pool for each process the others work on, and a death belongs to one run. Ctrl-C in the terminal does not reach
    them.

    Args:
        count: how many at most.
        prepare: called once in each process.
    """

    def __init__(self, count: int, prepare: Callable[[], object]) -> None:
        self._count, self._prepare = count, prepare
        self._context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._pools: list[ProcessPoolExecutor] = []
        self._idle: list[ProcessPoolExecutor] = []
        self._processes: list[Any] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Gives work to a free process; see ``Executor``.

        Raises:
            RuntimeError: all processes are busy.
        """
        with self._lock:
            pool = self._idle.pop() if self._idle else self._fresh()
        before = set(multiprocessing.active_children())
        with _without_ctrl_c():
            future = pool.submit(fn, *args, **kwargs)
        self._processes += [child for child in multiprocessing.active_children() if child not in before]
        future.add_done_callback(lambda done: self._back(pool, done))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes; one that does not end in time is killed. See ``Executor``."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=cancel_futures)
        if not wait:
            return
        left = [process for process in self._processes if process.is_alive()]
        for process in left:
            if not multiprocessing.connection.wait([process.sentinel], _END):
                process.kill()

    def _fresh(self) -> ProcessPoolExecutor:
        if len(self._pools) >= self._count:
            raise RuntimeError(f"all {self._count} processes are busy")
        pool = ProcessPoolExecutor(max_workers=1, mp_context=self._context, initializer=self._prepare)
        self._pools.append(pool)
        return pool

    def _back(self, pool: ProcessPoolExecutor, done: Future[Any]) -> None:
        """After a piece of work the process is free again, or is replaced when it died."""
        with self._lock:
            if done.cancelled() or done.exception() is None:
                self._idle.append(pool)
                return
            self._pools.remove(pool)
        pool.shutdown(wait=False)


@contextmanager
def dask(url: str) -> Generator[Executor]:
    """The executor of a Dask cluster.

    Args:
        url: address of its scheduler, such as ``tcp://lab:8786``.

    Raises:
        UsageError: the address is none, or Dask is not installed.
        LinkLost: no scheduler answers.
    """
    shown = printable(url)
    if not url.startswith(("tcp://", "tls://")):
        raise UsageError(f"--scheduler {shown}: give the address of a Dask scheduler, such as tcp://lab:8786")
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        problem = "--scheduler needs Dask, which is not installed; install crossbar-hil[sweep]"
        raise UsageError(f"{problem} ({printable(str(error))})") from error
    try:
        client: Any = distributed.Client(url, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise LinkLost(shown, f"no Dask scheduler answers ({printable(str(error), 300)})") from error
    try:
        yield client.get_executor(pure=False)
    finally:
        client.close()


@contextmanager
def _without_ctrl_c() -> Generator[None]:
    """A process that is made inside inherits that Ctrl-C is held back; its parent tells it when to end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
