"""The guard against an oracle: a second, literal reading of the rules that shares no code with the checks.

Random lists mix legal and illegal values. The guard must accept a list exactly when the oracle finds every operation
legal, send what it accepts unchanged, send nothing of what it refuses, and keep no wear of it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hil.contract import (
    Bias,
    Blocks,
    BoardSpec,
    Kind,
    Outcome,
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
)  # fmt: skip
from hil.errors import InvalidOperation, LimitExceeded
from hil.lab.guard import Guard

K, R, C = 2, 4, 3
ANY = settings(
    derandomize=True, deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="session")
def boards(spec_of: Callable[..., BoardSpec]) -> dict[str, BoardSpec]:
    """Two boards: gated, forming once; passive with a current source, forming free, half-select limited."""
    limits: dict[str, Any] = {
        "line_volts": 2.2, "read_cell_volts": 0.3, "read_array_volts": 0.1, "write_volts": 1.5, "form_volts": 2.1,
        "cell_amps": 1e-4, "form_amps": 2e-4, "line_amps": 1e-3, "pulse_seconds": 1e-3, "slew": 0.25,
        "pulses_per_run": 12, "pulses_per_life": 12,
    }  # fmt: skip
    gated = limits | {"gate_volts": 2.0, "gate_step": 0.5, "forming": "once"}
    passive = limits | {"half_select_volts": 0.75, "forming": "free"}
    source = {"compliance": "source", "compliance_low": 1e-6, "compliance_high": 9e-5, "biases": tuple(Bias)}
    size = {"kernels": K, "rows": R, "cols": C}
    return {
        "gated": spec_of(**size, limits=gated, writing={"biases": (Bias.FLOAT, Bias.GROUND)}),
        "passive": spec_of(selector="passive", **size, limits=passive, writing=source),
    }


class Recorder:
    """A board that keeps what it is sent."""

    def __init__(self, spec: BoardSpec) -> None:
        self.spec = spec
        self.sent: list[Any] = []

    def execute(self, ops: list[Any]) -> list[Outcome]:
        self.sent += ops
        return [Outcome(None, None, None, 0.0, 0.0, 0) for _ in ops]


# -- operations, legal and illegal -----------------------------------------------------------------------------------


def mostly(usual: list[Any], rare: list[Any]) -> st.SearchStrategy[Any]:
    """Mostly usual values: of an operation with ten parts, each part must nearly always be legal."""
    return st.integers(0, 39).flatmap(lambda n: st.sampled_from(rare if n == 39 else usual))


def edges(limit: float, low: float = 0.0) -> tuple[list[float], list[Any]]:
    """Values up to a limit, and values that a limit must stop."""
    over = [math.nextafter(limit, math.inf), 1.01 * limit, 1000 * limit, math.inf, -math.inf, math.nan, True, "0.1"]
    return [limit, limit / 2, low], over


BLOCKS = mostly(
    [Blocks((0,), (0,), (0,), 2, 2), Blocks((0, 1), (1, 2), (1, 0), 2, 2), Blocks((1, 1), (0, 2), (0, 1), 2, 2)],
    [
        Blocks((0, 0), (0, 1), (0, 1), 2, 2), Blocks((2,), (0,), (0,), 2, 2), Blocks((0,), (3,), (0,), 2, 2),
        Blocks((0,), (0,), (-1,), 2, 2), Blocks((), (), (), 2, 2), Blocks((0, 1), (0,), (0,), 2, 2),
        Blocks((0.0,), (0,), (0,), 2, 2), [0],  # type: ignore[arg-type]
    ],
)  # fmt: skip


@st.composite
def cells(draw: Any, blocks: Any, usual: list[Any], rare: list[Any]) -> Any:
    """A float, or a tensor of either float dtype in any shape that broadcasts, expanded or transposed now and then."""
    value = mostly(usual, rare)
    shape = blocks.shape if isinstance(blocks, Blocks) else (1, 1, 1)
    how = draw(st.integers(0, 5))
    if how < 2:
        return draw(value)
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    size = draw(st.sampled_from([(), (1,), shape, (shape[0], 1, shape[2])])) if how < 5 else shape
    numbers = draw(st.lists(value, min_size=math.prod(size), max_size=math.prod(size)))
    made = torch.tensor([v if type(v) is float else math.nan for v in numbers], dtype=dtype).reshape(size)
    if how == 5:
        made = made.transpose(1, 2).contiguous().transpose(1, 2)
    return made.expand(shape) if draw(st.booleans()) else made


@st.composite
def senses(draw: Any, kind: str, volts: Any) -> Sense:
    gate = draw(mostly([None, 1.0, 2.0] if kind == "gated" else [None], [math.nextafter(2.0, 3), -0.1, math.nan]))
    amps = draw(mostly([9e-5, 1e-6] if kind == "passive" else [None], [None, 9.1e-5, 9e-7, 1e-3, 0.0, math.nan, 1e-5]))
    bias = draw(mostly([None, Bias.FLOAT, Bias.GROUND], [Bias.HALF, "half"]))
    averages = draw(mostly([1, 4], [0, -1, 1.0, True, 2**40]))
    full_scale = draw(mostly([None, 1e-4], [0.0, -1e-4, math.inf]))
    return Sense(volts, averages, gate, full_scale, amps, bias)


@st.composite
def shapes(draw: Any, kind: str, blocks: Any, volts_limit: float) -> Shape:
    gates = draw(cells(blocks, *edges(2.0))) if kind == "gated" else draw(mostly([None], [1.0]))
    return Shape(
        draw(cells(blocks, *edges(volts_limit))),
        draw(mostly([1e-3, 1e-6], [1.001e-3, 1.0, 0.0, -1e-6, math.nan, math.inf])),
        draw(mostly([gates], [None])),
        draw(mostly([9e-5, 1e-6] if kind == "passive" else [None], [None, 9.1e-5, 9e-7, 1.1e-4, -1e-5, math.nan])),
    )


SIDES = mostly([Side.ROWS, Side.COLS], ["rows", None])


@st.composite
def reads(draw: Any, kind: str) -> Read:
    blocks, side = draw(BLOCKS), draw(SIDES)
    tiles = len(blocks)
    feed = draw(mostly([None, tuple(range(tiles)), (0,) * tiles], [(5,) * tiles, (-1,) * tiles, (0,) * (tiles + 1)]))
    feeds = draw(mostly([tiles], [tiles + 1, 1]))
    size = (feeds, draw(st.integers(0, 3)), draw(mostly([2], [3, 1])))
    usual, rare = edges(0.1, -0.1)
    numbers = draw(st.lists(mostly(usual, rare), min_size=math.prod(size), max_size=math.prod(size)))
    dtype = draw(mostly([torch.float32, torch.float64], [torch.float16, torch.int64]))
    flat = [float(v) if type(v) is float and (dtype.is_floating_point or math.isfinite(v)) else 300.0 for v in numbers]
    volts = torch.tensor(flat, dtype=dtype).reshape(size)
    sense = draw(senses(kind, draw(mostly([None], [0.1]))))
    return Read(blocks, volts, side, sense, feed, draw(mostly([False, True], [1, "no"])))


@st.composite
def cell_reads(draw: Any, kind: str) -> ReadCells:
    usual, rare = edges(0.3, -0.3)
    sense = draw(senses(kind, draw(mostly(usual, [*rare, None]))))
    blocks = draw(BLOCKS)
    mask = torch.ones(2, 1, dtype=torch.bool)
    return ReadCells(blocks, sense, draw(SIDES), draw(mostly([None, mask], [mask.int(), torch.ones(3, 1) > 0])))


def biases(kind: str) -> st.SearchStrategy[Any]:
    usual = [None, Bias.GROUND] if kind == "gated" else [Bias.HALF, Bias.THIRD]
    return mostly(usual, [Bias.HALF, None, Bias.FLOAT, Bias.THIRD, "ground"])


@st.composite
def pulses(draw: Any, kind: str) -> Pulse:
    blocks = draw(BLOCKS)
    dtype = draw(mostly([torch.int8, torch.int32, torch.int64, torch.uint8], [torch.bool, torch.float32]))
    usual = [0, 0, 1, 3] if dtype in (torch.uint8, torch.bool) else [0, 1, -1, -3]
    extreme = [2**63 - 1, -(2**63), 2**32, -(2**31), 13] if dtype is torch.int64 else [13]
    size = draw(st.sampled_from([(), blocks.shape if isinstance(blocks, Blocks) else (1,), (1, 2, 1)]))
    numbers = draw(st.lists(mostly(usual, extreme), min_size=math.prod(size), max_size=math.prod(size)))
    return Pulse(
        blocks, torch.tensor(numbers, dtype=dtype).reshape(size), draw(shapes(kind, blocks, 1.5)),
        draw(shapes(kind, blocks, 1.5)), draw(mostly([1, 2, 4], [0, -1, 2**62, 13, True, 1.0])),
        draw(mostly([False, True], [1])), draw(biases(kind)),
    )  # fmt: skip


@st.composite
def outers(draw: Any, kind: str) -> Outer:
    blocks = draw(BLOCKS)
    tiles, slots = len(blocks), draw(st.integers(0, 3))

    def bits(lines: int) -> Tensor:
        lines = draw(mostly([lines], [lines + 1]))
        sign = torch.tensor(draw(st.lists(st.sampled_from([-1, 1]), min_size=lines, max_size=lines)))
        count = tiles * slots * lines
        on = torch.tensor(draw(st.lists(mostly([0, 1], [-1, 2, -128]), min_size=count, max_size=count)))
        dtype = draw(mostly([torch.int8], [torch.int32, torch.float32]))
        return (on.reshape(tiles, slots, lines) * sign).to(dtype)

    both = [draw(shapes(kind, blocks, 1.5)) for _ in range(2)]
    return Outer(blocks, bits(2), bits(2), both[0], both[1], draw(biases(kind)))


@st.composite
def ramps(draw: Any, kind: str) -> Ramp:
    blocks = draw(BLOCKS)
    why = draw(mostly(list(Kind), ["set"]))
    volts_limit, amps_limit = (2.1, 2e-4) if why is Kind.FORM else (1.5, 1e-4)
    knob = draw(mostly(["volts", "gate"] if kind == "gated" else ["volts"], ["gate", "width", None]))
    top, step = (2.0, 0.5) if knob == "gate" else (volts_limit, 0.25)
    count = draw(st.integers(1, 4))
    step = draw(mostly([step, step / 2, -step / 2], [1.01 * step, -1.01 * step]))
    last = draw(mostly([top, 0.8 * top], [1.0001 * top, 2 * top, math.nan, math.inf]))
    last = min(top, (count - 1) * -step) if step < 0 else last
    points = [last - step * i for i in reversed(range(count))]
    dtype = draw(mostly([torch.float32, torch.float64], [torch.int32, torch.float16]))
    values = points if dtype.is_floating_point else [1] * count
    sign = draw(st.lists(mostly([0, 1, 1] if why is Kind.FORM else [0, 1, -1], [-1, 2]), min_size=2, max_size=2))
    start = draw(mostly([0, count - 1, torch.tensor([[0], [count - 1]])], [count, -1, True, 0.0, torch.tensor(0.0)]))
    volts = draw(mostly([0.3, 0.1], [0.31, None, math.nan, -0.6]))
    amps_max = draw(mostly([amps_limit, 1e-6], [math.nextafter(amps_limit, 1), math.inf, math.nan, 0.0]))
    stop = Stop(
        draw(mostly([1e-6, -math.inf, torch.tensor([1e-6])], [math.nan, torch.tensor([math.nan]), "0"])),
        1e-5, amps_max,
        jump=draw(mostly([math.inf, 1e-6], [math.nan])), rises=draw(mostly([3], [0, True])),
        rise_after=draw(mostly([None, (1.0, 1e-6)], [(1.0, math.nan), (1.0,)])),
    )  # fmt: skip
    return Ramp(
        blocks, torch.tensor([[s] for s in sign], dtype=draw(mostly([torch.int8], [torch.int32]))), why,
        draw(shapes(kind, blocks, volts_limit)), knob, torch.tensor(values, dtype=dtype), start,
        dataclasses.replace(draw(senses(kind, volts)), unselected=draw(biases(kind))), stop,
        draw(mostly([False, True], [1])), draw(mostly([False, True], [None])),
    )  # fmt: skip


def lists(kind: str) -> st.SearchStrategy[list[list[Any]]]:
    other = st.one_of(
        mostly([0.0, 1.0], [-1.0, math.nan, math.inf, "1", True, 10**400]).map(Wait),
        mostly([("temperature",), ()], [("humidity",), "temperature", (1,)]).map(Probe),
        mostly([Wait(0.0)], ["pulse", None, Sense()]),
    )
    one = st.one_of(reads(kind), cell_reads(kind), pulses(kind), outers(kind), ramps(kind), ramps(kind), other)
    return st.lists(st.lists(one, min_size=1, max_size=3), min_size=1, max_size=3)


# -- the oracle ------------------------------------------------------------------------------------------------------


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


def equal(sent: Any, asked: Any) -> bool:
    """Whether two values are the same numbers; whole numbers may have changed their width."""
    if isinstance(asked, Tensor):
        whole = not asked.is_floating_point() and asked.dtype is not torch.bool
        wide = (sent.long(), asked.long()) if whole else (sent, asked)
        private = asked.numel() == 0 or sent.data_ptr() != asked.data_ptr()
        return private and wide[0].dtype == wide[1].dtype and torch.equal(*wide)
    if dataclasses.is_dataclass(asked) and not isinstance(asked, Blocks):
        fields = dataclasses.fields(asked)
        return type(sent) is type(asked) and all(equal(getattr(sent, f.name), getattr(asked, f.name)) for f in fields)
    return type(sent) is type(asked) and sent == asked


def agree(spec: BoardSpec, wanted: list[list[Any]]) -> None:
    board = Recorder(spec)
    guard, oracle = Guard(board), Oracle(spec)  # type: ignore[arg-type]
    for ops in wanted:
        board.sent.clear()
        wear = guard.wear.snapshot()
        legal = oracle.allows(ops)
        event(f"legal: {legal}")
        try:
            guard.execute(ops)
        except (LimitExceeded, InvalidOperation) as refusal:
            assert str(refusal).endswith("nothing was sent")
            assert not legal, refusal
            assert not board.sent
            assert all(torch.equal(wear[name], now) for name, now in guard.wear.snapshot().items())
        else:
            assert legal
            assert len(board.sent) == len(ops)
            assert all(equal(sent, asked) for sent, asked in zip(board.sent, ops, strict=True))
    for (k, r, c), count in oracle.pulses.items():
        assert int(guard.wear.run[k, r, c]) == int(guard.wear.life[k, r, c]) == count


@ANY
@given(wanted=lists("gated"))
def test_the_guard_of_a_gated_board_agrees_with_the_oracle(
    boards: dict[str, BoardSpec], wanted: list[list[Any]]
) -> None:
    agree(boards["gated"], wanted)


@ANY
@given(wanted=lists("passive"))
def test_the_guard_of_a_passive_board_agrees_with_the_oracle(
    boards: dict[str, BoardSpec], wanted: list[list[Any]]
) -> None:
    agree(boards["passive"], wanted)
