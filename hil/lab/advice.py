"""Hints to the operator from the numbers of the steps, each given once."""

from __future__ import annotations

from collections.abc import Callable

from hil.protocol import StepRecord

UPDATES = 50
SHARE = 0.5


class Advice:
    """Watches steps go by.

    Args:
        say: told the hint.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._updates, self._held, self._said = 0, 0, False

    def look(self, record: StepRecord) -> None:
        """Looks at one step; speaks when most updates so far wanted more pulses than the rule gives."""
        held = record.numbers.get("held_weights")
        if held is None or self._said:
            return
        self._updates += 1
        self._held += held > 0
        if self._updates >= UPDATES and self._held > SHARE * self._updates:
            self._said = True
            self._say(
                f"{self._held} of {self._updates} updates wanted more pulses for a weight than the rule's `most` "
                "allows; eta is probably too large"
            )
