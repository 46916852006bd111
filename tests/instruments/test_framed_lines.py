"""Lines to a framed board that break, fall silent or cut answers short; and boards that come back as others."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from framed_boards import LossyLink, driver, over, pulses, read

from hil.errors import BoardFault, LinkLost, LinkTimeout
from instruments.framed import lists
from instruments.framed.driver import UNREADABLE
from instruments.framed.frame import Opcode
from instruments.framed.requests import Backlog, Patience
from instruments.links.memory import MemoryLink
from instruments.virtual.framed import FramedBoardCore

QUICK = Patience(timeout=0.01, tries=3)


@pytest.fixture
def core(quiet_board):
    return FramedBoardCore(quiet_board(), {})


def applied(core) -> torch.Tensor:
    return core.backend.chip.state["pulses"].clone()


# -- broken lines ------------------------------------------------------------------------------------------------------


class Breaking(MemoryLink):
    """Loses the line with an answer on it, or before the request arrives."""

    def __init__(self, core, when: str = "never", others=None):
        super().__init__(core.converse("owner"))
        self.when, self.reopened = when, 0
        self._core, self._others = core, others

    def write(self, data, until):
        breaks, self.when = (self.when, "never") if Opcode.EXECUTE == data[3] else ("never", self.when)
        if breaks != "before":
            super().write(data, until)
        if breaks != "never":
            self.close()
            raise LinkLost(self.url, "unplugged")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_line_that_comes_back_goes_on_where_it_was(core, when):
    link = Breaking(core)
    board = over(link, core.backend.spec, patience=QUICK, reopen=lambda: Breaking(core))
    board.execute([pulses(board)])
    link.when = when
    if when == "after":
        outcomes = board.execute([pulses(board), read(board)])
        assert len(outcomes) == 2
    else:
        board.execute([pulses(board), read(board)])
    assert applied(core).sum() == 12
    board.execute([pulses(board)])
    assert applied(core).sum() == 18
    assert board.close() is None and not core.outputs.on


@pytest.mark.parametrize("pulses_before", [0, 1])
def test_a_board_that_was_reset_meanwhile_is_not_trusted(core, pulses_before):
    """Even in the first list: what it did before the reset, it does not know."""
    link = Breaking(core)

    def reopen():
        core.misbehave("reset")
        return Breaking(core)

    board = over(link, core.backend.spec, patience=QUICK, reopen=reopen)
    for _ in range(pulses_before):
        board.execute([pulses(board)])
    link.when = "after"
    with pytest.raises(BoardFault, match="was reset and does not remember") as caught:
        board.execute([pulses(board)])
    assert caught.value.doubt.sum() == 6
    assert applied(core).sum() == 6 + 6 * pulses_before


def test_a_board_that_comes_back_as_another_is_refused(core, quiet_board, spec_of):
    spec = spec_of()
    other = FramedBoardCore(quiet_board(replace(spec, identity=replace(spec.identity, serial="tiny-2"))), {})
    link = Breaking(core)
    fresh = MemoryLink(other.converse("owner"))
    board = over(link, core.backend.spec, patience=QUICK, reopen=lambda: fresh)
    link.when = "before"
    with pytest.raises(BoardFault, match="came back with another board .*tiny-2"):
        board.execute([pulses(board)])
    assert [Opcode(data[3]) for data in fresh.sent] == [Opcode.IDENTIFY]
    assert board.make_safe() == UNREADABLE  # and the outputs of the other board say nothing about this one
    assert [Opcode(data[3]) for data in fresh.sent] == [Opcode.IDENTIFY]


def test_a_board_that_was_taken_meanwhile_is_refused(core):
    link = Breaking(core)

    def reopen():
        driver(core, "thief", owner="a thief")
        return Breaking(core)

    board = over(link, core.backend.spec, patience=QUICK, reopen=reopen)
    link.when = "after"
    with pytest.raises(BoardFault, match="in use by a thief"):
        board.execute([pulses(board)])


def test_a_line_that_never_comes_back_is_given_up_in_time(core):
    link = Breaking(core)

    def reopen():
        raise LinkLost("tcp://gone", "nothing listens there")

    board = over(link, core.backend.spec, patience=QUICK, reopen=reopen)
    link.when = "after"
    started = time.monotonic()
    with pytest.raises(BoardFault, match="nothing listens there") as caught:
        board.execute([pulses(board)])
    assert time.monotonic() - started < 1.0 and caught.value.doubt.sum() == 6
    assert board.make_safe() == UNREADABLE and not board.make_safe().confirmed
    with pytest.raises(BoardFault, match="nothing was sent") as caught:
        board.execute([pulses(board)])
    assert caught.value.doubt is None
    board.close()
    board.close()


# -- silence -----------------------------------------------------------------------------------------------------------


def test_a_dead_board_is_given_up_within_its_time(core):
    link = LossyLink(core.converse("test"), 0, 0.0)
    board = over(link, core.backend.spec, patience=Patience(timeout=0.02, tries=4))
    link._conversation.receive = lambda data: []
    started = time.monotonic()
    with pytest.raises(BoardFault, match="no status after") as caught:
        board.execute([pulses(board)])
    assert 0.08 <= time.monotonic() - started < 0.2
    assert isinstance(caught.value.__cause__, LinkTimeout) and caught.value.doubt.sum() == 6
    started = time.monotonic()
    report = board.make_safe()
    assert not report.confirmed and "switch off by hand" in str(report)
    assert time.monotonic() - started < 0.2
    board.close()
    assert time.monotonic() - started < 0.5


def test_a_board_that_is_busy_for_ever_is_given_up(core, monkeypatch):
    monkeypatch.setattr(lists, "SLACK", 0.05)
    link = MemoryLink(core.converse("test"))
    board = over(link, core.backend.spec, patience=QUICK)
    core._work.busy = True
    receive = link._conversation.receive
    link._conversation.receive = lambda data: [] if data[3] == Opcode.EXECUTE else receive(data)
    started = time.monotonic()
    with pytest.raises(BoardFault, match="no answer after"):
        board.execute([pulses(board)])
    assert 0.05 <= time.monotonic() - started < 0.5


def test_an_answer_cut_short_does_not_swallow_what_follows(core):
    """A waiting host tells the board that it is alive; the answers to that must not be taken for the missing part."""
    link = MemoryLink(core.converse("test"))
    board = over(link, core.backend.spec, watchdog=0.03, patience=Patience(timeout=0.05, tries=4))
    board._heartbeat.stop()
    done, cut = link._done, [True]

    def spoiled(work):
        answer = done(work)
        if len(answer) > 200 and cut:
            cut.clear()
            return answer[:150]
        return answer

    link._done = spoiled
    started = time.monotonic()
    (got,) = board.execute([read(board, batch=50)])
    assert time.monotonic() - started < 0.3 and got.value.shape == (1, 50, 6)
    cut.append(True)
    assert "chip.g" in board.snapshot()
    board.close()


def test_a_backlog_is_what_has_no_answer_up_to_the_newest_that_has():
    backlog = Backlog(1000.0)
    for sequence in range(5):
        backlog.sent(sequence, 100)
    assert backlog.seconds == pytest.approx(1.25 * 0.5)
    backlog.answered(2)  # those before it went over the line before
    assert backlog.seconds == pytest.approx(1.25 * 0.2)
    backlog.answered(1)
    backlog.answered(77)
    assert backlog.seconds == pytest.approx(1.25 * 0.2)
    backlog.clear()
    assert backlog.seconds == 0
