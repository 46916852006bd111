"""Source-measure unit and matrix when something goes wrong: cold switching, faults, abort, safe state."""

from __future__ import annotations

import time

import pytest
import smu_benches
import torch
from smu_benches import counted, pulse, read

from hil.contract import Blocks, Flag, ReadCells, Sense, Side, Wait
from hil.errors import Aborted, BoardFault, BoardMissing, LinkLost, WireError
from instruments.smu.board import SmuMatrixBoard
from instruments.smu.cold_path import ColdPath
from instruments.smu.keithley2450 import Keithley2450
from instruments.smu.roles import Reading

OPS = ("ReadCells", "Pulse", "Wait")


@pytest.fixture
def spec(spec_of):
    return spec_of(selector="passive", kernels=2, rows=3, cols=2, ops=OPS, writing=smu_benches.WRITING)


@pytest.fixture
def bench(spec, quiet_board):
    return smu_benches.Bench(quiet_board(spec, seed=1))


@pytest.fixture
def board(bench, spec):
    board = bench.open(spec)
    yield board
    board.close()


# -- cold switching ----------------------------------------------------------------------------------------------------


def test_relays_move_only_while_the_output_is_off(board, bench, spec, whole):
    board.execute(
        [
            read(spec, whole(spec)),
            pulse(board, whole(spec), torch.ones(whole(spec).shape, dtype=torch.int32)),
        ]
    )
    board.make_safe()
    assert bench.bench.hot == 0
    on, volts, moves, last = False, 0.0, 0, 0.0
    for what, value in bench.bench.history:
        on, volts = (value if what == "output" else on), (value if what == "volts" else volts)
        if what == "closed":
            assert not on and volts == 0.0
            moves += 1
        if what == "output" and value:
            assert volts == 0.0  # it never comes on under voltage
        last = volts
    assert moves >= 12 and last == 0.0


def test_an_output_that_was_left_on_goes_off_before_relays_move(board, bench, spec, whole):
    bench.bench.switch(True)  # somebody at the front panel
    board.execute([read(spec, whole(spec))])
    assert bench.bench.hot == 0


@pytest.mark.parametrize("broken", ["the path does not rest", "the source does not switch off"])
def test_the_bench_proves_a_broken_order(board, bench, spec, whole, monkeypatch, broken):
    if broken == "the path does not rest":
        monkeypatch.setattr(ColdPath, "rest", lambda self: None)
    else:
        output = Keithley2450.output
        monkeypatch.setattr(Keithley2450, "output", lambda self, on: output(self, on) if on else None)
    board.execute([read(spec, whole(spec))])
    assert bench.bench.hot > 0


def test_an_output_that_does_not_go_off_stops_the_switching(board, bench, spec, whole, monkeypatch):
    board.execute([read(spec, Blocks((0,), (0,), (0,), 1, 1))])
    bench.bench.switch(True)
    monkeypatch.setattr(bench.bench, "switch", lambda on: None)
    with pytest.raises(BoardFault, match="the output reads back as on"):
        board.execute([read(spec, whole(spec))])
    report = board.make_safe()
    assert report.outputs["source"] == "on" and not report.confirmed


# -- faults ------------------------------------------------------------------------------------------------------------


class Faulty:
    """Does something else from the n-th message on that begins with some bytes."""

    def __init__(self, link, begin: bytes, n: int, act) -> None:
        self.link, self.url, self._begin, self._left, self._act = link, link.url, begin, n, act

    def write(self, data: bytes, until: float) -> None:
        if data.startswith(self._begin):
            self._left -= 1
        if self._left < 0:
            self._act(self, data)
        else:
            self.link.write(data, until)

    def read(self, wanted: int, until: float) -> bytes:
        return self.link.read(wanted, until)

    def drain(self, quiet: float = 0.0) -> int:
        return self.link.drain(quiet)

    def close(self) -> None:
        self.link.close()


def lost(link: Faulty, data: bytes) -> None:
    raise LinkLost(link.url, "the cable was pulled")


def unanswered(link: Faulty, data: bytes) -> None:
    link.link.write(data, 0.0)
    if data.startswith(b":SYST:ERR"):
        link.link.drain()


