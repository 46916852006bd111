"""The Keithley 2450 source-measure unit, speaking SCPI."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from hil.contract import Flag
from hil.errors import BoardMissing, WireError
from hil.units import engineering
from instruments.scpi.client import ScpiClient
from instruments.scpi.identity import ExpectedInstrument
from instruments.scpi.text import Quoted, measured, told
from instruments.smu.roles import MOST_AVERAGES, Reading, timed_pulse

BUFFER = "hil"
MAINS_HERTZ = 50.0
_START_AMPS = 1e-6
"""A; compliance until an operation sets its own."""


class Keithley2450:
    """Plays ``SourceMeter``. Pulses are timed by the host, so their widths are good to about a millisecond.

    Args:
        client: the line to it, over any link.
        volts_range: V, the largest level it will be asked for.
        plc: power-line cycles of one conversion.
        shortest_pulse: s, the shortest pulse the host can time.
        serial: the serial number it must have; empty for any.
        clock: monotonic s.
        sleep: waits for s.
    """

    def __init__(
        self,
        client: ScpiClient,
        *,
        volts_range: float,
        plc: float = 1.0,
        shortest_pulse: float = 0.01,
        serial: str = "",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.shortest_pulse = shortest_pulse
        self._client, self._volts_range, self._plc = client, volts_range, plc
        self._expected = ExpectedInstrument(vendor="KEITHLEY", model="2450", serial=serial)
        self._clock, self._sleep = clock, sleep

    def identify(self) -> str:
        """See ``SourceMeter``."""
        return str(self._client.identify(self._expected))

    def prepare(self) -> None:
        """See ``SourceMeter``; the instrument must speak SCPI, and the byte order is set, not assumed.

        Raises:
            BoardMissing: it speaks another language.
            InstrumentErrors: it refused a part of the set-up.
        """
        language = self._client.query("*LANG?").strip()
        if language != "SCPI":
            cure = "choose SCPI on its front panel and switch it off and on"
            raise BoardMissing(self._client.board, f"it speaks {told(language)}; {cure}")
        self._client.set_up(
            "the set-up",
            (":OUTP", False),
            ("*RST",),
            ("*CLS",),
            (":SOUR:FUNC", "VOLT"),
            (":SOUR:VOLT:RANG", self._volts_range),
            (":SOUR:VOLT:LEV", 0.0),
            (":SOUR:VOLT:ILIM", _START_AMPS),
            (":SOUR:VOLT:READ:BACK", True),
            (":OUTP:VOLT:SMOD", "NORM"),
            (":SENS:FUNC", Quoted("CURR")),
            (":SENS:CURR:RANG", _START_AMPS),
            (":SENS:CURR:NPLC", self._plc),
            (":SENS:CURR:AZER", False),
            (":FORM", "REAL"),
            (":FORM:BORD", "SWAP"),
            (":TRAC:MAKE", Quoted(BUFFER), MOST_AVERAGES),
        )

    def limit(self, amps: float, full_scale: float | None = None) -> None:
        """See ``SourceMeter``.

        Raises:
            InstrumentErrors: it refused the limit or the range.
            WireError: it reads back another limit.
        """
        widest = amps if full_scale is None else min(full_scale, amps)
        self._client.set_up("the compliance", (":SENS:CURR:RANG", widest), (":SOUR:VOLT:ILIM", amps))
        held = self._client.query_number(":SOUR:VOLT:ILIM?")
        if not math.isclose(held, amps, rel_tol=0.01):
            wanted, got = engineering(amps, "A"), engineering(held, "A")
            raise self._wrong(f"the compliance was set to {wanted} and reads back as {got}")

    def level(self, volts: float) -> None:
        """See ``SourceMeter``."""
        self._client.write(":SOUR:VOLT:LEV", float(volts))

    def output(self, on: bool) -> None:
        """See ``SourceMeter``.

        Raises:
            WireError: the output reads back otherwise.
        """
        self._client.write(":OUTP", on)
        if self.is_off() == on:
            raise self._wrong(f"the output reads back as {'off' if on else 'on'}")

    def read(self, averages: int) -> Reading:
        """See ``SourceMeter``; what has no number in it is NaN with its flags."""
        self._client.write(":SENS:COUN", averages)
        self._client.write(":TRAC:CLE", Quoted(BUFFER))
        self._client.write(":TRAC:TRIG", Quoted(BUFFER))
        wait = self._client.lines.seconds + 3 * averages * self._plc / MAINS_HERTZ
        data = self._client.query_block(
            ":TRAC:DATA?", 1, averages, Quoted(BUFFER), "READ", count=8 * averages, seconds=wait
        )
        tripped = self._truth(":SOUR:VOLT:ILIM:TRIP?")
        total, flags = 0.0, Flag.COMPLIANCE if tripped else Flag(0)
        for value in np.frombuffer(data, "<f8").tolist():
            amps, flag = measured(value)
            total, flags = total + amps, flags | flag
        return Reading(total / averages, flags)

    def pulse(self, volts: float, seconds: float) -> float:
        """See ``SourceMeter``."""
        return timed_pulse(self._step, volts, seconds, self._clock, self._sleep)

    def settled(self) -> None:
        """See ``SourceMeter``: the answer of the error queue comes after all that was sent before."""
        self._client.check("what it was told")

    def off(self) -> None:
        """See ``SourceMeter``."""
        self._client.write_only(":OUTP", False)

    def is_off(self) -> bool:
        """See ``SourceMeter``."""
        return not self._truth(":OUTP?")

    def close(self) -> None:
        """See ``SourceMeter``."""
        self._client.close()

    def _step(self, volts: float) -> None:
        """Sets the level at once: bringing the line into step first would make a pulse longer."""
        self._client.write_only(":SOUR:VOLT:LEV", float(volts))

    def _wrong(self, problem: str) -> WireError:
        return WireError(self._client.lines.session.url, problem)

    def _truth(self, header: str) -> bool:
        value = self._client.query_number(header)
        if value not in (0.0, 1.0):
            raise self._wrong(f"{header}: expected 0 or 1, got {value:g}")
        return value == 1.0
