"""One path from a source to a cell, switched cold: relays move only while the source is confirmed off."""

from __future__ import annotations

import time
from collections.abc import Callable

from hil.contract import SafeReport
from instruments.smu.roles import SourceMeter, SwitchMatrix


class ColdPath:
    """A source and a matrix, of which nobody else moves the relays or the output.

    The order is always: 0 V, output off and read back as off, relays, settle, limit, output on. A switched current
    welds or wears reed relays, so no other way through exists.

    Args:
        source: the source-measure unit.
        matrix: the switch matrix.
        settle: s that the relays need to come to rest.
        sleep: waits for s.
    """

    def __init__(
        self, source: SourceMeter, matrix: SwitchMatrix, settle: float, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.source = source
        self._matrix, self._settle, self._sleep = matrix, settle, sleep
        self._closed: tuple[str, str] | None = None

    def to(self, channels: tuple[str, str], amps: float, full_scale: float | None = None) -> None:
        """Puts one cell between the terminals, at 0 V, with the output on and the current limited."""
        self.rest()
        if channels != self._closed:
            self._closed = None
            self._matrix.connect(channels)
            self._sleep(self._settle)
            self._closed = channels
        self.source.limit(amps, full_scale)
        self.source.output(True)

    def rest(self) -> None:
        """0 V, then the output off, confirmed; the relays stay where they are."""
        self.source.level(0.0)
        self.source.output(False)

    def make_safe(self) -> SafeReport:
        """Switches both instruments off, whatever either says, and then reads both back.

        First the commands alone, so that a line out of step cannot hold them up; the relays follow after the time that
        they need, since the output should be off by then.
        """
        self._closed = None
        wrong = _tried(self.source.off)
        self._sleep(self._settle)
        wrong = _tried(self._matrix.off) or wrong
        outputs = {"source": _state(self.source.is_off), "matrix": _state(self._matrix.is_off)}
        return SafeReport(outputs, confirmed=not wrong and all(state == "off" for state in outputs.values()))


def _tried(act: Callable[[], None]) -> bool:
    """Whether it failed; an instrument that cannot be reached must not keep the others from being switched off."""
    try:
        act()
    except Exception:  # a foreign driver may raise anything
        return True
    return False


def _state(is_off: Callable[[], bool]) -> str:
    try:
        return "off" if is_off() else "on"
    except Exception:  # a foreign driver may raise anything
        return "unreadable"
