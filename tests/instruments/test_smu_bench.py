"""The virtual bench: physics between two instruments, and both wire protocols under any bytes."""

from __future__ import annotations

import struct

import pytest
import smu_benches
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hil.contract import Blocks
from instruments.links.memory import MemoryLink

QUICK = settings(
    deadline=None, derandomize=True, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def bench(spec_of, quiet_board):
    spec = spec_of(selector="passive", kernels=1, rows=3, cols=2, writing=smu_benches.WRITING)
    return smu_benches.Bench(quiet_board(spec, seed=1))


def ask(link: MemoryLink, text: bytes) -> bytes:
    link.write(text + b"\n", 0.0)
    return link.read(1, 0.0)


def siemens(bench, row: int, col: int) -> float:
    return float(bench.backend.chip.tiles(Blocks((0,), (row,), (col,), 1, 1)))


def path(bench, row: int, col: int) -> bytes:
    return ",".join(bench.config.path(0, row, col)).encode()


def test_a_read_by_hand(bench):
    ask(bench.matrix, b'channel.exclusiveclose("%s")' % path(bench, 1, 1))
    ask(bench.source, b":SOUR:VOLT:RANG 2;ILIM 1e-3;:SOUR:VOLT 0.2;:SENS:CURR:RANG 1e-3;:OUTP ON")
    amps = float(ask(bench.source, b":READ?"))
    assert amps == pytest.approx(0.2 * siemens(bench, 1, 1), rel=1e-5)
    ask(bench.source, b':FORM REAL;:FORM:BORD NORM;:SENS:COUN 2;:TRAC:MAKE "b",10;:TRAC:TRIG "b"')
    block = ask(bench.source, b':TRAC:DATA? 1,2,"b",READ')
    assert block[:2] == b"#0" and block[-1:] == b"\n"
    assert struct.unpack(">2d", block[2:-1]) == pytest.approx((amps, amps), rel=1e-5)
    assert bench.source.seconds == pytest.approx(3 / 50)
    assert ask(bench.source, b":SYST:ERR:COUN?") == b"0\n"


def test_without_a_path_no_current_flows(bench):
    ask(bench.source, b":SOUR:VOLT:RANG 2;:SOUR:VOLT 0.2;:OUTP ON")
    assert float(ask(bench.source, b":READ?")) == 0.0


def test_without_an_output_nothing_is_measured(bench):
    assert float(ask(bench.source, b":READ?")) == 9.91e37


@pytest.mark.parametrize(("volts", "rises"), [(1.0, 1), (-1.2, -1), (0.5, 0), (-0.5, 0)])
def test_a_level_above_the_threshold_is_a_pulse_of_its_width(bench, monkeypatch, volts, rises):
    seen = []
    execute = bench.backend.execute
    monkeypatch.setattr(bench.backend, "execute", lambda ops: seen.extend(ops) or execute(ops))
    ask(bench.matrix, b'channel.exclusiveclose("%s")' % path(bench, 2, 0))
    ask(bench.source, b":SOUR:VOLT:RANG 2;ILIM 2e-4;:OUTP ON;:SOUR:VOLT %g" % volts)
    bench.clock.sleep(0.03)
    ask(bench.source, b":OUTP OFF")
    assert bench.bench.pulses.tolist() == [[[0, 0], [0, 0], [abs(rises), 0]]]
    assert [(int(op.counts), op.up.volts, op.up.seconds, op.up.amps) for op in seen] == (
        [(rises, abs(volts), pytest.approx(0.03), 2e-4)] if rises else []
    )


def test_relays_that_move_under_an_output_are_counted(bench):
    ask(bench.source, b":OUTP ON")
    ask(bench.matrix, b'channel.close("1A01")')
    ask(bench.matrix, b'channel.exclusiveclose("1A02")')
    ask(bench.matrix, b'channel.exclusiveclose("1A02")')
    ask(bench.source, b":OUTP OFF")
    ask(bench.matrix, b'channel.open("1A02")')
    assert bench.switch.inspect("counters", {}) == {"hot": 3, "pulses": 0}
    assert bench.smu.inspect("history", {"last": 2}) == [["output", False], ["closed", []]]


def test_the_matrix_knows_lists_ranges_and_forbidden_channels(bench):
    ask(bench.matrix, b'channel.close("1A01:1A03;2B07, 2B08")')
    assert ask(bench.matrix, b'print(channel.getclose("allslots"))') == b"1A01;1A02;1A03;2B07;2B08\n"
    ask(bench.matrix, b'channel.setforbidden("1C01")')
    ask(bench.matrix, b'channel.exclusiveclose("1A01,1C01")')  # nothing moves
    assert ask(bench.matrix, b'print(channel.getclose("allslots"))') == b"1A01;1A02;1A03;2B07;2B08\n"
    assert ask(bench.matrix, b"print(errorqueue.count)") == b"1.00000e+00\n"
    assert ask(bench.matrix, b"print(errorqueue.next())") == (
        b"-2.86000e+02\tTSP Runtime error\t2.00000e+01\t1.00000e+00\n"
    )
    assert ask(bench.matrix, b"print(errorqueue.next())") == b"0.00000e+00\tQueue Is Empty\t0.00000e+00\t1.00000e+00\n"
    ask(bench.matrix, b'channel.exclusiveclose("")')
    assert ask(bench.matrix, b'print(channel.getclose("allslots"))') == b"nil\n"


@pytest.mark.parametrize(
    "line",
    [b"os.exit()", b"print(os)", b'channel.close("9Z99")', b"x = 1", b"\xff", b"a" * 5000, b"channel.close(1A01)"],
)
def test_other_statements_are_errors_without_an_answer(bench, line):
    assert ask(bench.matrix, line) == b""
    assert ask(bench.matrix, b"print(errorqueue.count)") == b"1.00000e+00\n"


@pytest.mark.parametrize(
    "line", [b":SOUR:VOLT 300", b":SOUR:VOLT:ILIM 2", b":OUTP maybe", b':TRAC:DATA? 1,1,"no",READ']
)
def test_what_the_source_cannot_do_is_an_error(bench, line):
    assert ask(bench.source, line) == b""
    assert ask(bench.source, b":SYST:ERR:COUN?") == b"1\n"


SAID = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            [
                b"\n", b";", b":OUTP ON", b":SOUR:VOLT ", b"1e999", b"-0.2", b':TRAC:DATA? 1,9,"hil",READ', b":READ?",
                b"*RST", b"channel.close(", b'"1A01:6H12"', b")", b"print(", b"errorqueue.next()", b"reset()", b"=",
                b"*IDN?",
            ]
        ),
    ),
    max_size=15,
).map(b"".join)  # fmt: skip


