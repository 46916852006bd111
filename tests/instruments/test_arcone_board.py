"""The driver of the ArC ONE against the virtual board: what is measured, what is applied, what is refused."""

from __future__ import annotations

import math
import struct
import time
from dataclasses import replace

import pytest
import torch
from arcone_wire import QUICK, Bench, arcone_spec

from hil.contract import Bias, Blocks, Flag, Pulse, Read, ReadCells, Sense, Shape, Side, Wait
from hil.errors import Aborted, BoardMissing, InvalidOperation, LimitExceeded, Unsupported, UsageError

WHOLE = Blocks((0,), (0,), (0,), 6, 5)
UP, DOWN = Shape(1.0, 1e-6), Shape(1.2, 2e-6)


@pytest.fixture
def bench(spec_of, quiet_board):
    def build(config=QUICK, **more) -> Bench:
        changes = {name: more.pop(name) for name in ("up", "firmware") if name in more}
        return Bench(arcone_spec(spec_of, **changes), quiet_board, config, **more)

    return build


def cells(bench: Bench) -> torch.Tensor:
    return torch.tensor(bench.virtual.inspect("cells", {}), dtype=torch.float64)


def counts(**places: int) -> torch.Tensor:
    wanted = torch.zeros(1, 6, 5, dtype=torch.int32)
    for place, count in places.items():
        wanted[0, int(place[1]), int(place[3])] = count
    return wanted


@pytest.mark.parametrize("volts", [0.2, -0.2])
def test_all_ways_to_read_cells_give_the_same_currents(bench, volts) -> None:
    b = bench()
    expected = volts * cells(b)
    mask = torch.zeros(1, 6, 5, dtype=torch.bool)
    mask[0, ::2, 1:4] = True
    parts = Blocks((0, 0), (1, 4), (2, 0), 2, 3)
    one = Blocks((0,), (5,), (4,), 1, 1)
    sense = Sense(volts)
    ops = [ReadCells(at, sense, Side.ROWS) for at in (WHOLE, parts, one)] + [ReadCells(WHOLE, sense, Side.ROWS, mask)]
    everything, blocks, cell, masked = (o for o in b.board.execute(ops))
    torch.testing.assert_close(everything.value.double(), expected, rtol=1e-6, atol=0)
    assert everything.value.dtype is torch.float32 and everything.flags is None
    torch.testing.assert_close(blocks.value[1], everything.value[0, 4:6, 0:3], rtol=0, atol=0)
    assert cell.value.item() == everything.value[0, 5, 4].item()
    assert torch.equal(masked.value[mask], everything.value[mask])
    assert bool(masked.value[~mask].isnan().all())
    assert torch.equal(masked.flags == Flag.NOT_MEASURED, ~mask)


def test_the_jobs_of_a_read(bench) -> None:
    b = bench()
    at = len(b.link.sent)
    b.board.execute([ReadCells(WHOLE, Sense(0.2), Side.ROWS)])
    assert b.sent_since(at) == b"2\n1\n6\n5\n"
    b.board.execute([ReadCells(Blocks((0,), (5,), (4,), 1, 1), Sense(-0.1), Side.ROWS)])
    b.board.execute([ReadCells(Blocks((0,), (5,), (3,), 1, 2), Sense(-0.1, unselected=Bias.FLOAT), Side.ROWS)])
    assert b.sent_since(at + 1) == b"01\n3\n-0.1\n1\n6\n5\n011\n50\n2\n2\n2\n6\n5\n2\n6\n4\n6\n5\n"


def test_opening_asks_who_it_is_then_resets_and_initialises(bench) -> None:
    b = bench()
    assert b"".join(b.link.sent) == b"999\n00\n0\n50\n6\n5\n2\n0\n0\n0.2\n01\n2\n0.2\n"
    classic = bench(replace(QUICK, read_mode="classic", session="bnc", read_cycles=7))
    assert classic.sent_since(2) == b"0\n7\n6\n5\n0\n1\n0\n0.5\n01\n0\n0.5\n"


def test_averages_are_made_on_the_host(spec_of, noisy_board) -> None:
    # one reading has 1 % of noise; the mean of 100 is ten times closer to the next mean than one is to the next one
    b = Bench(arcone_spec(spec_of), lambda spec: noisy_board(spec, fraction=0.0))
    op = [ReadCells(WHOLE, Sense(0.2, n), Side.ROWS) for n in (1, 1, 100, 100)]
    one, other, mean, again = (o.value for o in b.board.execute(op))
    assert (mean - again).std() < 0.25 * (one - other).std()


