"""A board together with what is held for it: locks, and the keeper that watches over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hil.contract import Backend, BoardSpec, Op, Outcome, SafeReport


class Held:
    """A backend that lets go of what is held for it after it was closed.

    Args:
        board: the driver.
        release: lets go; called once.
    """

    def __init__(self, board: Backend, release: Callable[[], None]) -> None:
        self.board = board
        self._release = release
        self._is_released = False

    @property
    def spec(self) -> BoardSpec:
        """See ``Backend``."""
        return self.board.spec

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        """See ``Backend``."""
        return self.board.execute(ops)

    def now(self) -> float:
        """See ``Backend``."""
        return self.board.now()

    def make_safe(self) -> SafeReport:
        """See ``Backend``."""
        return self.board.make_safe()

    def close(self) -> None:
        """See ``Backend``; what is held goes, whatever the board says."""
        try:
            self.board.close()
        finally:
            if not self._is_released:
                self._is_released = True
                self._release()
