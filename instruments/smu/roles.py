"""What a source-measure unit and a switch matrix must be able to do to work a crossbar.

The roles are structural: any object with these methods plays one, without a base class. A laboratory's own driver is
adapted in a few lines, here PyMeasure's ``Keithley2450``, whose pulses the host times:

    class FromPyMeasure:
        def __init__(self, smu, volts_range):
            self.smu, self.volts_range, self.shortest_pulse = smu, volts_range, 0.01

        def identify(self):
            if ",MODEL 2450," not in self.smu.id:
                raise RuntimeError("this is not a 2450")
            return self.smu.id

        def prepare(self):
            self.smu.write("*RST")
            self.smu.source_mode = "voltage"
            self.smu.source_voltage_range = self.volts_range
            self.smu.measure_current(auto_range=False)

        def limit(self, amps, full_scale=None):
            self.smu.current_range = amps if full_scale is None else min(amps, full_scale)
            self.smu.compliance_current = amps
            if abs(self.smu.compliance_current - amps) > 0.01 * amps:
                raise RuntimeError("the compliance current was not taken over")

        def level(self, volts):
            self.smu.source_voltage = volts

        def output(self, on):
            self.smu.write(":OUTP ON" if on else ":OUTP OFF")
            if self.smu.source_enabled != on:
                raise RuntimeError("the output did not follow")

        def read(self, averages):
            amps = sum(self.smu.current for _ in range(averages)) / averages
            tripped = bool(int(self.smu.ask(":SOUR:VOLT:ILIM:TRIP?")))
            return Reading(amps, Flag.COMPLIANCE if tripped else Flag(0))

        def pulse(self, volts, seconds):
            return timed_pulse(self.level, volts, seconds)

        def settled(self):
            if errors := self.smu.check_errors():
                raise RuntimeError(f"it complains: {errors}")

        def off(self):
            self.smu.write(":OUTP OFF")

        def is_off(self):
            return not self.smu.source_enabled

        def close(self):
            self.smu.adapter.close()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from hil.contract import Flag

MOST_AVERAGES = 10_000
"""Conversions that one reading may be made of."""
NO_FLAGS = Flag(0)


@dataclass(frozen=True, slots=True)
class Reading:
    """One measured current.

    Args:
        amps: A, into the high terminal's cell and out at the low one; NaN where nothing was measured.
        flags: COMPLIANCE where the limit held the current, NOT_MEASURED with NaN.
    """

    amps: float
    flags: Flag = NO_FLAGS


@runtime_checkable
class SourceMeter(Protocol):
    """A source of volts that measures amperes. Any exception of a method means that it was not done.

    Attributes:
        shortest_pulse: s, the shortest pulse it can make.
    """

    shortest_pulse: float

    def identify(self) -> str:
        """Asks who is there, sends nothing else, and refuses another instrument; gives the identity."""
        ...

    def prepare(self) -> None:
        """Sets it up to source volts and measure amperes, at 0 V with the output off."""
        ...

    def limit(self, amps: float, full_scale: float | None = None) -> None:
        """Sets the compliance current, A, and reads it back; ``full_scale`` is the range wanted, A."""
        ...

    def level(self, volts: float) -> None:
        """Sets the volts of the high terminal against the low one."""
        ...

    def output(self, on: bool) -> None:
        """Switches the output, and returns when it has read back that it did."""
        ...

    def read(self, averages: int) -> Reading:
        """Measures the current at the present level."""
        ...

    def pulse(self, volts: float, seconds: float) -> float:
        """Goes from 0 V to ``volts`` and back after ``seconds``; gives the width it had, s, as far as it knows."""
        ...

    def settled(self) -> None:
        """Returns when all that was sent is done, and raises what the instrument complains of."""
        ...

    def off(self) -> None:
        """Sends what switches the output off, with no question before or after."""
        ...

    def is_off(self) -> bool:
        """Reads back whether the output is off."""
        ...

    def close(self) -> None:
        """Lets go of the instrument."""
        ...


@runtime_checkable
class SwitchMatrix(Protocol):
    """Relays that join instrument terminals and the lines of a chip."""

    def identify(self) -> str:
        """Asks who is there, sends nothing else, and refuses another instrument; gives the identity."""
        ...

    def prepare(self) -> None:
        """Sets it up, with every relay open."""
        ...

    def connect(self, channels: Sequence[str]) -> None:
        """Closes these channels and opens all others; returns when it has read back that they are."""
        ...

    def off(self) -> None:
        """Sends what opens every relay, with no question before or after."""
        ...

    def is_off(self) -> bool:
        """Reads back whether every relay is open."""
        ...

    def close(self) -> None:
        """Lets go of the instrument."""
        ...


def timed_pulse(
    level: Callable[[float], None],
    volts: float,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Makes a pulse whose width the host times; gives the width between the two commands, s.

    The level goes back to 0 V whatever happens in between.
    """
    try:
        level(volts)
        began = clock()
        sleep(seconds)
    finally:
        level(0.0)
    return clock() - began
