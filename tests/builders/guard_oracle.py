"""A second, literal reading of the rules of the guard, which shares no code with the checks."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hil.contract import (
    Bias,
    Blocks,
    BoardSpec,
    Kind,
    Outer,
    Probe,
    Pulse,
    Ramp,
    Read,
    ReadCells,
    Sense,
    Shape,
    Side,
    Wait,
)

K, R, C = 2, 4, 3


class Illegal(Exception):
    """The oracle's verdict."""


def need(condition: object) -> None:
    if not condition:
        raise Illegal


def is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)  # type: ignore[arg-type]


def each(value: Any, blocks: Blocks, dtypes: tuple[torch.dtype, ...]) -> list[Any]:
    """All numbers of a tensor that must broadcast to the blocks' cells, in their order."""
    need(isinstance(value, Tensor) and value.dtype in dtypes and value.dim() <= 3)
    try:
        return value.expand(blocks.shape).flatten().tolist()
    except RuntimeError:
        raise Illegal from None


def below(value: float, limit: float, dtype: torch.dtype = torch.float64) -> bool:
    return value <= (float(np.float32(limit)) if dtype is torch.float32 else limit)


FLOATS = (torch.float32, torch.float64)
WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


class Oracle:
    """Counts the pulses of each cell, and says whether a list is legal."""

    def __init__(self, spec: BoardSpec) -> None:
        self.spec, self.gated = spec, spec.geometry.selector == "gated"
        self.pulses: Counter[tuple[int, int, int]] = Counter()
        self.formed: set[tuple[int, int, int]] = set()

    def allows(self, ops: list[Any]) -> bool:
        before = self.pulses.copy(), self.formed.copy()
        try:
            for op in ops:
                self.one(op)
        except Illegal:
            self.pulses, self.formed = before
            return False
        return True

    def one(self, op: Any) -> None:
        need(type(op) in (Read, ReadCells, Pulse, Outer, Ramp, Wait, Probe))
        if isinstance(op, Wait):
            need(is_number(op.seconds) and op.seconds >= 0)
        elif isinstance(op, Probe):
            need(type(op.names) is tuple and all(name == "temperature" for name in op.names))
        else:
            need(type(op.blocks) is Blocks)
            self.blocks(op.blocks, writes=not isinstance(op, Read | ReadCells))
            getattr(self, type(op).__name__.lower())(op, op.blocks)

    def blocks(self, b: Blocks, writes: bool) -> None:
        need(all(type(n) is int for n in (*b.kernel, *b.row, *b.col)))
        need(len(b.kernel) == len(b.row) == len(b.col) >= 1)
        found = self.names(b)
        need(all(0 <= k < K and 0 <= r < R and 0 <= c < C for k, r, c in found))
        need(not writes or len(set(found)) == len(found))

    @staticmethod
    def names(b: Blocks) -> list[tuple[int, int, int]]:
        inside = itertools.product(range(len(b.kernel)), range(b.n_rows), range(b.n_cols))
        return [(b.kernel[t], b.row[t] + r, b.col[t] + c) for t, r, c in inside]

    def sense(self, s: Sense, amps_limit: float) -> None:
        need(type(s.averages) is int and 1 <= s.averages < 2**31)
        need(s.gate is None or (self.gated and is_number(s.gate) and 0 <= s.gate <= 2.0))
        need(s.full_scale is None or (is_number(s.full_scale) and s.full_scale > 0))
        need(s.unselected is None or s.unselected in self.spec.writing.biases)
        self.compliance(s.amps, amps_limit)

    def compliance(self, amps: Any, limit: float) -> None:
        if self.gated:
            need(amps is None)
        else:
            need(is_number(amps) and 1e-6 <= amps <= min(9e-5, limit))

    def read(self, op: Read, b: Blocks) -> None:
        need(type(op.drive) is Side and type(op.pairs) is bool and op.sense.volts is None)
        need(op.volts.dtype in FLOATS and op.volts.shape[2] == 2)
        rows = op.volts.shape[0]
        need(rows == len(b) if op.feed is None else len(op.feed) == len(b) and all(0 <= f < rows for f in op.feed))
        need(all(below(abs(v), 0.1, op.volts.dtype) for v in op.volts.flatten().tolist()))
        self.sense(op.sense, 1e-3)

    def readcells(self, op: ReadCells, b: Blocks) -> None:
        need(type(op.drive) is Side and is_number(op.sense.volts) and abs(op.sense.volts) <= 0.3)
        need(op.mask is None or each(op.mask, b, (torch.bool,)))
        self.sense(op.sense, 1e-4)

    def cells(self, value: Any, b: Blocks, *limits: float) -> None:
        if isinstance(value, Tensor):
            need(all(v >= 0 and all(below(v, x, value.dtype) for x in limits) for v in each(value, b, FLOATS)))
        else:
            need(is_number(value) and 0 <= value <= min(limits))

    def shape(self, s: Shape, b: Blocks, bias: Any, form: bool = False, knob: str = "") -> None:
        need(bias is None or bias in self.spec.writing.biases)
        need(is_number(s.seconds) and 0 < s.seconds <= 1e-3)
        self.volts(s.volts, b, bias, form)
        if s.gate is None:
            need(not self.gated or knob == "gate")
        else:
            need(self.gated)
            self.cells(s.gate, b, 2.0, 2.2)
        self.compliance(s.amps, 2e-4 if form else 1e-4)

    def volts(self, value: Any, b: Blocks, bias: Any, form: bool) -> None:
        share = {Bias.HALF: 2, Bias.THIRD: 3}.get(bias, 1)
        half = [] if self.gated else [0.75]
        self.cells(value, b, 2.1 if form else 1.5, 2.2)
        self.cells(value / share if is_number(value) or isinstance(value, Tensor) else value, b, *half, math.inf)

    def charge(self, b: Blocks, counts: list[int]) -> None:
        for cell, count in zip(self.names(b), counts, strict=True):
            self.pulses[cell] += abs(count)
            need(count == 0 or self.pulses[cell] <= 12)

    def pulse(self, op: Pulse, b: Blocks) -> None:
        need(type(op.cycles) is int and op.cycles >= 1 and type(op.alternate) is bool)
        counts = each(op.counts, b, WHOLE)
        need(op.cycles < 2**31)
        self.shape(op.up, b, op.unselected)
        self.shape(op.down, b, op.unselected)
        self.charge(b, [n * op.cycles for n in counts])

    def outer(self, op: Outer, b: Blocks) -> None:
        rows, cols = op.row_bits, op.col_bits
        need(rows.dtype == cols.dtype == torch.int8 and rows.shape[2] == cols.shape[2] == 2)
        for bits in (rows.tolist(), cols.tolist()):
            for tile in bits:
                for line in zip(*tile, strict=True):
                    need(set(line) <= {0, 1} or set(line) <= {0, -1})
        self.shape(op.up, b, op.unselected)
        self.shape(op.down, b, op.unselected)
        slots = range(rows.shape[1])
        triples = itertools.product(range(len(b)), range(2), range(2))
        self.charge(b, [sum(abs(int(rows[t, s, r] * cols[t, s, c])) for s in slots) for t, r, c in triples])

    def ramp(self, op: Ramp, b: Blocks) -> None:
        form = op.kind is Kind.FORM
        need(type(op.kind) is Kind and type(op.back) is bool and type(op.trace) is bool)
        signs = each(op.sign, b, (torch.int8,))
        need(set(signs) <= ({0, 1} if form else {-1, 0, 1}))
        need(op.points.dtype in FLOATS)
        points, dtype = op.points.tolist(), op.points.dtype
        steps = [abs(y - x) for x, y in itertools.pairwise(points)]
        need(op.knob == "volts" or (op.knob == "gate" and self.gated))
        need(all(step <= (0.5 if op.knob == "gate" else 0.25) * 1.00001 for step in steps))
        self.shape(op.shape, b, op.sense.unselected, form, op.knob)
        each_point = Blocks((0,), (0,), (0,), 1, len(points))
        if op.knob == "gate":
            self.cells(op.points, each_point, 2.0, 2.2)
        else:
            self.volts(op.points, each_point, op.sense.unselected, form)
        need(all(math.isfinite(p) and dtype in FLOATS for p in points))
        self.sense(op.sense, 2e-4 if form else 1e-4)
        need(is_number(op.sense.volts) and abs(op.sense.volts) <= 0.3)
        starts = each(op.start, b, WHOLE) if isinstance(op.start, Tensor) else [op.start] * len(signs)
        need(all(type(s) is int and 0 <= s < len(points) for s in starts))
        stop = op.stop
        need(is_number(stop.amps_max) and 0 < stop.amps_max <= (2e-4 if form else 1e-4))
        need(not math.isnan(stop.jump) and type(stop.rises) is int and stop.rises >= 1)
        need(stop.rise_after is None or (len(stop.rise_after) == 2 and not any(map(math.isnan, stop.rise_after))))
        lows = each(stop.low, b, FLOATS) if isinstance(stop.low, Tensor) else [stop.low]
        need(all(type(v) is float and not math.isnan(v) for v in lows))
        if form and not self.spec.limits.forming == "free":
            mine = {cell for cell, sign in zip(self.names(b), signs, strict=True) if sign}
            need(not mine & self.formed)
            self.formed |= mine
        down = len(points) - 1 if op.back else 0
        self.charge(b, [(len(points) - s + down) * abs(sign) for s, sign in zip(starts, signs, strict=True)])
