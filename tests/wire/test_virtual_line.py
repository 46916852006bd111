"""One line of a virtual board, with the system's side taken away."""

from __future__ import annotations

import asyncio

import pytest
from virtual_boards import Echo

from instruments.virtual import line as lines
from instruments.virtual.clock import DeviceTime, Watch
from instruments.virtual.faults import FaultSchedule
from instruments.virtual.insides import Insides, Tally
from instruments.virtual.line import Line
from instruments.virtual.turns import Turns


class Port:
    def __init__(self) -> None:
        self.full, self.held, self.up, self.kept, self.sent = False, False, True, 0, b""

    def write(self, data: bytes) -> None:
        self.sent += data

    def unsent(self) -> int:
        return self.kept

    def hold(self, held: bool) -> None:
        self.held = held

    def hang_up(self) -> None:
        self.up = False


class Deaf(Echo):
    """Raises wherever it is called."""

    def converse(self, client):
        return self

    def receive(self, data):
        raise KeyError("receive")

    def silent(self):
        raise KeyError("silent")

    def lost(self):
        raise KeyError("lost")


def on_a_line(test, personality=None, speed="asap"):
    """Runs a test of a line inside a loop."""

    async def run():
        loop, tally = asyncio.get_running_loop(), Tally()
        watch = Watch(loop, lambda now: None)
        turns = Turns(loop, DeviceTime.of(speed), tally, watch.look)
        port = Port()
        insides = Insides(loop, personality or Echo(), turns, FaultSchedule(), watch, tally)
        line = Line(insides, port, "test")
        await test(line, port, insides)
        turns.close()
        line.close()

    asyncio.run(run())


def test_an_answer_is_written_before_the_port_gets_its_turn_back():
    async def test(line, port, insides):
        line.arrived(b"one\ntwo\nth")
        assert port.sent == b"one\ntwo\n"

    on_a_line(test)


def test_too_many_waiting_commands_are_left_on_the_line_until_there_is_room():
    async def test(line, port, insides):
        line.arrived(b"work 1 0.02\n" + b"next\n" * lines.MOST_TASKS)
        assert port.held
        assert port.sent == b""
        await asyncio.sleep(0.1)
        assert not port.held
        assert port.sent.count(b"\n") == 1 + lines.MOST_TASKS

    on_a_line(test, speed="real")


def test_a_client_that_does_not_read_is_held_and_then_dropped(capsys):
    async def test(line, port, insides):
        port.full, port.kept = True, 1000
        line.eased()
        assert port.held
        assert port.up
        port.full = False
        line.eased()
        assert not port.held
        port.full, port.kept = True, lines.TOO_MUCH + 1
        line.eased()
        assert not port.up
        assert insides.tally.dropped == 1
        assert not insides.lines

    on_a_line(test)
    assert "does not read" in capsys.readouterr().err


def test_a_gone_line_sends_nothing_and_is_lost_once():
    board = Echo()

    async def test(line, port, insides):
        line.arrived(b"work 1 0.01\n! urgent\n")
        line.ended()
        line.close()
        await asyncio.sleep(0.05)
        assert port.sent == b"! urgent\n"

    on_a_line(test, board, speed="real")
    assert board.notes == ["lost"]
    assert board.done == ["! urgent", "work 1 0.01"]  # what was under way came to its end


@pytest.mark.parametrize("how", ["receive", "silent"])
def test_whatever_a_conversation_raises_costs_only_its_client(capsys, how):
    async def test(line, port, insides):
        if how == "receive":
            line.arrived(b"x")
        else:
            line._conversation.receive = lambda data: []
            line.arrived(b"x")
            assert port.up
            await asyncio.sleep(0.08)
        assert not port.up
        assert insides.tally.errors == 2  # its end raises too

    on_a_line(test, Deaf())
    said = capsys.readouterr().err.splitlines()
    assert how in said[0]
    assert "lost" in said[1]
