"""A bad line to a board in a process of its own: no wrong value, no pulse lost or doubled, no hang, a safe end."""

from __future__ import annotations

import random
import time

import pytest
import torch
from framed_boards import connected, daffodil, pulses, read, twin

from hil.errors import BoardFault, LinkTimeout
from instruments.framed.requests import Patience
from instruments.virtual.control_client import Control
from instruments.virtual.shell import ShellSettings

LOCAL = "127.0.0.1:0"
TIMEOUT = 0.03
RATES = {  # about 15 %, as in the study of facts/links.md
    "lost_request": 0.02, "no_answer": 0.02, "late": 0.02, "flipped_bit": 0.02, "flipped_request": 0.02,
    "truncated": 0.015, "duplicate": 0.015, "duplicate_request": 0.01, "garbage": 0.015, "busy": 0.005,
    "late_seconds": 0.04,
}  # fmt: skip


@pytest.fixture(scope="module")
def running():
    with daffodil(ShellSettings(tcp=LOCAL, pty=True, control=LOCAL, seed=5)) as addresses:
        yield addresses


@pytest.fixture
def control(running):
    with Control(running["control"]) as control:
        control.faults({}, [], seed=5)
        yield control
        control.faults({}, [])
        assert control.counters()["errors"] == 0


@pytest.fixture
def fresh(running):
    """The board as it was made, whatever tests have done to it."""
    board = connected(running["tcp"])
    board.restore(twin().snapshot())
    board.close()


def faults_of(control: Control) -> int:
    return sum(control.counters()["faults"].values())


def study(url: str, control: Control, calls: int, rates: dict[str, float]) -> None:
    """Calls over a bad line, half of them pulses, against the same board in this process."""
    board, clean, chance = connected(url, patience=Patience(TIMEOUT, 20)), twin(), random.Random(calls)
    before = control.inspect("pulses", sum=True)
    control.faults(rates)
    longest, seen, counters = 0.0, faults_of(control), board.session.counters
    first = seen
    for number in range(calls):
        if number % 2:
            ops = [pulses(clean, chance.choice((-1, 1)), chance.randrange(32), (chance.randrange(20), 3, 2, 2))]
        else:
            ops = [read(clean, chance.randrange(32))]
        started = time.monotonic()
        (found,) = board.execute(ops)
        lasted, before_it, seen = time.monotonic() - started, seen, faults_of(control)
        longest = max(longest, lasted / max(1, seen - before_it))
        (expected,) = clean.execute(ops)
        assert found.value is None or torch.equal(found.value, expected.value), number
        assert found.applied is None or torch.equal(found.applied, expected.applied), number
    happened = seen - first
    control.faults({})
    assert control.inspect("pulses", sum=True) - before == 4 * (calls // 2)
    assert torch.equal(board.snapshot()["chip.pulses"], clean.chip.state["pulses"])
    assert torch.equal(board.snapshot()["chip.g"], clean.chip.state["g"])
    assert happened > 0.08 * calls and counters.retries > 0
    assert longest < 2 * TIMEOUT + 0.04, longest  # two time-outs; the rest is for a busy machine
    assert board.make_safe().confirmed
    board.close()
    history = control.inspect("history", last=2)
    assert history == [["volts", 0.0], ["outputs", "off"]]
    assert control.inspect("outputs") == {"on": False, "volts": 0.0}
    print(f"{url}: {happened} faults, {counters.retries} retries, longest {1e3 * longest:.0f} ms a fault")


@pytest.mark.parametrize("line", ["tcp", pytest.param("pty", marks=pytest.mark.slow)])
def test_a_few_calls_over_a_bad_line(running, control, fresh, line):
    study(running[line], control, 60, RATES)


@pytest.mark.slow
@pytest.mark.parametrize("line", ["tcp", "pty"])
def test_1500_calls_over_a_bad_line(running, control, fresh, line):
    study(running[line], control, 1500, RATES)


@pytest.mark.slow
def test_1500_calls_over_a_line_that_breaks(running, control, fresh):
    study(running["tcp"], control, 1500, RATES | {"disconnect": 0.02})


@pytest.mark.parametrize("kind", ["disconnect", "truncated", "flipped_request", "slow"])
def test_one_fault_costs_at_most_two_time_outs(running, control, fresh, kind):
    board, clean = connected(running["tcp"], patience=Patience(0.1, 5)), twin()
    for ops in ([pulses(clean), read(clean)], [pulses(clean, -1)]):
        control.fault(kind)
        started = time.monotonic()
        found = board.execute(ops)
        assert time.monotonic() - started < 0.2 + 0.05
        assert all(
            a.value is None or torch.equal(a.value, b.value) for a, b in zip(found, clean.execute(ops), strict=True)
        )
    assert control.inspect("pulses", sum=True) == 12
    board.close()


def test_a_board_that_hangs_is_given_up_and_found_safe(running, control, fresh):
    board = connected(running["tcp"], patience=Patience(0.03, 4))
    board.execute([pulses(board)])
    control.freeze(0.8)
    started = time.monotonic()
    with pytest.raises(BoardFault) as caught:
        board.execute([pulses(board)])
    assert 0.12 <= time.monotonic() - started < 0.3
    assert isinstance(caught.value.__cause__, LinkTimeout) and caught.value.doubt.sum() == 6
    report = board.make_safe()
    assert not report.confirmed and time.monotonic() - started < 0.6
    time.sleep(max(0.0, 0.85 - (time.monotonic() - started)))
    assert board.make_safe().confirmed
    board.close()


def test_a_board_that_restarts_in_the_middle(running, control, fresh):
    board = connected(running["tcp"], patience=Patience(0.1, 4))
    board.execute([pulses(board)])
    control.fault("reset")
    with pytest.raises(BoardFault, match="NO_SESSION") as caught:
        board.execute([pulses(board)])
    assert caught.value.doubt.sum() == 6 and control.inspect("pulses", sum=True) == 6
    board.close()


def test_a_slow_line_is_waited_for(running):
    """Question and answer take longer than the time-out each; nothing is sent twice."""
    with daffodil(ShellSettings(tcp=LOCAL, rate=30_000.0, round_trip=0.002)) as slow:
        board, clean = connected(slow["tcp"], patience=Patience(0.08, 3), bytes_per_second=30_000.0), twin()
        ops = [read(clean, batch=100), pulses(clean)]
        started = time.monotonic()
        found, expected = board.execute(ops), clean.execute(ops)
        assert torch.equal(found[0].value, expected[0].value)
        assert time.monotonic() - started > 0.3
        assert board.session.counters.retries == board.session.counters.timeouts == 0
        board.close()
