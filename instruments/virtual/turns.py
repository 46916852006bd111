"""Carries out the commands of all clients of a board: one after another, urgent ones at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from instruments.virtual.clock import Alarm, DeviceTime
from instruments.virtual.faults import Fault
from instruments.virtual.personality import Work

if TYPE_CHECKING:
    from instruments.virtual.insides import Tally
    from instruments.virtual.line import Line

BREATH = 0.05
"""s of wall time after which work lets the loop see what has arrived, so that a safe command gets through."""


@dataclass(slots=True, eq=False)
class Job:
    """One command of one client.

    Args:
        line: who wants it, and gets the answer.
        work: what it takes.
        fault: what goes wrong.
        begun: whether its first part was done.
        due: when its next part is done, on the loop's clock.
    """

    line: Line
    work: Work
    fault: Fault | None
    begun: bool = False
    due: float = 0.0


class Turns:
    """The board's one processor. Nothing else goes on while an urgent command is carried out.

    Args:
        loop: the event loop.
        time: how device time passes.
        tally: where device time is counted.
        done: called when work came to its end or to a rest, so that the watchdog can look.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, time: DeviceTime, tally: Tally, done: Callable[[], None]
    ) -> None:
        self._loop, self._scale, self._tally, self._done = loop, time.scale, tally, done
        self._urgent: deque[Job] = deque()
        self._ordinary: deque[Job] = deque()
        self._alarm = Alarm(loop, self.go)
        self._breather: asyncio.Handle | None = None
        self._frozen = 0.0

    def take(self, job: Job, urgent: bool) -> None:
        """Carries out a command as soon as it can be; on an idle board it is done when this returns."""
        (self._urgent if urgent else self._ordinary).append(job)
        if self._breather is None or urgent:
            self.go()

    def freeze(self, seconds: float) -> None:
        """Hangs: nothing is carried out for a while; what has come until then is carried out afterwards."""
        self._frozen = self._loop.time() + seconds
        self._alarm.set(self._frozen)

    def forget(self, line: Line) -> None:
        """Drops commands of a client that is gone, except for urgent ones and the one under way."""
        for job in [job for job in self._ordinary if job.line is line and not job.begun]:
            self._ordinary.remove(job)

    def close(self) -> None:
        """Ends all work where it stands."""
        self._alarm.cancel()
        if self._breather is not None:
            self._breather.cancel()
        self._urgent.clear()
        self._ordinary.clear()

    def go(self) -> None:
        """Goes on until all work is done, rests for its device time, or has taken long."""
        started = now = self._loop.time()
        if now < self._frozen:
            self._alarm.set(self._frozen)
            return
        while queue := self._urgent or self._ordinary:
            job = queue[0]
            if not job.begun:
                job.begun, job.due = True, now
                job.line.begin(job.fault)
            elif job.due > now:
                self._alarm.set(job.due)
                break
            self._part(job, queue)
            now = self._loop.time()
            if now - started > BREATH:
                self._breathe()
                return
        self._done()

    def _part(self, job: Job, queue: deque[Job]) -> None:
        """Does the next part of a command."""
        try:
            seconds = next(job.work)
        except StopIteration as end:
            queue.remove(job)
            job.line.answer(end.value or b"", job.fault)
        except Exception as problem:
            queue.remove(job)
            job.line.fail("a command", problem)
        else:
            if seconds > 0:  # not NaN either
                self._tally.device_seconds += seconds
                job.due += seconds * self._scale

    def _breathe(self) -> None:
        """Goes on after the loop has looked at its sockets; timers come after these, other callbacks before."""
        if self._breather is None:
            self._breather = self._loop.call_later(0, self._rested)

    def _rested(self) -> None:
        self._breather = None
        self.go()
