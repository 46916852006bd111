"""The ArC ONE's wire when things go wrong: nothing wrong is accepted, no pulse is sent twice, no wait is endless."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from arcone_wire import QUICK, Bench, Loop, arcone_spec

from hil.contract import Blocks, Pulse, ReadCells, Sense, Shape, Side
from hil.errors import BoardFault, BoardMissing, LinkLost, LinkTimeout
from instruments.arcone.board import ArcOneBoard
from instruments.session import Session
from instruments.virtual.arcone import ArcOne, inside_spec

WHOLE = Blocks((0,), (0,), (0,), 6, 5)
READ = ReadCells(WHOLE, Sense(0.2), Side.ROWS)
UP, DOWN = Shape(1.0, 1e-6), Shape(1.2, 1e-6)


def pulse(row: int, col: int, count: int = 1) -> Pulse:
    return Pulse(Blocks((0,), (row,), (col,), 1, 1), torch.tensor(count), UP, DOWN)


@pytest.fixture
def bench(spec_of, quiet_board):
    def build(config=QUICK, firmware="1.0", **more) -> Bench:
        return Bench(arcone_spec(spec_of, firmware=firmware), quiet_board, config, **more)

    return build


def once(number: int, what):
    """Changes one answer, or one message."""
    return lambda n, data: what(data) if n == number else data


@pytest.mark.parametrize(
    "what",
    [lambda _: b"", lambda d: d[:-1], lambda d: d[:2], lambda d: d + d, lambda d: d + b"\x01", lambda d: b"\x01" + d],
    ids=["lost", "one byte short", "cut", "twice", "one byte more", "one byte before"],
)
def test_a_spoilt_answer_spoils_neither_this_read_nor_the_next(bench, what) -> None:
    b = bench()
    (right,) = b.board.execute([READ])
    b.link.changed = once(b.link.answers, what)
    got = b.board.execute([READ, READ])
    for outcome in got:
        assert torch.equal(outcome.value, right.value)
    assert b.session.counters.resyncs >= 2  # of opening, and of this
    assert not b.session.dirty


def test_a_read_is_tried_a_bounded_number_of_times(bench) -> None:
    b = bench()
    b.link.changed = lambda _, data: b"" if len(data) > 8 else data
    with pytest.raises(BoardFault, match="no resistances of an array") as caught:
        b.board.execute([pulse(0, 0), READ, pulse(1, 1)])
    assert (caught.value.index, len(caught.value.done), int(caught.value.doubt.sum())) == (1, 1, 0)
    assert b"".join(b.link.sent).count(b"2\n1\n6\n5\n") == QUICK.retries + 1
    assert sum(map(sum, b.pulses)) == 1


@pytest.mark.parametrize("count", [1, 4])
def test_a_pulse_whose_answer_is_lost_is_in_doubt_and_never_sent_again(bench, count) -> None:
    b = bench()
    b.link.changed = once(b.link.answers + 1, lambda _: b"")
    with pytest.raises(BoardFault, match="1 cells are in doubt") as caught:
        b.board.execute([pulse(0, 0), pulse(2, 3, count), pulse(4, 4)])
    fault = caught.value
    assert fault.index == 1 and [int(o.applied.sum()) for o in fault.done] == [1]
    assert fault.doubt.nonzero().tolist() == [[0, 2, 3]]
    assert b.session.dirty
    applied = torch.tensor(b.pulses)
    assert (applied[0, 0], applied[2, 3], applied[4, 4]) == (1, count, 0)
    b.board.execute([READ, pulse(4, 4)])  # back in step
    assert not b.session.dirty and torch.tensor(b.pulses).sum() == 2 + count


def test_pulses_without_answers_stay_in_doubt_until_something_answers(bench) -> None:
    b = bench(replace(QUICK, answered_pulses=False, retries=0))
    b.link.changed = lambda _, data: b""
    b.board.execute([pulse(0, 0, 2), pulse(1, 1)])
    with pytest.raises(BoardFault, match="2 cells are in doubt"):
        b.board.execute([READ])
    b.link.changed = lambda _, data: data
    b.board.execute([pulse(0, 0), READ])
    b.link.changed = lambda _, data: b""
    with pytest.raises(BoardFault) as caught:
        b.board.execute([READ])
    assert int(caught.value.doubt.sum()) == 0


def test_a_message_the_board_missed_is_noticed_at_that_cell(bench) -> None:
    b = bench()
    b.link.arrives = once(len(b.link.sent), lambda _: b"")
    with pytest.raises(BoardFault, match="1 cells are in doubt"):
        b.board.execute([pulse(2, 3), pulse(4, 4)])
    assert sum(map(sum, b.pulses)) == 0


@pytest.mark.parametrize("keep", range(17))
def test_a_board_out_of_step_is_brought_back(bench, keep) -> None:
    """Only the first bytes of a message arrive, wherever it is cut: the board waits for the rest, or is lost."""
    b = bench()
    (right,) = b.board.execute([READ])
    b.link.arrives = once(len(b.link.sent), lambda data: data[:keep])
    with pytest.raises(BoardFault):
        b.board.execute([pulse(0, 0)])
    (got,) = b.board.execute([READ])
    if keep < 16:
        assert torch.equal(got.value, right.value)
    else:  # all digits had arrived, and the zeros of the reset behind them change nothing: it is the pulse meant
        assert b.pulses[0][0] == 1
        whole = bench()
        whole.board.execute([pulse(0, 0)])
        assert torch.equal(got.value, whole.board.execute([READ])[0].value)
    assert sum(map(sum, b.pulses)) == (keep == 16)


def test_a_write_that_did_not_end_is_followed_by_an_lf(bench) -> None:
    b = bench()
    (right,) = b.board.execute([READ])
    write, at = b.link.write, len(b.link.sent)

    def stuck(data: bytes, until: float) -> None:
        write(data[:9], until)
        b.link.write = write
        raise LinkTimeout(b.link.url, "room to send", 0.02)

    b.link.write = stuck
    with pytest.raises(BoardFault, match="1 cells are in doubt"):
        b.board.execute([pulse(0, 0)])
    assert torch.equal(b.board.execute([READ])[0].value, right.value)
    assert b.link.sent[at : at + 2] == [b"3\n1\n1\n1\n0", b"\n00\n"]


@pytest.mark.parametrize("skipped", range(4))
def test_a_masked_read_cut_short_is_brought_back(bench, skipped) -> None:
    b = bench()
    part = ReadCells(Blocks((0,), (1,), (1,), 2, 2), Sense(0.2), Side.ROWS)
    (right,) = b.board.execute([part])
    b.link.arrives = once(len(b.link.sent) + skipped, lambda _: b"")
    assert torch.equal(b.board.execute([part])[0].value, right.value)
    assert b.session.counters.retries == 1


def test_a_board_that_resets_itself_is_initialised_again(bench) -> None:
    b = bench()
    (right,) = b.board.execute([READ])
    assert b.virtual.misbehave("reset")
    assert torch.equal(b.board.execute([READ])[0].value, right.value)
    b.virtual.misbehave("reset")
    with pytest.raises(BoardFault):
        b.board.execute([pulse(0, 0)])
    assert sum(map(sum, b.pulses)) == 0


def test_make_safe_writes_before_it_asks(bench) -> None:
    b = bench()
    b.board.execute([pulse(0, 0)])
    at = len(b.link.sent)
    report = b.board.make_safe()
    assert (report.confirmed, report.outputs) == (True, {"rows": "off", "cols": "off"})
    assert b.link.sent[at:][:2] == [b"00\n", b"0\n50\n6\n5\n2\n0\n0\n0.2\n"] and b.link.sent[-1] == b"999\n"
    assert b.virtual.inspect("history", {})[-1] == ["outputs", "off"]
    b.board.execute([READ])


@pytest.mark.parametrize("half", [b"3\n1\n1\n", b"3\n1\n1\n1.0\n", b"04\n", b"2\n2\n6\n5\n30\n", b"gibberish\n", b"5"])
def test_make_safe_reaches_a_board_that_is_out_of_step(bench, half) -> None:
    b = bench()
    b.link.write(half, time.monotonic() + 1)
    assert b.board.make_safe().confirmed
    assert sum(map(sum, b.pulses)) == 0


def test_make_safe_says_when_nothing_answers_and_is_bounded(bench) -> None:
    b = bench()
    b.link.changed = lambda _, data: b""
    started = time.monotonic()
    report = b.board.make_safe()
    assert time.monotonic() - started < 0.5
    assert str(report) == "SAFE NOT CONFIRMED: switch off by hand (rows unreadable, cols unreadable)"
    b.link.changed = lambda _, data: data
    assert b.virtual.misbehave("firmware")
    assert not b.board.make_safe().confirmed  # another board answers
    assert b.board.make_safe().confirmed


def test_make_safe_and_close_survive_a_lost_link(bench) -> None:
    b = bench()

    def gone(*_) -> bytes:
        raise LinkLost(b.link.url, "the cable is out")

    b.link.write = gone
    with pytest.raises(BoardFault, match="the cable is out") as caught:
        b.board.execute([pulse(0, 0)])
    assert caught.value.index == 0
    assert not b.board.make_safe().confirmed
    b.board.close()
    assert b.link.is_closed


# -- who is there -----------------------------------------------------------------------------------------------------


def opened(spec, link) -> ArcOneBoard:
    return ArcOneBoard(Session(link), spec, QUICK)


class Foreign(Loop):
    """Something else on the line."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        super().__init__(self)

    def converse(self, client: str):
        return self

    def receive(self, data: bytes) -> list:
        return []

    def write(self, data: bytes, until: float) -> None:
        super().write(data, until)
        self._waiting += self._answer


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x01", b"ACME,9000,1,2\n", b"x" * 10_000, b"\x1b]0;owned\x07\n", b"1\n", b"\xff\xff\xff\xff"],
    ids=["silent", "one byte", "other vendor", "10 kB", "escape codes", "a line", "noise"],
)
def test_a_stranger_hears_the_identity_query_and_nothing_else(spec_of, answer) -> None:
    link = Foreign(answer)
    with pytest.raises(BoardMissing) as caught:
        opened(arcone_spec(spec_of, firmware=""), link)
    assert set(link.sent) == {b"999\n"} and len(link.sent) <= QUICK.retries + 1
    assert link.is_closed
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_firmware_must_be_the_one_of_the_board_file(spec_of, quiet_board) -> None:
    for inside, wanted, problem in [
        ("1.0", "1.0", ""),
        ("3.14", "", ""),
        ("none", "none", ""),
        ("1.1", "1.0", "answers as firmware 1.1, and its board file says 1.0"),
        ("1.0", "none", "answers as firmware 1.0, and its board file says firmware: none"),
        ("none", "1.0", "gives no firmware version"),
        ("none", "", "write firmware: none for an old one"),
    ]:
        virtual = ArcOne(quiet_board(inside_spec(arcone_spec(spec_of, firmware=inside))))
        link = Loop(virtual)
        if problem:
            with pytest.raises(BoardMissing, match=problem):
                opened(arcone_spec(spec_of, firmware=wanted), link)
            assert set(link.sent) == {b"999\n"} and link.is_closed
        else:
            assert opened(arcone_spec(spec_of, firmware=wanted), link).make_safe().confirmed


