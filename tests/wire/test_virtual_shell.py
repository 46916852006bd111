"""A virtual board in its own process: answers, order, faults on the wire, freezes, ends, and bytes without sense."""

from __future__ import annotations

import os
import signal
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_wires import Wire
from virtual_boards import Board, board

from hil.errors import LinkLost
from instruments.virtual.faults import FaultSettings
from instruments.virtual.shell import ShellSettings

BOTH = pytest.mark.parametrize("side", ["tcp", "pty"])


@pytest.fixture(scope="module")
def running():
    faults = FaultSettings(late_seconds=0.08, slow_seconds=0.08)
    with board(ShellSettings(pty=True, control="127.0.0.1:0", silence=0.2, faults=faults)) as started:
        yield started


@pytest.fixture
def control(running: Board):
    with running.control() as client:
        yield client
        client.faults(rates={}, script=[])


def wire_to(started: Board, side: str) -> Wire:
    if side == "tcp":
        return Wire.tcp(started.tcp)
    wire = Wire.pty(started.device)
    wire.rest(0.0)
    return wire


@pytest.fixture
def wire(running: Board, side: str):
    with wire_to(running, side) as client:
        yield client


@BOTH
def test_an_echo(wire):
    assert wire.ask(b"hello \x00\xff\r\x11\x13") == b"hello \x00\xff\r\x11\x13"  # raw: nothing is translated


@BOTH
def test_any_split_of_bytes_and_many_commands_at_once_keep_their_order(wire):
    lines = [b"line %d" % n for n in range(300)]
    whole = b"".join(line + b"\n" for line in lines)
    for start in range(0, len(whole), 97):
        wire.send(whole[start : start + 97])
    assert [wire.line() for _ in lines] == lines


@BOTH
def test_a_large_answer_passes_the_small_buffer_of_the_kernel(wire):
    wire.send(b"big 300000\n")
    assert wire.exactly(300_001) == b"x" * 300_000 + b"\n"


@BOTH
def test_a_large_message_passes_the_small_buffer_of_the_kernel(wire):
    text = bytes(97 + n % 26 for n in range(60_000))
    assert wire.ask(text) == text


@BOTH
def test_half_a_message_is_forgotten_after_a_silence(wire, control):
    wire.send(b"half of a mess")
    until = time.monotonic() + 3.0
    while control.inspect("notes")[-1:] != ["silence after 14"] and time.monotonic() < until:
        time.sleep(0.01)
    assert wire.ask(b"whole") == b"whole"


def test_two_clients_and_each_gets_its_own_answers(running):
    with Wire.tcp(running.tcp) as one, Wire.tcp(running.tcp) as two:
        for n in range(50):
            one.send(b"one %d\n" % n)
            two.send(b"two %d\n" % n)
        assert [one.line() for _ in range(50)] == [b"one %d" % n for n in range(50)]
        assert [two.line() for _ in range(50)] == [b"two %d" % n for n in range(50)]


def test_a_client_that_leaves_is_lost(running, control):
    with Wire.tcp(running.tcp) as client:
        client.ask(b"here")
        connected = control.counters()["connected"]
        notes = control.inspect("notes").count("lost")
    until = time.monotonic() + 2.0
    while control.counters()["connected"] == connected and time.monotonic() < until:
        time.sleep(0.005)
    assert control.counters()["connected"] == connected - 1
    assert control.inspect("notes").count("lost") == notes + 1


def test_counters(running, control):
    before = control.counters()
    with Wire.tcp(running.tcp) as client:
        client.ask(b"12345")
        client.ask(b"work 2 0.25 x")
    after = control.counters()
    assert {name: after[name] - before[name] for name in ("commands", "bytes_in", "bytes_out", "clients")} == {
        "commands": 2,
        "bytes_in": 20,
        "bytes_out": 20,
        "clients": 1,
    }
    assert after["device_seconds"] - before["device_seconds"] == pytest.approx(0.5)


# --- faults, byte by byte ---


def difference(sent: bytes, got: bytes) -> int:
    assert len(sent) == len(got)
    return (int.from_bytes(sent, "big") ^ int.from_bytes(got, "big")).bit_count()


