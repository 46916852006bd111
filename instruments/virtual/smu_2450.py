"""A virtual Keithley 2450 on a bench."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from instruments.scpi.text import NOT_A_NUMBER
from instruments.virtual.personality import Conversation
from instruments.virtual.scpi_text import Answer, Call, Handler, ScpiConversation, ScpiError, ScpiServer
from instruments.virtual.smu_bench import SmuBench

_MAINS_HERTZ = 50.0
_MOST_VOLTS, _MOST_AMPS = 210.0, 1.05


class Virtual2450:
    """Plays ``Personality``.

    Args:
        bench: what its terminals are joined to.
        serial: its serial number.
        language: what ``*LANG?`` answers.
    """

    def __init__(self, bench: SmuBench, serial: str = "04100001", language: str = "SCPI") -> None:
        self._bench = bench
        self._keeps_limit = False
        self._server = ScpiServer(
            self._commands(language), f"KEITHLEY INSTRUMENTS,MODEL 2450,{serial},1.7.3b", self._reset
        )
        self._reset()

    def converse(self, client: str) -> Conversation:
        """See ``Personality``; an instrument does nothing when a client goes."""
        return ScpiConversation(self._server)

    def tick(self, now: float) -> float | None:
        """See ``Personality``; it has no watchdog."""
        return None

    def misbehave(self, fault: str) -> bool:
        """See ``Personality``: ``error``, ``reset``, ``firmware``, and ``stuck`` (it keeps its compliance current)."""
        match fault:
            case "error":
                self._server.error(-200)
            case "reset":
                self._reset()
            case "firmware":
                self._server.identity = self._server.identity.rpartition(",")[0] + ",0.0.0"
            case "stuck":
                self._keeps_limit = True
            case _:
                return False
        return True

    def inspect(self, what: str, arguments: Mapping[str, Any]) -> Any:
        """See ``Personality``."""
        return self._bench.inspect(what, arguments)

    def _reset(self) -> None:
        self._bench.switch(False)
        self._bench.set_level(0.0)
        self._bench.limit = 105e-6
        self._volts_range, self._amps_range = 20e-3, 1e-4
        self._count, self._plc = 1, 1.0
        self._big_endian, self._ascii = False, True
        self._buffers: dict[str, tuple[int, list[float]]] = {"defbuffer1": (100_000, [])}

    def _commands(self, language: str) -> dict[str, Handler]:
        """Headers and what they do."""
        done: Handler = lambda call: None  # noqa: E731
        return {
            "*LANG?": lambda call: language,
            "OUTPut#[:STATe]": self._output,
            "OUTPut#[:STATe]?": lambda call: "1" if self._bench.on else "0",
            "OUTPut#:VOLTage:SMODe": lambda call: self._among(call, "NORMal", "HIMPedance", "ZERO", "GUARd"),
            "SOURce#:FUNCtion": lambda call: self._among(call, "VOLTage"),
            "SOURce#:VOLTage:RANGe:AUTO": done,
            "SOURce#:VOLTage:RANGe": self._set_volts_range,
            "SOURce#:VOLTage[:LEVel][:IMMediate][:AMPLitude]": self._level,
            "SOURce#:VOLTage[:LEVel][:IMMediate][:AMPLitude]?": lambda call: f"{self._bench.volts:.6E}",
            "SOURce#:VOLTage:ILIMit[:LEVel]": self._limit,
            "SOURce#:VOLTage:ILIMit[:LEVel]?": lambda call: f"{self._bench.limit:.6E}",
            "SOURce#:VOLTage:ILIMit[:LEVel]:TRIPped?": lambda call: "1" if self._bench.tripped else "0",
            "SOURce#:VOLTage:READ:BACK": done,
            "SENSe#:FUNCtion": self._function,
            "SENSe#:CURRent:RANGe:AUTO": done,
            "SENSe#:CURRent:RANGe": self._set_amps_range,
            "SENSe#:CURRent:NPLCycles": self._set_plc,
            "SENSe#:CURRent:AZERo": done,
            "SENSe#:COUNt": self._set_count,
            "FORMat[:DATA]": self._format,
            "FORMat:BORDer": self._border,
            "TRACe:MAKE": self._make,
            "TRACe:CLEar": lambda call: self._buffer(call, 0)[1].clear(),
            "TRACe:TRIGger": self._trigger,
            "TRACe:DATA?": self._data,
            "READ?": self._read,
        }

    # -- output and source -----------------------------------------------------------------------------------------

    def _output(self, call: Call) -> None:
        call.count(1)
        self._bench.switch(call.truth())

    def _level(self, call: Call) -> None:
        call.count(1)
        self._bench.set_level(call.number(0, -1.05 * self._volts_range, 1.05 * self._volts_range))

    def _limit(self, call: Call) -> None:
        call.count(1)
        amps = call.number(0, 1e-9, _MOST_AMPS)
        if not self._keeps_limit:
            self._bench.limit = amps

    def _set_volts_range(self, call: Call) -> None:
        call.count(1)
        volts = call.number(0, 0.0, _MOST_VOLTS)
        self._volts_range = next(top for top in (20e-3, 200e-3, 2.0, 20.0, 200.0) if volts <= 1.05 * top)

    # -- measuring -------------------------------------------------------------------------------------------------

    def _function(self, call: Call) -> None:
        call.count(1)
        if call.name() != "CURR":
            raise ScpiError(-224)

    def _set_amps_range(self, call: Call) -> None:
        call.count(1)
        amps = call.number(0, 0.0, _MOST_AMPS)
        self._amps_range = next(top for top in (10.0**power for power in range(-8, 1)) if amps <= 1.05 * top)

    def _set_plc(self, call: Call) -> None:
        call.count(1)
        self._plc = call.number(0, 0.01, 10.0)

    def _set_count(self, call: Call) -> None:
        call.count(1)
        self._count = call.whole(0, 1, 300_000)

    def _make(self, call: Call) -> None:
        call.count(2)
        if call.name() in self._buffers:
            raise ScpiError(-200, "Execution error; the buffer exists already")
        self._buffers[call.name()] = call.whole(1, 10), []

    def _trigger(self, call: Call) -> Generator[float, None, Answer]:
        most, readings = self._buffer(call, 0)
        yield self._count * self._plc / _MAINS_HERTZ
        readings += self._bench.measure(self._count, self._amps_range)
        del readings[:-most]
        return None

    def _read(self, call: Call) -> Generator[float, None, Answer]:
        call.count(0)
        yield self._count * self._plc / _MAINS_HERTZ
        return self._written(self._bench.measure(self._count, self._amps_range)[-1:])

    def _data(self, call: Call) -> Answer:
        call.count(4)
        readings = self._buffer(call, 2)[1]
        first, last = call.whole(0, 1), call.whole(1, 1)
        call.word("READing", at=3)
        if not first <= last <= len(readings):
            raise ScpiError(-222)
        return self._written(readings[first - 1 : last])

    def _written(self, readings: list[float]) -> str | bytes:
        values = np.array(readings)
        values[np.isnan(values)] = NOT_A_NUMBER
        if self._ascii:
            return ",".join(f"{value:.6E}" for value in values)
        return b"#0" + values.astype(">f8" if self._big_endian else "<f8").tobytes()

    def _buffer(self, call: Call, at: int) -> tuple[int, list[float]]:
        if len(call.arguments) <= at:
            raise ScpiError(-109)
        found = self._buffers.get(call.name(at))
        if found is None:
            raise ScpiError(-224)
        return found

    # -- format ----------------------------------------------------------------------------------------------------

    def _format(self, call: Call) -> None:
        call.count(1)
        self._ascii = call.word("ASCii", "REAL") == "ASCii"

    def _border(self, call: Call) -> None:
        call.count(1)
        self._big_endian = call.word("NORMal", "SWAPped", "SWAP") == "NORMal"

    def _among(self, call: Call, *words: str) -> None:
        call.count(1)
        call.word(*words)
