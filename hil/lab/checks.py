"""What the guard checks: every operation of a list, as commanded, before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hil.contract import (
    Blocks,
    BoardSpec,
    Kind,
    Op,
    Outer,
    Probe,
    Pulse,
    Ramp,
    Read,
    ReadCells,
    Wait,
)
from hil.errors import HilError, InvalidOperation
from hil.lab.limits import LimitChecks, rounded
from hil.lab.wear import Wear
from hil.lab.wellformed import FLOATS, KnownBlocks, cells, described, extremes, member, number, seen, tensor
from hil.lab.write_checks import WriteChecks


@dataclass(frozen=True, slots=True)
class Checked:
    """An operation that may be sent.

    Args:
        op: a private copy.
        peak: V, the largest voltage across a cell.
        counts: worst-case pulses of each cell [T, R, C], charged; None for an operation that does not write.
    """

    op: Op
    peak: float
    counts: Tensor | None = None


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a Read may look like that has these blocks, this feed and this sense; keeps them alive, as ids name them."""

    keys: tuple[object, object, object]
    feeds: int
    least_feeds: int
    driven: int


class Checks:
    """The checks of one board.

    Args:
        spec: its limits.
        wear: its pulse counters; charged here.
    """

    def __init__(self, spec: BoardSpec, wear: Wear) -> None:
        self._spec, self._wear = spec, wear
        self._limits = LimitChecks(spec)
        self._blocks = KnownBlocks(spec.cells)
        self._writes = WriteChecks(spec, self._limits, self._blocks)
        self._low, self._high = self._limits.array_volts()
        self._bounds = {d: (rounded(self._low[0], d), rounded(self._high[0], d)) for d in FLOATS}
        self._readings: dict[tuple[int, ...], _Reading] = {}
        self._by_type: dict[type, Callable[[Any], Checked]] = {
            Read: self._read,
            ReadCells: self._read_cells,
            Pulse: self._writing(self._writes.pulse),
            Outer: self._writing(self._writes.outer),
            Ramp: self._writing(self._writes.ramp),
            Wait: self._wait,
            Probe: self._probe,
        }

    def list(self, ops: Sequence[Op]) -> list[Checked]:
        """Checks a list as a whole and charges its pulses; when one operation is refused, nothing is charged.

        Raises:
            LimitExceeded: something in the list is above a limit.
            InvalidOperation: something in the list is not well formed, or cannot even be looked at.
        """
        self._wear.begin()
        checked: list[Checked] = []
        try:
            for op in ops:
                check = self._by_type.get(type(op))
                if check is None:
                    raise InvalidOperation(type(op).__name__, "this is not an operation of the contract")
                checked.append(check(op))
        except BaseException as error:
            self._wear.roll_back()
            if isinstance(error, HilError) or not isinstance(error, Exception):
                raise
            seen_text = f"{type(error).__name__}: {ascii(str(error))[:200]}"
            raise InvalidOperation("list of operations", f"cannot be checked ({seen_text})") from error
        return checked

    def _writing(self, check: Callable[[Any], tuple[Pulse | Outer | Ramp, float, Tensor]]) -> Callable[[Any], Checked]:
        def charged(given: Any) -> Checked:
            op, peak, counts = check(given)
            if isinstance(op, Ramp) and op.kind is Kind.FORM:
                self._wear.form(op.blocks, op.sign != 0)
            self._wear.charge(op.blocks, counts)
            return Checked(op, peak, counts)

        return charged

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read(self, op: Read) -> Checked:
        blocks, drive, sense, feed, pairs = op.blocks, op.drive, op.sense, op.feed, op.pairs
        key = (id(blocks), id(sense), id(feed), id(drive), id(pairs))
        known = self._readings.get(key)
        if known is None:
            known = self._readings[key] = self._reading(op)
        volts = tensor("Read", "volts", op.volts, FLOATS)
        if volts.dim() != 3:
            raise InvalidOperation("Read", f"volts must be float [feeds, batch, driven], got {seen(volts)}")
        feeds, batch, driven = volts.shape
        if driven != known.driven:
            raise InvalidOperation("Read", f"volts drive {driven} lines and the blocks have {known.driven}")
        if feeds < known.least_feeds or (feed is None and feeds != known.feeds):
            wanted = f"{known.feeds} rows, one a block" if feed is None else f"at least {known.least_feeds} rows"
            raise InvalidOperation("Read", f"volts must have {wanted}, got {feeds}")
        peak = self._vectors(blocks, feed, volts) if batch else 0.0
        return Checked(Read(blocks, volts, drive, sense, feed, pairs), peak)

    def _reading(self, op: Read) -> _Reading:
        """Checks all of a Read but its volts."""
        drive, sense, feed = op.drive, op.sense, op.feed
        blocks = self._blocks.reading(op.blocks)
        member("Read", "pairs", op.pairs, bool)
        self._limits.sense("Read", sense, drive, "line_amps")
        if sense.volts is not None:
            raise InvalidOperation("Read", "a Read brings its own vectors; leave sense.volts out")
        if op.pairs and blocks.lines(drive.other) % 2:
            raise InvalidOperation("Read", "pairs need an even number of sensed lines")
        tiles, least = len(blocks), 0
        if feed is not None:
            if type(feed) is not tuple or not all(type(row) is int for row in feed):
                raise InvalidOperation("Read", f"feed must be a tuple of whole numbers, got {described(feed)}")
            if len(feed) != tiles or min(feed) < 0:
                raise InvalidOperation("Read", f"feed must name a row of volts for each of {tiles} blocks")
            least = max(feed) + 1
        if len(self._readings) >= 1024:
            self._readings.clear()
        return _Reading((op.blocks, sense, feed), tiles, least, blocks.lines(drive))

    def _vectors(self, blocks: Blocks, feed: tuple[int, ...] | None, volts: Tensor) -> float:
        """Compares all input voltages at once; NaN shows in the extremes too. Returns the largest magnitude."""
        low, high = extremes(volts)
        least, most = self._bounds[volts.dtype]
        if low >= least and high <= most:
            return max(high, -low)
        where = self._worst(blocks, feed, volts)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InvalidOperation("Read", f"volts hold a value that is not finite ({where})")
        value, (limit, key) = (low, self._low) if high <= most else (high, self._high)
        self._limits.refuse_read(value, limit, where, key)

    def _worst(self, blocks: Blocks, feed: tuple[int, ...] | None, volts: Tensor) -> str:
        """Names the kernel, vector and line of the voltage that is farthest outside."""
        middle = (self._low[0] + self._high[0]) / 2
        where = (volts - middle).abs().nan_to_num_(torch.inf, posinf=torch.inf).argmax()
        row, sample, line = (int(i) for i in torch.unravel_index(where, volts.shape))
        if feed is None or row in feed:
            tile = row if feed is None else feed.index(row)
            return f"kernel {blocks.kernel[tile]}, vector {sample}, line {line}"
        return f"row {row} of volts that no block is fed with, vector {sample}, line {line}"

    def _read_cells(self, op: ReadCells) -> Checked:
        blocks = self._blocks.reading(op.blocks)
        mask = None if op.mask is None else cells("ReadCells", "mask", op.mask, blocks, (torch.bool,))
        self._limits.sense("ReadCells", op.sense, op.drive, "cell_amps")
        volts = self._limits.cell_volts("ReadCells", op.sense.volts, blocks)
        return Checked(ReadCells(blocks, op.sense, op.drive, mask), abs(volts))

    # -- neither reading nor writing -------------------------------------------------------------------------------

    @staticmethod
    def _wait(op: Wait) -> Checked:
        if not number("Wait", "seconds", op.seconds) >= 0:
            raise InvalidOperation("Wait", f"seconds must be at least 0, got {op.seconds}")
        return Checked(op, 0.0)

    def _probe(self, op: Probe) -> Checked:
        if type(op.names) is not tuple or not all(type(name) is str for name in op.names):
            raise InvalidOperation("Probe", f"names must be a tuple of text, got {described(op.names)}")
        unknown = [name for name in op.names if name not in self._spec.abilities.probes]
        if unknown:
            known = ", ".join(self._spec.abilities.probes) or "none"
            raise InvalidOperation("Probe", f"the board has no probe {ascii(unknown[0])[:40]}; it has {known}")
        return Checked(op, 0.0)
