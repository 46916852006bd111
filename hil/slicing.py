"""Cuts one operation in two, and joins the outcomes of parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hil.contract import Blocks, Cells, Op, Outcome, Outer, Probe, Pulse, Ramp, Read, ReadCells, Shape, Wait


@dataclass(frozen=True, slots=True)
class Halves:
    """Two operations that together do what one did.

    Args:
        ops: the two.
        dim: dimension along which their values are joined; None when they have none.
    """

    ops: tuple[Op, Op]
    dim: int | None


def halves(op: Op) -> Halves | None:
    """Cuts an operation: a read along its batch, then its blocks, the others along their blocks; None: it is atomic."""
    match op:
        case Read() if op.volts.shape[1] > 1:
            middle = op.volts.shape[1] // 2
            first, second = op.volts[:, :middle], op.volts[:, middle:]
            return Halves((replace(op, volts=first), replace(op, volts=second)), 1)
        case Wait():
            half = replace(op, seconds=op.seconds / 2)
            return Halves((half, half), None)
        case Probe():
            return None
        case _:
            count = len(op.blocks)
            middle = count // 2
            return None if count < 2 else Halves((_part(op, 0, middle), _part(op, middle, count)), 0)


def _part(op: Read | ReadCells | Pulse | Outer | Ramp, first: int, last: int) -> Op:
    """The same operation for the blocks ``first`` to ``last - 1``."""
    blocks = op.blocks.take(first, last)
    match op:
        case Read():
            if op.feed is not None:
                return replace(op, blocks=blocks, feed=op.feed[first:last])
            return replace(op, blocks=blocks, volts=op.volts[first:last])
        case ReadCells():
            mask = None if op.mask is None else _some(op.mask, op.blocks, first, last)
            return replace(op, blocks=blocks, mask=mask)
        case Pulse():
            counts = _some(op.counts, op.blocks, first, last)
            up, down = (_shape(s, op.blocks, first, last) for s in (op.up, op.down))
            return replace(op, blocks=blocks, counts=counts, up=up, down=down)
        case Outer():
            rows, cols = op.row_bits[first:last], op.col_bits[first:last]
            up, down = (_shape(s, op.blocks, first, last) for s in (op.up, op.down))
            return replace(op, blocks=blocks, row_bits=rows, col_bits=cols, up=up, down=down)
        case Ramp():
            low, high = (_cells(v, op.blocks, first, last) for v in (op.stop.low, op.stop.high))
            return replace(
                op,
                blocks=blocks,
                sign=_some(op.sign, op.blocks, first, last),
                shape=_shape(op.shape, op.blocks, first, last),
                start=_some(op.start, op.blocks, first, last) if isinstance(op.start, Tensor) else op.start,
                stop=replace(op.stop, low=low, high=high),
            )


def _some(value: Tensor, blocks: Blocks, first: int, last: int) -> Tensor:
    """The part of a tensor that broadcasts to [T, R, C]."""
    return value.expand(blocks.shape)[first:last]


def _cells(value: Cells, blocks: Blocks, first: int, last: int) -> Cells:
    return _some(value, blocks, first, last) if isinstance(value, Tensor) else value


def _shape(shape: Shape, blocks: Blocks, first: int, last: int) -> Shape:
    gate = None if shape.gate is None else _cells(shape.gate, blocks, first, last)
    return replace(shape, volts=_cells(shape.volts, blocks, first, last), gate=gate)


def joined(outcomes: Sequence[Outcome], dim: int | None = None) -> Outcome:
    """One outcome for at least one; values are joined along a dimension, or left out."""
    joules = [o.joules for o in outcomes if o.joules is not None]
    whole = Outcome(
        None,
        None,
        None,
        outcomes[0].began,
        sum(o.seconds for o in outcomes),
        sum(o.events for o in outcomes),
        sum(joules) if joules else None,
    )
    if dim is None:
        return whole
    values = [o.value for o in outcomes if o.value is not None]
    pulses = [o.applied for o in outcomes if o.applied is not None]
    flags = [_flags(o) for o in outcomes] if any(o.flags is not None for o in outcomes) else []
    return replace(
        whole,
        value=torch.cat(values, dim) if values else None,
        flags=torch.cat(flags, dim) if flags else None,
        applied=torch.cat(pulses, dim) if pulses else None,
    )


def _flags(outcome: Outcome) -> Tensor:
    assert outcome.value is not None
    return torch.zeros(outcome.value.shape, dtype=torch.uint8) if outcome.flags is None else outcome.flags
