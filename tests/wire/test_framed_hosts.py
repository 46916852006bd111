"""Hosts that die, fall silent, think long or abort, against a board in a process of its own."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import torch
from framed_boards import connected, daffodil, forks, host, pulses, read, twin

from hil.contract import Wait
from hil.errors import Aborted, BoardFault, BoardMissing
from hil.lab.guard import Guard
from hil.lab.stop import StopToken
from instruments.framed.introduction import command_safe
from instruments.framed.requests import Patience
from instruments.links.opening import open_link
from instruments.session import Session
from instruments.virtual.control_client import Control
from instruments.virtual.shell import ShellSettings

LOCAL = "127.0.0.1:0"
WATCHDOG = 0.4
SLOW_TCP = [pytest.param("tcp", marks=pytest.mark.slow), "pty"]


@pytest.fixture(scope="module")
def running():
    with daffodil(ShellSettings(tcp=LOCAL, pty=True, control=LOCAL, time="real")) as addresses:
        yield addresses


@pytest.fixture
def control(running):
    with Control(running["control"]) as control:
        yield control
        assert control.counters()["errors"] == 0


@pytest.fixture
def opened():
    """``opened(url, ...)``: a driver that is closed at the end, whatever happens."""
    boards = []

    def build(*args, **options):
        boards.append(connected(*args, **options))
        return boards[-1]

    yield build
    for board in boards:
        board.close()


def pulses_seen(control) -> float:
    return control.inspect("pulses", sum=True)


def safe_after(control, seconds: float) -> float:
    """Waits until the outputs are off; gives how long it took."""
    started = time.monotonic()
    while control.inspect("outputs")["on"]:
        assert time.monotonic() - started < seconds, "the outputs are still on"
        time.sleep(0.005)
    return time.monotonic() - started


# -- the watchdog ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", SLOW_TCP)
def test_the_board_is_safe_soon_after_its_host_is_killed(running, control, line, opened):
    here, there = forks().Pipe(duplex=False)
    process = forks().Process(target=host, args=(running[line], WATCHDOG, there), daemon=True)
    process.start()
    assert here.poll(20) and here.recv() == "works"
    assert control.inspect("outputs")["on"]
    bites = control.inspect("counters")["watchdog"]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    here.close()
    there.close()
    assert safe_after(control, WATCHDOG + 0.2) < WATCHDOG + 0.1
    assert control.inspect("history", last=2)[-1] == ["outputs", "off"]
    assert control.inspect("counters")["watchdog"] == bites + (line == "pty")  # TCP tells that its client is gone
    before, started = pulses_seen(control), time.monotonic()
    board = opened(running[line], watchdog=WATCHDOG)
    board.execute([pulses(board)])
    assert time.monotonic() - started < 0.5 and pulses_seen(control) == before + 6


@pytest.mark.slow
@pytest.mark.parametrize("line", ["tcp", "pty"])
def test_an_idle_host_keeps_the_board(running, control, line, opened):
    watchdog = 0.25
    board = opened(running[line], watchdog=watchdog)
    bites = control.inspect("counters")["watchdog"]
    board.execute([pulses(board)])
    time.sleep(2.5 * watchdog)
    until = time.monotonic() + 1.5 * watchdog
    while time.monotonic() < until:  # busy in Python, for longer than a heartbeat's period
        sum(range(1000))
    assert control.inspect("outputs")["on"] and control.inspect("counters")["watchdog"] == bites
    board.execute([pulses(board)])


@pytest.mark.slow
def test_a_host_that_waits_for_a_long_list_is_heard(running, control, opened):
    board = opened(running["tcp"], watchdog=0.3)
    bites = control.inspect("counters")["watchdog"]
    board.execute([pulses(board), Wait(0.9), pulses(board)])
    assert control.inspect("counters")["watchdog"] == bites


def test_a_host_whose_heartbeat_stops_finds_a_safe_board(running, control, opened):
    board = opened(running["pty"], watchdog=0.15)
    board.execute([pulses(board)])
    board._heartbeat.stop()
    safe_after(control, 0.25)
    before = pulses_seen(control)
    with pytest.raises(BoardFault, match="its host was silent; look at the board, then open it again"):
        board.execute([pulses(board)])
    assert pulses_seen(control) == before


# -- other clients -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_safe_command_gets_through_a_long_list_of_another(running, control, opened):
    board = opened(running["tcp"])
    before, found = pulses_seen(control), []

    def work():
        with pytest.raises(BoardFault, match="another client .* made the board safe") as caught:
            board.execute([pulses(board), Wait(30.0), pulses(board)])
        found.append(caught.value)

    worker = threading.Thread(target=work)
    worker.start()
    time.sleep(0.1)
    with pytest.raises(BoardMissing, match="in use by"):
        opened(running["tcp"])
    bystander = Session(open_link(running["pty"]))
    started = time.monotonic()
    assert command_safe(bystander).confirmed and time.monotonic() - started < 0.1
    bystander.close()
    assert not control.inspect("outputs")["on"]
    worker.join(2.0)
    assert found[0].index == 1 and found[0].doubt is None
    with pytest.raises(BoardFault, match="look at the board"):
        board.execute([pulses(board)])
    assert pulses_seen(control) == before + 6


# -- abort -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("line", ["tcp", "pty"])
def test_an_abort_takes_effect_in_the_middle_of_a_long_read(running, control, line, opened):
    """500 read events of 60 ms: half a minute."""
    stop = StopToken()
    board = opened(running[line], wants_abort=lambda: stop.aborted)
    guard = Guard(board, stop=stop)
    threading.Timer(0.15, lambda: stop.abort("the operator")).start()
    started = time.monotonic()
    with pytest.raises(Aborted, match="the operator"):
        guard.execute([pulses(board), read(board, batch=500), pulses(board)])
    ended = time.monotonic() - started
    assert not control.inspect("outputs")["on"]
    assert ended < 0.15 + board.spec.timing.slice + 0.2
    assert guard.ledger.as_dict()["pulses"] == 6  # what was done before is booked
    with pytest.raises(Aborted):
        guard.execute([pulses(board)])


def test_an_abort_makes_safe_within_a_tenth_of_a_second(running, control, opened):
    aborted = threading.Event()
    board = opened(running["tcp"], wants_abort=aborted.is_set)

    def work():
        with pytest.raises(BoardFault, match="made safe in the middle"):
            board.execute([read(board, batch=500)])

    worker = threading.Thread(target=work)
    worker.start()
    time.sleep(0.1)
    assert control.inspect("outputs")["on"]
    aborted.set()
    assert safe_after(control, 1.0) < 0.1
    worker.join(2.0)


def test_after_an_abort_nothing_more_is_sent(running, control, opened):
    """Not even what was lost: it would be carried out after the board was made safe."""
    aborted = threading.Event()
    board = opened(running["tcp"], wants_abort=aborted.is_set, patience=Patience(0.2, 5))
    before = pulses_seen(control)
    control.fault("lost_request")
    threading.Timer(0.05, aborted.set).start()
    started = time.monotonic()
    with pytest.raises(BoardFault, match="the operator aborted") as caught:
        board.execute([pulses(board)])
    assert time.monotonic() - started < 0.6 and caught.value.doubt.sum() == 6
    assert pulses_seen(control) == before


def test_the_safe_command_of_an_abort_is_repeated_until_it_is_heard(running, control, opened):
    aborted = threading.Event()
    board = opened(running["tcp"], wants_abort=aborted.is_set, patience=Patience(0.05, 8))
    threading.Timer(0.1, aborted.set).start()
    threading.Timer(0.08, lambda: control.fault("lost_request", 2)).start()
    with pytest.raises(BoardFault):
        board.execute([pulses(board), Wait(30.0)])
    assert not control.inspect("outputs")["on"]
    control.faults({}, [])


# -- the same board, near and far --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("line", ["tcp", "pty", "visa"])
def test_far_and_near_agree(running, line, opened):
    url = f"visa://ASRL{running['pty'].removeprefix('serial://')}::INSTR" if line == "visa" else running[line]
    board, clean = opened(url), twin()
    board.restore(clean.snapshot())
    ops = [pulses(clean), read(clean), pulses(clean, -1, 3), read(clean, 3)]
    for a, b in zip(board.execute(ops), clean.execute(ops), strict=True):
        assert a.value is None or torch.equal(a.value, b.value)
        assert a.seconds == b.seconds and a.events == b.events
    assert abs(board.now() - clean.now()) < 1e-9
