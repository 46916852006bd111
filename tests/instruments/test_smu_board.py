"""Source-measure unit and matrix as a board, against a virtual bench: numbers, cold switching, faults, safe state."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import pytest
import smu_benches
import torch
from smu_benches import counted, pulse, read

from hil.contract import Bias, Blocks, Flag, Kind, Outer, Pulse, Ramp, Read, Side, Stop, Wait
from hil.errors import (
    BoardMissing,
    InvalidOperation,
    LimitExceeded,
    Unsupported,
    UsageError,
)
from hil.lab.guard import Guard
from hil.lowering import Lowering
from hil.usual import usual_pulse, usual_sense
from instruments.smu.board import SmuMatrixBoard

OPS = ("ReadCells", "Pulse", "Wait")


@pytest.fixture
def spec(spec_of):
    return spec_of(selector="passive", kernels=2, rows=3, cols=2, ops=OPS, writing=smu_benches.WRITING)


@pytest.fixture
def bench(spec, quiet_board):
    return smu_benches.Bench(quiet_board(spec, seed=1))


@pytest.fixture
def board(bench, spec):
    board = bench.open(spec)
    yield board
    board.close()


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drive", list(Side))
@pytest.mark.parametrize("volts", [0.2, -0.1])
def test_reads_are_those_of_the_crossbar_inside(board, bench, spec, whole, drive, volts):
    (got,) = board.execute([read(spec, whole(spec), drive, volts=volts)])
    expected = volts * bench.backend.chip.tiles(whole(spec))
    torch.testing.assert_close(got.value.double(), expected, rtol=1e-6, atol=0.0)
    assert got.value.dtype == torch.float32 and got.flags is None and got.events == 12


def test_pulses_are_those_of_the_crossbar_inside(board, bench, spec, whole, quiet_board):
    blocks, other = whole(spec), quiet_board(spec, seed=1)
    counts = counted(blocks, (0, 1, 1, 3), (1, 2, 0, -2), (1, 0, 1, 1))
    for cycles, alternate in ((1, False), (3, True)):
        (got,) = board.execute([pulse(board, blocks, counts, cycles=cycles, alternate=alternate)])
        (expected,) = other.execute([pulse(other, blocks, counts, cycles=cycles, alternate=alternate)])
        assert torch.equal(got.applied, expected.applied)
    torch.testing.assert_close(bench.backend.chip.tiles(blocks), other.chip.tiles(blocks), rtol=1e-6, atol=0.0)
    assert bench.bench.pulses.sum() == 4 * 6


def test_the_side_that_raises_decides_the_sign(spec, whole, quiet_board):
    spec = replace(spec, geometry=replace(spec.geometry, up=Side.COLS))
    bench = smu_benches.Bench(quiet_board(spec, seed=1))
    board = bench.open(spec)
    before = bench.backend.chip.tiles(whole(spec)).clone()
    board.execute([pulse(board, whole(spec), counted(whole(spec), (0, 0, 0, 2), (0, 1, 1, -2)))])
    rise = bench.backend.chip.tiles(whole(spec)) - before
    assert rise[0, 0, 0] > 0 > rise[0, 1, 1] and rise.count_nonzero() == 2
    board.close()


def test_masked_cells_are_not_touched(board, bench, spec, whole):
    mask = torch.zeros(whole(spec).shape, dtype=torch.bool)
    mask[1, 2, 1] = True
    (got,) = board.execute([read(spec, whole(spec), mask=mask)])
    assert torch.equal(got.value.isnan(), ~mask)
    assert torch.equal(got.flags == int(Flag.NOT_MEASURED), ~mask)
    assert [closed for what, closed in bench.bench.history if what == "closed"] == [sorted(bench.config.path(1, 2, 1))]


def test_averages_are_taken_in_the_instrument(board, bench, spec):
    board.execute([read(spec, Blocks((0,), (0,), (0,), 1, 1), averages=7)])
    assert b':TRAC:DATA? 1,7,"hil",READ\n' in bench.source.sent


def test_a_current_at_the_limit_is_flagged(board, bench, spec, whole):
    true = 0.2 * bench.backend.chip.tiles(whole(spec))
    limit = float(true.median()) * 1.0001
    (got,) = board.execute([read(spec, whole(spec), amps=limit)])
    held = true > limit
    assert 0 < held.sum() < held.numel()
    assert torch.equal(got.flags == int(Flag.COMPLIANCE), held)
    torch.testing.assert_close(got.value.double(), true.clamp(max=limit), rtol=1e-6, atol=0.0)


def test_a_current_beyond_the_range_is_nan_and_flagged(board, spec, whole):
    (got,) = board.execute([read(spec, whole(spec), Side.COLS, full_scale=1e-7)])
    assert bool(got.value.isnan().all())
    assert set(got.flags.view(-1).tolist()) == {
        int(Flag.NOT_MEASURED | Flag.SAT_LOW)
    }  # columns drive: -V at the terminal


def test_each_operation_sets_its_own_compliance(board, bench, spec):
    cell = Blocks((0,), (0,), (0,), 1, 1)
    up = replace(usual_pulse(board, up=True), amps=2e-4)
    down = replace(usual_pulse(board, up=False), amps=None)
    board.execute(
        [
            Pulse(cell, torch.tensor([[[1]]]), up, down, cycles=2, alternate=True),
            read(spec, cell, amps=1e-5),
        ]
    )
    limits = [text for text in bench.source.sent if b"ILIM " in text][1:]
    assert limits == [b":SOUR:VOLT:ILIM %s\n" % amps for amps in (b"0.0002", b"0.0005", b"1e-05")]


def test_lowering_makes_the_rest(spec_of, quiet_board, whole):
    spec = spec_of(
        selector="passive", kernels=1, rows=3, cols=2, ops=OPS, timing={"slice": 100.0},
        writing={**smu_benches.WRITING, "biases": (Bias.FLOAT, Bias.GROUND)},
    )  # fmt: skip
    bench = smu_benches.Bench(quiet_board(spec, seed=1), discrete=True)
    board = Lowering(Guard(bench.open(spec)))
    blocks, g = whole(spec), bench.backend.chip.tiles(whole(spec))
    volts = torch.tensor([[[0.1, 0.0, -0.2], [0.2, 0.2, 0.1]]])
    (got,) = board.execute([Read(blocks, volts, Side.ROWS, usual_sense(spec))])
    torch.testing.assert_close(got.value.double(), volts.double() @ g, rtol=1e-5, atol=1e-10)
    shape = replace(usual_pulse(board, up=True), volts=0.0)
    stop, sign = Stop(2.5e-5, 3e-5, 1e-3), torch.ones(blocks.shape, dtype=torch.int8)
    ramp = Ramp(blocks, sign, Kind.SET, shape, "volts", torch.arange(0.7, 1.3, 0.1), 0, usual_sense(spec, 0.2), stop)
    bits = torch.ones(1, 2, 3, dtype=torch.int8), torch.ones(1, 2, 2, dtype=torch.int8)
    up, down = usual_pulse(board, up=True), usual_pulse(board, up=False)
    before = int(bench.bench.pulses.sum())
    ramped, outer = board.execute([ramp, Outer(blocks, *bits, up, down, unselected=Bias.FLOAT)])
    assert int(bench.bench.pulses.sum()) - before == int(ramped.applied.sum()) + int(outer.applied.sum())
    assert bench.bench.hot == 0
    board.close()


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_what_it_cannot_do_is_refused_before_anything_is_sent(board, bench, spec, whole):
    blocks = whole(spec)
    good, counts = read(spec, blocks), torch.ones(blocks.shape, dtype=torch.int32)
    bad = [
        (Unsupported, Read(blocks, torch.zeros(1, 1, 3), Side.ROWS)),
        (Unsupported, read(spec, blocks, gate=1.0)),
        (Unsupported, read(spec, blocks, unselected=Bias.GROUND)),
        (InvalidOperation, read(spec, blocks, volts=None)),
        (InvalidOperation, read(spec, blocks, volts=math.nan)),
        (InvalidOperation, read(spec, blocks, averages=0)),
        (InvalidOperation, read(spec, blocks, amps=0.0)),
        (InvalidOperation, read(spec, Blocks((2,), (0,), (0,), 3, 2))),
        (Unsupported, pulse(board, blocks, counts, unselected=Bias.HALF)),
        (InvalidOperation, Wait(-1.0)),
        (InvalidOperation, Wait(math.inf)),
    ]
    shape = usual_pulse(board, up=True)
    for error, changes in (
        (LimitExceeded, {"seconds": 0.0099}),
        (InvalidOperation, {"seconds": math.nan}),
        (InvalidOperation, {"seconds": math.inf}),
        (InvalidOperation, {"volts": -1.0}),
        (InvalidOperation, {"volts": math.nan}),
        (InvalidOperation, {"amps": -1.0}),
        (Unsupported, {"gate": 1.0}),
    ):
        bad.append((error, Pulse(blocks, counts, shape, replace(shape, **changes))))
    before = len(bench.source.sent), len(bench.matrix.sent)
    for error, op in bad:
        with pytest.raises(error):
            board.execute([good, op])
    assert (len(bench.source.sent), len(bench.matrix.sent)) == before


def test_a_spec_that_does_not_fit_is_refused(spec_of, quiet_board):
    good = {"selector": "passive", "kernels": 2, "rows": 3, "cols": 2, "ops": OPS, "writing": smu_benches.WRITING}
    for changes in (
        {"writing": {**smu_benches.WRITING, "biases": (Bias.FLOAT, Bias.HALF)}},
        {"writing": {**smu_benches.WRITING, "compliance": "none"}},
        {"ops": (*OPS, "Read")},
        {"selector": "gated"},
        {"rows": 4},
        {"kernels": 1},
    ):
        bench = smu_benches.Bench(quiet_board(spec_of(**good)))
        with pytest.raises(UsageError):
            bench.open(spec_of(**good | changes))
        assert bench.source.sent == bench.matrix.sent == []


class Pretender:
    """Answers every identity query with one text."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def receive(self, data: bytes):
        return []

    def silent(self) -> None: ...

    def lost(self) -> None: ...


@pytest.mark.parametrize("other", ["source", "matrix"])
def test_another_instrument_is_refused_and_only_asked_who_it_is(spec, bench, caplog, other):
    if other == "source":
        bench.source = type(bench.source)(bench.switch.converse("swapped"), "sim:swapped")  # cables are swapped
    else:
        bench.switch.identity = "ACME\x1b[2J,Model 707B,1,1"
    with caplog.at_level(logging.WARNING), pytest.raises(BoardMissing):
        bench.open(spec)
    assert set(bench.source.sent) == {b"*IDN?\n"}
    assert set(bench.matrix.sent) == ({b"*IDN?\n"} if other == "matrix" else set())
    assert len(caplog.records) == 1 and caplog.records[0].getMessage().isprintable()


def test_an_object_without_the_methods_plays_no_role(spec, bench):
    class Matrix:
        def close(self) -> None: ...

    class Source:
        shortest_pulse = 0.01

        def close(self) -> None: ...

    with pytest.raises(UsageError, match="Source cannot play SourceMeter"):
        SmuMatrixBoard(spec, bench.config, Source(), Matrix())