@pytest.fixture
def faulty(bench, spec):
    opened = []

    def build(begin: bytes, n: int, act) -> SmuMatrixBoard:
        bench.source = Faulty(bench.source, begin, n, act)
        opened.append(bench.open(spec))
        return opened[-1]

    yield build
    for board in opened:
        board.close()


def test_a_line_that_is_lost_in_a_pulse_leaves_a_doubt(faulty, bench, spec, whole):
    blocks = whole(spec)
    board = faulty(b":SOUR:VOLT:LEV 1.0", 3, lost)
    counts = counted(blocks, (0, 0, 0, 2), (0, 1, 1, 2), (1, 2, 1, 2))
    with pytest.raises(BoardFault, match="cable") as fault:
        board.execute([read(spec, blocks), pulse(board, blocks, counts), read(spec, blocks)])
    assert fault.value.index == 1 and len(fault.value.done) == 1
    assert fault.value.doubt.nonzero().tolist() == [[0, 0, 0], [0, 1, 1]]
    assert bench.bench.pulses.sum() == 3


def test_a_lost_answer_never_makes_a_second_pulse(faulty, bench, spec, whole):
    board = faulty(b":SYST:ERR", 2, unanswered)  # the set-up and the compliance are answered, the pulses are not
    with pytest.raises(BoardFault, match="no answer") as fault:
        board.execute([pulse(board, whole(spec), counted(whole(spec), (0, 1, 1, 4)))])
    assert bench.bench.pulses.sum() == 4 == bench.bench.pulses[0, 1, 1]
    assert fault.value.doubt.sum() == 1 and fault.value.index == 0


def test_a_read_that_fails_leaves_no_doubt(faulty, spec, whole):
    board = faulty(b":TRAC:DATA", 1, lost)
    with pytest.raises(BoardFault) as fault:
        board.execute([read(spec, whole(spec))])
    assert fault.value.doubt is None


def test_a_compliance_that_is_not_taken_over_keeps_the_output_off(board, bench, spec, whole):
    bench.smu.misbehave("stuck")
    bench.bench.history.clear()
    with pytest.raises(BoardFault, match="compliance was set to"):
        board.execute([read(spec, whole(spec))])
    assert ("output", True) not in bench.bench.history


def test_a_complaint_of_the_instrument_is_a_fault_with_its_text(board, bench, spec, whole):
    bench.smu.misbehave("error")
    with pytest.raises(BoardFault, match="Execution error"):
        board.execute([read(spec, whole(spec))])


def test_a_stuck_relay_is_a_fault_before_the_output_is_on(board, bench, spec, whole):
    board.execute([read(spec, Blocks((0,), (0,), (0,), 1, 1))])
    bench.switch.misbehave("stuck")
    bench.bench.history.clear()
    with pytest.raises(BoardFault, match="closed channels: expected"):
        board.execute([read(spec, Blocks((1,), (0,), (0,), 1, 1))])
    assert ("output", True) not in bench.bench.history
    report = board.make_safe()
    assert report.outputs == {"source": "off", "matrix": "on"} and not report.confirmed


def test_a_pulse_that_lasted_too_long_is_a_fault(board, bench, spec, whole):
    bench.clock.late = 0.006
    with pytest.raises(BoardFault, match="a pulse of 10 ms lasted 16 ms") as fault:
        board.execute([pulse(board, whole(spec), counted(whole(spec), (0, 0, 0, 5)))])
    assert bench.bench.pulses.sum() == 1 == fault.value.doubt.sum()


def test_a_foreign_driver_may_raise_anything(board, spec, whole, monkeypatch):
    def raising(self, averages: int) -> Reading:
        raise RuntimeError("\x1b[2J" + "x" * 1000)

    monkeypatch.setattr(Keithley2450, "read", raising)
    with pytest.raises(BoardFault, match="RuntimeError") as fault:
        board.execute([read(spec, whole(spec))])
    assert len(str(fault.value)) < 500 and str(fault.value).isprintable()


def test_a_code_that_a_foreign_driver_leaves_becomes_nan(board, spec, monkeypatch):
    monkeypatch.setattr(Keithley2450, "read", lambda self, averages: Reading(9.91e37))
    (got,) = board.execute([read(spec, Blocks((0,), (0,), (0,), 1, 1))])
    assert bool(got.value.isnan()) and int(got.flags) == int(Flag.NOT_MEASURED)


