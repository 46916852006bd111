"""Exactly once: lists of pulses over a link that loses, doubles, delays and damages, with several frames under way."""

from __future__ import annotations

import random

import pytest
import torch
from framed_boards import KINDS, LossyLink, driver, over, pulses, read
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import BoardFault
from instruments.framed import lists
from instruments.framed.frame import Decoder
from instruments.framed.requests import Patience
from instruments.virtual.framed import FramedBoardCore

QUICK = Patience(timeout=0.002, tries=60)


def made_up(board, count: int, seed: int):
    """Lists of 1 to 12 operations, mostly pulses, each on another part of the chip."""
    chance = random.Random(seed)
    for _ in range(count):
        ops = []
        for _ in range(chance.randint(1, 12)):
            kernel, row, col = chance.randrange(4), chance.randrange(5), chance.randrange(3)
            if chance.random() < 0.7:
                ops.append(pulses(board, chance.choice((-3, -1, 1, 2)), kernel, (row, col, 2, 3)))
            else:
                ops.append(read(board, kernel))
        yield ops


def equal(found, expected) -> None:
    for a, b in zip(found, expected, strict=True):
        assert (a.value is None) == (b.value is None) and (a.applied is None) == (b.applied is None)
        assert a.value is None or torch.equal(a.value, b.value)
        assert a.applied is None or torch.equal(a.applied, b.applied)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 6))])
def test_every_pulse_is_applied_once_over_a_bad_line(seed, noisy_board, monkeypatch):
    """Each list is many frames here, so that the window is full."""
    monkeypatch.setattr(lists, "FRAME_BYTES", 1)
    core, clean = FramedBoardCore(noisy_board(), {}), noisy_board()
    link = LossyLink(core.converse("test"), seed, 0.0)
    board = over(link, clean.spec, patience=QUICK)
    link.rate = 0.15
    for ops in made_up(clean, 100, seed):
        equal(board.execute(ops), clean.execute(ops))
    assert torch.equal(core.backend.chip.state["pulses"], clean.chip.state["pulses"])
    assert torch.equal(core.backend.chip.state["g"], clean.chip.state["g"])
    assert core.counters["executed"] == sum(len(ops) for ops in made_up(clean, 100, seed))
    assert core.counters["repeated"] > 5 and all(link.faults[kind] > 5 for kind in KINDS)
    link.rate = 0.0
    assert board.make_safe().confirmed
    board.close()


@settings(deadline=None, derandomize=True, max_examples=12)
@given(seed=st.integers(0, 10**6), rate=st.floats(0.0, 0.4), frame_bytes=st.sampled_from((1, 300, 4000)))
def test_whatever_the_line_does_a_list_is_applied_once_or_fails(seed, rate, frame_bytes, quiet_board):
    core, clean = FramedBoardCore(quiet_board(), {}), quiet_board()
    link = LossyLink(core.converse("test"), seed, 0.0)
    board = over(link, clean.spec, patience=Patience(timeout=0.001, tries=20))
    link.rate = rate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "FRAME_BYTES", frame_bytes)
        for ops in made_up(clean, 3, seed):
            try:
                equal(board.execute(ops), clean.execute(ops))
            except BoardFault as fault:  # 20 time-outs in a row
                clean.execute(ops[: fault.index])
                certain = torch.ones(clean.spec.cells, dtype=torch.bool) if fault.doubt is None else ~fault.doubt
                assert torch.equal(core.backend.chip.state["pulses"][certain], clean.chip.state["pulses"][certain])
                break
        else:
            assert torch.equal(core.backend.chip.state["pulses"], clean.chip.state["pulses"])


def test_several_frames_are_under_way_at_once(quiet_board, monkeypatch):
    monkeypatch.setattr(lists, "FRAME_BYTES", 1)
    core, waiting = FramedBoardCore(quiet_board(), {}), []

    class Slow(LossyLink):
        """Lets no answer through before the host has nothing more to say."""

        def _answered(self, answer):
            self._late += answer

        def read(self, wanted, until):
            waiting.append(len(Decoder().feed(bytes(self._late))))
            return super().read(wanted, until)

    board = over(Slow(core.converse("test"), 0, 0.0), core.backend.spec)
    board.execute([pulses(board)] * 40)
    assert core.counters["executed"] == 40 and max(waiting) == 16
    assert board.session.counters.retries == 0
    board.close()


def test_a_clean_line_needs_one_message_a_list(quiet_board):
    board = driver(FramedBoardCore(quiet_board(), {}))
    before = board.session.counters.messages
    for _ in range(10):
        board.execute([pulses(board), read(board), pulses(board, -1)])
    assert board.session.counters.messages == before + 10
    assert board.session.counters.retries == board.session.counters.timeouts == 0


def test_a_list_of_more_operations_than_a_frame_can_count(quiet_board, monkeypatch):
    monkeypatch.setattr(lists, "MOST_OPS", 7)
    board = driver(core := FramedBoardCore(quiet_board(), {}))
    assert len(board.execute([pulses(board)] * 30)) == 30
    assert core.counters["executed"] == 5
