"""The states of a run and how it may pass from one to another.

The words are those of the large facilities (bluesky): stop ends as a success, abort cleans up and marks the run as
failed, halt ends without clean-up.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from hil.errors import UsageError


class RunState(Enum):
    """Where a run is."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    ABORTING = "aborting"
    HALTED = "halted"
    SAFE = "safe"
    FAULT = "fault"


_S = RunState
TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    _S.IDLE: frozenset({_S.RUNNING, _S.HALTED}),
    _S.RUNNING: frozenset({_S.PAUSING, _S.STOPPING, _S.ABORTING, _S.HALTED}),
    _S.PAUSING: frozenset({_S.PAUSED, _S.STOPPING, _S.ABORTING, _S.HALTED}),
    _S.PAUSED: frozenset({_S.RUNNING, _S.STOPPING, _S.ABORTING, _S.HALTED}),
    _S.STOPPING: frozenset({_S.SAFE, _S.FAULT, _S.ABORTING, _S.HALTED}),
    _S.ABORTING: frozenset({_S.SAFE, _S.FAULT, _S.HALTED}),
    _S.HALTED: frozenset(),
    _S.SAFE: frozenset(),
    _S.FAULT: frozenset(),
}
"""A fault is left only by a person: a new run, after a look at the board."""


class Machine:
    """The state of one run.

    Args:
        tell: called with the old and the new state at every transition.
    """

    def __init__(self, tell: Callable[[RunState, RunState], None] | None = None) -> None:
        self.state = RunState.IDLE
        self._tell = tell

    def to(self, state: RunState) -> None:
        """Passes to another state.

        Raises:
            UsageError: there is no such transition.
        """
        if state not in TRANSITIONS[self.state]:
            raise UsageError(f"a run that is {self.state.value} cannot become {state.value}")
        old, self.state = self.state, state
        if self._tell is not None:
            self._tell(old, state)

    @property
    def ended(self) -> bool:
        """Whether nothing more can happen."""
        return not TRANSITIONS[self.state]
