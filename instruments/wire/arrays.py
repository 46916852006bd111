"""Tensors as bytes: converter codes where there is a grid, the smallest integer that holds the values, or floats.

An array is: kind u8, number of dimensions u8, each dimension u32, then for codes the value of one code as f64, then the
data in row-major order, little-endian. The top bit of a dimension says that one slice stands for all along it, so that
equal slices are sent once. docs/reference/wire-protocol.md has the table of kinds.
"""

from __future__ import annotations

import math
import struct
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instruments.wire.buffer import PayloadError, Reader, Writer

MOST_ELEMENTS = 1 << 26
MOST_DIMENSIONS = 8
_REPEATED = 1 << 31
_HEAD = struct.Struct("<BB")
_SCALE = struct.Struct("<d")
_DIMENSIONS = [struct.Struct(f"<{n}I") for n in range(MOST_DIMENSIONS + 1)]
_CODES_MOST = 32767


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


_PLAIN: dict[ArrayKind, tuple[np.dtype[np.generic], torch.dtype]] = {
    ArrayKind.INT8: (np.dtype("<i1"), torch.int8),
    ArrayKind.INT16: (np.dtype("<i2"), torch.int16),
    ArrayKind.INT32: (np.dtype("<i4"), torch.int32),
    ArrayKind.INT64: (np.dtype("<i8"), torch.int64),
    ArrayKind.UINT8: (np.dtype("<u1"), torch.uint8),
    ArrayKind.FLOAT32: (np.dtype("<f4"), torch.float32),
    ArrayKind.FLOAT64: (np.dtype("<f8"), torch.float64),
}
_KIND_OF = {dtype: kind for kind, (_, dtype) in _PLAIN.items()}
_CODES = {torch.float32: ArrayKind.CODES_FLOAT32, torch.float64: ArrayKind.CODES_FLOAT64}
_FLOATS = {int(kind): dtype for dtype, kind in _CODES.items()}
_PLAIN_BY_NUMBER = {int(kind): entry for kind, entry in _PLAIN.items()}
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
        once = _dimensions(out, ArrayKind.BITS, values)
        out.raw(np.packbits(once.numpy().reshape(-1), bitorder="little").tobytes())
    else:
        _write_integers(out, values)


def _dimensions(out: Writer, kind: ArrayKind, values: Tensor, scale: float | None = None) -> Tensor:
    """Adds the head of an array; gives the values with each repeated slice once."""
    shape, strides = values.shape, values.stride()
    marked = list(shape)
    if 0 in strides:
        for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
            if stride == 0 and size > 1:
                marked[axis] = size | _REPEATED
                values = values.narrow(axis, 0, 1)
    head = _HEAD.pack(kind, len(marked)) + _DIMENSIONS[len(marked)].pack(*marked)
    out.raw(head if scale is None else head + _SCALE.pack(scale))
    return values


def _write_floats(out: Writer, values: Tensor, step: float | None) -> None:
    if step is not None and values.numel():
        codes = (values * (1.0 / step)).round_()
        small = codes.to(torch.int16)
        if torch.equal(small * torch.tensor(step, dtype=values.dtype), values):
            once = _dimensions(out, _CODES[values.dtype], _like(small, values), step)
            out.raw(once.numpy().tobytes())
            return
    once = _dimensions(out, _KIND_OF[values.dtype], values)
    out.raw(once.numpy().tobytes())


def _like(values: Tensor, layout: Tensor) -> Tensor:
    """Gives freshly made values the repeated slices that another tensor has."""
    for axis, stride in enumerate(layout.stride()):
        if stride == 0 and layout.shape[axis] > 1:
            values = values.narrow(axis, 0, 1).expand_as(layout)
    return values


def write_grid(out: Writer, values: Tensor, step: float | None) -> None:
    """Adds voltages as the nearest codes of a converter; as floats where there is no grid or 16 bits do not hold them.

    The board makes the nearest code of what it is asked for in any case, so nothing is lost.
    """
    if step is None or values.numel() == 0 or values.dtype not in _CODES:
        write_array(out, values)
        return
    codes = (values * (1.0 / step)).round_()
    low, high = codes.aminmax()
    if not (-_CODES_MOST <= float(low) and float(high) <= _CODES_MOST):
        write_array(out, values)
        return
    once = _dimensions(out, _CODES[values.dtype], _like(codes.to(torch.int16), values), step)
    out.raw(once.numpy().tobytes())