@BOTH
@pytest.mark.parametrize("kind", ["no_answer", "lost_request"])
def test_no_answer_and_whether_it_was_done(wire, control, kind):
    control.fault(kind)
    counted = control.counters()["faults"].get(kind, 0)
    wire.send(f"{kind} case\n".encode())
    assert wire.rest(0.05) == b""
    assert wire.ask(b"next") == b"next"
    assert (f"{kind} case" in control.inspect("done")[-3:]) == (kind == "no_answer")
    assert control.counters()["faults"][kind] == counted + 1


@BOTH
def test_late_and_the_next_answer_stays_behind_it(wire, control):
    control.fault("late")
    start = time.monotonic()
    wire.send(b"late one\nin time\n")
    assert wire.line() == b"late one"
    assert 0.08 <= time.monotonic() - start < 0.5
    assert wire.line() == b"in time"


@BOTH
def test_truncated(wire, control):
    control.fault("truncated")
    wire.send(b"a whole answer\n")
    got = wire.rest(0.05)
    assert len(got) < 15
    assert b"a whole answer\n".startswith(got)


@BOTH
def test_a_flipped_bit_of_the_answer(wire, control):
    control.fault("flipped_bit")
    wire.send(b"0123456789\n")
    assert difference(b"0123456789\n", wire.exactly(11)) == 1
    assert control.inspect("done")[-1] == "0123456789"


@BOTH
def test_a_flipped_bit_of_the_request(wire, control):
    control.faults(seed=5)
    control.fault("flipped_request")
    wire.send(b"0123456789" * 8 + b"\n")
    assert difference(b"0123456789" * 8, wire.line()) == 1
    assert control.inspect("done")[-1].encode("latin-1") != b"0123456789" * 8


@BOTH
def test_garbage_before_the_answer(wire, control):
    control.fault("garbage")
    wire.send(b"an answer\n")
    got = wire.rest(0.05)
    assert got.endswith(b"an answer\n")
    assert 11 <= len(got) <= 26


@BOTH
def test_duplicates(wire, control):
    control.fault("duplicate")
    done = control.inspect("done").count("twice")
    wire.send(b"twice\n")
    assert wire.rest(0.05) == b"twice\ntwice\n"
    assert control.inspect("done").count("twice") == done + 1
    control.fault("duplicate_request")
    wire.send(b"twice\n")
    assert wire.rest(0.05) == b"twice\ntwice\n"
    assert control.inspect("done").count("twice") == done + 3


@BOTH
def test_slow_bytes_dribble(wire, control):
    control.fault("slow")
    start = time.monotonic()
    wire.send(b"dribble\n")
    parts, times = [], []
    while b"".join(parts)[-1:] != b"\n":
        parts.append(wire.some(1.0) or b"?")
        times.append(time.monotonic() - start)
    assert b"".join(parts) == b"dribble\n"
    assert len(parts) > 2
    assert 0.08 <= times[-1] < 0.5


@BOTH
def test_a_fault_of_the_wire_protocol_is_passed_on(wire, control):
    control.fault("busy")
    assert wire.ask(b"hello") == b"busy"
    control.fault("stuck")  # this personality does not know it
    counted = control.counters()["faults"]
    assert wire.ask(b"hello") == b"hello"
    assert control.counters()["faults"] == counted


def test_disconnect_and_return_over_tcp(running, control):
    with Wire.tcp(running.tcp) as client:
        control.fault("disconnect")
        client.send(b"the last one\n")
        assert client.ended()
    assert control.inspect("done")[-1] == "the last one"
    with Wire.tcp(running.tcp) as client:
        assert client.ask(b"back") == b"back"
        assert control.disconnect() >= 1
        assert client.ended()


def test_a_serial_line_that_is_cut_off_stays_and_loses_what_is_on_it(running, control):
    with wire_to(running, "pty") as client:
        client.send(b"an answer\n")
        control.fault("disconnect")
        client.send(b"the last one\n")
        client.rest(0.05)
        assert client.ask(b"back") == b"back"
    assert control.inspect("notes")[-1] == "lost"


def test_a_script_follows_the_numbers_of_commands():
    script = ((2, "no_answer"), (4, "duplicate"))
    with board(ShellSettings(script=script)) as started, Wire.tcp(started.tcp) as client:
        client.send(b"1\n2\n3\n4\n5\n")
        assert client.rest(0.05) == b"1\n3\n4\n4\n5\n"


