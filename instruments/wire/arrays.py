"""Tensors as bytes: converter codes where there is a grid, the smallest integer that holds the values, or floats.

An array is: kind u8, number of dimensions u8, each dimension u32, then for codes the value of one code as f64, then the
data in row-major order, little-endian. The top bit of a dimension says that one slice stands for all along it, so that
equal slices are sent once. docs/reference/wire-protocol.md has the table of kinds.

The work is done by numpy on the tensors' own memory: for the few hundred values of a usual operation a call of torch
takes longer than the arithmetic.
"""

from __future__ import annotations

import math
import struct
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instruments.wire.buffer import PayloadError, Reader, Writer

MOST_ELEMENTS = 1 << 26
MOST_DIMENSIONS = 8
_REPEATED = 1 << 31
_SCALE = struct.Struct("<d")
_DIMENSIONS = [struct.Struct(f"<BB{n}I") for n in range(MOST_DIMENSIONS + 1)]
_CODES_MOST = 32767
_CODE = np.dtype("<i2")
_STEP_MOST = 1e30
"""More than any converter's code; 16 bits of it still fit into a float."""


class ArrayKind(IntEnum):
    """How the data of an array are written."""

    NONE = 0
    SCALAR = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    UINT8 = 6
    BITS = 7
    FLOAT32 = 8
    FLOAT64 = 9
    CODES_FLOAT32 = 10
    CODES_FLOAT64 = 11
    SPARSE8 = 12


_PLAIN: dict[ArrayKind, tuple[np.dtype[Any], torch.dtype]] = {
    ArrayKind.INT8: (np.dtype("<i1"), torch.int8),
    ArrayKind.INT16: (np.dtype("<i2"), torch.int16),
    ArrayKind.INT32: (np.dtype("<i4"), torch.int32),
    ArrayKind.INT64: (np.dtype("<i8"), torch.int64),
    ArrayKind.UINT8: (np.dtype("<u1"), torch.uint8),
    ArrayKind.FLOAT32: (np.dtype("<f4"), torch.float32),
    ArrayKind.FLOAT64: (np.dtype("<f8"), torch.float64),
}
_KIND_OF = {dtype: int(kind) for kind, (_, dtype) in _PLAIN.items()}
_CODES = {torch.float32: int(ArrayKind.CODES_FLOAT32), torch.float64: int(ArrayKind.CODES_FLOAT64)}
_FLOATS = {int(kind): _PLAIN[plain][0] for kind, plain in (
    (ArrayKind.CODES_FLOAT32, ArrayKind.FLOAT32), (ArrayKind.CODES_FLOAT64, ArrayKind.FLOAT64),
)}  # fmt: skip
_PLAIN_BY_NUMBER = {int(kind): wire for kind, (wire, _) in _PLAIN.items()}
_BITS, _SPARSE = int(ArrayKind.BITS), int(ArrayKind.SPARSE8)
_NARROWER = (torch.int8, torch.int16, torch.int32)


def write_array(out: Writer, values: Tensor | float | None, step: float | None = None) -> None:
    """Adds a tensor, a number or nothing.

    Args:
        out: where to.
        values: any shape; bool, integer or float.
        step: value of one converter code; floats that are whole numbers of it within 16 bits go as codes.
    """
    if values is None:
        out.raw(b"\0")
    elif not isinstance(values, Tensor):
        out.raw(b"\1" + _SCALE.pack(values))
    elif values.dtype in _CODES:
        _write_floats(out, values, step)
    elif values.dtype == torch.bool:
        array, dimensions = _once(values)
        _add(out, _head(_BITS, dimensions), np.packbits(array.reshape(-1), bitorder="little"))
    else:
        _write_integers(out, values)


def _once(values: Tensor) -> tuple[NDArray[Any], tuple[int, ...]]:
    """The values with each repeated slice once, in the tensor's own memory, and the dimensions as they are written."""
    if values.is_contiguous():
        return values.numpy().reshape(-1), values.shape
    dimensions = list(values.shape)
    for axis, (size, stride) in enumerate(zip(values.shape, values.stride(), strict=True)):
        if stride == 0 and size > 1:
            dimensions[axis] = size | _REPEATED
            values = values.narrow(axis, 0, 1)
    return values.numpy(), tuple(dimensions)


@lru_cache(maxsize=256)
def _head(kind: int, dimensions: tuple[int, ...], scale: float | None = None) -> bytes:
    """What stands before the data of an array."""
    head = _DIMENSIONS[len(dimensions)].pack(kind, len(dimensions), *dimensions)
    return head if scale is None else head + _SCALE.pack(scale)


def _add(out: Writer, head: bytes, data: NDArray[Any]) -> None:
    """Adds an array that is in the layout of the wire, apart from its order in memory."""
    out.raw(head)
    out.raw(data.data if data.flags.c_contiguous else data.tobytes())


def _write_floats(out: Writer, values: Tensor, step: float | None) -> None:
    array, dimensions = _once(values)
    if step is not None and array.size:
        with np.errstate(over="ignore", invalid="ignore"):  # what is no code within 16 bits does not come back equal
            work = array * (1.0 / step)
            small = np.rint(work, work).astype(_CODE)
        np.copyto(work, small)
        work *= step
        if np.count_nonzero(work == array) == array.size:
            _add(out, _head(_CODES[values.dtype], dimensions, step), small)
            return
    _add(out, _head(_KIND_OF[values.dtype], dimensions), array)