def test_a_binary_product_bit_line_by_bit_line(bench) -> None:
    b = bench()
    vectors = 0.2 * torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.float64).unsqueeze(0)
    vectors[0, 2] *= -0.5
    blocks = Blocks((0, 0), (0, 2), (0, 3), 4, 2)
    at = len(b.link.sent)
    (got,) = b.board.execute([Read(blocks, vectors, Side.ROWS, feed=(0, 0))])
    g = cells(b)[0]
    expected = torch.stack([vectors[0] @ g[0:4, 0:2], vectors[0] @ g[2:6, 3:5]])
    torch.testing.assert_close(got.value, expected, rtol=1e-6, atol=0)
    assert got.value.dtype is torch.float64 and got.flags is None and got.events == 6
    assert b.sent_since(at).startswith(
        b"50\n0\n0.00000009\n0.2\n3\n1\n1\n1\n3\n4\n50\n0\n0.00000009\n0.2\n3\n2\n1\n1\n3\n4\n01\n3\n-0.1\n50"
    )
    assert b.sent_since(at).count(b"50\n0\n0.00000009") == 8  # two blocks, two lines, two vectors that drive something


@pytest.mark.parametrize("vector", [[0.1, 0.2, 0, 0], [0.1, -0.1, 0, 0], [math.nan, 0, 0, 0]])
def test_other_vectors_are_refused(bench, vector) -> None:
    b = bench()
    at = len(b.link.sent)
    op = Read(Blocks((0,), (0,), (0,), 4, 5), torch.tensor([[vector]]), Side.ROWS)
    with pytest.raises(Unsupported, match="inputs are binary"):
        b.board.execute([ReadCells(WHOLE, Sense(0.2), Side.ROWS), op])
    assert len(b.link.sent) == at


@pytest.mark.parametrize("up", list(Side))
@pytest.mark.parametrize("answered", [True, False])
def test_pulses_are_counted_and_go_the_right_way(bench, up, answered) -> None:
    b = bench(replace(QUICK, answered_pulses=answered), up=up)
    before = cells(b)[0]
    wanted = counts(r0c0=3, r1c2=-2, r5c4=1)
    (got,) = b.board.execute([Pulse(WHOLE, wanted, UP, DOWN, cycles=2)])
    assert torch.equal(got.applied, 2 * wanted.abs())
    assert b.pulses == (2 * wanted[0].abs()).tolist()
    change = cells(b)[0] - before
    assert torch.equal(change.sign().int(), wanted[0].sign())


def test_the_jobs_of_a_pulse(bench) -> None:
    b = bench()
    at = len(b.link.sent)
    b.board.execute([Pulse(Blocks((0,), (2,), (1,), 1, 1), torch.tensor(-3), UP, DOWN, unselected=Bias.HALF)])
    quiet = b"04\n-1.2\n0.000002\n"
    assert b.sent_since(at) == b"011\n50\n1\n02\n3\n2\n" + 2 * quiet + b"3\n3\n2\n-1.2\n0.000002\n"
    at = len(b.link.sent)
    op = Pulse(Blocks((0,), (2,), (1,), 1, 1), torch.tensor(1), UP, DOWN, cycles=3, alternate=True)
    b.board.execute([op])
    up, down = b"3\n3\n2\n1\n0.000001\n", b"3\n3\n2\n-1.2\n0.000002\n"
    assert b.sent_since(at) == b"011\n50\n0\n" + up + down + up
    silent = bench(replace(QUICK, answered_pulses=False))
    at = len(silent.link.sent)
    silent.board.execute([Pulse(Blocks((0,), (2,), (1,), 1, 1), torch.tensor(2), UP, DOWN)])
    assert silent.sent_since(at) == b"02\n3\n2\n" + 2 * b"04\n1\n0.000001\n"


def test_amplitudes_cell_by_cell(bench) -> None:
    b = bench()
    at = len(b.link.sent)
    shape = Shape(torch.tensor([[[0.5, 0.75]]]), 1e-6)
    b.board.execute([Pulse(Blocks((0,), (0,), (0,), 1, 2), torch.tensor([[[1, 1]]]), shape, DOWN)])
    assert b.sent_since(at) == b"3\n1\n1\n0.5\n0.000001\n3\n1\n2\n0.75\n0.000001\n"


@pytest.mark.parametrize("bad", [0.0, 0.999, -1e4, math.nan, math.inf, -math.inf])
def test_what_is_no_resistance_is_not_passed_on(bench, bad) -> None:
    b = bench()
    b.link.changed = lambda _, data: struct.pack("<f", bad) + data[4:]
    outcomes = b.board.execute(
        [
            ReadCells(WHOLE, Sense(0.2), Side.ROWS),
            Read(WHOLE, torch.full((1, 1, 6), 0.2), Side.ROWS),
        ]
    )
    for got, lost in zip(outcomes, ((0, 0, 0), (0, 0, slice(None))), strict=True):
        assert bool(got.value[lost].isnan().all()) and bool((got.flags[lost] == Flag.NOT_MEASURED).all())
    assert int(outcomes[0].flags.count_nonzero()) == 1


