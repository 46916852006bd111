"""Outcomes as bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from hil.contract import Op, Outcome, Outer, Pulse, Range, Read, ReadCells
from hil.contract.cost import coincidences
from hil.converters import pick_range
from instruments.wire.arrays import a_tensor, read_array, write_array
from instruments.wire.buffer import PayloadError, Reader, Writer

_OUTCOME = struct.Struct("<BBddId")
_U16 = struct.Struct("<H")
_NOT_WRITING, _AS_ASKED, _LISTED = range(3)


def write_outcomes(out: Writer, ops: Sequence[Op], outcomes: Sequence[Outcome], amps_step: AmpsStep) -> None:
    """Adds outcomes of the first operations of a list; currents go as codes where they are whole ones."""
    out.pack(_U16, len(outcomes))
    for op, outcome in zip(ops, outcomes, strict=False):
        asked = pulses_asked(op)
        applied = outcome.applied
        how = _NOT_WRITING if applied is None else _LISTED
        if applied is not None and asked is not None and torch.equal(applied, asked):
            how = _AS_ASKED
        joules = 0.0 if outcome.joules is None else outcome.joules
        out.pack(
            _OUTCOME, how, outcome.joules is not None, outcome.began, outcome.seconds, min(outcome.events, 0xFFFFFFFF),
            joules,
        )  # fmt: skip
        write_array(out, outcome.value, amps_step.of(op))
        write_array(out, outcome.flags)
        if how == _LISTED:
            write_array(out, applied)


def read_outcomes(source: Reader, ops: Sequence[Op]) -> list[Outcome]:
    """Takes outcomes of the first operations of a list.

    Raises:
        PayloadError: they are none, or more than there are operations.
    """
    (count,) = source.unpack(_U16)
    if count > len(ops):
        raise PayloadError(f"holds {count} outcomes for {len(ops)} operations")
    return [_read_outcome(source, op) for op in ops[:count]]


def _read_outcome(source: Reader, op: Op) -> Outcome:
    how, knows_joules, began, seconds, events, joules = source.unpack(_OUTCOME)
    value, flags = read_array(source), read_array(source)
    applied = None
    if how == _AS_ASKED:
        applied = pulses_asked(op)
    elif how == _LISTED:
        applied = a_tensor(read_array(source), "applied pulses").to(torch.int32)
    return Outcome(
        None if value is None else a_tensor(value, "a value"),
        None if flags is None else a_tensor(flags, "flags"),
        applied,
        began,
        seconds,
        events,
        joules if knows_joules else None,
    )


def pulses_asked(op: Op) -> Tensor | None:
    """Pulses of each cell, int32 [T, R, C]; None for an operation that does not write, or that decides by itself."""
    match op:
        case Pulse():
            return op.counts.to(torch.int32).expand(op.blocks.shape).abs() * op.cycles
        case Outer():
            return coincidences(op).abs()
        case _:
            return None


class AmpsStep:
    """Tells the current of one code for each reading.

    Args:
        ranges: the board's current ranges, widest first.
    """

    def __init__(self, ranges: tuple[Range, ...]) -> None:
        self._ranges = ranges
        self._steps = lru_cache(maxsize=64)(self._step)

    def of(self, op: Op) -> float | None:
        """A of one code; None where a value is no single conversion."""
        if not isinstance(op, (Read, ReadCells)) or op.sense.averages != 1 or not self._ranges:
            return None
        return self._steps(op.sense.full_scale)

    def _step(self, full_scale: float | None) -> float | None:
        chosen = pick_range(self._ranges, full_scale)
        return None if chosen is None else chosen.step