def write_grid(out: Writer, values: Tensor, step: float | None) -> None:
    """Adds voltages as the nearest codes of a converter; as floats where there is no grid or 16 bits do not hold them.

    The board makes the nearest code of what it is asked for in any case, so nothing is lost.
    """
    if step is None or values.numel() == 0 or values.dtype not in _CODES:
        write_array(out, values)
        return
    array, dimensions = _once(values)
    codes = np.abs(array)
    if codes.max() <= _CODES_MOST * step:  # it is not, where a value is no number
        np.rint(np.multiply(array, 1.0 / step, codes), codes)
        _add(out, _head(_CODES[values.dtype], dimensions, step), codes.astype(_CODE))
    else:
        _add(out, _head(_KIND_OF[values.dtype], dimensions), array)


def _write_integers(out: Writer, values: Tensor) -> None:
    """Adds integers in the smallest type that holds them; few non-zeros among many go as a map of bits and a list."""
    array, dimensions = _once(values)
    dtype = values.dtype
    if dtype != torch.uint8 and array.size:
        low, high = int(array.min()), int(array.max())
        dtype = next((small for small in _NARROWER if _holds(small, low, high)), dtype)
        array = array.astype(_PLAIN_BY_NUMBER[_KIND_OF[dtype]], copy=False)
    if dtype == torch.int8 and array.size >= 64 and array.size == values.numel():
        chosen = array != 0
        nonzero = array[chosen]
        if 2 * nonzero.size < array.size:
            out.raw(_head(_SPARSE, dimensions))
            out.raw(np.packbits(chosen.reshape(-1), bitorder="little").tobytes() + nonzero.tobytes())
            return
    _add(out, _head(_KIND_OF[dtype], dimensions), array)


@lru_cache(maxsize=256)
def _holds(dtype: torch.dtype, low: int, high: int) -> bool:
    info = torch.iinfo(dtype)
    return info.min <= low and high <= info.max


def read_array(source: Reader) -> Tensor | float | None:
    """Takes what ``write_array`` or ``write_grid`` wrote.

    Raises:
        PayloadError: it is no array, or is larger than it may be.
    """
    kind = source.byte()
    if kind == 0:
        return None
    if kind == 1:
        return float(source.unpack(_SCALE)[0])
    dimensions = source.byte()
    if dimensions > MOST_DIMENSIONS:
        raise PayloadError(f"holds an array of {dimensions} dimensions, at most {MOST_DIMENSIONS} are allowed")
    shape, whole, count = _shape(bytes(source.raw(4 * dimensions)))
    if kind in _FLOATS:
        (step,) = source.unpack(_SCALE)
        if not -_STEP_MOST < step < _STEP_MOST:
            raise PayloadError(f"holds codes of {step:g} each")
        values = np.frombuffer(source.raw(2 * count), _CODE).astype(_FLOATS[kind])
        values *= step
        return _expanded(values, shape, whole)
    if kind in _PLAIN_BY_NUMBER:
        wire = _PLAIN_BY_NUMBER[kind]
        return _expanded(np.frombuffer(source.raw(count * wire.itemsize), wire).copy(), shape, whole)
    if kind == _BITS:
        return _expanded(_bits(source, count), shape, whole)
    if kind == _SPARSE:
        chosen = _bits(source, count)
        flat = np.zeros(count, np.int8)
        flat[chosen] = np.frombuffer(source.raw(int(np.count_nonzero(chosen))), np.int8)
        return _expanded(flat, shape, whole)
    raise PayloadError(f"holds an array of the unknown kind {kind}")


@lru_cache(maxsize=256)
def _shape(dimensions: bytes) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """The shape of the data that follow, the shape they stand for, and how many they are."""
    marked = struct.unpack(f"<{len(dimensions) // 4}I", dimensions)
    whole = tuple(size & (_REPEATED - 1) for size in marked)
    shape = tuple(1 if size & _REPEATED else size for size in marked)
    if math.prod(whole) > MOST_ELEMENTS:
        raise PayloadError(f"holds an array of shape {list(whole)}, larger than {MOST_ELEMENTS} elements")
    return shape, whole, math.prod(shape)


def _bits(source: Reader, count: int) -> NDArray[np.bool_]:
    packed = np.frombuffer(source.raw((count + 7) // 8), np.uint8)
    return np.unpackbits(packed, count=count, bitorder="little").view(np.bool_)


def _expanded(flat: NDArray[Any], shape: tuple[int, ...], whole: tuple[int, ...]) -> Tensor:
    values = torch.from_numpy(flat.reshape(shape))
    return values if shape == whole else values.expand(whole)


def a_tensor(values: Tensor | float | None, what: str) -> Tensor:
    """The array if it is a tensor.

    Raises:
        PayloadError: it is a number or missing.
    """
    if not isinstance(values, Tensor):
        raise PayloadError(f"holds no array for {what}")
    return values
