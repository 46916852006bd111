"""Makes the board out of a Keithley 2450 and a 707B at the ends of two sessions."""

from __future__ import annotations

import time
from collections.abc import Callable

from hil.contract import BoardSpec
from instruments.scpi.client import ScpiClient
from instruments.session import Session
from instruments.smu.board import SmuMatrixBoard
from instruments.smu.channels import SmuMatrixConfig
from instruments.smu.keithley2450 import Keithley2450
from instruments.smu.switch707b import Switch707B
from instruments.smu.tsp import TspClient


def open_smu_matrix(
    spec: BoardSpec,
    config: SmuMatrixConfig,
    source: Session,
    matrix: Session,
    *,
    wants_abort: Callable[[], bool] = lambda: False,
    seconds: float = 2.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> SmuMatrixBoard:
    """Identifies and sets up both instruments.

    Args:
        spec: what the board is.
        config: how it is wired.
        source: the line to the Keithley 2450; the board owns it.
        matrix: the line to the 707B; likewise.
        wants_abort: looked at between cells, and while waiting.
        seconds: s, the usual wait for an answer.
        clock: monotonic s, for the width of pulses.
        sleep: waits for s.
        now: lab time, s since 1970, UTC.

    Raises:
        UsageError: spec and wiring do not fit; nothing was sent.
        BoardMissing: an instrument is another one than expected; nothing but its identity was asked for.
        HilError: an instrument does not answer, or refuses its set-up.
    """
    limits, reading, name = spec.limits, spec.reading, spec.identity.name
    forming = 0.0 if limits.forming == "never" else limits.form_volts
    read_volts = max(abs(reading.volts_low), abs(reading.volts_high))
    smu = Keithley2450(
        ScpiClient(source, f"{name}, source", seconds=seconds, error_query=":SYST:ERR:NEXT?"),
        volts_range=max(limits.write_volts, forming, min(read_volts, limits.read_cell_volts)),
        plc=config.plc,
        shortest_pulse=config.shortest_pulse,
        serial=config.source_serial,
        clock=clock,
        sleep=sleep,
    )
    switch = Switch707B(
        TspClient(matrix, f"{name}, matrix", seconds=seconds),
        forbidden=config.forbidden(),
        serial=config.matrix_serial,
    )
    return SmuMatrixBoard(spec, config, smu, switch, wants_abort=wants_abort, sleep=sleep, now=now)
