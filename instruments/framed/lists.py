"""Lists of operations as payloads of frames: how they are cut, how long they may take, what of them may be in doubt."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from hil.contract import BoardSpec, Op
from hil.contract.cost import cost
from hil.contract.indexing import cell_index
from hil.contract.ops import Writing
from hil.errors import InvalidOperation, Unsupported
from instruments.wire.buffer import Writer
from instruments.wire.operations import write_op

FRAME_BYTES = 1 << 18
"""Payload that one frame is filled up to; more operations go into the next."""
MOST_OPS = 0xFFFF
"""Operations of one frame."""
SLOWER = 10.0
"""How much longer than predicted a board may work before it is taken to hang..."""
SLACK = 60.0
"""...and s on top of that."""
_HEAD = 64
"""Bytes of a payload that are not operations, at most."""
_U16 = struct.Struct("<H")

Part = tuple[Sequence[Op], bytes]
"""Operations of one frame, and its payload without the head."""


def packed(ops: Sequence[Op], spec: BoardSpec, most_bytes: int) -> list[Part]:
    """Cuts a list into frames.

    Args:
        ops: the list.
        spec: of the board.
        most_bytes: the largest payload that the board takes.

    Raises:
        InvalidOperation: an operation holds a number that the wire does not carry.
        Unsupported: an operation does not fit into a frame.
    """
    room = min(FRAME_BYTES, most_bytes - _HEAD)
    parts: list[Part] = []
    first, bodies, size = 0, list[bytes](), 0
    for number, op in enumerate(ops):
        body = _body(op, spec, most_bytes)
        if bodies and (size + len(body) > room or len(bodies) == MOST_OPS):
            parts.append((ops[first:number], _U16.pack(len(bodies)) + b"".join(bodies)))
            first, bodies, size = number, [], 0
        bodies.append(body)
        size += len(body)
    parts.append((ops[first:], _U16.pack(len(bodies)) + b"".join(bodies)))
    return parts


def _body(op: Op, spec: BoardSpec, most_bytes: int) -> bytes:
    out = Writer()
    try:
        write_op(out, op, spec.reading.volts_step)
    except (struct.error, IndexError, OverflowError, ValueError) as error:
        problem = f"it holds a number that the wire does not carry ({error})"
        raise InvalidOperation(type(op).__name__, problem) from None
    body = out.done()
    if len(body) > most_bytes - _HEAD:
        reason = f"it takes {len(body):,} bytes and a frame at most {most_bytes:,}; use smaller batches"
        raise Unsupported(type(op).__name__, spec.identity.name, reason)
    return body


def longest(ops: Sequence[Op], spec: BoardSpec) -> float:
    """Time that a board may say it works on a list, s."""
    return SLOWER * sum(cost(op, spec).seconds for op in ops) + SLACK


def in_doubt(ops: Sequence[Op], spec: BoardSpec) -> Tensor | None:
    """Cells that writing operations may have changed, bool [K, R, C]; None for none."""
    doubt = torch.zeros(spec.cells, dtype=torch.bool)
    for op in ops:
        if isinstance(op, Writing):
            doubt.view(-1)[cell_index(op.blocks, *spec.cells[1:]).view(-1)] = True
    return doubt if bool(doubt.any()) else None
