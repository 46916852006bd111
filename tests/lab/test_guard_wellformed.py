"""The guard: nothing malformed passes, whatever else is in its list."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from guard_operations import (
    F32,
    F64,
    FORM,
    ONE,
    Recorder,
    amps_max,
    bits,
    int8,
    pulse,
    ramp,
    read,
    read_cells,
    refused,
    sent,
    shape,
    tensor,
)

from hil.contract import Bias, Blocks, BoardSpec, Probe, Pulse, Read, Sense, Side, Stop, Wait
from hil.errors import InvalidOperation, LimitExceeded
from hil.lab.guard import Guard


class Odd(Wait):
    """A subclass: not an operation of the contract."""


GOOD_BITS = int8([[1, 0]])
MALFORMED: list[tuple[str, Any]] = [
    ("not an operation", "pulse"), ("not an operation", None), ("not an operation", Odd(0.0)),
    ("seconds must be a number", Wait("1")), ("seconds must be finite", Wait(math.nan)), ("at least 0", Wait(-1.0)),
    ("seconds must be a number", Wait(True)), ("seconds is out of all reason", Wait(10**400)),
    ("no probe 'humidity'", Probe(("humidity",))), ("names must be a tuple", Probe("temperature")),
    ("names must be a tuple", Probe((1,))), ("names must be a tuple", Probe(7)),
    # types
    ("the pulse amplitude must be a number, got str '1.0'", pulse(shape("1.0"))),
    ("the pulse amplitude must be a number, got bool", pulse(shape(True))),
    ("the pulse amplitude must be a number, got list", pulse(shape([1.0]))),
    ("the pulse amplitude must be finite", pulse(shape(math.nan))),
    ("the pulse amplitude must be finite", pulse(shape(math.inf))),
    ("the pulse amplitude holds a value that is not finite", pulse(shape(tensor(math.nan, F32)))),
    ("the pulse amplitude must be float32 or float64", pulse(shape(torch.tensor(1)))),
    ("broadcast to", pulse(shape(torch.ones(3, dtype=F64)))), ("broadcast to", pulse(shape(torch.ones(1, 1, 1, 1)))),
    ("broadcast to", pulse(shape(torch.ones(0)))),
    ("is a magnitude", pulse(shape(-0.1))), ("is a magnitude", ramp([-0.1, 0.0])),
    ("width must be above 0", pulse(shape(seconds=0.0))), ("width must be a number", pulse(shape(seconds="1 us"))),
    ("needs a gate voltage", pulse(shape(gate=None))), ("at least 0", pulse(shape(gate=-0.1))),
    ("gate voltage must be finite", pulse(shape(gate=math.nan))), ("up must be a Shape", pulse(up=3)),
    ("leave amps out", pulse(shape(amps=1e-5))), ("leave amps out", read_cells(0.1, amps=1e-5)),
    # counts and cycles
    ("counts must be int8", pulse(counts=torch.tensor(True))), ("counts must be int8", pulse(counts=torch.tensor(1.0))),
    ("counts must be a tensor, got int", Pulse(ONE, 1, shape(), shape())),  # type: ignore[arg-type]
    ("cycles must be a whole number", pulse(cycles=0)), ("cycles must be a whole number", pulse(cycles=True)),
    ("cycles must be a whole number", pulse(cycles=2.0)), ("a whole number of 2001 bits", pulse(cycles=2**2000)),
    ("alternate must be True or False", pulse(alternate=1)),
    ("cannot do 'half'; they can do float, ground", pulse(unselected=Bias.HALF)),
    ("unselected must be a Bias", pulse(unselected="ground")),
    # tensors that are not there
    ("on the CPU, got one on meta", pulse(shape(torch.ones(1, device="meta")))),
    ("on the CPU, got one on meta", read(torch.zeros(1, 1, 2, device="meta"))),
    ("must be a plain tensor", read(torch.zeros(1, 1, 2).to_sparse())),
    ("must be a tensor, got ndarray", replace(read(0.1), volts=np.zeros((1, 1, 2)))),
    ("must be a tensor, got list", replace(read(0.1), volts=[[[0.1, 0.1]]])),
    # blocks
    ("share a cell", Pulse(Blocks((0, 0), (0, 1), (0, 1), 2, 2), torch.tensor(1), shape(), shape())),
    ("not on a chip", replace(pulse(), blocks=Blocks((0,), (5,), (0,), 2, 2))),
    ("not on a chip", replace(pulse(), blocks=Blocks((-1,), (0,), (0,), 2, 2))),
    ("is empty", replace(pulse(), blocks=Blocks((0,), (0,), (0,), 0, 2))),
    ("at least one block", replace(pulse(), blocks=Blocks((), (), (), 2, 2))),
    ("one number for each", replace(pulse(), blocks=Blocks((0, 1), (0,), (0,), 2, 2))),
    ("tuples of whole numbers", replace(pulse(), blocks=Blocks([0], (0,), (0,), 2, 2))),  # type: ignore[arg-type]
    ("tuples of whole numbers", replace(pulse(), blocks=Blocks((0.0,), (0,), (0,), 2, 2))),  # type: ignore[arg-type]
    ("tuples of whole numbers", replace(pulse(), blocks=Blocks((False,), (0,), (0,), 2, 2))),
    ("blocks must be a Blocks", replace(pulse(), blocks=None)),
    # reads
    ("volts must be float", read(torch.zeros(1, 2))), ("volts drive 3 lines", read(torch.zeros(1, 1, 3))),
    ("1 rows, one a block, got 2", read(torch.zeros(2, 1, 2))),
    ("volts must be float32", read(torch.zeros(1, 1, 2).half())),
    ("not finite", read(math.nan)), ("not finite", read(math.inf)), ("not finite", read(-math.inf, dtype=F32)),
    ("drive must be a Side", read(0.1, drive="rows")), ("pairs must be True", read(0.1, pairs=1)),
    ("even number of sensed", Read(Blocks((0,), (0,), (0,), 3, 2), torch.zeros(1, 1, 2), Side.COLS, pairs=True)),
    ("brings its own vectors", read(0.1, sense=Sense(0.1))), ("sense must be a Sense", read(0.1, sense=0.1)),
    ("feed must be a tuple", read(0.1, feed=[0])), ("feed must be a tuple", read(0.1, feed=(0.0,))),
    ("feed must name a row", read(0.1, feed=(-1,))), ("feed must name a row", read(0.1, feed=(0, 0))),
    ("at least 2 rows, got 1", read(0.1, feed=(1,))),
    ("averages must be a whole number", read(0.1, sense=Sense(averages=0))),
    ("averages must be a whole number", read(0.1, sense=Sense(averages=True))),
    ("averages must be a whole number", read(0.1, sense=Sense(averages=1.5))),  # type: ignore[arg-type]
    ("full_scale must be above 0", read(0.1, sense=Sense(full_scale=0.0))),
    ("full_scale must be finite", read(0.1, sense=Sense(full_scale=math.nan))),
    ("read voltage must be a number, got NoneType", read_cells(None)),
    ("read voltage must be finite", read_cells(math.nan)),
    ("read voltage must be a number", read_cells("0.1 V")),
    ("cannot do 'third'", read_cells(0.1, unselected=Bias.THIRD)),
    ("unselected must be", read_cells(0.1, unselected=1)),
    ("averages must be a whole number", ramp(sense=Sense(0.1, averages=0))),
    ("mask must be bool", replace(read_cells(0.1), mask=torch.ones(2, 2))),
    ("mask must be bool and broadcast", replace(read_cells(0.1), mask=torch.ones(3, 2) > 0)),
    # outer
    ("changes its sign", bits(int8([[1, 0], [-1, 0]]), int8([[1, 1], [1, 1]]))),
    ("changes its sign", bits(int8([[1, 0], [0, 0]]), int8([[0, -1], [0, 1]]))),
    ("-1, 0 and 1 only", bits(int8([[2, 0]]), GOOD_BITS)), ("-1, 0 and 1 only", bits(GOOD_BITS, int8([[-128, 0]]))),
    ("must be int8", bits(GOOD_BITS.float(), GOOD_BITS)),
    ("same number of slots", bits(GOOD_BITS, int8([[1, 0], [1, 0]]))),
    ("col_bits must be int8", bits(GOOD_BITS, int8([[1, 0, 1]]))),
    # ramps
    ("sign must be int8", ramp(sign=torch.ones(1, 1, 1))), ("-1, 0 and 1 only", ramp(sign=int8([[3]]))),
    ("since forming raises", ramp(kind=FORM, sign=int8([[-1]]))), ("kind must be a Kind", ramp(kind="set")),  # type: ignore[arg-type]
    ("knob must be", ramp(knob="width")), ("points must be float", ramp(points=torch.ones(2, 2))),
    ("points must be float", replace(ramp(), points=torch.zeros(0))), ("points hold a value", ramp([0.0, math.nan])),
    ("points hold a value", ramp([math.inf, 0.1])), ("start must be a whole", ramp(start=2)),
    ("start must be a whole", ramp(start=True)), ("start must be int8", ramp(start=torch.tensor(0.0))),
    ("start must lie between 0 and 1", ramp(start=torch.tensor([[0], [-1]]))),
    ("start must lie between 0 and 1", ramp(start=torch.tensor(2))), ("broadcast to", ramp(start=torch.zeros(3).int())),
    ("cannot read inside a pulse", ramp(sense=Sense())), ("back must be True or False", ramp(back="yes")),
    ("amps_max must be above 0", ramp(stop=amps_max(0.0))), ("amps_max must be finite", ramp(stop=amps_max(math.inf))),
    ("stop.low must be finite", ramp(stop=Stop(math.nan, 1.0, 1e-5))),
    ("stop.high holds NaN", ramp(stop=Stop(0.0, torch.tensor([1.0, math.nan]), 1e-5))),
    ("stop.jump must be finite", ramp(stop=Stop(0.0, 1.0, 1e-5, jump=math.nan))),
    ("stop.rises must be", ramp(stop=Stop(0.0, 1.0, 1e-5, rises=0))),
    ("pair of numbers", ramp(stop=Stop(0.0, 1.0, 1e-5, rise_after=(1.0,)))),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(("text", "op"), MALFORMED, ids=[str(i) for i in range(len(MALFORMED))])
def test_what_is_not_well_formed_is_refused_with_its_list(gated: BoardSpec, text: str, op: Any) -> None:
    error = refused(gated, pulse(counts=2), op)
    assert isinstance(error, InvalidOperation)
    assert text in str(error)


def test_what_cannot_even_be_looked_at_is_refused(gated: BoardSpec) -> None:
    class Hostile:
        def __iter__(self) -> Any:
            raise RuntimeError("\x1b[31mno")

    board = Recorder(gated)
    for ops in (7, None, Hostile(), pulse()):
        with pytest.raises(InvalidOperation, match="cannot be checked"):
            Guard(board).execute(ops)  # type: ignore[arg-type]
    huge = torch.zeros(1, 1, 1, dtype=F64).expand(1, 2**50, 2)
    with pytest.raises(InvalidOperation, match="cannot be checked"):
        Guard(board).execute([read(huge)])  # type: ignore[arg-type]
    assert not board.sent


def test_negative_zero_and_padding_rows_pass(gated: BoardSpec) -> None:
    assert sent(gated, pulse(shape(-0.0, gate=-0.0)), read(-0.0), read(torch.zeros(1, 0, 2)), Wait(0.0))


def test_known_blocks_and_senses_are_still_checked(gated: BoardSpec) -> None:
    """What was seen before passes quickly; what only looks like it must not."""
    guard = Guard(Recorder(gated))  # type: ignore[arg-type]
    feed, sense = (0, 1), Sense()
    twice = Blocks((0, 0), (0, 1), (0, 1), 2, 2)
    for _ in range(2):
        guard.execute([Read(twice, torch.zeros(2, 1, 2), Side.COLS, sense, feed)])
        for bad in (
            Read(twice, torch.ones(2, 1, 2), Side.COLS, sense, feed),
            Read(twice, torch.zeros(1, 1, 2), Side.COLS, sense, feed),
            Read(twice, torch.zeros(2, 1, 2), Side.COLS, Sense(gate=9.0), feed),
            Read(Blocks((0, 0), (0, 1), (0, 1.0), 2, 2), torch.zeros(2, 1, 2), Side.COLS, sense, feed),  # type: ignore[arg-type]
            Pulse(twice, torch.tensor(1), shape(), shape()),
        ):
            with pytest.raises((InvalidOperation, LimitExceeded)):
                guard.execute([bad])
    for _ in range(3000):  # more objects than are remembered, each at an address that may have been another's
        guard.execute([Read(Blocks((0,), (0,), (0,), 2, 2), torch.zeros(1, 1, 2), Side.COLS, Sense())])
        with pytest.raises(LimitExceeded):
            guard.execute([Read(Blocks((0,), (0,), (0,), 2, 2), torch.zeros(1, 1, 2), Side.COLS, Sense(gate=9.0))])
