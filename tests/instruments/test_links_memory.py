"""The link inside the process: a virtual board answers before write returns."""

import time

import pytest

from hil.errors import LinkLost, LinkTimeout
from instruments.links.memory import MemoryLink
from instruments.session import Session
from instruments.virtual.personality import Task


class Shouting:
    """A conversation that answers each line in capitals, after half a second of device time in two parts."""

    def __init__(self):
        self.part, self.ends, self.silences = b"", 0, 0

    def receive(self, data):
        *lines, self.part = (self.part + data).split(b"\n")
        return [Task(self.shout(line)) for line in lines]

    def shout(self, line):
        yield 0.25
        yield 0.25
        return line.upper() + b"\n"

    def silent(self):
        self.part, self.silences = b"", self.silences + 1

    def lost(self):
        self.ends += 1


def test_answers_are_there_at_once():
    board = Shouting()
    link = MemoryLink(board)
    session = Session(link)
    session.write(b"one\ntw", 1)
    assert session.line(b"\n", 1) == b"ONE"
    session.write(b"o\n", 1)
    assert session.line(b"\n", 1) == b"TWO"
    assert link.sent == [b"one\ntw", b"o\n"]
    assert link.seconds == 1.0
    session.close()
    session.close()
    assert board.ends == 1
    with pytest.raises(LinkLost):
        session.write(b"x", 1)
    with pytest.raises(LinkLost):
        session.some(1, time.monotonic() + 1)


def test_silence_ends_with_the_deadline():
    session = Session(MemoryLink(Shouting()))
    started = time.monotonic()
    with pytest.raises(LinkTimeout):
        session.exactly(1, 0.03)
    assert 0.03 <= time.monotonic() - started < 0.5


def test_drain_lets_the_board_forget_what_came_in_part():
    board = Shouting()
    link = MemoryLink(board)
    link.write(b"one\nhalf", 0)
    assert link.drain(0.1) == 4
    link.write(b"two\n", 0)
    assert link.read(1, 0) == b"TWO\n"
    assert board.silences == 1