# -- abort and safe state ----------------------------------------------------------------------------------------------


def test_an_abort_takes_effect_between_two_cells(bench, spec, whole):
    wanted = iter([False] * 3 + [True] * 9)
    board = bench.open(spec, lambda: next(wanted))
    with pytest.raises(Aborted):
        board.execute([read(spec, whole(spec))])
    assert sum(text.startswith(b":TRAC:TRIG") for text in bench.source.sent) == 3
    assert bench.bench.inspect("outputs", {}) == {"on": False, "volts": 0.0, "closed": []}
    board.close()


def test_an_abort_ends_a_wait(bench, spec):
    wanted = iter([False, False, True])
    board = bench.open(spec, lambda: next(wanted))
    began = bench.clock()
    with pytest.raises(Aborted):
        board.execute([Wait(3600.0)])
    assert bench.clock() - began == pytest.approx(0.1 + bench.config.settle)
    board.close()


def test_a_wait_lets_time_pass(board, bench):
    before = board.now()
    (got,) = board.execute([Wait(0.25)])
    assert got.seconds == 0.25 and board.now() == pytest.approx(before + 0.25)


def test_an_interrupt_in_a_pulse_ends_safe(board, bench, spec, whole, monkeypatch):
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(board._source, "_sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        board.execute([pulse(board, whole(spec), counted(whole(spec), (0, 0, 0, 5)))])
    assert bench.bench.inspect("outputs", {}) == {"on": False, "volts": 0.0, "closed": []}


def test_commands_come_before_questions_in_the_safe_state(board, bench):
    bench.source.sent.clear()
    bench.matrix.sent.clear()
    report = board.make_safe()
    assert str(report) == "SAFE confirmed" and report.outputs == {"source": "off", "matrix": "off"}
    assert bench.source.sent == [b":OUTP OFF\n", b":OUTP?\n"]
    assert bench.matrix.sent == [b'channel.exclusiveclose("")\n', b'print(channel.getclose("allslots"))\n']


def test_one_instrument_that_is_gone_does_not_keep_the_other_on(board, bench, spec, whole):
    board.execute([read(spec, Blocks((0,), (0,), (0,), 1, 1))])
    bench.source.close()
    began = time.monotonic()
    report = board.make_safe()
    assert time.monotonic() - began < 1.0
    assert report.outputs == {"source": "unreadable", "matrix": "off"} and not report.confirmed
    assert bench.bench.closed == frozenset()


def test_a_silent_source_is_told_all_the_same_and_bounded_in_time(bench, spec):
    bench.source = Faulty(bench.source, b":OUTP?", 0, lambda link, data: None)
    board = bench.open(spec)
    bench.bench.switch(True)
    told = []
    bench.source.write = lambda data, until: told.append(data)  # nobody answers any more
    began = time.monotonic()
    report = board.make_safe()
    assert time.monotonic() - began < 2.0
    assert told[0] == b":OUTP OFF\n" and report.outputs == {"source": "unreadable", "matrix": "off"}
    board.close()


def test_after_the_end_it_is_safe_and_refuses_work(board, bench, spec, whole):
    board.execute([read(spec, Blocks((0,), (0,), (0,), 1, 1))])
    board.close()
    sent = len(bench.source.sent)
    assert board.make_safe().confirmed
    board.close()
    assert len(bench.source.sent) == sent
    assert bench.bench.inspect("outputs", {}) == {"on": False, "volts": 0.0, "closed": []}
    with pytest.raises(BoardMissing, match="closed"):
        board.execute([read(spec, whole(spec))])


def test_a_set_up_that_fails_ends_safe(bench, spec):
    bench.bench.move(["1A01"])
    bench.switch.misbehave("stuck")
    with pytest.raises(WireError, match="closed channels"):
        bench.open(spec)
    assert bench.source.sent[-1] == b":OUTP?\n" and not bench.bench.on
    with pytest.raises(LinkLost):
        bench.source.read(1, 0.0)


def test_sense_needs_no_compliance_when_the_spec_has_one(board, bench, spec):
    board.execute([ReadCells(Blocks((0,), (0,), (0,), 1, 1), Sense(0.2), Side.ROWS)])
    assert b":SOUR:VOLT:ILIM 0.0005\n" in bench.source.sent
