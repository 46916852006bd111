"""Operations and outcomes cross the wire whole: what was written is what is read, and damage is named."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.contract import (
    Bias,
    Blocks,
    Kind,
    Outcome,
    Outer,
    Probe,
    Pulse,
    Ramp,
    Range,
    Read,
    ReadCells,
    Sense,
    Shape,
    Side,
    Stop,
    Wait,
    same,
)
from instruments.wire.buffer import PayloadError, Reader, Writer
from instruments.wire.operations import read_op, read_ops, write_ops
from instruments.wire.outcomes import AmpsStep, read_outcomes, write_outcomes

quick = settings(deadline=None, derandomize=True, max_examples=40)
numbers = st.floats(allow_nan=False, width=32)
positive = st.floats(0.0, 1e6)
optional = st.none() | positive
sides, biases, kinds = st.sampled_from(Side), st.none() | st.sampled_from(Bias), st.sampled_from(Kind)
floats = st.sampled_from((torch.float32, torch.float64))


@st.composite
def tensors(draw, shape, dtype=None, low=-4, high=4):
    """Tensors with values of a small grid, now and then all equal along an axis."""
    dtype = dtype or draw(floats)
    source = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    if dtype == torch.bool:
        return torch.rand(shape, generator=source) < 0.5
    values = torch.randint(low, high + 1, shape, generator=source)
    values = values.to(dtype) * 0.37 if dtype.is_floating_point else values.to(dtype)
    axis = draw(st.none() | st.integers(0, len(shape) - 1))
    return values if axis is None or not shape[axis] else values.narrow(axis, 0, 1).expand(shape)


@st.composite
def blocks(draw):
    count, places = draw(st.integers(1, 4)), st.integers(0, 65535)
    kernel, row, col = (tuple(draw(places) for _ in range(count)) for _ in range(3))
    return Blocks(kernel, row, col, draw(st.integers(1, 7)), draw(st.integers(1, 7)))


senses = st.builds(Sense, optional, st.integers(1, 65535), optional, optional, optional, biases)


@st.composite
def shapes(draw, shape):
    cells = positive | tensors(shape)
    return Shape(draw(cells), draw(positive), draw(st.none() | cells), draw(optional))


@st.composite
def stops(draw, shape):
    cells = numbers | tensors(shape)
    return Stop(
        draw(cells), draw(cells), draw(positive), draw(positive | st.just(math.inf)), draw(positive),
        draw(st.integers(0, 9)), draw(optional), draw(optional), draw(st.integers(0, 9)),
        draw(st.none() | st.tuples(positive, positive)),
    )  # fmt: skip


@st.composite
def operations(draw):
    place = draw(blocks())
    shape, count = place.shape, len(place)
    match draw(st.integers(1, 7)):
        case 1:
            feed = draw(st.none() | st.tuples(*[st.integers(0, 65535)] * count))
            volts = draw(tensors((draw(st.integers(1, 3)), draw(st.integers(0, 3)), draw(st.integers(1, 7)))))
            return Read(place, volts, draw(sides), draw(senses), feed, pairs=draw(st.booleans()))
        case 2:
            return ReadCells(place, draw(senses), draw(sides), draw(st.none() | tensors(shape, torch.bool)))
        case 3:
            dtype = draw(st.sampled_from((torch.int8, torch.int16, torch.int32, torch.int64)))
            counts = draw(tensors(shape, dtype))
            cycles, turn = draw(st.integers(0, 65535)), draw(st.booleans())
            return Pulse(place, counts, draw(shapes(shape)), draw(shapes(shape)), cycles, turn, draw(biases))
        case 4:
            slots = draw(st.integers(0, 5))
            rows, cols = (draw(tensors((count, slots, n), torch.int8, -1, 1)) for n in shape[1:])
            return Outer(place, rows, cols, draw(shapes(shape)), draw(shapes(shape)), draw(biases))
        case 5:
            start = draw(st.integers(0, 9) | tensors(shape, torch.int64, 0, 9))
            return Ramp(
                place, draw(tensors(shape, torch.int8, -1, 1)), draw(kinds), draw(shapes(shape)),
                draw(st.sampled_from(("volts", "gate"))), draw(tensors((draw(st.integers(0, 6)),))), start,
                draw(senses), draw(stops(shape)), draw(st.booleans()), draw(st.booleans()),
            )  # fmt: skip
        case 6:
            return Wait(draw(positive))
        case _:
            return Probe(tuple(draw(st.lists(st.text(max_size=20), max_size=3))))


def written(ops, step=None) -> bytes:
    out = Writer()
    write_ops(out, ops, step)
    return out.done()


def widened(op):
    """Integers travel in the smallest type that holds them; for a comparison they are made wide."""
    changes = {
        name: value.to(torch.int64)
        for name in ("counts", "row_bits", "col_bits", "sign", "start")
        if isinstance(value := getattr(op, name, None), torch.Tensor)
    }
    if not changes:
        return op
    fields = {name: getattr(op, name) for name in op.__slots__}
    return type(op)(**fields | changes)


@quick
@given(st.lists(operations(), max_size=3))
def test_what_is_written_is_read(ops):
    source = Reader(written(ops))
    found = read_ops(source)
    source.end()
    assert len(found) == len(ops)
    for a, b in zip(found, ops, strict=True):
        assert same(widened(a), widened(b)), (a, b)


@quick
@given(operations())
def test_what_is_cut_short_is_refused(op):
    data = written([op])
    for end in range(0, len(data), max(1, len(data) // 40)):
        with pytest.raises(PayloadError):
            read_ops(Reader(data[:end]))


@settings(quick, max_examples=150)
@given(operations(), st.randoms(use_true_random=False))
def test_whatever_is_changed_gives_an_operation_or_a_payload_error(op, chance: random.Random):
    data = bytearray(written([op]))
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    try:
        found = read_ops(Reader(bytes(data)))
    except PayloadError as error:
        assert str(error).isprintable()
    else:
        written(found)


@quick
@given(st.binary(max_size=120))
def test_any_bytes_give_operations_or_a_payload_error(data):
    for kind in range(1, 9):
        try:
            read_op(Reader(bytes((kind,)) + data))
        except PayloadError:
            pass


def test_the_vectors_of_a_read_go_as_the_nearest_codes():
    blocks, step = Blocks((0,), (0,), (0,), 3, 2), 1e-3
    exact = Read(blocks, torch.tensor([[[0.1, -0.2]]]), Side.COLS)
    between = Read(blocks, torch.tensor([[[0.1004, -0.1996]]]), Side.COLS)
    (a,), (b,) = read_ops(Reader(written([exact], step))), read_ops(Reader(written([between], step)))
    assert same(a, exact) and same(b, exact)
    beyond = Read(blocks, torch.tensor([[[40.0, math.nan]]]), Side.COLS)
    (c,) = read_ops(Reader(written([beyond], step)))
    assert float(c.volts[0, 0, 0]) == 40.0 and math.isnan(float(c.volts[0, 0, 1]))


def test_equal_slices_go_once():
    blocks = Blocks((0,) * 4, (0,) * 4, (0,) * 4, 25, 25)
    shape = Shape(1.0, 1e-3, 2.0)
    one = torch.ones(1, 25, 25, dtype=torch.int32)
    op = Pulse(blocks, one.expand(4, 25, 25), shape, shape)
    assert len(written([op])) < len(written([Pulse(blocks, one.expand(4, 25, 25).contiguous(), shape, shape)])) - 200
    (found,) = read_ops(Reader(written([op])))
    assert found.counts.shape == (4, 25, 25)


# -- outcomes ----------------------------------------------------------------------------------------------------------


@st.composite
def done(draw):
    """An operation and an outcome that it may have."""
    op = draw(operations())
    shape = op.blocks.shape if hasattr(op, "blocks") else (draw(st.integers(0, 3)),)
    value = draw(st.none() | tensors(shape))
    flags = None if value is None else draw(st.none() | tensors(shape, torch.uint8, 0, 127))
    applied = draw(st.none() | tensors(shape, torch.int32, 0, 9)) if len(shape) == 3 else None
    return op, Outcome(value, flags, applied, draw(positive), draw(positive), draw(st.integers(0, 2**32 - 1)),
                       draw(optional))  # fmt: skip


@quick
@given(st.lists(done(), max_size=3), st.integers(0, 3))
def test_outcomes_cross_whole(pairs, lacking):
    ops, outcomes = [op for op, _ in pairs], [outcome for _, outcome in pairs][: max(0, len(pairs) - lacking)]
    out = Writer()
    write_outcomes(out, ops, outcomes, AmpsStep((Range(negative=1e-3, positive=1e-3, step=1e-6),)))
    source = Reader(out.done())
    found = read_outcomes(source, ops)
    source.end()
    assert len(found) == len(outcomes)
    for a, b in zip(found, outcomes, strict=True):
        assert all(same(getattr(a, name), getattr(b, name)) for name in b.__slots__), (a, b)


def test_pulses_that_were_applied_as_asked_are_not_listed():
    blocks, shape = Blocks((0,), (0,), (0,), 25, 25), Shape(1.0, 1e-3)
    counts = torch.randint(-3, 4, (1, 25, 25), dtype=torch.int32)
    op = Pulse(blocks, counts, shape, shape, cycles=2)
    sizes = []
    for applied in (2 * counts.abs(), 2 * counts.abs() + 1):
        out = Writer()
        write_outcomes(out, [op], [Outcome(None, None, applied, 0.0, 1.0, 1)], AmpsStep(()))
        sizes.append(len(out.done()))
        (found,) = read_outcomes(Reader(out.done()), [op])
        assert same(found.applied, applied)
    assert sizes[0] < 40 < sizes[1]


def test_converted_currents_go_as_codes_and_come_back_the_same():
    op = Read(Blocks((0,), (0,), (0,), 25, 25), torch.zeros(1, 100, 25), Side.COLS)
    step = 0.6103515625e-6
    for dtype in (torch.float32, torch.float64):
        value = torch.randint(-2700, 1400, (1, 100, 25)).to(dtype) * step
        out = Writer()
        outcome = Outcome(value, None, None, 0.0, 1.0, 1)
        write_outcomes(out, [op], [outcome], AmpsStep((Range(negative=1.65e-3, positive=850e-6, step=step),)))
        assert len(out.done()) < 2 * value.numel() + 80
        assert same(read_outcomes(Reader(out.done()), [op])[0].value, value)


def test_more_outcomes_than_operations_are_refused():
    out = Writer()
    write_outcomes(out, [Wait(1.0)] * 2, [Outcome(None, None, None, 0.0, 1.0, 1)] * 2, AmpsStep(()))
    with pytest.raises(PayloadError, match="2 outcomes for 1 operations"):
        read_outcomes(Reader(out.done()), [Wait(1.0)])
