"""Operations as values, and what they cost on the link."""

from __future__ import annotations

import pytest
import torch

from hil.contract import (
    Blocks,
    Kind,
    Outcome,
    Outer,
    Pulse,
    Ramp,
    Read,
    ReadCells,
    SafeReport,
    Sense,
    Shape,
    Side,
    Stop,
    Wait,
    lacking,
    restorable,
    same,
)
from hil.contract.cost import Cost, coincidences, cost, link_seconds, scaled
from hil.usual import usual_pulse, usual_sense

BLOCKS = Blocks((0, 1), (0, 2), (1, 0), 4, 3)


def test_blocks_are_values():
    assert BLOCKS == Blocks((0, 1), (0, 2), (1, 0), 4, 3) and len({BLOCKS, BLOCKS.take(0, 2)}) == 1
    assert BLOCKS.take(1, 2) == Blocks((1,), (2,), (0,), 4, 3)
    assert (BLOCKS.shape, BLOCKS.lines(Side.ROWS), BLOCKS.lines(Side.COLS)) == ((2, 4, 3), 4, 3)


def test_operations_are_compared_by_value_dtype_and_shape():
    def read(volts: torch.Tensor, averages: int = 1) -> Read:
        return Read(BLOCKS, volts, Side.ROWS, Sense(averages=averages))

    one = torch.ones(2, 1, 4)
    assert same(read(one), read(one.clone()))
    assert not same(read(one), read(one.double())) and not same(read(one), read(torch.ones(2, 2, 4)))
    assert not same(read(one), read(2 * one)) and not same(read(one), read(one, 2))
    assert not same(read(one), Wait(1.0)) and same(Wait(1.0), Wait(1.0))


def test_signs_of_coincidences_multiply():
    shape = Shape(1.0, 1e-6)
    rows = torch.tensor([[[1, 0, -1], [1, 1, 0]]], dtype=torch.int8)
    cols = torch.tensor([[[1, -1], [1, 0]]], dtype=torch.int8)
    op = Outer(Blocks((0,), (0,), (0,), 3, 2), rows, cols, shape, shape)
    assert coincidences(op).tolist() == [[[2, -1], [1, 0], [-1, 1]]]


def test_costs_add_scale_and_travel(spec_of):
    spec = spec_of(timing={"round_trip": 0.5, "bytes_per_second": 1000.0})
    price = cost(Read(BLOCKS, torch.zeros(2, 3, 3), Side.COLS), spec)
    assert price.bytes == 2 * (18 + 24)
    assert link_seconds(price, 2, spec) == pytest.approx(1.0 + 0.084)
    assert link_seconds(price, 2, spec_of()) == 0.0
    assert price + Cost() == price and scaled(price, 3.0) == price + price + price


def test_a_report_of_outputs_reads_well():
    assert str(SafeReport({"rows": "off"}, confirmed=True)) == "SAFE confirmed"
    text = str(SafeReport({"rows": "off", "gates": "unreadable"}, confirmed=False))
    assert text == "SAFE NOT CONFIRMED: switch off by hand (gates unreadable)"


def test_a_chip_is_not_restorable():
    class Chip:
        def execute(self, ops) -> list[Outcome]:
            return []

    assert not restorable(Chip())


def test_what_a_board_lacks_is_said(spec_of):
    spec = spec_of(ops=("Pulse", "Wait"))
    assert lacking(Wait(1.0), spec) == ""
    assert lacking(Read(BLOCKS, torch.zeros(2, 1, 3), Side.COLS), spec) == "it knows Pulse, Wait"


def test_usual_reads_and_pulses_bring_the_compliance_a_source_needs(spec_of, quiet_board):
    for selector, amps, gate in (("passive", 5e-4, None), ("gated", None, 2.5)):
        spec = spec_of(selector=selector)
        assert usual_sense(spec, 0.1, 4).amps == amps
        up = usual_pulse(quiet_board(spec), up=True)
        assert (up.volts, up.amps, up.gate) == (1.0, amps, gate)
        assert usual_pulse(quiet_board(spec), up=False).volts == 1.2


def test_counts_of_small_integer_types_are_priced_without_overflow(spec_of):
    spec = spec_of()
    shape = Shape(1.0, 1e-6)
    prices = [
        cost(Pulse(BLOCKS, torch.full((2, 4, 3), 120, dtype=dtype), shape, shape), spec)
        for dtype in (torch.int8, torch.uint8, torch.int64)
    ]
    assert prices[0] == prices[1] == prices[2] and prices[0].pulses == 120 * 24


def test_turning_around_is_charged_to_what_writes(spec_of):
    slow, quick = spec_of(timing={"turnaround": 0.5}), spec_of()
    one = Blocks((0,), (0,), (0,), 2, 2)
    shape, bits = Shape(1.0, 1e-6, 2.0), torch.ones(1, 3, 2, dtype=torch.int8)
    sign, stop = torch.ones(1, 2, 2, dtype=torch.int8), Stop(1e-6, 1e-5, 1e-4)
    ramp = Ramp(one, sign, Kind.SET, shape, "volts", torch.tensor([0.5, 0.6]), 0, Sense(0.1), stop)
    prices = {
        Pulse(one, torch.tensor(3), shape, shape): 1.0,
        Outer(one, bits, bits, shape, shape): 1.0,
        ramp: 8 * 1.0,  # each cell at each point: a pulse, and a read after it
        ReadCells(one, Sense(0.1), Side.COLS): 0.0,
    }
    for op, more in prices.items():
        assert cost(op, slow).seconds == pytest.approx(cost(op, quick).seconds + more)
