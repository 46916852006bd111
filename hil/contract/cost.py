"""What an operation costs on a board: events, lab time, bytes and half-selects.

The same function predicts time before a run, cuts long operations into slices, and moves the simulator's clock, so that
nothing is estimated twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hil.contract.ops import Bias, Op, Outer, Probe, Pulse, Ramp, Read, ReadCells, Side, Wait
from hil.contract.spec import BoardSpec

CODE_BYTES = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """The price of an operation.

    Args:
        seconds: s, lab time without the link.
        events: board events: one kernel with one vector, one sensed line set or one pulse slot each.
        pulses: programming pulses over all cells (worst case for a ramp).
        half_selects: half-selected cell events they cause on a passive array.
        bytes: payload of converter codes, both ways.
    """

    seconds: float = 0.0
    events: int = 0
    pulses: int = 0
    half_selects: int = 0
    bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.seconds + other.seconds,
            self.events + other.events,
            self.pulses + other.pulses,
            self.half_selects + other.half_selects,
            self.bytes + other.bytes,
        )


def cost(op: Op, spec: BoardSpec) -> Cost:
    """Prices an operation on a board; a ramp is priced at its worst case, every cell through all points."""
    match op:
        case Read():
            return _read(op, spec)
        case ReadCells():
            events = _sensed_lines(op, spec) * op.sense.averages
            cells = len(op.blocks) * op.blocks.n_rows * op.blocks.n_cols
            seconds = _reading_seconds(events, len(op.blocks), spec)
            return Cost(seconds, events, bytes=CODE_BYTES * cells)
        case Pulse():
            return _pulse(op, spec)
        case Outer():
            return _outer(op, spec)
        case Ramp():
            cells = int((op.sign != 0).expand(op.blocks.shape).sum())
            first = op.start if isinstance(op.start, int) else int(op.start.min())
            return ramp_cost(op, cells * (op.points.shape[0] - first), spec)
        case Wait():
            return Cost(op.seconds)
        case Probe():
            return Cost(spec.timing.read_event, 1, bytes=4 * len(op.names))


def link_seconds(total: Cost, lists: int, spec: BoardSpec) -> float:
    """The time that frames spend on the link, s: one round trip a list, and the payload."""
    rate = spec.timing.bytes_per_second
    return lists * spec.timing.round_trip + (total.bytes / rate if rate else 0.0)


def ramp_cost(op: Ramp, steps: int, spec: BoardSpec) -> Cost:
    """Prices a ramp of which ``steps`` points were visited over all cells."""
    timing = spec.timing
    seconds = op.shape.seconds + timing.write_event + timing.read_event + 2 * (timing.gap + timing.turnaround)
    visits = 2 if op.back else 1
    total = steps * seconds + (visits - 1) * steps * timing.write_event
    return Cost(total, 2 * steps, steps, half_selects(steps, op.sense.unselected, spec), 2 * CODE_BYTES * steps)


def _read(op: Read, spec: BoardSpec) -> Cost:
    blocks, batch = len(op.blocks), op.volts.shape[1]
    events = blocks * batch * op.sense.averages
    sensed = blocks * batch * op.blocks.lines(op.drive.other)
    return Cost(_reading_seconds(events, blocks, spec), events, bytes=CODE_BYTES * (op.volts.numel() + sensed))


def _reading_seconds(events: int, blocks: int, spec: BoardSpec) -> float:
    timing = spec.timing
    at_once = min(timing.parallel_kernels, max(blocks, 1))
    return events / at_once * (timing.read_event + timing.gap) + blocks / at_once * timing.kernel_select


def _sensed_lines(op: ReadCells, spec: BoardSpec) -> int:
    """Selected lines of a cell-by-cell read: one event a gate line, all crossing lines sensed at once."""
    selected = spec.geometry.gate_lines or op.drive
    if op.mask is None:
        return len(op.blocks) * op.blocks.lines(selected)
    return int(op.mask.expand(op.blocks.shape).any(1 if selected is Side.COLS else 2).sum())


def _pulse(op: Pulse, spec: BoardSpec) -> Cost:
    counts = op.counts.to(torch.int32).expand(op.blocks.shape)
    along = 1 if spec.geometry.gate_lines is not Side.ROWS else 2
    ups, downs = counts.amax(along).clamp_(min=0), counts.amin(along).clamp_(max=0)
    up_slots, down_slots = int(ups.sum()), -int(downs.sum())
    turned = op.cycles // 2 if op.alternate else 0
    kept, slots, timing = op.cycles - turned, op.cycles * (up_slots + down_slots), spec.timing
    seconds = (kept * up_slots + turned * down_slots) * op.up.seconds
    seconds += (kept * down_slots + turned * up_slots) * op.down.seconds
    seconds += slots * (timing.write_event + timing.gap) + len(op.blocks) * timing.kernel_select + 2 * timing.turnaround
    pulses = op.cycles * int(counts.abs().sum())
    return Cost(seconds, slots, pulses, half_selects(pulses, op.unselected, spec), CODE_BYTES * counts.numel())


def _outer(op: Outer, spec: BoardSpec) -> Cost:
    blocks, slots = len(op.blocks), op.row_bits.shape[1]
    timing = spec.timing
    events = 4 * blocks * slots  # a signed update is split into up to four sign quadrants
    seconds = events * (max(op.up.seconds, op.down.seconds) + timing.write_event + timing.gap)
    firing = (bits.abs().sum(2, dtype=torch.int64) for bits in (op.row_bits, op.col_bits))
    pulses = int(torch.mul(*firing).sum())  # those of all coincidences, since a line keeps its sign
    return Cost(
        seconds + blocks * timing.kernel_select + 2 * timing.turnaround,
        events,
        pulses,
        half_selects(pulses, op.unselected, spec),
        (op.row_bits.numel() + op.col_bits.numel() + 3) // 4,
    )


def coincidences(op: Outer) -> Tensor:
    """The signed pulse count of each cell, int32 [T, R, C]; exact, since a line keeps its sign over all slots."""
    product = torch.bmm(op.row_bits.transpose(1, 2).float(), op.col_bits.float())
    return product.to(torch.int32)


def half_selects(pulses: int, unselected: Bias | None, spec: BoardSpec) -> int:
    """Half-selected cell events of pulses: the cells of both selected lines see each, or all in the third scheme.

    A pulse that names no scheme is applied in the board's own, the first of its biases.
    """
    if unselected is None:
        unselected = next(iter(spec.writing.biases), Bias.GROUND)
    if spec.geometry.selector == "gated" or unselected in (Bias.FLOAT, Bias.GROUND):
        return 0
    rows, cols = spec.geometry.rows, spec.geometry.cols
    return pulses * (rows * cols - 1 if unselected is Bias.THIRD else rows + cols - 2)


def scaled(price: Cost, factor: float) -> Cost:
    """A cost times a factor, e.g. from the first steps of a run to the whole run."""
    return replace(
        price,
        seconds=price.seconds * factor,
        events=round(price.events * factor),
        pulses=round(price.pulses * factor),
        half_selects=round(price.half_selects * factor),
        bytes=round(price.bytes * factor),
    )