def test_a_lost_identity_answer_is_asked_for_again_and_old_bytes_are_dropped(spec_of, quiet_board) -> None:
    spec = arcone_spec(spec_of)
    link = Loop(ArcOne(quiet_board(inside_spec(spec))))
    link._waiting += b"left by a killed program"
    link.changed = once(0, lambda _: b"")
    opened(spec, link)
    assert link.sent[:3] == [b"999\n", b"999\n", b"00\n"]


def test_a_board_that_does_not_initialise_is_missing(spec_of, quiet_board) -> None:
    for answer, text in ((b"", "no initialisation"), (b"2\n", "answered by b'2'"), (b"\x1b[2J" * 30, "answered by")):
        spec = arcone_spec(spec_of)
        link = Loop(ArcOne(quiet_board(inside_spec(spec))))
        link.changed = lambda n, data, answer=answer: answer if n else data
        with pytest.raises(BoardMissing, match=text) as caught:
            opened(spec, link)
        assert str(caught.value).isprintable() and link.is_closed


def test_many_faults_no_wrong_value_and_every_pulse_once(bench) -> None:
    """About one answer in seven is lost, cut, doubled or followed by noise; the board counts what was applied."""
    b, chance = bench(), random.Random(5)
    faults = [lambda _: b"", lambda d: d[: len(d) // 2], lambda d: d + d, lambda d: b"\x00\x7f" + d]

    def changed(_: int, data: bytes) -> bytes:
        return chance.choice(faults)(data) if chance.random() < 0.15 and len(data) > 2 else data

    intended, faults_of_pulses = torch.zeros(6, 5, dtype=torch.int64), 0
    b.link.changed = changed
    for _ in range(120):
        row, col, count = chance.randrange(6), chance.randrange(5), chance.choice([-1, 1, 2])
        try:
            b.board.execute([pulse(row, col, count)])
            intended[row, col] += abs(count)
        except BoardFault as fault:
            faults_of_pulses += 1
            intended[row, col] += abs(count) * bool(fault.doubt[0, row, col])  # sent; only the answer was lost
            assert int(fault.doubt.sum()) == int(fault.doubt[0, row, col])
        expected = 0.2 * torch.tensor(b.virtual.inspect("cells", {"kernel": 0}))[row, col]
        with suppress(BoardFault):
            (got,) = b.board.execute([ReadCells(Blocks((0,), (row,), (col,), 1, 1), Sense(0.2), Side.ROWS)])
            assert got.value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert faults_of_pulses > 3
    assert b.pulses == intended.tolist()
    b.link.changed = lambda _, data: data
    assert b.board.make_safe().confirmed
