"""Sessions: no byte is lost, no answer is mixed up, and no wait is longer than asked."""

import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import LinkLost, LinkTimeout
from instruments.links.memory import MemoryLink
from instruments.links.script import Script
from instruments.session import Session
from instruments.virtual.personality import Task


class Pieces:
    """A link that gives prepared pieces, one a read, and then nothing."""

    url = "pieces:"

    def __init__(self, pieces):
        self.pieces, self.wanted, self.written, self.closed = list(pieces), [], [], 0
        self.write_error = None

    def write(self, data, until):
        self.written.append((data, time.monotonic()))
        if self.write_error:
            raise self.write_error

    def read(self, wanted, until):
        self.wanted.append(wanted)
        if self.pieces:
            return self.pieces.pop(0)
        time.sleep(max(0, min(until, time.monotonic() + 0.005) - time.monotonic()))
        return b""

    def drain(self, quiet=0.0):
        count, self.pieces = sum(map(len, self.pieces)), []
        return count

    def close(self):
        self.closed += 1


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if b > a]


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=5), st.lists(st.integers(0, 200), max_size=8))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_any_split_gives_the_same_answers(parts, places):
    session = Session(Pieces(cut(b"".join(parts), places)))
    assert [session.exactly(len(part), 1) for part in parts] == parts


@given(
    st.lists(st.text("ab\r", max_size=8).filter(lambda t: "\r\n" not in t), min_size=1, max_size=5),
    st.lists(st.integers(0, 200), max_size=8),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_any_split_gives_the_same_lines(texts, places):
    lines = [text.encode() for text in texts]
    session = Session(Pieces(cut(b"".join(line + b"\r\n" for line in lines), places)))
    assert [session.line(b"\r\n", 1) for _ in lines] == lines


def test_a_link_is_asked_for_what_is_missing():
    link = Pieces([b"abc", b"de"])
    assert Session(link).exactly(5, 1) == b"abcde"
    assert link.wanted == [5, 2]


@pytest.mark.parametrize("pieces", [[b"x" * 30], [b"x" * 7, b"x" * 23], [b"x"] * 30])
def test_a_long_line_is_cut(pieces):
    session = Session(Pieces([*pieces, b"\n"]))
    assert session.line(b"\n", 1, most=10) == b"x" * 10
    assert session.line(b"\n", 1, most=100) == b"x" * 20


@pytest.mark.parametrize("size", [9, 10])
def test_a_line_of_the_longest_length_is_whole(size):
    session = Session(Pieces([b"x" * size + b"\r", b"\nrest"]))
    assert session.line(b"\r\n", 1, most=10) == b"x" * size
    assert session.exactly(4, 1) == b"rest"


def test_some_gives_what_was_kept_first():
    session = Session(Pieces([b"abcdef", b"gh"]))
    assert session.exactly(2, 1) == b"ab"
    assert session.some(1, time.monotonic()) == b"cdef"
    assert session.some(1, time.monotonic()) == b"gh"
    assert session.some(1, time.monotonic()) == b""


def test_a_time_out_makes_the_session_dirty_and_keeps_the_part():
    session = Session(Pieces([b"abc"]))
    started = time.monotonic()
    with pytest.raises(LinkTimeout, match="no reading after .*only 3 bytes came") as caught:
        session.exactly(5, 0.03, "reading")
    assert 0.03 <= time.monotonic() - started < 0.3
    assert caught.value.got == 3
    assert session.dirty and session.counters.timeouts == 1
    assert session.drain() == 3
    session.clean()
    assert not session.dirty and session.counters.resyncs == 1
    session.clean()
    assert session.counters.resyncs == 1


def test_a_message_that_went_out_in_part_makes_the_session_dirty():
    link = Pieces([])
    link.write_error = LinkTimeout("pieces:", "room", 0.1)
    session = Session(link)
    with pytest.raises(LinkTimeout):
        session.write(b"abc", 0.1)
    assert session.dirty and session.counters.timeouts == 1 and session.counters.messages == 0
    link.write_error = LinkLost("pieces:", "gone")
    with pytest.raises(LinkLost):
        session.write(b"abc", 0.1)


def test_a_slow_board_gets_its_pause():
    link = Pieces([])
    session = Session(link, gap=0.02)
    for _ in range(3):
        session.write(b"x", 1)
    times = [when for _, when in link.written]
    assert all(b - a >= 0.02 for a, b in pairwise(times))


def test_the_tap_sees_all_in_order():
    seen = []
    session = Session(Script([(b"a", b"1"), (b"b", b"23")]), tap=lambda way, data: seen.append((way, data)))
    for question, size in ((b"a", 1), (b"b", 2)):
        session.write(question, 1)
        session.exactly(size, 1)
    assert seen == [("sent", b"a"), ("got", b"1"), ("sent", b"b"), ("got", b"23")]


def test_a_tap_that_fails_loses_no_byte_and_sends_none():
    broken = True

    def tap(way, data):
        if broken:
            raise OSError("disk full")

    link = Pieces([b"abcd"])
    session = Session(link, tap=tap)
    with pytest.raises(OSError, match="disk full"):
        session.write(b"x", 1)
    assert link.written == []
    with pytest.raises(OSError, match="disk full"):
        session.exactly(4, 1)
    broken = False
    assert session.exactly(4, 1) == b"abcd"
    assert session.counters.got == 4


class Echo:
    """A conversation that sends back what comes, in the order it comes."""

    def receive(self, data):
        return [Task(self.answer(data))]

    def answer(self, data):
        yield 0.0
        return data

    def silent(self):
        pass

    def lost(self):
        pass


def test_two_threads_share_a_session():
    session = Session(MemoryLink(Echo()))
    wrong = []

    def ask(name):
        for number in range(300):
            question = b"%s %d;" % (name, number)
            with session.exchange():
                session.write(question[:3], 1)
                time.sleep(0)  # lets the other thread try
                session.write(question[3:], 1)
                if session.exactly(len(question), 1) != question:
                    wrong.append(question)

    threads = [threading.Thread(target=ask, args=(name,)) for name in (b"one", b"two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not wrong and session.counters.messages == 1200 and session.drain() == 0
