"""Device time, alarms that ring on time, and the settings of the shell. No process."""

from __future__ import annotations

import asyncio
import statistics

import pytest

from instruments.virtual.clock import Alarm, DeviceTime, Watch
from instruments.virtual.pacing import Way
from instruments.virtual.shell import ShellSettings


@pytest.mark.parametrize(("text", "scale"), [("asap", 0.0), ("real", 1.0), ("x10", 0.1), ("x0.5", 2.0)])
def test_device_time(text, scale):
    assert DeviceTime.of(text).scale == pytest.approx(scale)


@pytest.mark.parametrize("text", ["", "fast", "x", "x0", "x-1", "10", "x1e3", "xx", "REAL", "x" + "9" * 400])
def test_a_wrong_device_time_is_refused(text):
    with pytest.raises(ValueError, match="^time must be"):
        DeviceTime.of(text)


def test_alarms_ring_in_time_and_never_early():
    async def run():
        loop, late = asyncio.get_running_loop(), []
        for wait in (0.0003, 0.0011, 0.0027, 0.0049) * 12:
            rung = asyncio.Event()
            when = loop.time() + wait
            Alarm(loop, rung.set).set(when)
            await rung.wait()
            late.append(loop.time() - when)
        return late

    late = asyncio.run(run())
    assert min(late) >= 0
    assert statistics.quantiles(late)[0] < 2e-4  # the rest is other people's load


def test_an_alarm_that_was_moved_rings_once():
    async def run():
        loop, rung = asyncio.get_running_loop(), []
        alarm = Alarm(loop, lambda: rung.append(loop.time()))
        alarm.set(loop.time() + 0.001)
        alarm.set(when := loop.time() + 0.004)
        other = Alarm(loop, lambda: rung.append(0.0))
        other.set(loop.time() + 0.001)
        other.cancel()
        await asyncio.sleep(0.02)
        return when, rung

    when, rung = asyncio.run(run())
    assert len(rung) == 1
    assert rung[0] >= when


def test_the_watchdog_is_asked_when_it_wants_and_not_in_between():
    async def run():
        loop, asked = asyncio.get_running_loop(), []
        start = loop.time()
        answers = [start + 0.01, start + 0.02, None]

        def tick(now):
            asked.append(now - start)
            return answers.pop(0)

        Watch(loop, tick).look()
        await asyncio.sleep(0.05)
        return asked

    asked = asyncio.run(run())
    assert len(asked) == 3
    assert asked[1] >= 0.0095
    assert asked[2] >= 0.0195


def test_bytes_follow_each_other_in_order_at_their_rate():
    async def run():
        loop, got = asyncio.get_running_loop(), []
        done = asyncio.Event()
        start = loop.time()
        way = Way(loop, lambda data: got.append((loop.time() - start, data)), rate=10_000.0, latency=0.005)
        way.put(b"a" * 50)
        way.put(b"b" * 30, hold=0.01)
        way.put(b"c" * 500)
        assert way.waiting == 580
        way.after(done.set)
        await done.wait()
        assert way.waiting == 0
        return got

    got = asyncio.run(run())
    assert b"".join(data for _, data in got) == b"a" * 50 + b"b" * 30 + b"c" * 500
    expected = [0.010, 0.023, 0.043, 0.063, 0.073]  # ends of 50, 30, 200, 200 and 100 bytes, 5 ms of way, 10 ms held
    assert all(law - 1e-4 <= at < law + 0.1 for (at, _), law in zip(got, expected, strict=True))


def test_without_a_pace_bytes_are_there_at_once():
    async def run():
        got = []
        way = Way(asyncio.get_running_loop(), got.append)
        way.put(b"abc")
        return got

    assert asyncio.run(run()) == [b"abc"]


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"time": "slow"}, "time"),
        ({"rate": 0.0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"round_trip": -1.0}, "round_trip"),
        ({"round_trip": float("nan")}, "round_trip"),
        ({"silence": 0.0}, "silence"),
        ({"tcp": "nowhere"}, "tcp"),
        ({"tcp": "127.0.0.1:99999"}, "tcp"),
        ({"control": "0.0.0.0:0"}, "control"),
        ({"control": "example.org:1"}, "control"),
        ({"pty_link": "board"}, "pty_link"),
        ({"script": ((1, "nonsense"),)}, "script"),
    ],
)
def test_wrong_settings_are_refused_by_name(wrong, name):
    with pytest.raises(ValueError, match=rf"^{name}\b"):
        ShellSettings(**wrong)
