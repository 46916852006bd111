"""The client byte for byte: queries, blocks, error queue, and the way back into step."""

from __future__ import annotations

import logging
import struct
import time
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import BoardMissing, LinkTimeout, UsageError, WireError
from instruments.links.script import Script
from instruments.scpi.client import ScpiClient
from instruments.scpi.errors import InstrumentErrors
from instruments.scpi.identity import ExpectedInstrument
from instruments.session import Session

IDN = b"ACME,X1,7,1.0\n"
ACME = ExpectedInstrument(vendor="ACME", model="X1")


def client(link, *, known: bool = False, **settings) -> ScpiClient:
    made = ScpiClient(Session(link), "acme", **{"seconds": 0.03, "quiet": 0.0} | settings)
    if known:
        made.identify(ACME)
    return made


def test_a_query_and_a_command():
    with Script([(b":SOUR:VOLT 0.5\n", None), (b":SOUR:VOLT?\n", b"5.0E-1\r\n")]) as link:
        scpi = client(link)
        scpi.write(":SOUR:VOLT", 0.5)
        assert scpi.query_number(":SOUR:VOLT?") == 0.5


def test_nothing_of_a_block_is_sent_when_one_argument_is_refused():
    with Script([]) as link, pytest.raises(UsageError):
        client(link).set_up("a set-up", ("*RST",), (":SOUR:FUNC", "VOLT;*RST"))


def test_common_commands():
    pairs = [(b"*CLS\n", None), (b"*RST\n", None), (b"*OPC?\n", b"1\n"), (b"*ESR?\n", b"+32\n")]
    with Script(pairs) as link:
        scpi = client(link)
        scpi.clear()
        scpi.reset()
        scpi.completed()
        assert scpi.event_status() == 32


def test_the_event_register_is_asked_once_since_reading_clears_it():
    with Script([(b"*ESR?\n", None)]) as link, pytest.raises(LinkTimeout):
        client(link).event_status()


@pytest.mark.parametrize("answer", [b"256\n", b"x\n", b"\n", b"1.5\n", b"-1\n"])
def test_an_event_register_that_is_none(answer):
    with Script([(b"*ESR?\n", answer)]) as link, pytest.raises(WireError):
        client(link).event_status()


def test_the_whole_error_queue_is_one_error():
    pairs = [
        (b":A\n", None),
        (b":B\n", None),
        (b":SYST:ERR?\n", b'-113,"Undefined header\x1b[2J"\n'),
        (b":SYST:ERR?\n", b'-222,"Data out of range"\n'),
        (b":SYST:ERR?\n", b'0,"No error"\n'),
    ]
    with Script(pairs) as link, pytest.raises(InstrumentErrors) as refused:
        client(link).set_up("the set-up", (":A",), (":B",))
    assert [entry.code for entry in refused.value.entries] == [-113, -222]
    text = str(refused.value)
    assert text.startswith("acme refused a part of the set-up: -113") and "\\x1b" in text and text.isprintable()


def test_an_error_queue_without_end_is_left_after_its_length():
    with Script([(b":SYST:ERR?\n", b'-200,"again"\n')] * 4) as link:
        assert len(client(link, queue=3).errors()) == 4


def test_a_lost_entry_of_the_error_queue_is_not_asked_for_again():
    with Script([(b":SYST:ERR?\n", None)]) as link, pytest.raises(LinkTimeout):
        client(link).check("something")


@pytest.mark.parametrize("head", [b"#0", b"#216", b"#3016"])
def test_blocks_are_read_by_length(head):
    data = struct.pack("<2d", 1e-6, 2.5) + b""
    data = b"\n" + data[1:]  # a line feed inside ends nothing
    with Script([(b":DATA? 2\n", head + data + b"\n"), (b":X?\n", b"1\n")]) as link:
        scpi = client(link)
        assert scpi.query_block(":DATA?", 2, count=16) == data
        assert scpi.query_number(":X?") == 1


@pytest.mark.parametrize(
    "answer", [b"1,2,3\n", b"#215" + b"x" * 15 + b"\n", b"#0" + b"x" * 16 + b"y\n", b"#2ab\n", b"#x"]
)
def test_a_block_that_is_none(answer):
    with Script([(b":DATA?\n", answer)]) as link, pytest.raises(WireError, match="expected"):
        scpi = client(link, tries=1)
        try:
            scpi.query_block(":DATA?", count=16)
        finally:
            assert scpi.lines.session.dirty
            link.drain()


def test_a_short_block_is_a_time_out():
    with Script([(b":DATA?\n", b"#216short")]) as link, pytest.raises(LinkTimeout):
        client(link, tries=1).query_block(":DATA?", count=16)


@pytest.mark.parametrize("answer", [b"\xff\xfe\n", b"x" * 5000 + b"\n", b"ten\n", b"1,2\n", b"\n"])
def test_an_answer_that_makes_no_sense_is_a_wire_error(answer):
    with Script([(b":X?\n", answer)]) as link:
        with pytest.raises(WireError) as wrong:
            client(link, tries=1).query_number(":X?")
        link.drain()
    assert len(str(wrong.value)) < 300 and str(wrong.value).isprintable()


