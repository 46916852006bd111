"""Operations as bytes. The layout of each is in docs/reference/wire-protocol.md."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor

from hil.contract import (
    Bias,
    Blocks,
    Cells,
    Kind,
    Op,
    Outer,
    Probe,
    Pulse,
    Ramp,
    Read,
    ReadCells,
    Sense,
    Shape,
    Side,
    Stop,
    Wait,
)
from instruments.wire.arrays import a_tensor, read_array, write_array, write_grid
from instruments.wire.buffer import PayloadError, Reader, Writer

_BLOCKS = struct.Struct("<HHH")
_SENSE = struct.Struct("<BHddddB")
_PULSE = struct.Struct("<HBB")
_RAMP = struct.Struct("<BBB")
_STOP = struct.Struct("<BdddIddIdd")
_F64 = struct.Struct("<d")
_U8 = struct.Struct("<B")
_U16 = struct.Struct("<H")
_NONE = 0xFF
_SIDES = (Side.ROWS, Side.COLS)
_BIASES = (Bias.FLOAT, Bias.GROUND, Bias.HALF, Bias.THIRD)
_KINDS = (Kind.FORM, Kind.SET, Kind.RESET, Kind.SWEEP)
_KNOBS = ("volts", "gate")


def write_ops(out: Writer, ops: Sequence[Op], volts_step: float | None) -> None:
    """Adds a list of operations.

    Args:
        out: where to.
        ops: the operations.
        volts_step: V of one input code; the vectors of a Read go as codes.
    """
    out.pack(_U16, len(ops))
    for op in ops:
        write_op(out, op, volts_step)


def write_op(out: Writer, op: Op, volts_step: float | None) -> None:
    """Adds one operation; see ``write_ops``."""
    match op:
        case Read():
            out.raw(b"\1")
            out.raw(_block_bytes(op.blocks))
            out.raw(bytes((_SIDES.index(op.drive), op.pairs)))
            _write_sense(out, op.sense)
            _write_feed(out, op.feed)
            write_grid(out, op.volts, volts_step)
        case ReadCells():
            out.raw(b"\2")
            out.raw(_block_bytes(op.blocks))
            out.raw(bytes((_SIDES.index(op.drive),)))
            _write_sense(out, op.sense)
            write_array(out, op.mask)
        case Pulse():
            out.raw(b"\3")
            out.raw(_block_bytes(op.blocks))
            out.pack(_PULSE, op.cycles, op.alternate, _bias_number(op.unselected))
            _write_shape(out, op.up)
            _write_shape(out, op.down)
            write_array(out, op.counts)
        case Outer():
            out.raw(b"\4")
            out.raw(_block_bytes(op.blocks))
            out.raw(bytes((_bias_number(op.unselected),)))
            _write_shape(out, op.up)
            _write_shape(out, op.down)
            write_array(out, op.row_bits)
            write_array(out, op.col_bits)
        case Ramp():
            out.raw(b"\5")
            _write_ramp(out, op)
        case Wait():
            out.raw(b"\6" + _F64.pack(op.seconds))
        case Probe():
            out.raw(b"\7" + _U8.pack(len(op.names)))
            for name in op.names:
                out.text(name)


def read_ops(source: Reader) -> list[Op]:
    """Takes a list of operations.

    Raises:
        PayloadError: it is none.
    """
    return [read_op(source) for _ in range(source.unpack(_U16)[0])]


def read_op(source: Reader) -> Op:
    """Takes one operation.

    Raises:
        PayloadError: it is none.
    """
    number = source.byte()
    if number not in _READERS:
        raise PayloadError(f"holds an operation of the unknown kind {number}")
    return _READERS[number](source)


def _read_read(source: Reader) -> Read:
    blocks = _read_blocks(source)
    drive, pairs, sense = _read_head(bytes(source.raw(2 + _SENSE.size)))
    feed = _read_feed(source, len(blocks))
    volts = a_tensor(read_array(source), "the vectors of a Read")
    return Read(blocks, volts, drive, sense, feed, pairs)


@lru_cache(maxsize=256)
def _read_head(layout: bytes) -> tuple[Side, bool, Sense]:
    return _pick(_SIDES, layout[0]), bool(layout[1]), _sense(layout[2:])


def _read_read_cells(source: Reader) -> ReadCells:
    blocks, drive = _read_blocks(source), source.byte()
    sense, mask = _read_sense(source), read_array(source)
    return ReadCells(blocks, sense, _pick(_SIDES, drive), None if mask is None else a_tensor(mask, "a mask"))


def _read_pulse(source: Reader) -> Pulse:
    blocks = _read_blocks(source)
    cycles, alternate, bias = source.unpack(_PULSE)
    up, down = _read_shape(source), _read_shape(source)
    counts = a_tensor(read_array(source), "the counts of a Pulse")
    return Pulse(blocks, counts, up, down, cycles, alternate=bool(alternate), unselected=_bias(bias))


def _read_outer(source: Reader) -> Outer:
    blocks, bias = _read_blocks(source), source.byte()
    up, down = _read_shape(source), _read_shape(source)
    rows, cols = (a_tensor(read_array(source), "the bits of an Outer") for _ in _SIDES)
    return Outer(blocks, rows, cols, up, down, _bias(bias))


def _write_ramp(out: Writer, op: Ramp) -> None:
    out.raw(_block_bytes(op.blocks))
    out.pack(_RAMP, _KINDS.index(op.kind), _KNOBS.index(op.knob), op.back | op.trace << 1)
    write_array(out, op.sign)
    _write_shape(out, op.shape)
    write_array(out, op.points)
    write_array(out, op.start if isinstance(op.start, Tensor) else float(op.start))
    _write_sense(out, op.sense)
    _write_stop(out, op.stop)


def _read_ramp(source: Reader) -> Ramp:
    blocks = _read_blocks(source)
    kind, knob, flags = source.unpack(_RAMP)
    sign = a_tensor(read_array(source), "the signs of a Ramp")
    shape, points = _read_shape(source), a_tensor(read_array(source), "the points of a Ramp")
    start = read_array(source)
    if start is None or (isinstance(start, float) and not start.is_integer()):
        raise PayloadError("holds a Ramp without a first point")
    first = start if isinstance(start, Tensor) else int(start)
    sense, stop = _read_sense(source), _read_stop(source)
    back, trace = bool(flags & 1), bool(flags & 2)
    kind, knob = _pick(_KINDS, kind), _pick(_KNOBS, knob)
    return Ramp(blocks, sign, kind, shape, knob, points, first, sense, stop, back=back, trace=trace)


def _read_wait(source: Reader) -> Wait:
    return Wait(source.unpack(_F64)[0])


def _read_probe(source: Reader) -> Probe:
    return Probe(tuple(source.text() for _ in range(source.unpack(_U8)[0])))


_READERS: dict[int, Callable[[Reader], Op]] = {
    1: _read_read, 2: _read_read_cells, 3: _read_pulse, 4: _read_outer, 5: _read_ramp, 6: _read_wait, 7: _read_probe,
}  # fmt: skip


# -- parts of operations -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _block_bytes(blocks: Blocks) -> bytes:
    count = len(blocks)
    places = struct.pack(f"<{3 * count}H", *blocks.kernel, *blocks.row, *blocks.col)
    return _BLOCKS.pack(count, blocks.n_rows, blocks.n_cols) + places


def _read_blocks(source: Reader) -> Blocks:
    count, n_rows, n_cols = source.unpack(_BLOCKS)
    return _blocks(bytes(source.raw(6 * count)), n_rows, n_cols)


@lru_cache(maxsize=256)
def _blocks(places: bytes, n_rows: int, n_cols: int) -> Blocks:
    count = len(places) // 6
    numbers = struct.unpack(f"<{3 * count}H", places)
    return Blocks(numbers[:count], numbers[count : 2 * count], numbers[2 * count :], n_rows, n_cols)


def _write_sense(out: Writer, sense: Sense) -> None:
    parts = sense.volts, sense.gate, sense.full_scale, sense.amps
    out.raw(_sense_bytes(parts, sense.averages, sense.unselected))


@lru_cache(maxsize=256)
def _sense_bytes(parts: tuple[float | None, ...], averages: int, unselected: Bias | None) -> bytes:
    given = sum(1 << bit for bit, part in enumerate(parts) if part is not None)
    numbers = (0.0 if part is None else part for part in parts)
    return _SENSE.pack(given, averages, *numbers, _bias_number(unselected))


def _read_sense(source: Reader) -> Sense:
    return _sense(bytes(source.raw(_SENSE.size)))


@lru_cache(maxsize=256)
def _sense(layout: bytes) -> Sense:
    given, averages, *numbers, bias = _SENSE.unpack(layout)
    volts, gate, full_scale, amps = (number if given >> bit & 1 else None for bit, number in enumerate(numbers))
    return Sense(volts, averages, gate, full_scale, amps, _bias(bias))


def _write_feed(out: Writer, feed: tuple[int, ...] | None) -> None:
    out.raw(b"\0" if feed is None else b"\1" + struct.pack(f"<{len(feed)}H", *feed))


def _read_feed(source: Reader, count: int) -> tuple[int, ...] | None:
    return struct.unpack(f"<{count}H", source.raw(2 * count)) if source.byte() else None


def _write_shape(out: Writer, shape: Shape) -> None:
    write_array(out, shape.volts)
    out.pack(_F64, shape.seconds)
    write_array(out, shape.gate)
    write_array(out, shape.amps)


def _read_shape(source: Reader) -> Shape:
    volts = _cells(read_array(source))
    (seconds,) = source.unpack(_F64)
    gate, amps = read_array(source), read_array(source)
    if isinstance(amps, Tensor):
        raise PayloadError("holds a compliance that is no single number")
    return Shape(volts, seconds, gate, amps)


def _write_stop(out: Writer, stop: Stop) -> None:
    write_array(out, stop.low)
    write_array(out, stop.high)
    parts: tuple[Any, ...] = (stop.slope, stop.flat, stop.rise_after)
    given = sum(1 << bit for bit, part in enumerate(parts) if part is not None)
    after = stop.rise_after or (0.0, 0.0)
    out.pack(
        _STOP, given, stop.amps_max, stop.jump, stop.rise, stop.rises, stop.slope or 0.0, stop.flat or 0.0, stop.hits,
        *after,
    )  # fmt: skip


def _read_stop(source: Reader) -> Stop:
    low, high = _cells(read_array(source)), _cells(read_array(source))
    given, amps_max, jump, rise, rises, slope, flat, hits, volts, amps = source.unpack(_STOP)
    return Stop(
        low, high, amps_max, jump, rise, rises,
        slope if given & 1 else None, flat if given & 2 else None, hits, (volts, amps) if given & 4 else None,
    )  # fmt: skip


def _cells(value: Cells | None) -> Cells:
    if value is None:
        raise PayloadError("leaves out a voltage or current")
    return value


def _bias_number(bias: Bias | None) -> int:
    return _NONE if bias is None else _BIASES.index(bias)


def _bias(number: int) -> Bias | None:
    return None if number == _NONE else _pick(_BIASES, number)


def _pick(options: tuple[Any, ...], number: int) -> Any:
    if number >= len(options):
        raise PayloadError(f"holds the number {number} where one below {len(options)} is expected")
    return options[number]