@QUICK
@given(SAID)
def test_any_bytes_are_survived(bench, said):
    for board, idn in ((bench.smu, b"MODEL 2450"), (bench.switch, b"Model 707B")):
        link = MemoryLink(board.converse("fuzz"))
        link.write(said, 0.0)
        link.drain(0.1)  # silence: what has arrived in part is forgotten
        assert idn in ask(link, b"*IDN?")


@QUICK
@given(SAID)
def test_byte_by_byte_is_the_same_as_at_once(bench, said):
    for board in (bench.smu, bench.switch):
        heard = []
        for pieces in ([said + b"\n"], [bytes([byte]) for byte in said + b"\n"]):
            link = MemoryLink(board.converse("fuzz"))
            ask(link, b"\n*RST\n*CLS\n")
            for piece in pieces:
                link.write(piece, 0.0)
            heard.append(link.read(1, 0.0))
        assert heard[0] == heard[1]


def test_nothing_else_is_told(bench):
    with pytest.raises(ValueError, match="there are outputs"):
        bench.smu.inspect("passwords", {})
    assert not bench.smu.misbehave("nonsense") and not bench.switch.misbehave("nonsense")
    assert bench.smu.tick(0.0) is None and bench.switch.tick(0.0) is None


@pytest.mark.parametrize("which", ["smu", "switch"])
def test_another_firmware_and_a_reset(bench, which):
    board, link = getattr(bench, which), {"smu": bench.source, "switch": bench.matrix}[which]
    before = ask(link, b"*IDN?")
    bench.bench.move(["1A01"])
    bench.bench.switch(True)
    assert board.misbehave("firmware") and board.misbehave("reset")
    assert ask(link, b"*IDN?") != before
    assert (bench.bench.on, len(bench.bench.closed)) == ((False, 1) if which == "smu" else (True, 0))
