"""Whether the parts of an operation are well formed, and the private copies of those that can still be changed.

An operation is frozen but its tensors are not, and Python holds nobody to a type. So every part is looked at, and every
tensor is copied first and checked afterwards: what was checked is what is sent.
"""

from __future__ import annotations

import math
from typing import TypeVar, cast

import torch
from torch import Tensor

from hil.contract import Blocks, Cells, Shape
from hil.errors import InvalidOperation

T = TypeVar("T")

INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)
FLOATS = (torch.float32, torch.float64)
MOST = 2**31 - 1
_SMALL = 8192
_TENSORS = (Tensor, torch.nn.Parameter)


def number(op: str, name: str, value: object) -> float:
    """Gives a finite Python number back."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOperation(op, f"{name} must be a number, got {described(value)}")
    if isinstance(value, int) and abs(value) > MOST:
        raise InvalidOperation(op, f"{name} is out of all reason: {described(value)}")
    if not math.isfinite(value):
        raise InvalidOperation(op, f"{name} must be finite, got {value}")
    return value


def whole(op: str, name: str, value: object, low: int = 1, high: int = MOST) -> int:
    """Gives a whole number from ``low`` to ``high`` back."""
    if type(value) is not int or not low <= value <= high:
        raise InvalidOperation(op, f"{name} must be a whole number from {low} to {high}, got {described(value)}")
    return value


def member(op: str, name: str, value: object, kind: type[T]) -> T:
    """Gives a value back that is of a type: an enum's member, a true or false, a part of an operation."""
    if type(value) is not kind:
        wanted = "True or False" if kind is bool else f"a {kind.__name__}"
        raise InvalidOperation(op, f"{name} must be {wanted}, got {described(value)}")
    return cast(T, value)


def tensor(op: str, name: str, value: object, dtypes: tuple[torch.dtype, ...]) -> Tensor:
    """A private copy of a tensor in the host's memory, without its gradient."""
    if type(value) not in _TENSORS:
        raise InvalidOperation(op, f"{name} must be a tensor, got {described(value)}")
    given = cast(Tensor, value)
    if given.dtype not in dtypes:
        raise InvalidOperation(op, f"{name} must be {names(dtypes)}, got {seen(given)}")
    if not given.is_cpu or given.layout is not torch.strided or given.is_nested:
        raise InvalidOperation(op, f"{name} must be a plain tensor on the CPU, got one on {given.device}")
    return (given.detach() if given.requires_grad else given).clone()


def cells(op: str, name: str, value: object, blocks: Blocks, dtypes: tuple[torch.dtype, ...]) -> Tensor:
    """A private copy of a tensor that broadcasts to [T, R, C]."""
    copy = tensor(op, name, value, dtypes)
    shape = blocks.shape
    if copy.dim() > 3 or not all(a in (1, b) for a, b in zip(reversed(copy.shape), reversed(shape), strict=False)):
        wanted = f"{names(dtypes)} and broadcast to {list(shape)}"
        raise InvalidOperation(op, f"{name} must be {wanted}, got {seen(copy)}")
    return copy


def finite_cells(op: str, name: str, value: object, blocks: Blocks) -> Cells:
    """A finite number, or a private copy of a finite float tensor that broadcasts to [T, R, C]."""
    if not isinstance(value, Tensor):
        return number(op, name, value)
    copy = cells(op, name, value, blocks, FLOATS)
    low, high = extremes(copy)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InvalidOperation(op, f"{name} holds a value that is not finite")
    return copy


def pulse_shape(op: str, name: str, value: object, blocks: Blocks) -> Shape:
    """A private copy of a pulse shape whose numbers are finite."""
    shape = member(op, name, value, Shape)
    return Shape(
        volts=finite_cells(op, "the pulse amplitude", shape.volts, blocks),
        seconds=number(op, "the pulse width", shape.seconds),
        gate=None if shape.gate is None else finite_cells(op, "the gate voltage", shape.gate, blocks),
        amps=None if shape.amps is None else number(op, "the compliance current", shape.amps),
    )


