"""A lowered operation equals the native one: values, flags, pulses applied and the chip afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from lowered_operations import BLOCKS, DOWN, MINIMUM, UP, outer, ramp, same_chip, same_outcome, vectors

from hil.contract import Bias, Flag, Op, Outcome, Probe, Pulse, Range, Read, Sense, Shape, Side, Stop, Wait, restorable
from hil.errors import BoardFault, Unsupported
from hil.lowering import Lowering

RAMPS = (
    "set by gate",
    "set from a start tensor, back",
    "set traced",
    "reset by volts",
    "reset with abort rules",
    "form until it switches",
    "sweep traced",
    "nothing to do",
)


@pytest.mark.parametrize("name", RAMPS)
@pytest.mark.parametrize("seed", [1, 2])
def test_ramp_is_pulses_and_reads(twins, name, seed):
    whole, lowered = twins()
    op = ramp(name, seed)
    (a,), (b,) = whole.execute([op]), lowered.execute([op])
    same_outcome(a, b)
    same_chip(whole, lowered)
    assert a.flags is not None and a.value is not None and a.flags.shape == a.value.shape
    assert torch.equal(a.value.isnan(), (a.flags & int(Flag.NOT_MEASURED)) != 0)


def test_the_ramps_of_the_other_test_end_in_every_way(twins):
    flags = [twins()[0].execute([ramp(name, 1)])[0].flags.reshape(-1) for name in RAMPS]
    for ending in (Flag.STOPPED, Flag.ABORTED, Flag.EXHAUSTED, Flag.NOT_MEASURED):
        assert bool(((torch.cat(flags) & int(ending)) != 0).any()), ending


@pytest.mark.parametrize("seed", range(3))
def test_outer_is_masked_pulses(twins, seed):
    whole, lowered = twins()
    (a,), (b,) = whole.execute([outer(seed)]), lowered.execute([outer(seed)])
    same_outcome(a, b)
    same_chip(whole, lowered)
    assert lowered.notes["Outer: made of masked Pulses"] == 1


@pytest.mark.parametrize("feed", [None, (1, 0, 1)])
@pytest.mark.parametrize(("drive", "pairs"), [(Side.ROWS, False), (Side.COLS, False), (Side.COLS, True)])
def test_read_is_cells_and_arithmetic(twins, drive, feed, pairs):
    whole, lowered = twins(lesser={"reading": {"pairs": False}})
    op = Read(BLOCKS, vectors(1, drive, feeds=3 if feed is None else 2), drive, Sense(), feed, pairs)
    (a,), (b,) = whole.execute([op]), lowered.execute([op])
    same_outcome(a, b, atol=1e-18)
    assert a.value.shape == (3, 5, BLOCKS.lines(drive.other) // (2 if pairs else 1))


def test_pairs_are_subtracted_where_a_board_that_reads_cannot(twins):
    known = ("Read", *MINIMUM)
    for lesser in ({"reading": {"pairs": False}}, {}):
        whole, lowered = twins(known if lesser else MINIMUM, lesser)
        op = Read(BLOCKS, vectors(2, Side.COLS), Side.COLS, pairs=True)
        (a,), (b,) = whole.execute([op]), lowered.execute([op])
        same_outcome(a, b, atol=1e-18)


def test_a_signed_read_on_a_unipolar_board_is_two_reads(twins):
    whole, lowered = twins(("Read", *MINIMUM), {"abilities": {"signed_read": False}})
    op = Read(BLOCKS, vectors(3, Side.COLS), Side.COLS)
    (a,), (b,) = whole.execute([op]), lowered.execute([op])
    same_outcome(a, b, atol=1e-18)
    assert b.events == 2 * a.events
    positive = replace(op, volts=op.volts.abs())
    lowered.execute([positive])
    assert lowered.notes["signed read: two unipolar reads"] == 1


def test_rails_of_two_unipolar_reads_point_the_right_way(twins):
    rails = {"ranges": (Range(negative=3e-5, positive=3e-5, step=1e-8),)}
    whole, lowered = twins(("Read", *MINIMUM), {"abilities": {"signed_read": False}}, reading=rails)
    volts = torch.tensor([[[0.2, 0.2, 0.2], [-0.2, -0.2, -0.2]]], dtype=torch.float64).expand(3, 2, 3)
    (a,), (b,) = whole.execute([Read(BLOCKS, volts, Side.COLS)]), lowered.execute([Read(BLOCKS, volts, Side.COLS)])
    assert int(a.flags[:, 0].min()) == Flag.SAT_HIGH and int(a.flags[:, 1].min()) == Flag.SAT_LOW
    assert torch.equal(a.flags, b.flags) and torch.equal(a.value, b.value)


def test_a_railed_cell_flags_the_products_of_its_line(twins):
    strongest = twins()[0].chip.state["g"][BLOCKS.kernel[0], 0:4, 1:4].amax(1) * 0.2
    rail = float(strongest.sort().values[1:3].mean())
    _, lowered = twins(reading={"ranges": (Range(negative=1.0, positive=rail, step=1e-12),)})
    (got,) = lowered.execute([Read(BLOCKS, vectors(4, Side.COLS), Side.COLS)])
    assert int((strongest >= rail).sum()) == 2
    assert torch.equal(got.flags[0], ((strongest >= rail) * int(Flag.SAT_HIGH)).expand(5, 4))


def refused(lowered: Lowering, ops: list[Op]) -> str:
    before = lowered.inner.snapshot()
    with pytest.raises(Unsupported) as caught:
        lowered.execute(ops)
    after = lowered.inner.snapshot()
    assert all(torch.equal(before[name], after[name]) for name in before)
    return str(caught.value)


def test_sensing_inside_the_pulse_is_refused_before_anything_is_sent(twins):
    _, lowered = twins()
    inside = replace(ramp("set by gate", 1), sense=Sense(None))
    text = refused(lowered, [Pulse(BLOCKS, torch.tensor(1), UP, DOWN), inside])
    assert "cannot do Ramp" in text and "inside a pulse" in text


def test_forming_is_not_made_of_plain_pulses_where_cells_may_be_formed_once(twins):
    _, lowered = twins(limits={"forming": "once"})
    text = refused(lowered, [Wait(1.0), ramp("form until it switches", 1)])
    assert "the guard could not tell that cells are formed" in text


def test_a_native_ramp_that_senses_inside_the_pulse_needs_the_ability(twins):
    whole, lowered = twins(("Ramp", *MINIMUM), {"reading": {"inside_pulse": False}}, reading={"inside_pulse": True})
    inside = replace(ramp("reset by volts", 1), sense=Sense(None), stop=Stop(0.0, 1e-5, 1.0))
    (got,) = whole.execute([inside])
    assert got.value is not None
    assert "inside a pulse" in refused(lowered, [inside])


@pytest.mark.parametrize("unselected", [Bias.FLOAT, Bias.HALF])
def test_a_read_with_lines_that_are_not_grounded_is_refused_on_a_passive_array(twins, unselected):
    _, lowered = twins(selector="passive")
    op = Read(BLOCKS, vectors(8, Side.COLS), Side.COLS, Sense(unselected=unselected))
    assert "not grounded" in refused(lowered, [op])


def test_a_read_with_grounded_lines_is_lowered_on_a_passive_array(twins):
    whole, lowered = twins(selector="passive")
    op = Read(BLOCKS, vectors(8, Side.COLS), Side.COLS, Sense(unselected=Bias.GROUND))
    (a,), (b,) = whole.execute([op]), lowered.execute([op])
    same_outcome(a, b, atol=1e-18)
    _, floating = twins(selector="passive", writing={"biases": (Bias.FLOAT,)})
    assert "not grounded" in refused(floating, [op])


@pytest.mark.parametrize(
    ("known", "op", "reason"),
    [
        (("Pulse", "Wait"), Read(BLOCKS, vectors(1, Side.COLS), Side.COLS), "ReadCells"),
        (("ReadCells", "Wait"), outer(1), "Pulse"),
        (("Pulse", "Wait"), ramp("set by gate", 1), "ReadCells"),
        (("ReadCells", "Wait"), Pulse(BLOCKS, torch.tensor(1), UP, DOWN), "it knows ReadCells, Wait"),
        (MINIMUM, Probe(("temperature",)), "it knows"),
        (("Probe", *MINIMUM), Probe(("voltage",)), "no probe 'voltage'"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(twins, known, op, reason):
    assert reason in refused(twins(known)[1], [op])


class Failing:
    """Passes lists on to a board until a number of operations is reached, then fails."""

    def __init__(self, board, after: int) -> None:
        self.board, self.left = board, after
        self.spec = board.spec

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        done: list[Outcome] = []
        for index, op in enumerate(ops):
            if self.left == 0:
                raise BoardFault("tiny", "no answer", done, index, torch.ones(4, 6, 5, dtype=torch.bool))
            self.left -= 1
            done += self.board.execute([op])
        return done


@pytest.mark.parametrize(
    ("after", "index"), [(0, 0), (1, 1), (2, 2), (3, 2), (5, 2), (6, 3), (7, 4), (8, 5), (9, None)]
)
def test_a_fault_names_the_operation_of_the_whole_list(twins, after, index):
    """Two plain operations, a ramp of two points (four inside), an outer (one inside), and two plain ones."""
    _, lowered = twins()
    lowered.inner = Failing(lowered.inner, after)
    source = ramp("set by gate", 1)
    short = replace(source, points=source.points[:2], stop=Stop(1.0, 2.0, 1e-3))
    ops: list[Op] = [Wait(1.0), Wait(2.0), short, outer(1), Wait(3.0), Wait(4.0)]
    if index is None:
        assert len(lowered.execute(ops)) == 6
        return
    with pytest.raises(BoardFault) as caught:
        lowered.execute(ops)
    assert caught.value.index == index == len(caught.value.done)
    assert [o.seconds for o in caught.value.done[:2]] == [1.0, 2.0][:index]
    assert int(caught.value.doubt.sum()) == 120


@pytest.mark.parametrize(
    ("bias", "others"), [(Bias.HALF, 6 + 5 - 2), (Bias.THIRD, 29), (Bias.FLOAT, 0), (Bias.GROUND, 0), (None, 9)]
)
def test_half_selects_of_lowered_writes_are_counted(twins, bias, others):
    biases = (Bias.HALF, Bias.THIRD, Bias.FLOAT, Bias.GROUND)  # the first is the board's own way
    _, lowered = twins(selector="passive", writing={"biases": biases})
    up, down = Shape(1.0, 1e-6, amps=1e-4), Shape(1.2, 1e-6, amps=1e-4)
    (got,) = lowered.execute([replace(outer(1), up=up, down=down, unselected=bias)])
    pulses = int(got.applied.sum())
    assert pulses > 10
    assert lowered.half_selects == pulses * others
    lowered.execute([Pulse(BLOCKS, torch.tensor(1), up, down, unselected=bias)])
    assert lowered.half_selects == pulses * others  # what was not lowered is not the lowering's


def test_gated_cells_are_never_half_selected(twins):
    _, lowered = twins()
    lowered.execute([replace(outer(1), unselected=Bias.HALF)])
    assert lowered.half_selects == 0


def test_restorable_asks_the_board_inside(twins):
    _, lowered = twins()
    assert restorable(lowered) and lowered.restorable
    saved = lowered.snapshot()
    lowered.execute([outer(1)])
    moved = lowered.snapshot()
    lowered.restore(saved)
    assert all(torch.equal(lowered.snapshot()[name], saved[name]) for name in saved)
    assert not torch.equal(moved["chip.g"], saved["chip.g"])
    chip = Lowering(Failing(lowered.inner, 0))
    assert not restorable(chip) and not chip.restorable
    with pytest.raises(Unsupported, match="a chip cannot be copied"):
        chip.snapshot()


def test_a_list_the_board_knows_goes_down_in_one_piece(twins, mocker):
    _, lowered = twins()
    sent = mocker.spy(lowered.inner, "execute")
    assert lowered.execute([]) == []
    lowered.execute([Wait(1.0), Wait(2.0)])
    assert sent.call_count == 2
    assert not lowered.notes