def test_what_the_board_cannot_do_is_refused_before_anything_is_sent(bench) -> None:
    b = bench()
    at = len(b.link.sent)
    good = ReadCells(WHOLE, Sense(0.2), Side.ROWS)
    for error, op in [
        (Unsupported, ReadCells(WHOLE, Sense(0.2), Side.COLS)),
        (Unsupported, ReadCells(WHOLE, Sense(0.2, gate=1.0), Side.ROWS)),
        (Unsupported, ReadCells(WHOLE, Sense(0.2, amps=1e-4), Side.ROWS)),
        (Unsupported, ReadCells(WHOLE, Sense(0.2, unselected=Bias.GROUND), Side.ROWS)),
        (InvalidOperation, ReadCells(WHOLE, Sense(None), Side.ROWS)),
        (InvalidOperation, ReadCells(WHOLE, Sense(0.0), Side.ROWS)),
        (InvalidOperation, ReadCells(WHOLE, Sense(math.nan), Side.ROWS)),
        (LimitExceeded, ReadCells(WHOLE, Sense(12.1), Side.ROWS)),
        (InvalidOperation, ReadCells(Blocks((0,), (1,), (0,), 6, 5), Sense(0.2), Side.ROWS)),
        (InvalidOperation, ReadCells(Blocks((1,), (0,), (0,), 6, 5), Sense(0.2), Side.ROWS)),
        (Unsupported, Read(WHOLE, torch.zeros(1, 1, 6), Side.ROWS, pairs=True)),
        (LimitExceeded, Pulse(WHOLE, counts(r0c0=1), Shape(12.5, 1e-6), DOWN)),
        (LimitExceeded, Pulse(WHOLE, counts(r0c0=1), UP, Shape(1.0, 80e-9))),
        (LimitExceeded, Pulse(WHOLE, counts(r0c0=1), UP, Shape(1.0, math.nan))),
        (InvalidOperation, Pulse(WHOLE, counts(r0c0=1), Shape(-1.0, 1e-6), DOWN)),
        (InvalidOperation, Pulse(WHOLE, counts(r0c0=1), Shape(torch.tensor(math.nan), 1e-6), DOWN)),
        (Unsupported, Pulse(WHOLE, counts(r0c0=1), Shape(1.0, 1e-6, amps=1e-4), DOWN)),
        (Unsupported, Pulse(WHOLE, counts(r0c0=1), UP, DOWN, unselected=Bias.GROUND)),
        (InvalidOperation, Wait(math.inf)),
    ]:
        with pytest.raises(error):
            b.board.execute([good, op])
    assert len(b.link.sent) == at
    classic = bench(replace(QUICK, read_mode="classic"))
    with pytest.raises(Unsupported, match="classic read mode has 0.5 V only"):
        classic.board.execute([good])


def test_an_abort_ends_between_jobs(bench) -> None:
    calls = iter([False] * 4)
    b = bench(wants_abort=lambda: next(calls, True))
    with pytest.raises(Aborted):
        b.board.execute([Pulse(WHOLE, torch.ones(1, 6, 5, dtype=torch.int32), UP, DOWN)])
    applied = sum(map(sum, b.pulses))
    assert 0 < applied < 30
    assert b.link.sent[-1].startswith(b"3\n") and b.link.sent[-1].count(b"\n") == 5
    assert b.board.make_safe().confirmed
    b = bench(wants_abort=lambda: True)
    with pytest.raises(Aborted):
        b.board.execute([Wait(60.0)])


def test_lab_time_is_utc_and_waiting_takes_it(bench) -> None:
    b = bench()
    assert abs(b.board.now() - time.time()) < 1.0
    (got,) = b.board.execute([Wait(0.01)])
    assert got.seconds >= 0.01 and got.value is None and got.applied is None


def test_closing_makes_safe_once_and_lets_go(bench) -> None:
    b = bench()
    b.board.execute([Pulse(WHOLE, counts(r0c0=1), UP, DOWN)])
    b.board.close()
    at = len(b.link.sent)
    assert b.link.is_closed
    b.board.close()
    assert b.board.make_safe().confirmed and len(b.link.sent) == at
    assert b.virtual.inspect("outputs", {}) == {"on": False, "volts": 0.0}
    assert b.virtual.inspect("history", {})[-2:] == [["volts", 0.0], ["outputs", "off"]]
    with pytest.raises(BoardMissing, match="it was closed"):
        b.board.execute([])


def test_specs_of_other_boards_are_refused(spec_of, quiet_board) -> None:
    spec = arcone_spec(spec_of)
    for part, change, text in [
        ("geometry", {"kernels": 2}, "one array"),
        ("geometry", {"rows": 33}, "one array"),
        ("reading", {"sides": (Side.ROWS, Side.COLS)}, "only its rows"),
        ("reading", {"input_levels": None}, "input_levels is 2"),
        ("writing", {"biases": (Bias.GROUND,)}, "its biases are some of float, half, third"),
        ("writing", {"biases": ()}, "its biases"),
    ]:
        other = replace(spec, **{part: replace(getattr(spec, part), **change)})
        with pytest.raises(UsageError, match=text):
            Bench(other, lambda _: quiet_board(spec_of(selector="passive", kernels=1)))