def extremes(value: Cells) -> tuple[float, float]:
    """The smallest and the largest number, at least one of them NaN when a value is.

    Large tensors are taken in the order of their memory and by numpy, whose minimum and maximum together take half the
    time of torch.aminmax (60 against 115 us for 3 MB); small ones by torch, whose calls cost less.
    """
    if not isinstance(value, Tensor):
        return value, value
    if value.numel() < _SMALL:
        low, high = torch.aminmax(value)
        return low.item(), high.item()
    if not value.is_contiguous() and value.dim() >= 2:
        value = value.transpose(-1, -2)
    flat = value.reshape(-1).numpy()
    return flat.min().item(), flat.max().item()


def described(value: object) -> str:
    """Names a value of a wrong type without trusting its own text."""
    if isinstance(value, Tensor):
        return seen(value)
    if type(value) is int and value.bit_length() > 64:
        return f"a whole number of {value.bit_length()} bits"
    return f"{type(value).__name__} {ascii(value)[:40]}"


def seen(value: Tensor) -> str:
    """Names a tensor by dtype and shape."""
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def names(dtypes: tuple[torch.dtype, ...]) -> str:
    """Names dtypes: ``float32 or float64``."""
    return " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


class KnownBlocks:
    """Checks that blocks lie on the chip; those seen before pass at once.

    Args:
        cells: (kernels, rows, cols) of the chip.
    """

    def __init__(self, cells: tuple[int, int, int]) -> None:
        self._cells = cells
        self._by_value: dict[Blocks, tuple[Blocks, bool]] = {}
        self._by_id: dict[int, tuple[Blocks, bool]] = {}  # a known object stays referenced, so its id is its own

    def reading(self, blocks: object) -> Blocks:
        """Gives blocks back that lie on the chip."""
        return self._known(blocks)[0]

    def writing(self, blocks: object) -> Blocks:
        """Gives blocks back that lie on the chip and share no cell."""
        found, apart = self._known(blocks)
        if not apart:
            raise InvalidOperation("blocks", "two blocks of a writing operation share a cell")
        return found

    def _known(self, blocks: object) -> tuple[Blocks, bool]:
        known = self._by_id.get(id(blocks))
        if known is not None:
            return known
        given = self._typed(blocks)
        known = self._by_value.get(given)
        if known is None:
            known = (given, self._inside(given))
            if len(self._by_value) >= 1024:
                self._by_value.clear()
                self._by_id.clear()
            self._by_value[given] = known
        if given is known[0]:
            self._by_id[id(given)] = known
        return known

    @staticmethod
    def _typed(blocks: object) -> Blocks:
        given = member("blocks", "blocks", blocks, Blocks)
        numbers = (given.kernel, given.row, given.col, (given.n_rows, given.n_cols))
        if not all(type(part) is tuple and all(type(n) is int for n in part) for part in numbers):
            raise InvalidOperation("blocks", "kernel, row and col must be tuples of whole numbers")
        if not len(given.kernel) == len(given.row) == len(given.col) > 0:
            raise InvalidOperation("blocks", "kernel, row and col must have one number for each of at least one block")
        return given

    def _inside(self, blocks: Blocks) -> bool:
        """Checks each block; whether no two share a cell."""
        kernels, rows, cols = self._cells
        if blocks.n_rows < 1 or blocks.n_cols < 1:
            raise InvalidOperation("blocks", f"a block of {blocks.n_rows} x {blocks.n_cols} cells is empty")
        taken = torch.zeros(self._cells, dtype=torch.bool)
        for k, r, c in zip(blocks.kernel, blocks.row, blocks.col, strict=True):
            if not (0 <= k < kernels and 0 <= r <= rows - blocks.n_rows and 0 <= c <= cols - blocks.n_cols):
                block = f"kernel {k}, row {r}, column {c}, {blocks.n_rows} x {blocks.n_cols}"
                raise InvalidOperation("blocks", f"{block} is not on a chip of {kernels} x {rows} x {cols}")
            taken[k, r : r + blocks.n_rows, c : c + blocks.n_cols] = True
        return int(taken.sum()) == len(blocks) * blocks.n_rows * blocks.n_cols
