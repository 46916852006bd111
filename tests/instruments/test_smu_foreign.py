"""A laboratory's own driver plays a role: PyMeasure's class for a 2450, adapted as the roles' documentation shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import smu_benches
import torch

from hil.contract import Blocks, Flag, Pulse, ReadCells, Side
from hil.errors import BoardFault
from hil.usual import usual_pulse, usual_sense
from instruments.session import Session
from instruments.smu.board import SmuMatrixBoard
from instruments.smu.roles import Reading, SourceMeter, timed_pulse
from instruments.smu.switch707b import Switch707B
from instruments.smu.tsp import TspClient

adapters = pytest.importorskip("pymeasure.adapters")
keithley = pytest.importorskip("pymeasure.instruments.keithley")


class Wire(adapters.Adapter):
    """PyMeasure's way to a virtual instrument in this process."""

    def __init__(self, link) -> None:
        super().__init__()
        self.link = link

    def _write(self, command: str, **kwargs) -> None:
        self.link.write(command.encode() + b"\n", 0.0)

    def _read(self, **kwargs) -> str:
        return self.link.read(1, 0.0).decode().rstrip("\n")


class FromPyMeasure:
    def __init__(self, smu, volts_range, clock) -> None:
        self.smu, self.volts_range, self.shortest_pulse, self.clock = smu, volts_range, 0.01, clock

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
        return timed_pulse(self.level, volts, seconds, self.clock, self.clock.sleep)

    def settled(self):
        if errors := self.smu.check_errors():
            raise RuntimeError(f"it complains: {errors}")

    def off(self):
        self.smu.write(":OUTP OFF")

    def is_off(self):
        return not self.smu.source_enabled

    def close(self):
        self.smu.adapter.close()


@pytest.fixture
def spec(spec_of):
    writing = smu_benches.WRITING
    return spec_of(selector="passive", kernels=1, rows=3, cols=2, ops=("ReadCells", "Pulse", "Wait"), writing=writing)


@pytest.fixture
def bench(spec, quiet_board):
    return smu_benches.Bench(quiet_board(spec, seed=1))


@pytest.fixture
def board(spec, bench):
    source = FromPyMeasure(keithley.Keithley2450(Wire(bench.source)), 2.0, bench.clock)
    assert isinstance(source, SourceMeter)
    matrix = Switch707B(TspClient(Session(bench.matrix), seconds=0.05))
    board = SmuMatrixBoard(spec, bench.config, source, matrix, sleep=bench.clock.sleep, now=bench.clock)
    yield board
    board.close()


def test_it_reads_pulses_and_ends_safe(board, bench, spec, whole):
    blocks = whole(spec)
    true = 0.2 * bench.backend.chip.tiles(blocks)
    (got,) = board.execute([ReadCells(blocks, usual_sense(spec, 0.2), Side.ROWS)])
    torch.testing.assert_close(got.value.double(), true, rtol=1e-5, atol=0.0)
    counts = torch.ones(blocks.shape, dtype=torch.int32)
    board.execute([Pulse(blocks, counts, usual_pulse(board, up=True), usual_pulse(board, up=False))])
    assert bench.bench.pulses.sum() == 6 and bench.bench.hot == 0
    assert board.make_safe().confirmed


def test_its_limits_are_flagged_and_its_errors_are_faults(board, bench, spec):
    cell = Blocks((0,), (0,), (0,), 1, 1)
    (got,) = board.execute([ReadCells(cell, replace(usual_sense(spec, 0.2), amps=1e-6), Side.ROWS)])
    assert int(got.flags) == int(Flag.COMPLIANCE) and float(got.value) == pytest.approx(1e-6)
    bench.smu.misbehave("stuck")
    with pytest.raises(BoardFault, match="compliance current was not taken over"):
        board.execute([ReadCells(cell, usual_sense(spec, 0.2), Side.ROWS)])
