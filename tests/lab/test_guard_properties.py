"""The guard against an oracle: random lists mix legal and illegal values.

The guard must accept a list exactly when the oracle finds every operation legal, send what it accepts unchanged, send
nothing of what it refuses, and keep no wear of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from guard_oracle import C, K, Oracle, R
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
)
from hil.errors import InvalidOperation, LimitExceeded
from hil.lab.guard import Guard

ANY = settings(
    derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MANY = settings(ANY, max_examples=1000)


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


@pytest.mark.slow
@MANY
@given(gated=lists("gated"), passive=lists("passive"))
def test_the_guard_agrees_with_the_oracle_in_many_cases(
    boards: dict[str, BoardSpec], gated: list[list[Any]], passive: list[list[Any]]
) -> None:
    agree(boards["gated"], gated)
    agree(boards["passive"], passive)
