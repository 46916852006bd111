"""The stop token: how an operator's wish reaches a running board."""

from __future__ import annotations

from hil.errors import Aborted


class StopToken:
    """Says whether a run should end; looked at before every list of operations.

    Attributes:
        stop_wanted: end in an orderly way at the next step.
        pause_wanted: pause at the next step.
    """

    def __init__(self) -> None:
        self.stop_wanted = False
        self.pause_wanted = False
        self._abort: str | None = None

    def stop(self) -> None:
        """Asks for an orderly end."""
        self.stop_wanted = True

    def abort(self, reason: str) -> None:
        """Asks for an end at once; no further list is sent."""
        self._abort = reason

    @property
    def aborted(self) -> bool:
        """Whether an abort was asked for."""
        return self._abort is not None

    def check(self) -> None:
        """Raises ``Aborted`` when an abort was asked for."""
        if self._abort is not None:
            raise Aborted(self._abort)
