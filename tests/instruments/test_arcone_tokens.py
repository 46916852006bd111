"""The codec of the ArC ONE: golden bytes, and nothing but numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import InvalidOperation, LimitExceeded
from instruments.arcone import tokens
from instruments.virtual.arcone_tokens import Command, TokenParser

GOLDEN = [
    (tokens.reset(), b"00\n", 0),
    (tokens.reset(3, ends_token=True), b"\n00\n00\n00\n", 0),
    (tokens.firmware(), b"999\n", 1),
    (tokens.initialise(50, 32, 16, mode=2, session=0, sneak=1, volts=0.5), b"0\n50\n32\n16\n2\n0\n1\n0.5\n", 0),
    (tokens.set_read(3, -0.25), b"01\n3\n-0.25\n", 0),
    (tokens.update(50, 2), b"011\n50\n2\n", 0),
    (tokens.select(1, 32), b"02\n1\n32\n", 0),
    (tokens.read_one(12, 13), b"1\n12\n13\n", 1),
    (tokens.read_all(32, 32), b"2\n1\n32\n32\n", 1024),
    (tokens.read_masked(32, 16, 2), b"2\n2\n32\n16\n2\n", 0),
    (tokens.pair(4, 5), b"4\n5\n", 1),
    (tokens.pulse_then_read(1, 2, -1.5, 1e-6), b"3\n1\n2\n-1.5\n0.000001\n", 1),
    (tokens.pulse_selected(12.0, 90e-9), b"04\n12\n0.00000009\n", 0),
    (tokens.read_line([3, 1], 5, 0.5), b"50\n0\n0.00000009\n0.5\n2\n5\n1\n3\n1\n", 3),
]


@pytest.mark.parametrize(("job", "data", "floats"), GOLDEN, ids=lambda value: getattr(value, "name", None))
def test_golden_bytes(job: tokens.Job, data: bytes, floats: int) -> None:
    assert (job.data, job.floats) == (data, floats)


def test_answers() -> None:
    assert tokens.resistances(bytes.fromhex("00401c46 0000c07f"))[0] == 10_000.0
    assert math.isnan(tokens.resistances(bytes.fromhex("0000c07f"))[0])
    assert tokens.version(bytes([1, 0, 44, 1])) == "1.300"
    assert [tokens.mode_for("four_point", v) for v in (0.5, -0.5)] == [2, 3]
    assert [tokens.mode_for(m, -0.5) for m in ("classic", "tia")] == [0, 1]


@pytest.mark.parametrize("line", [0, 33, -1, 1.0, True, "1", "1\n04", None, math.nan])
def test_lines_are_whole_and_count_from_one(line) -> None:
    for job in (tokens.select, tokens.read_one, tokens.pair, tokens.read_all):
        with pytest.raises(InvalidOperation, match="whole number from 1 to 32"):
            job(line, 1)
        with pytest.raises(InvalidOperation, match="whole number from 1 to 32"):
            job(1, line)
    with pytest.raises(InvalidOperation):
        tokens.read_line([line], 1, 0.5)
    with pytest.raises(InvalidOperation):
        tokens.read_line([1], line, 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0.5", "0.5\n00", True, None, 1j])
def test_only_numbers_go_out(value) -> None:
    for call in (
        lambda: tokens.pulse_selected(value, 1e-6),
        lambda: tokens.pulse_selected(1.0, value),
        lambda: tokens.pulse_then_read(1, 1, value, 1e-6),
        lambda: tokens.set_read(1, value),
        lambda: tokens.initialise(50, 1, 1, mode=1, session=0, sneak=0, volts=value),
        lambda: tokens.read_line([1], 1, value),
    ):
        with pytest.raises(InvalidOperation, match="finite number"):
            call()


def test_range_of_the_board() -> None:
    for volts in (12.0001, -12.0001):
        with pytest.raises(LimitExceeded, match="voltage 12 V above|voltage 12.0001 V above"):
            tokens.pulse_selected(volts, 1e-6)
        with pytest.raises(LimitExceeded):
            tokens.set_read(1, volts)
    for seconds in (89e-9, 0.0, -1e-6):
        with pytest.raises(LimitExceeded, match="pulse width .* below 90 ns"):
            tokens.pulse_then_read(1, 1, 1.0, seconds)
    with pytest.raises(InvalidOperation, match="at least one word line"):
        tokens.read_line([], 1, 0.5)
    with pytest.raises(InvalidOperation, match="only once"):
        tokens.read_line([1, 1], 1, 0.5)
    for mode, session, sneak in ((4, 0, 0), (0, 4, 0), (0, 0, 3), (-1, 0, 0)):
        with pytest.raises(InvalidOperation):
            tokens.initialise(50, 32, 32, mode=mode, session=session, sneak=sneak, volts=0.5)


volts = st.floats(-12, 12)
lines = st.integers(1, 32)


@given(st.lists(st.tuples(lines, lines, volts, st.floats(90e-9, 1.0)), max_size=6), st.data())
@settings(deadline=None, derandomize=True, max_examples=60)
def test_every_job_is_read_back_as_it_was_meant_however_it_is_split(pulses, data) -> None:
    jobs = [tokens.pulse_then_read(*pulse) for pulse in pulses] + [job for job, _, _ in GOLDEN]
    stream = b"".join(job.data.lstrip(b"\n") for job in jobs)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parser, got = TokenParser(32, 32), []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += parser.feed(stream[start:stop])
    assert got == list(TokenParser(32, 32).feed(stream))
    for command, (word, bit, v, s) in zip(got, pulses, strict=False):
        assert command.job == "3" and command.whole[:2] == (word, bit)
        assert command.numbers[2:] == pytest.approx((v, s), rel=1e-7, abs=1e-9)
    # the masked read of two is one pair short, so the next job's tokens make up for it
    assert [c.job for c in got[len(pulses) :]][:13] == [
        *["00"] * 4,
        "999",
        "0",
        "01",
        "011",
        "02",
        "1",
        "2",
        "2",
        "pair",
    ]


@given(volts, st.floats(90e-9, 1.0), st.data())
@settings(deadline=None, derandomize=True, max_examples=80)
def test_a_cut_job_followed_by_the_recovery_never_pulses_harder_than_it_said(v, s, data) -> None:
    job = tokens.pulse_then_read(3, 4, v, s).data
    cut = data.draw(st.integers(0, len(job) - 1))
    for command in TokenParser(32, 32).feed(job[:cut] + tokens.reset(72, ends_token=True).data):
        if command.job == "3":
            assert abs(command.numbers[2]) <= abs(v) + 1e-9 and command.numbers[3] <= s + 1e-15


@given(st.binary(max_size=300))
@settings(deadline=None, derandomize=True, max_examples=150)
def test_any_bytes_leave_a_parser_that_resets_bring_back(noise: bytes) -> None:
    parser = TokenParser(32, 32)
    list(parser.feed(noise + b"\n"))
    list(parser.feed(b"00\n" * 80))
    assert list(parser.feed(b"00\n1\n2\n3\n"))[-1] == Command("1", (2.0, 3.0))


@pytest.mark.parametrize(
    "data",
    [
        b"7\n", b"1\n0\n1\n", b"1\n1\n33\n", b"1\n1.5\n1\n", b"1\nnan\n1\n", b"1\n1\r\n1\n", b"04\n13\n1e-6\n",
        b"04\n1\n1e-9\n", b"04\n1\n1e99\n", b"04\n1\ninf\n", b"2\n3\n1\n1\n", b"\n", b"x" * 500 + b"\n",
        b"50\n0\n1e-6\n0.5\n1\n1\n2\n1\n", b"50\n0\n1e-6\n0.5\n99\n1\n1\n", b"1\n1e999\n1\n", "1\n\u0661\n1\n".encode(),
    ],
)  # fmt: skip
def test_what_makes_no_sense_puts_the_board_out_of_step_until_a_reset(data: bytes) -> None:
    parser = TokenParser(32, 32)
    assert list(parser.feed(data)) == []
    assert parser.is_lost
    assert list(parser.feed(b"1\n1\n1\n")) == []
    assert [c.job for c in parser.feed(b"00\n1\n1\n1\n")] == ["00", "1"]