def test_the_same_seed_gives_the_same_bytes():
    chances = FaultSettings(no_answer=0.1, truncated=0.1, flipped_bit=0.1, garbage=0.1, duplicate=0.1, lost_request=0.1)
    seen = []
    for _ in range(2):
        with board(ShellSettings(faults=chances, seed=11)) as started, Wire.tcp(started.tcp) as client:
            client.send(b"".join(b"command %d\n" % n for n in range(60)))
            seen.append(client.rest(0.1))
    assert seen[0] == seen[1]
    assert len(seen[0]) > 300


# --- freezes, errors, ends ---


def test_a_frozen_board_keeps_its_lines_and_answers_afterwards(running, control):
    with Wire.tcp(running.tcp) as client:
        client.ask(b"alive")
        control.freeze(0.3)
        start = time.monotonic()
        client.send(b"! urgent\nordinary\n")
        assert client.some(0.1) is None
        assert client.line() == b"! urgent"
        assert 0.2 <= time.monotonic() - start < 2.0
        assert client.line() == b"ordinary"


def test_the_watchdog_bites_without_any_traffic_and_not_while_it_is_fed(running, control):
    with Wire.tcp(running.tcp) as client:
        client.ask(b"watch 0.2")
        for _ in range(6):
            time.sleep(0.04)
            client.ask(b"fed")
        assert "watchdog" not in control.inspect("notes")
        until = time.monotonic() + 3.0
        while "watchdog" not in control.inspect("notes") and time.monotonic() < until:
            time.sleep(0.01)
        assert "watchdog" in control.inspect("notes")


def test_an_error_inside_drops_its_client_with_one_line_and_the_board_lives_on():
    with board(ShellSettings(control="127.0.0.1:0")) as started:
        with Wire.tcp(started.tcp) as bad, Wire.tcp(started.tcp) as good:
            bad.send(b"boom \x1b[31m\xe9\x00 text\n")
            assert bad.ended()
            assert good.ask(b"still here") == b"still here"
        with started.control() as control:
            assert control.counters()["dropped"] == 1
        status, said = started.end()
    assert status == 0
    [line] = said.splitlines()
    assert "RuntimeError: boom \\x1b[31m\\xe9\\x00 text" in line
    assert line.isprintable()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_end_in_the_middle_of_work(number):
    with board(ShellSettings(pty=True, control="127.0.0.1:0", time="real")) as started:
        with Wire.tcp(started.tcp) as client, Wire.pty(started.device) as serial, started.control() as control:
            client.send(b"work 1 60\n")
            until = time.monotonic() + 2.0
            while control.counters()["commands"] == 0 and time.monotonic() < until:
                pass
            os.kill(started.process.pid, number)
            assert client.ended()
            assert serial.ended()
            with pytest.raises(LinkLost):
                control.counters()
        status, said = started.end()
    assert (status, said) == (0, "")


def test_a_hang_up_of_a_linked_serial_line_is_an_error_and_a_new_terminal(tmp_path):
    link = tmp_path / "board"
    with board(ShellSettings(tcp=None, pty=True, pty_link=str(link), control="127.0.0.1:0")) as started:
        assert started.device == str(link)
        with started.control() as control, Wire.pty(started.device) as client:
            assert client.ask(b"hello") == b"hello"
            control.fault("disconnect")
            client.send(b"the last one\n")
            assert client.ended()
            with Wire.pty(started.device) as again:
                assert again.ask(b"back") == b"back"
        assert started.end() == (0, "")
    assert not link.is_symlink()


# --- hostile clients ---


@BOTH
@given(parts=st.lists(st.binary(max_size=300), max_size=8))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_bytes_without_sense_neither_crash_nor_hang_the_board(running, side, parts):
    with wire_to(running, side) as client:
        for part in parts:
            client.send(part.replace(b"crunch", b"").replace(b"big", b""))
        client.send(b"\n!end of it\n")
        until = time.monotonic() + 2.0
        while client.line(until - time.monotonic()) != b"!end of it":
            pass


def test_from_a_client_that_never_reads_nothing_more_is_taken(running, control):
    before = control.counters()["commands"]
    with Wire.tcp(running.tcp) as greedy, Wire.tcp(running.tcp) as modest:
        for _ in range(40):
            greedy.send(b"big 1000000\n")
            time.sleep(0.002)
        assert modest.ask(b"hello") == b"hello"
        assert 1 < control.counters()["commands"] - before < 35  # some MB are in the buffers of the kernel
        greedy.exactly(40 * 1_000_001)  # nothing was lost all the same
