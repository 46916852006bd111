"""An operation that is cut into slices does what it would have done in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from lowered_operations import BLOCKS, DOWN, MINIMUM, SHAPE, UP, outer, ramp, same_chip, same_outcome, vectors

from hil.contract import Blocks, Op, Outcome, Probe, Pulse, Read, ReadCells, Sense, Shape, Side, Wait
from hil.contract.cost import cost
from hil.slicing import halves, joined

SLOW = {"timing": {"slice": 0.01}, "abilities": {"safe_preempts": False}}


def long_ops() -> list[Op]:
    source = torch.Generator().manual_seed(5)
    counts = torch.randint(-3, 4, SHAPE, generator=source)
    mask = torch.rand(SHAPE, generator=source) < 0.5
    volts = 1.0 + 0.3 * torch.rand(SHAPE, generator=source, dtype=torch.float64)
    row_volts = torch.tensor([1.0, 1.1, 1.2], dtype=torch.float64)
    return [
        Read(BLOCKS, vectors(5, Side.COLS, batch=13), Side.COLS),
        Read(BLOCKS, vectors(6, Side.ROWS, batch=11, feeds=2), Side.ROWS, feed=(0, 1, 0)),
        Read(BLOCKS, vectors(7, Side.ROWS, batch=1, feeds=2), Side.ROWS, Sense(averages=8), feed=(0, 1, 0)),
        Read(BLOCKS, vectors(8, Side.COLS, batch=1), Side.COLS, Sense(averages=8)),
        ReadCells(BLOCKS, Sense(0.2, averages=3), Side.COLS, mask),
        Pulse(BLOCKS, counts, UP, DOWN),
        Pulse(BLOCKS, torch.tensor(2), replace(UP, volts=volts), DOWN, cycles=3, alternate=True),
        Pulse(BLOCKS, counts[:1], replace(UP, volts=row_volts), replace(DOWN, gate=volts + 1.0)),
        outer(6),
        ramp("set from a start tensor, back", 3),
        replace(ramp("set by gate", 4), shape=Shape(volts, 1e-6, 0.0)),
        replace(ramp("reset by volts", 3), sign=torch.tensor([-1], dtype=torch.int8)),
        ramp("sweep traced", 3),
    ]


def test_slices_by_time_change_nothing(twins):
    whole, lowered = twins(("Read", "ReadCells", "Pulse", "Outer", "Ramp", "Wait"), SLOW)
    for op in long_ops():
        (a,), (b,) = whole.execute([op]), lowered.execute([op])
        same_outcome(a, b, atol=1e-16)
        same_chip(whole, lowered)
        assert lowered.notes[f"{type(op).__name__}: cut into slices"] > 0


def test_no_slice_is_longer_than_it_may_be_unless_it_is_atomic(twins, mocker):
    _, lowered = twins(("Read", "ReadCells", "Pulse", "Outer", "Ramp", "Wait"), SLOW)
    sent: list[Op] = []
    execute = lowered.inner.execute

    def spy(ops: Sequence[Op]) -> list[Outcome]:
        sent.extend(ops)
        return execute(ops)

    mocker.patch.object(lowered.inner, "execute", spy)
    lowered.execute(long_ops())
    assert len(sent) > 20
    assert all(cost(op, lowered.spec).seconds <= 0.01 or halves(op) is None for op in sent)


def test_slices_by_largest_batch_change_nothing(twins):
    whole, lowered = twins(("Read", *MINIMUM), {"abilities": {"largest_batch": 4}})
    op = Read(BLOCKS, vectors(7, Side.COLS, batch=13), Side.COLS)
    (a,), (b,) = whole.execute([op]), lowered.execute([op])
    same_outcome(a, b)
    (exact,) = lowered.execute([replace(op, volts=op.volts[:, :4])])
    assert torch.equal(exact.value, a.value[:, :4])


def test_a_long_wait_is_cut_and_lasts_as_long(twins):
    _, lowered = twins(lesser=SLOW)
    (got,) = lowered.execute([Wait(1.0)])
    assert got.seconds == 1.0 == lowered.now()
    assert got.value is None and lowered.notes["Wait: cut into slices"] > 10


def test_what_cannot_be_cut_goes_as_it_is(twins):
    _, lowered = twins(lesser=SLOW)
    one = Blocks((0,), (0,), (0,), 2, 2)
    (got,) = lowered.execute([Pulse(one, torch.tensor(50), UP, DOWN)])
    assert got.seconds > 0.01 and int(got.applied.sum()) == 200
    assert halves(Probe(("temperature",))) is None


def test_joined_fills_in_missing_flags():
    value = torch.ones(1, 2)
    a = Outcome(value, None, None, 0.0, 1.0, 1, 1.0)
    b = Outcome(value, torch.full((1, 2), 2, dtype=torch.uint8), None, 1.0, 2.0, 3, 0.5)
    whole = joined([a, b], 0)
    assert whole.flags.tolist() == [[0, 0], [2, 2]]
    assert (whole.began, whole.seconds, whole.events, whole.joules) == (0.0, 3.0, 4, 1.5)
