"""Device time and pace of a virtual board in its own process: urgency, order, and the laws of bytes and round trips."""

from __future__ import annotations

import time

import pytest
from raw_wires import Wire
from virtual_boards import board

from instruments.virtual.shell import ShellSettings


def timed(call):
    start = time.monotonic()
    result = call()
    return result, time.monotonic() - start


@pytest.mark.parametrize(("speed", "expected"), [("real", 0.2), ("x10", 0.02)])
def test_device_time_passes_as_it_should(speed, expected):
    with board(ShellSettings(time=speed)) as started, Wire.tcp(started.tcp) as client:
        answer, seconds = timed(lambda: client.ask(b"work 4 0.05"))
        assert answer == b"work 4 0.05"
        assert expected <= seconds < expected + 0.15


def test_one_board_does_one_thing_after_another_and_urgent_ones_at_once():
    with board(ShellSettings(time="real", control="127.0.0.1:0")) as started:
        with Wire.tcp(started.tcp) as one, Wire.tcp(started.tcp) as two, started.control() as control:
            one.send(b"work 4 0.05 a\nwork 1 0.01 b\n")
            while "work 4 0.05 a" not in control.inspect("began"):
                pass
            two.send(b"c\n")
            time.sleep(0.03)
            answer, seconds = timed(lambda: two.ask(b"! stop"))
            assert answer == b"! stop"  # before its own c, and in the middle of the work
            assert seconds < 0.15
            assert "work 4 0.05 a" not in control.inspect("done")
            assert [one.line(), one.line(), two.line()] == [b"work 4 0.05 a", b"work 1 0.01 b", b"c"]
            assert control.inspect("done") == ["! stop", "work 4 0.05 a", "work 1 0.01 b", "c"]


def test_urgent_commands_get_through_long_work_that_takes_no_device_time():
    with board(ShellSettings(control="127.0.0.1:0")) as started:
        with Wire.tcp(started.tcp) as one, Wire.tcp(started.tcp) as two, started.control() as control:
            one.send(b"crunch 0.4\n")
            time.sleep(0.05)
            answer, seconds = timed(lambda: two.ask(b"! stop"))
            assert answer == b"! stop"
            assert seconds < 0.3
            assert one.line() == b"crunch 0.4"
            assert control.inspect("done") == ["! stop", "crunch 0.4"]


def test_a_heartbeat_in_long_work_holds_the_watchdog_off():
    with board(ShellSettings(control="127.0.0.1:0")) as started:
        with Wire.tcp(started.tcp) as one, Wire.tcp(started.tcp) as two, started.control() as control:
            two.ask(b"watch 0.25")
            one.send(b"crunch 0.4\n")
            for _ in range(9):
                time.sleep(0.04)
                two.ask(b"! beat")
            assert one.line() == b"crunch 0.4"
            assert control.inspect("notes") == []


def test_what_waits_for_a_client_that_has_left_is_not_done():
    with board(ShellSettings(time="real", control="127.0.0.1:0")) as started, started.control() as control:
        with Wire.tcp(started.tcp) as client:
            client.send(b"work 1 0.1 under way\nwaiting\n")
            while not control.inspect("began"):
                pass
        with Wire.tcp(started.tcp) as client:
            assert client.ask(b"next") == b"next"
        assert control.inspect("done") == ["work 1 0.1 under way", "next"]


@pytest.mark.parametrize(
    ("rate", "round_trip", "size"), [(11_520.0, 2e-3, 60), pytest.param(1e6, 1e-3, 1000, marks=pytest.mark.slow)]
)
def test_questions_take_their_bytes_and_their_round_trip(rate, round_trip, size):
    message = b"m" * (size - 1) + b"\n"
    bound = 2 * size / rate + round_trip
    with board(ShellSettings(pty=True, rate=rate, round_trip=round_trip)) as started:
        with Wire.tcp(started.tcp) as tcp, Wire.pty(started.device) as pty:
            for client in (tcp, pty):
                often = round(0.25 / bound)  # load hides short questions more easily, so they are asked more often
                times = [timed(lambda: (client.send(message), client.exactly(size)))[1] for _ in range(often)]  # noqa: B023
                assert bound <= min(times) < 1.05 * bound  # the slower ones are other people's load


def test_a_pipelined_line_is_full_duplex_and_pays_the_round_trip_once():
    size, count, rate, round_trip = 200, 20, 40_000.0, 0.05
    message = b"m" * (size - 1) + b"\n"
    with board(ShellSettings(rate=rate, round_trip=round_trip)) as started, Wire.tcp(started.tcp) as client:
        got, seconds = timed(lambda: (client.send(message * count), client.exactly(size * count))[1])
    assert got == message * count
    one_way = size * count / rate
    assert one_way + round_trip < seconds < one_way + round_trip + 0.15  # a piece of 20 ms, and some
