"""Tensors as bytes: whatever goes in comes out, codes exactly, and nothing that is no array is taken for one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instruments.wire.arrays import read_array, write_array, write_grid
from instruments.wire.buffer import PayloadError, Reader, Writer

STEP = 0.6103515625e-6
quick = settings(deadline=None, derandomize=True, max_examples=60)


def there_and_back(values, step=None):
    out = Writer()
    write_array(out, values, step)
    source = Reader(out.done())
    back = read_array(source)
    source.end()
    return back, len(out.done())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4), (2, 0, 4)])
def test_floats_come_back_bit_by_bit(dtype, shape):
    values = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    back, _ = there_and_back(values)
    assert back.dtype == dtype and back.shape == values.shape and torch.equal(back, values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_currents_that_are_whole_codes_go_as_codes_and_come_back_exactly(dtype):
    codes = torch.randint(-2703, 1393, (9, 16, 25), generator=torch.Generator().manual_seed(2))
    values = codes.to(dtype) * STEP
    back, size = there_and_back(values, STEP)
    assert back.dtype == dtype and torch.equal(back, values)
    assert size < 2 * values.numel() + 40


def test_currents_between_codes_or_beyond_16_bits_go_as_floats():
    for values in (torch.tensor([0.5 * STEP, 0.0]), torch.tensor([40_000 * STEP]), torch.tensor([torch.nan, STEP])):
        back, size = there_and_back(values, STEP)
        assert torch.equal(back.nan_to_num(7.0), values.nan_to_num(7.0)) and size >= 4 * values.numel()


def test_vectors_go_as_the_codes_the_board_makes_of_them_anyway():
    step = 1.220703125e-3
    volts = 0.2 * torch.rand((3, 4, 25), generator=torch.Generator().manual_seed(3)) - 0.1
    out = Writer()
    write_grid(out, volts, step)
    back = read_array(Reader(out.done()))
    assert torch.equal(back, (volts * (1 / step)).round() * step)
    assert torch.equal((back * (1 / step)).round(), (volts * (1 / step)).round())


@quick
@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40))
def test_integers_come_back_in_the_smallest_type_that_holds_them(numbers):
    back, size = there_and_back(torch.tensor(numbers, dtype=torch.int32))
    assert back.tolist() == numbers
    if numbers and -128 <= min(numbers) and max(numbers) <= 127:
        assert back.dtype == torch.int8 and size == 6 + len(numbers)


def test_few_pulses_among_many_cells_take_a_bit_a_cell():
    counts = torch.zeros((9, 25, 25), dtype=torch.int32)
    counts.view(-1)[::50] = torch.tensor(-3, dtype=torch.int32)
    back, size = there_and_back(counts)
    assert torch.equal(back.to(torch.int32), counts)
    assert size < counts.numel() / 8 + counts.numel() / 50 + 40


def test_masks_take_a_bit_a_cell():
    mask = torch.rand((3, 7, 5), generator=torch.Generator().manual_seed(4)) < 0.5
    back, size = there_and_back(mask)
    assert back.dtype == torch.bool and torch.equal(back, mask) and size == 2 + 12 + 14


@pytest.mark.parametrize(
    "values", [torch.randn(1, 4, 5), torch.ones((1, 4, 5), dtype=torch.int32), torch.ones(1, 4, 5) > 0]
)
def test_equal_slices_are_sent_once(values):
    many = values.expand(32, 4, 5)
    (back, size), (_, single) = there_and_back(many), there_and_back(values)
    assert size == single and back.shape == many.shape and torch.equal(back.to(many.dtype), many)


def test_numbers_and_nothing():
    assert there_and_back(0.1)[0] == 0.1 and there_and_back(None)[0] is None


@quick
@given(st.binary(max_size=60))
def test_bytes_that_are_no_array_are_refused_or_read_within_bounds(data):
    try:
        read_array(Reader(data))
    except PayloadError:
        pass


def test_a_huge_array_is_refused_before_memory_is_taken():
    out = Writer()
    out.raw(bytes((8, 3)) + (0x7FFFFFFF).to_bytes(4, "little") * 3)
    with pytest.raises(PayloadError, match="larger than"):
        read_array(Reader(out.done()))
    out = Writer()
    out.raw(bytes((8, 2)) + (0x80000000 | 0x7FFFFFFF).to_bytes(4, "little") * 2 + b"\0" * 4)
    with pytest.raises(PayloadError, match="larger than"):
        read_array(Reader(out.done()))