def _write_integers(out: Writer, values: Tensor) -> None:
    """Adds integers in the smallest type that holds them; few non-zeros among many go as a map of bits and a list."""
    if values.dtype == torch.uint8 or values.numel() == 0:
        once = _dimensions(out, _KIND_OF[values.dtype], values)
        out.raw(once.numpy().tobytes())
        return
    low, high = (int(bound) for bound in values.aminmax())
    for dtype in _NARROWER:
        info = torch.iinfo(dtype)
        if info.min <= low and high <= info.max:
            values = values if values.dtype == dtype else _like(values.to(dtype), values)
            break
    if values.dtype == torch.int8 and values.numel() >= 64 and 0 not in values.stride():
        flat: NDArray[np.int8] = values.numpy().reshape(-1)
        chosen = flat != 0
        nonzero = flat[chosen]
        if 2 * nonzero.size < flat.size:
            _dimensions(out, ArrayKind.SPARSE8, values)
            out.raw(np.packbits(chosen, bitorder="little").tobytes() + nonzero.tobytes())
            return
    once = _dimensions(out, _KIND_OF[values.dtype], values)
    out.raw(once.numpy().tobytes())


def read_array(source: Reader) -> Tensor | float | None:
    """Takes what ``write_array`` or ``write_grid`` wrote.

    Raises:
        PayloadError: it is no array, or is larger than it may be.
    """
    kind = source.raw(1)[0]
    if kind == ArrayKind.NONE:
        return None
    if kind == ArrayKind.SCALAR:
        return float(source.unpack(_SCALE)[0])
    shape, whole = _shape(source)
    if kind in _PLAIN_BY_NUMBER:
        wire, _ = _PLAIN_BY_NUMBER[kind]
        count = math.prod(shape)
        return _expanded(np.frombuffer(source.raw(count * wire.itemsize), wire).copy(), shape, whole)
    if kind in _FLOATS:
        (step,) = source.unpack(_SCALE)
        codes = np.frombuffer(source.raw(2 * math.prod(shape)), np.dtype("<i2"))
        values = torch.from_numpy(codes.copy()).to(_FLOATS[kind]).mul_(step)
        return values.view(shape).expand(whole)
    if kind == ArrayKind.BITS:
        return _expanded(_bits(source, math.prod(shape)).view(np.bool_), shape, whole)
    if kind == ArrayKind.SPARSE8:
        chosen = _bits(source, math.prod(shape)).view(np.bool_)
        flat = np.zeros(chosen.size, np.int8)
        flat[chosen] = np.frombuffer(source.raw(int(np.count_nonzero(chosen))), np.int8)
        return _expanded(flat, shape, whole)
    raise PayloadError(f"holds an array of the unknown kind {kind}")


def _shape(source: Reader) -> tuple[list[int], list[int]]:
    """The shape of the data that follow, and the shape they stand for."""
    dimensions = source.raw(1)[0]
    if dimensions > MOST_DIMENSIONS:
        raise PayloadError(f"holds an array of {dimensions} dimensions, at most {MOST_DIMENSIONS} are allowed")
    marked = source.unpack(_DIMENSIONS[dimensions])
    whole = [size & (_REPEATED - 1) for size in marked]
    shape = [1 if size & _REPEATED else size for size in marked]
    if math.prod(whole) > MOST_ELEMENTS:
        raise PayloadError(f"holds an array of shape {whole}, larger than {MOST_ELEMENTS} elements")
    return shape, whole


def _bits(source: Reader, count: int) -> NDArray[np.uint8]:
    packed = np.frombuffer(source.raw((count + 7) // 8), np.uint8)
    return np.unpackbits(packed, count=count, bitorder="little")


def _expanded(flat: NDArray[np.generic], shape: list[int], whole: list[int]) -> Tensor:
    values = torch.from_numpy(flat).view(shape)
    return values if shape == whole else values.expand(whole)


def a_tensor(values: Tensor | float | None, what: str) -> Tensor:
    """The array if it is a tensor.

    Raises:
        PayloadError: it is a number or missing.
    """
    if not isinstance(values, Tensor):
        raise PayloadError(f"holds no array for {what}")
    return values
