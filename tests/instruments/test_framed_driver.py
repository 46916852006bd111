"""Faults that mean something: what the driver says of them, what was applied, and how it goes on."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from framed_boards import driver, framed, over, pulses, read

from hil.contract import Probe, Read, Wait
from hil.errors import BoardFault, BoardMissing, InvalidOperation, Unsupported, WireError
from instruments.framed import lists
from instruments.framed.frame import Frame, Opcode
from instruments.framed.introduction import command_safe
from instruments.framed.requests import Patience
from instruments.links.memory import MemoryLink
from instruments.session import Session
from instruments.virtual.framed import FramedBoardCore
from instruments.virtual.outputs import Outputs

QUICK = Patience(timeout=0.01, tries=3)


@pytest.fixture
def core(quiet_board):
    return FramedBoardCore(quiet_board(), {})


def applied(core) -> torch.Tensor:
    return core.backend.chip.state["pulses"].clone()


def fails_at(core, number: int, error: Exception):
    """Makes an operation of the board inside fail."""
    inner, seen = core.backend.execute, 0

    def execute(ops):
        nonlocal seen
        seen += 1
        if seen == number:
            raise error
        return inner(ops)

    core.backend.execute = execute


# -- the board says no -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [BoardFault("tiny", "an amplifier smells"), RuntimeError("an amplifier smells")])
@pytest.mark.parametrize("frame_bytes", [1, 1 << 18])
def test_a_fault_in_the_middle(core, monkeypatch, frame_bytes, error):
    monkeypatch.setattr(lists, "FRAME_BYTES", frame_bytes)
    board = driver(core)
    ops = [pulses(board, 1, kernel) for kernel in range(4)] + [read(board)]
    fails_at(core, 3, error)
    with pytest.raises(
        BoardFault, match="failed at operation 2: .*an amplifier smells.*; 6 cells are in doubt"
    ) as caught:
        board.execute(ops)
    fault = caught.value
    assert (fault.index, len(fault.done)) == (2, 2) and fault.done[1].applied.sum() == 6
    assert fault.doubt.sum() == 6 and fault.doubt[2, :2, :3].all()
    assert applied(core).sum(dim=(1, 2)).tolist() == [6, 6, 0, 0]
    assert len(board.execute(ops)) == 5  # it goes on, in a new session
    assert applied(core).sum(dim=(1, 2)).tolist() == [12, 12, 6, 6]


def test_a_fault_in_a_read_leaves_no_doubt(core):
    board = driver(core)
    fails_at(core, 2, BoardFault("tiny", "saturated"))
    with pytest.raises(BoardFault) as caught:
        board.execute([pulses(board), read(board), pulses(board)])
    assert caught.value.index == 1 and caught.value.doubt is None


def test_an_error_of_the_board_says_so(core):
    board = driver(core)
    core.misbehave("error")
    with pytest.raises(BoardFault, match="an amplifier reports an error"):
        board.execute([pulses(board)])
    assert applied(core).sum() == 0


def test_a_busy_board_is_asked_again(core):
    board = driver(core)
    core.misbehave("busy")
    board.execute([pulses(board)])
    assert applied(core).sum() == 6


@pytest.mark.parametrize("volts", [3.4, math.nan, -math.inf])
def test_the_board_refuses_volts_that_no_guard_has_seen(core, volts):
    board = driver(core)
    ops = [pulses(board), replace(read(board), volts=torch.full((1, 1, 5), volts))]
    with pytest.raises(BoardFault, match="LIMIT.*is above the 3.3 V of any line"):
        board.execute(ops)
    assert applied(core).sum() == 0 and not core.outputs.history


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0, 1e9])
def test_the_board_refuses_time_that_never_ends(core, seconds):
    board = driver(core)
    with pytest.raises(BoardFault, match="would take longer"):
        board.execute([Wait(seconds)])
    assert board.execute([Wait(1.0)])[0].seconds == 1.0 == board.now()


def test_a_reset_board_has_forgotten_the_session(core):
    board = driver(core)
    board.execute([pulses(board)])
    core.misbehave("reset")
    with pytest.raises(BoardFault, match="NO_SESSION: this session does not own the board") as caught:
        board.execute([read(board), pulses(board)])
    assert caught.value.index == 0 and caught.value.doubt.sum() == 6
    board.execute([pulses(board)])
    assert applied(core).sum() == 12


# -- other clients -----------------------------------------------------------------------------------------------------


def test_a_safe_command_of_another_client_stops_the_owner(core):
    board = driver(core, "owner")
    board.execute([pulses(board)])
    assert core.outputs.on
    assert command_safe(Session(MemoryLink(core.converse("bystander")))).confirmed
    assert not core.outputs.on and core.outputs.history[-1] == ("outputs", "off")
    for _ in range(2):
        with pytest.raises(
            BoardFault, match=r"another client \(bystander\) made the board safe; look at the board"
        ) as e:
            board.execute([pulses(board)])
        assert e.value.doubt is None
    assert applied(core).sum() == 6 and not core.outputs.on
    board.make_safe()
    with pytest.raises(BoardFault, match="look at the board"):
        board.execute([pulses(board)])
    board.close()
    fresh = driver(core, "fresh")
    fresh.execute([pulses(fresh)])
    assert applied(core).sum() == 12


def test_the_safe_command_of_the_owner_stops_nothing_else(core):
    board = driver(core)
    board.execute([pulses(board)])
    assert board.make_safe().confirmed and not core.outputs.on
    board.execute([pulses(board)])
    assert applied(core).sum() == 12


def test_a_safe_board_stays_so_for_an_owner_whose_list_failed(core):
    """Otherwise its new session would undo what the other client wanted."""
    board = driver(core, "owner")
    fails_at(core, 1, BoardFault("tiny", "made safe in the middle"))
    with pytest.raises(BoardFault):
        board.execute([pulses(board)])
    command_safe(Session(MemoryLink(core.converse("bystander"))))
    for _ in range(2):
        with pytest.raises(BoardFault, match="look at the board") as caught:
            board.execute([pulses(board)])
        assert caught.value.doubt is None
    assert applied(core).sum() == 0


def test_a_list_that_was_carried_out_is_not_denied_by_a_safe_command(core):
    """Its answer was lost; asked again, the board still knows."""
    link = MemoryLink(core.converse("owner"))
    board = over(link, core.backend.spec, patience=QUICK)
    answers, bystander = [], Session(MemoryLink(core.converse("bystander")))
    receive = link._conversation.receive

    def once(data):
        tasks = list(receive(data))
        if not answers:
            answers.append(link._done(tasks[0].work))  # carried out, and the answer is lost
            command_safe(bystander)
            return []
        return tasks

    link._conversation.receive = once
    assert len(board.execute([pulses(board)])) == 1
    assert applied(core).sum() == 6


def test_a_second_client_cannot_take_the_board(core):
    board = driver(core, "first", owner="process 7 of alice")
    with pytest.raises(BoardMissing, match="in use by process 7 of alice"):
        driver(core, "second")
    board.execute([pulses(board)])
    board.close()
    driver(core, "second").close()


def test_a_stranger_cannot_use_the_session(core):
    board = driver(core)
    link = MemoryLink(core.converse("stranger"))
    link.write(Frame(Opcode.EXECUTE, 1, b"\0" * 13 + b"\0\0").encoded(), 0)
    assert int.from_bytes(link.read(1, 0)[6:8], "little") == 3  # NO_SESSION
    link.write(Frame(Opcode.GOODBYE, 2).encoded(), 0)
    board.execute([pulses(board)])


# -- refused before anything is sent -----------------------------------------------------------------------------------


def test_what_the_board_cannot_do_is_refused_before_anything_is_sent(quiet_board, spec_of):
    link = MemoryLink(FramedBoardCore(quiet_board(spec_of(ops=("ReadCells", "Pulse", "Wait"))), {}).converse("test"))
    board = over(link, spec_of(ops=("ReadCells", "Pulse", "Wait")))
    count = len(link.sent)
    with pytest.raises(Unsupported, match="Read"):
        board.execute([pulses(board), read(board)])
    with pytest.raises(Unsupported, match="Probe"):
        board.execute([Probe(("temperature",))])
    assert len(link.sent) == count and board.execute([]) == []


@pytest.mark.parametrize("change", [{"cycles": 1 << 16}, {"cycles": -1}])
def test_a_number_that_the_wire_does_not_carry(core, change):
    link = MemoryLink(core.converse("test"))
    board = over(link, core.backend.spec)
    count = len(link.sent)
    with pytest.raises(InvalidOperation, match="a number that the wire does not carry"):
        board.execute([pulses(board), replace(pulses(board), **change)])
    with pytest.raises(InvalidOperation, match="a number that the wire does not carry"):
        board.execute([Wait(10**400)])
    assert len(link.sent) == count and applied(core).sum() == 0


def test_an_operation_larger_than_a_frame(core):
    board = driver(core)
    board._welcome = replace(board._welcome, most_bytes=4096)
    with pytest.raises(Unsupported, match="a frame at most 4,096; use smaller batches"):
        board.execute([pulses(board), read(board, batch=1000)])
    assert applied(core).sum() == 0


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_closed_board_is_closed(core):
    released = []
    board = driver(core, release=lambda: released.append(1))
    board.execute([pulses(board)])
    board.close()
    board.close()
    assert released == [1] and board.make_safe().confirmed and not core.outputs.on
    assert list(core.outputs.history)[-2:] == [("volts", 0.0), ("outputs", "off")]
    with pytest.raises(BoardMissing, match="it was closed"):
        board.execute([pulses(board)])


def test_outputs_that_stay_on_are_told(core, monkeypatch):
    board = driver(core)
    board.execute([pulses(board)])
    monkeypatch.setattr(Outputs, "make_safe", Outputs.report)
    report = board.make_safe()
    assert not report.confirmed and report.outputs["rows"] == "on"
    assert "switch off by hand (rows on" in str(report)


def test_saved_and_put_back(core):
    board = driver(core)
    saved = board.snapshot()
    first = board.execute([pulses(board), read(board)])
    board.restore(saved)
    again = board.execute([pulses(board), read(board)])
    assert torch.equal(first[1].value, again[1].value) and board.now() == again[1].began + again[1].seconds
    with pytest.raises(WireError, match="RESTORE was refused with BAD_PAYLOAD"):
        board.restore({"chip.g": torch.zeros(2)})
    board.execute([pulses(board)])


class NotRestorable:
    """A chip: what a simulator has, except that it can be copied."""

    def __init__(self, inner):
        self.spec, self.execute, self.now = inner.spec, inner.execute, inner.now
        self.make_safe, self.close = inner.make_safe, inner.close


def test_a_chip_cannot_be_copied(quiet_board):
    core = FramedBoardCore(NotRestorable(quiet_board()), {})
    board = driver(core)
    assert not board.restorable
    with pytest.raises(Unsupported, match="cannot be copied"):
        board.snapshot()
    with pytest.raises(Unsupported, match="cannot be copied"):
        board.restore({})


def test_reads_have_the_shape_that_was_asked_for(quiet_board):
    board = framed(quiet_board())
    (got,) = board.execute([read(board, batch=3)])
    assert isinstance(read(board), Read) and got.value.shape == (1, 3, 6)