def test_a_query_is_asked_again_after_a_resync():
    pairs = [(b"*IDN?\n", IDN), (b":X?\n", None), (b"\n*IDN?\n", IDN), (b":X?\n", b"3\n")]
    with Script(pairs) as link:
        scpi = client(link, known=True)
        assert scpi.query_number(":X?") == 3
        counters = scpi.lines.session.counters
        assert (counters.timeouts, counters.resyncs, counters.retries) == (1, 1, 1)


def test_queries_are_asked_a_bounded_number_of_times():
    pairs = [(b"*IDN?\n", IDN), (b":X?\n", None), (b"\n*IDN?\n", IDN), (b":X?\n", None)]
    with Script(pairs) as link, pytest.raises(LinkTimeout):
        client(link, known=True, tries=2).query(":X?")


def test_a_stale_answer_before_the_identity_is_dropped():
    pairs = [(b"*IDN?\n", IDN), (b":X?\n", None), (b"\n*IDN?\n", b"2\n" + IDN), (b":Y 1\n", None)]
    with Script(pairs) as link:
        scpi = client(link, known=True)
        with pytest.raises(LinkTimeout):
            scpi.query(":X?", again=False)
        scpi.write(":Y", 1)


def test_an_answer_that_came_twice_is_noticed_before_the_next_question():
    pairs = [(b"*IDN?\n", IDN), (b":X?\n", b"2\n2\n"), (b"\n*IDN?\n", IDN), (b":Y?\n", b"3\n")]
    with Script(pairs) as link:
        scpi = client(link, known=True)
        assert scpi.query_number(":X?") == 2
        assert scpi.query_number(":Y?") == 3


def test_a_safe_command_asks_nothing_even_out_of_step():
    pairs = [(b"*IDN?\n", IDN), (b":X?\n", None), (b"\n:OUTP OFF\n", None)]
    with Script(pairs) as link:
        scpi = client(link, known=True)
        with pytest.raises(LinkTimeout):
            scpi.query(":X?", again=False)
        scpi.write_only(":OUTP", False)


@pytest.mark.parametrize("answer", [b"EVIL,X1,7,1.0\n", b"\n", b"\x1b]0;owned\x07,X1,7,1\n", b"ACME,X1\n", b"\xff\n"])
def test_a_hostile_identity_is_refused_in_one_line(answer, caplog):
    with Script([(b"*IDN?\n", answer)]) as link, caplog.at_level(logging.WARNING), pytest.raises(BoardMissing):
        client(link, tries=1).identify(ACME)
    (record,) = caplog.records
    assert record.getMessage().isprintable() and len(record.getMessage()) < 400


class Flood:
    """Answers anything with ten thousand letters."""

    url = "flood:"

    def __init__(self) -> None:
        self.sent, self._left = b"", 0

    def write(self, data: bytes, until: float) -> None:
        self.sent += data
        self._left = 10_000

    def read(self, wanted: int, until: float) -> bytes:
        size, self._left = min(self._left, 1000), max(self._left - 1000, 0)
        return b"x" * size

    def drain(self, quiet: float = 0.0) -> int:
        left, self._left = self._left, 0
        return left

    def close(self) -> None: ...


def test_an_endless_identity_is_refused_and_nothing_else_is_sent(caplog):
    link = Flood()
    with caplog.at_level(logging.WARNING), pytest.raises(BoardMissing, match="less than"):
        client(link).identify(ACME)
    assert set(link.sent.split(b"\n")) == {b"*IDN?", b""}
    (record,) = caplog.records
    assert len(record.getMessage()) < 400


class Late:
    """Answers in order, each some time after its question; ``delays`` says when, None for never."""

    url = "late:"

    def __init__(self, delays: list[float | None]) -> None:
        self._delays, self._answers = deque(delays), deque[tuple[float, bytes]]()

    def write(self, data: bytes, until: float) -> None:
        for line in data.split(b"\n"):
            if line == b"*IDN?":
                self._say(IDN, 0.0)
            elif line.startswith(b":ECHO? "):
                delay = self._delays.popleft() if self._delays else 0.0
                if delay is not None:
                    self._say(line[7:] + b"\n", delay)

    def _say(self, answer: bytes, delay: float) -> None:
        at = max(time.monotonic() + delay, self._answers[-1][0] if self._answers else 0.0)
        self._answers.append((at, answer))

    def read(self, wanted: int, until: float) -> bytes:
        while time.monotonic() < until:
            if self._answers and self._answers[0][0] <= time.monotonic():
                return self._answers.popleft()[1]
            time.sleep(0.0005)
        return b""

    def drain(self, quiet: float = 0.0) -> int:
        count, until = 0, time.monotonic() + quiet
        while True:
            while self._answers and self._answers[0][0] <= time.monotonic():
                count += len(self._answers.popleft()[1])
                until = time.monotonic() + quiet
            if time.monotonic() >= until:
                return count
            time.sleep(0.0005)

    def close(self) -> None: ...


@settings(deadline=None, derandomize=True, max_examples=8)
@given(st.lists(st.sampled_from([0.0, 0.0, None, 0.006, 0.009, 0.015]), min_size=3, max_size=8))
def test_no_late_or_lost_answer_is_ever_taken_for_another(delays):
    scpi = client(Late(delays), known=True, seconds=0.005, quiet=0.001)
    for number in range(len(delays)):
        try:
            assert scpi.query_number(":ECHO?", number) == number
        except LinkTimeout:
            pass
    time.sleep(0.02)
    assert scpi.query_number(":ECHO?", 99) == 99
