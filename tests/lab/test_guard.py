"""The guard: every limit refuses by its own name, nothing malformed passes, and faults leave a consistent state."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hil.contract import (
    Bias,
    Blocks,
    BoardSpec,
    Flag,
    Kind,
    Limits,
    Outcome,
    Outer,
    Probe,
    Pulse,
    Ramp,
    Range,
    Read,
    ReadCells,
    SafeReport,
    Sense,
    Shape,
    Side,
    Stop,
    Wait,
)  # fmt: skip
from hil.errors import (
    Aborted,
    BoardFault,
    CheckpointError,
    HilError,
    InvalidOperation,
    LimitBreached,
    LimitExceeded,
    StorageError,
    Unsupported,
    UsageError,
)  # fmt: skip
from hil.lab.checks import Checked
from hil.lab.guard import Guard
from hil.lab.ledger import Ledger
from hil.lab.stop import StopToken
from hil.lab.wear import Wear
from sim_backend.board import SimBoard

SpecOf = Callable[..., BoardSpec]
F32, F64 = torch.float32, torch.float64
ONE = Blocks((0,), (0,), (0,), 2, 2)
TWO = Blocks((0, 1), (0, 1), (0, 1), 2, 2)


class Recorder:
    """A board that keeps what it is sent, and answers or fails as it is told."""

    def __init__(self, spec: BoardSpec, answer: Callable[[list[Any]], list[Outcome]] | None = None) -> None:
        self.spec, self.sent, self.closed = spec, [], False
        self._answer = answer or (lambda ops: [Outcome(None, None, None, 0.0, 0.0, 0) for _ in ops])

    def execute(self, ops: list[Any]) -> list[Outcome]:
        self.sent += ops
        return self._answer(ops)

    def now(self) -> float:
        return 7.0

    def make_safe(self) -> SafeReport:
        return SafeReport({}, confirmed=True)

    def close(self) -> None:
        self.closed = True


def refused(spec: BoardSpec, *ops: Any) -> HilError:
    """The refusal of a list, of which nothing was sent and no wear was kept."""
    board = Recorder(spec)
    guard = Guard(board)  # type: ignore[arg-type]
    with pytest.raises((LimitExceeded, InvalidOperation)) as caught:
        guard.execute(ops)
    assert not board.sent
    assert not any(bool(counter.any()) for counter in guard.wear.snapshot().values())
    assert str(caught.value).endswith("nothing was sent")
    assert caught.value.exit_code == 5
    return caught.value


def sent(spec: BoardSpec, *ops: Any) -> list[Any]:
    board = Recorder(spec)
    Guard(board).execute(ops)  # type: ignore[arg-type]
    return board.sent


# -- each limit, by its own name -------------------------------------------------------------------------------------

GATED: dict[str, Any] = {
    "line_volts": 2.5, "read_cell_volts": 0.3, "read_array_volts": 0.2, "write_volts": 1.5, "form_volts": 1.9,
    "gate_volts": 2.2, "gate_step": 0.3, "slew": 0.2, "cell_amps": 1e-4, "form_amps": 2e-4, "line_amps": 3e-4,
    "pulse_seconds": 1e-3, "forming": "once", "pulses_per_run": 20, "pulses_per_life": 30,
}  # fmt: skip
PASSIVE: dict[str, Any] = GATED | {"gate_volts": None, "gate_step": None, "half_select_volts": 0.6}


def where(spec: BoardSpec) -> BoardSpec:
    """The spec with a place for each key, as a board file gives it."""
    parts = ("limits", "reading", "writing")
    keys = [f"{part}.{item.name}" for part in parts for item in dataclasses.fields(getattr(spec, part))]
    return replace(spec, where={key: f"board.yaml:{line}" for line, key in enumerate(keys, 1)})


@pytest.fixture(scope="session")
def gated(spec_of: SpecOf) -> BoardSpec:
    return where(spec_of(limits=GATED, writing={"biases": (Bias.FLOAT, Bias.GROUND)}))


@pytest.fixture(scope="session")
def passive(spec_of: SpecOf) -> BoardSpec:
    source = {"compliance": "source", "compliance_low": 1e-6, "compliance_high": 5e-4, "biases": tuple(Bias)}
    return where(spec_of(selector="passive", limits=PASSIVE, writing=source))


def shape(volts: Any = 1.0, seconds: Any = 1e-6, gate: Any = 2.0, amps: Any = None) -> Shape:
    return Shape(volts, seconds, gate, amps)


def pulse(up: Shape | None = None, counts: Any = 1, **more: Any) -> Pulse:
    counts = counts if isinstance(counts, torch.Tensor) else torch.tensor(counts)
    return Pulse(ONE, counts, up or shape(), more.pop("down", shape()), **more)


def amps_pulse(amps: float, **more: Any) -> Pulse:
    both = shape(gate=None, amps=amps, volts=more.pop("volts", 0.5))
    return Pulse(ONE, torch.tensor(1), both, both, **more)


def read(volts: Any, **more: Any) -> Read:
    made = volts if isinstance(volts, torch.Tensor) else torch.full((1, 1, 2), volts, dtype=more.pop("dtype", F64))
    return Read(ONE, made, more.pop("drive", Side.COLS), more.pop("sense", Sense()), **more)


def read_cells(volts: Any, **sense: Any) -> ReadCells:
    return ReadCells(ONE, Sense(volts, **sense), Side.COLS)


def ramp(points: Any = (0.5, 0.6), knob: str = "volts", kind: Kind = Kind.SET, dtype: Any = F64, **more: Any) -> Ramp:
    usual: dict[str, Any] = {
        "blocks": ONE, "sign": torch.ones(1, 1, 1, dtype=torch.int8), "kind": kind, "shape": shape(), "knob": knob,
        "points": points if isinstance(points, torch.Tensor) else torch.tensor(points, dtype=dtype),
        "start": 0, "sense": Sense(0.1), "stop": Stop(1e-6, 1e-5, 1e-5),
    }  # fmt: skip
    return Ramp(**usual | more)


def outer(slots: int) -> Outer:
    bits = torch.ones(1, slots, 2, dtype=torch.int8)
    return Outer(ONE, bits, bits, shape(), shape())


def tensor(value: float, dtype: Any) -> torch.Tensor:
    return torch.tensor([[[value]]], dtype=dtype)


def amps_max(value: float) -> Stop:
    return Stop(1e-6, 1e-5, value)


FORM = Kind.FORM
SOURCE = Sense(0.1, amps=1e-5)
# key, board, changes of limits that leave only this one, the value just legal, an operation for a value
TABLE: list[tuple[str, str, dict[str, Any], float, Callable[[Any], Any]]] = [
    ("limits.line_volts", "gated", {"write_volts": 9.0}, 2.5, lambda v: pulse(shape(v))),
    ("limits.line_volts", "gated", {"write_volts": 9.0, "slew": None}, 2.5, lambda v: ramp([1.0, v])),
    ("limits.line_volts", "gated", {"gate_volts": 9.0}, 2.5, lambda v: pulse(shape(gate=v))),
    ("limits.line_volts", "gated", {"line_volts": 0.25, "gate_volts": None}, 0.25, read_cells),
    ("limits.line_volts", "gated", {"line_volts": 0.1}, 0.1, read),
    ("limits.read_cell_volts", "gated", {}, 0.3, read_cells),
    ("limits.read_cell_volts", "gated", {}, 0.3, lambda v: read_cells(-v)),
    ("limits.read_cell_volts", "gated", {}, 0.3, lambda v: ramp(sense=Sense(v))),
    ("limits.read_array_volts", "gated", {}, 0.2, read),
    ("limits.read_array_volts", "gated", {}, 0.2, lambda v: read(-v)),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: pulse(shape(v))),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: pulse(down=shape(v))),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: pulse(shape(tensor(v, F64)))),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: ramp([1.4, v])),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: ramp(shape=shape(v))),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: ramp([1.0, 1.1], "gate", shape=shape(v))),
    ("limits.write_volts", "gated", {}, 1.5, lambda v: ramp([1.4, v], kind=Kind.SWEEP)),
    ("limits.form_volts", "gated", {}, 1.9, lambda v: ramp([1.8, v], kind=FORM)),
    ("limits.form_volts", "gated", {}, 1.9, lambda v: ramp([1.0, 1.1], "gate", FORM, shape=shape(v))),
    ("limits.gate_volts", "gated", {}, 2.2, lambda v: pulse(shape(gate=v))),
    ("limits.gate_volts", "gated", {}, 2.2, lambda v: pulse(shape(gate=tensor(v, F64)))),
    ("limits.gate_volts", "gated", {}, 2.2, lambda v: ramp([2.1, v], "gate")),
    ("limits.gate_volts", "gated", {}, 2.2, lambda v: read(0.1, sense=Sense(gate=v))),
    ("limits.gate_volts", "gated", {}, 2.2, lambda v: read_cells(0.1, gate=v)),
    ("limits.gate_volts", "gated", {}, 2.2, lambda v: ramp(sense=Sense(0.1, gate=v))),
    ("limits.half_select_volts", "passive", {}, 0.6, lambda v: amps_pulse(1e-5, volts=v)),
    ("limits.half_select_volts", "passive", {}, 0.6, lambda v: amps_pulse(1e-5, volts=v, unselected=Bias.GROUND)),
    ("limits.half_select_volts", "passive", {}, 1.2, lambda v: amps_pulse(1e-5, volts=v, unselected=Bias.HALF)),
    ("limits.half_select_volts", "passive", {"write_volts": 2.0, "half_select_volts": 0.5}, 1.5,
     lambda v: amps_pulse(1e-5, volts=v, unselected=Bias.THIRD)),
    ("limits.half_select_volts", "passive", {}, 0.6,
     lambda v: ramp([0.5, v], shape=shape(0.1, gate=None, amps=1e-5), sense=SOURCE)),
    ("limits.gate_step", "gated", {}, 0.3, lambda v: ramp([0.0, v], "gate")),
    ("limits.gate_step", "gated", {}, 0.3, lambda v: ramp([v, 0.0], "gate")),
    ("limits.slew", "gated", {}, 0.2, lambda v: ramp([0.0, v])),
    ("limits.cell_amps", "gated", {}, 1e-4, lambda v: ramp(stop=amps_max(v))),
    ("limits.cell_amps", "passive", {}, 1e-4, amps_pulse),
    ("limits.cell_amps", "passive", {}, 1e-4, lambda v: read_cells(0.1, amps=v)),
    ("limits.form_amps", "gated", {}, 2e-4, lambda v: ramp(kind=FORM, stop=amps_max(v))),
    ("limits.form_amps", "passive", {}, 2e-4,
     lambda v: ramp([0.5, 0.6], kind=FORM, shape=shape(0.5, gate=None, amps=v), sense=SOURCE)),
    ("limits.line_amps", "passive", {}, 3e-4, lambda v: read(0.1, sense=Sense(amps=v))),
    ("limits.pulse_seconds", "gated", {}, 1e-3, lambda v: pulse(shape(seconds=v))),
    ("limits.pulse_seconds", "gated", {}, 1e-3, lambda v: pulse(down=shape(seconds=v))),
    ("limits.pulse_seconds", "gated", {}, 1e-3, lambda v: ramp(shape=shape(seconds=v))),
    ("limits.pulses_per_run", "gated", {}, 20, lambda n: pulse(counts=int(n))),
    ("limits.pulses_per_run", "gated", {}, 20, lambda n: pulse(counts=-int(n))),
    ("limits.pulses_per_run", "gated", {}, 20, lambda n: outer(int(n))),
    ("limits.pulses_per_run", "gated", {}, 20, lambda n: ramp([1.0] * int(n))),
    ("limits.pulses_per_life", "gated", {"pulses_per_run": 99}, 30, lambda n: pulse(counts=int(n))),
    ("limits.pulses_per_life", "gated", {"pulses_per_run": 99}, 30, lambda n: outer(int(n))),
    ("limits.pulses_per_life", "gated", {"pulses_per_run": 99}, 30, lambda n: ramp([1.0] * int(n))),
    ("reading.volts_high", "gated", {"read_cell_volts": 0.9}, 0.5, read_cells),
    ("reading.volts_low", "gated", {"read_cell_volts": 0.9}, 0.5, lambda v: read_cells(-v)),
    ("reading.volts_high", "gated", {"read_array_volts": 0.9}, 0.5, read),
    ("reading.volts_low", "gated", {"read_array_volts": 0.9}, 0.5, lambda v: read(-v)),
    ("writing.compliance_high", "passive", {"cell_amps": 1.0}, 5e-4, amps_pulse),
    ("writing.compliance_low", "passive", {}, -1e-6, lambda v: amps_pulse(-v)),
]  # fmt: skip


def limited(spec: BoardSpec, changes: dict[str, Any]) -> BoardSpec:
    return replace(spec, limits=replace(spec.limits, **changes))


@pytest.mark.parametrize(
    ("key", "board", "changes", "limit", "make"), TABLE, ids=[f"{i}-{r[0]}" for i, r in enumerate(TABLE)]
)
def test_each_limit_refuses_by_its_own_name_and_nothing_below_it(
    request: pytest.FixtureRequest,
    key: str,
    board: str,
    changes: dict[str, Any],
    limit: float,
    make: Callable[[Any], Any],
) -> None:
    spec = limited(request.getfixturevalue(board), changes)
    over = limit + 1 if key.startswith("limits.pulses_") else math.nextafter(limit, math.inf)
    if key in ("limits.slew", "limits.gate_step"):
        over = limit * (1 + 1e-12)  # the difference of two points carries their rounding
    assert len(sent(spec, make(limit))) == 1
    error = refused(spec, make(over))
    assert isinstance(error, LimitExceeded)
    assert error.source == spec.where[key]
    part, name = key.split(".")
    lifted = replace(spec, **{part: replace(getattr(spec, part), **{name: -99 if "low" in name else 10**6})})
    if key.startswith("limits") and name not in ("line_volts", "gate_volts"):
        assert len(sent(lifted, make(over))) == 1  # no other limit stood in its way


def test_the_table_knows_every_limit() -> None:
    elsewhere = {"forming", "allow_uncompliant", "line_current_rule", "siemens_low", "siemens_high"}
    tested = {key.removeprefix("limits.") for key, *_ in TABLE if key.startswith("limits.")}
    assert {item.name for item in dataclasses.fields(Limits)} == tested | elsewhere


@pytest.mark.parametrize("limit", [0.2, 0.1, 0.3, 1 / 3])
def test_limits_are_compared_in_the_dtype_of_the_request(gated: BoardSpec, limit: float) -> None:
    spec = limited(gated, {"read_array_volts": limit, "write_volts": limit})
    exact32 = np.float32(limit)
    over32 = float(np.nextafter(exact32, np.float32(np.inf)))
    for make in (read, lambda v: pulse(shape(v), down=shape(v))):
        assert sent(spec, make(torch.full((1, 1, 2), limit, dtype=F32)))
        assert sent(spec, make(torch.full((1, 1, 2), limit, dtype=F64)))
        refused(spec, make(torch.full((1, 1, 2), over32, dtype=F32)))
        refused(spec, make(torch.full((1, 1, 2), math.nextafter(limit, 1), dtype=F64)))


def test_one_value_in_a_large_batch_is_found_in_any_layout(gated: BoardSpec) -> None:
    for at, bad in (((1, 4000, 1), 0.21), ((0, 0, 0), -0.21), ((1, 7, 0), math.nan), ((0, 5, 1), -math.inf)):
        volts = torch.full((2, 5000, 2), 0.2)
        volts[at] = bad
        for laid in (volts, volts.transpose(1, 2).contiguous().transpose(1, 2), volts[:, :, [1, 0]].flip(2)):
            error = refused(gated, Read(TWO, laid, Side.COLS))
            assert f"kernel {at[0]}, vector {at[1]}, line {at[2]}" in str(error)


def test_the_message_says_what_where_and_who_set_it(gated: BoardSpec) -> None:
    volts = torch.zeros(2, 3, 2)
    volts[1, 2, 0] = 0.5
    error = refused(gated, Read(TWO, volts, Side.COLS))
    place = gated.where["limits.read_array_volts"]
    assert str(error) == (
        f"read voltage 500 mV above 200 mV (kernel 1, vector 2, line 0), set in {place}; nothing was sent"
    )
    low = refused(gated, read(torch.tensor([[[-0.3, 0.2]]])))
    assert str(low).startswith("read voltage -300 mV below -200 mV (kernel 0, vector 0, line 0)")
    over = math.nextafter(1.5, 2)
    assert f"write voltage {over!r} V above 1.5 V" in str(refused(gated, pulse(shape(over))))


# -- wear over lists -------------------------------------------------------------------------------------------------


def test_operations_of_a_list_are_charged_together(gated: BoardSpec) -> None:
    parts = [pulse(counts=5), outer(5), ramp([1.0] * 5), ramp([1.0] * 7, start=2)]
    assert len(sent(gated, *parts)) == 4
    error = refused(gated, *parts, pulse(counts=1))
    assert isinstance(error, LimitExceeded) and error.value == 21
    refused(gated, *parts, pulse(counts=torch.tensor([[[0, 0], [0, -1]]])))


def test_the_way_back_of_a_ramp_is_charged(gated: BoardSpec) -> None:
    guard = Guard(Recorder(gated))  # type: ignore[arg-type]
    start = torch.tensor([[[0, 1], [2, 2]]])
    sign = torch.tensor([[[1, 1], [-1, 0]]], dtype=torch.int8)
    guard.execute([ramp([0.5, 0.6, 0.7], start=start, sign=sign, back=True)])
    assert guard.wear.run[0, :2, :2].tolist() == [[5, 4], [3, 0]]


def test_a_refused_list_leaves_no_wear_and_forms_nothing(gated: BoardSpec) -> None:
    form = ramp(kind=FORM)
    refused(gated, pulse(counts=3), form, pulse(shape(99.0)))
    refused(gated, form, form)  # the same cells twice in one list
    board = Recorder(gated)
    guard = Guard(board)  # type: ignore[arg-type]
    guard.execute([form])
    before = guard.wear.snapshot()
    other = replace(form, blocks=Blocks((1,), (0,), (0,), 2, 2))
    with pytest.raises(LimitExceeded, match="forming of cells formed before 4 above 0"):
        guard.execute([other, form])
    assert all(torch.equal(before[name], now) for name, now in guard.wear.snapshot().items())
    guard.execute([other])
    assert int(guard.wear.formed.sum()) == 8


@pytest.mark.parametrize(("rule", "times"), [("never", 0), ("once", 1), ("free", 2)])
def test_forming_follows_the_rule_of_the_board(gated: BoardSpec, rule: str, times: int) -> None:
    spec = limited(gated, {"forming": rule})
    form = ramp(kind=FORM)
    if times:
        assert len(sent(spec, *[form] * times)) == times
    if times < 2:
        error = refused(spec, *[form] * (times + 1))
        assert isinstance(error, LimitExceeded) and error.source == spec.where["limits.forming"]
    nothing = ramp(kind=FORM, sign=torch.zeros(1, 1, 1, dtype=torch.int8))
    assert len(sent(spec, nothing, nothing)) == 2


def test_a_worn_out_cell_does_not_stop_the_others(gated: BoardSpec) -> None:
    life = torch.zeros(gated.cells, dtype=torch.int64)
    life[0, 0, 0] = 31
    guard = Guard(Recorder(gated), Wear(gated, life))  # type: ignore[arg-type]
    guard.execute([pulse(counts=torch.tensor([[[0, 1], [1, 1]]]))])
    with pytest.raises(LimitExceeded, match=r"pulses per life 32 above 30 \(kernel 0, row 0, column 0\)"):
        guard.execute([pulse()])


def test_nothing_overflows(gated: BoardSpec) -> None:
    free = limited(gated, {"pulses_per_run": 2**63 - 1, "pulses_per_life": 2**70})
    for counts, cycles in ((-(2**63), 1), (2**63 - 1, 2), (2**31, 1), (2**20, 2**31 - 1), (-(2**31), 1)):
        refused(free, pulse(counts=torch.tensor(counts), cycles=cycles))
        refused(gated, pulse(counts=torch.tensor(counts), cycles=cycles))
    (op,) = sent(free, pulse(counts=torch.tensor(-(2**31) + 1)))
    assert op.counts.tolist() == -(2**31) + 1
    worn = Wear(free, torch.full(gated.cells, 2**63 - 2))
    guard = Guard(Recorder(free), worn)  # type: ignore[arg-type]
    guard.execute([pulse()])
    with pytest.raises(LimitExceeded):
        guard.execute([pulse()])


# -- what is not well formed -----------------------------------------------------------------------------------------


def bits(rows: Any, cols: Any) -> Outer:
    return Outer(ONE, rows, cols, shape(), shape())


def int8(*values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int8)


class Odd(Wait):
    """A subclass: not an operation of the contract."""


GOOD_BITS = int8([[1, 0]])
MALFORMED: list[tuple[str, Any]] = [
    ("not an operation", "pulse"), ("not an operation", None), ("not an operation", Odd(0.0)),
    ("seconds must be a number", Wait("1")), ("seconds must be finite", Wait(math.nan)), ("at least 0", Wait(-1.0)),
    ("seconds must be a number", Wait(True)), ("seconds is out of all reason", Wait(10**400)),
    ("no probe 'humidity'", Probe(("humidity",))), ("names must be a tuple", Probe("temperature")),
    ("names must be a tuple", Probe((1,))), ("names must be a tuple", Probe(7)),
    # types
    ("the pulse amplitude must be a number, got str '1.0'", pulse(shape("1.0"))),
    ("the pulse amplitude must be a number, got bool", pulse(shape(True))),
    ("the pulse amplitude must be a number, got list", pulse(shape([1.0]))),
    ("the pulse amplitude must be finite", pulse(shape(math.nan))),
    ("the pulse amplitude must be finite", pulse(shape(math.inf))),
    ("the pulse amplitude holds a value that is not finite", pulse(shape(tensor(math.nan, F32)))),
    ("the pulse amplitude must be float32 or float64", pulse(shape(torch.tensor(1)))),
    ("broadcast to", pulse(shape(torch.ones(3, dtype=F64)))), ("broadcast to", pulse(shape(torch.ones(1, 1, 1, 1)))),
    ("broadcast to", pulse(shape(torch.ones(0)))),
    ("is a magnitude", pulse(shape(-0.1))), ("is a magnitude", ramp([-0.1, 0.0])),
    ("width must be above 0", pulse(shape(seconds=0.0))), ("width must be a number", pulse(shape(seconds="1 us"))),
    ("needs a gate voltage", pulse(shape(gate=None))), ("at least 0", pulse(shape(gate=-0.1))),
    ("gate voltage must be finite", pulse(shape(gate=math.nan))), ("up must be a Shape", pulse(up=3)),
    ("leave amps out", pulse(shape(amps=1e-5))), ("leave amps out", read_cells(0.1, amps=1e-5)),
    # counts and cycles
    ("counts must be int8", pulse(counts=torch.tensor(True))), ("counts must be int8", pulse(counts=torch.tensor(1.0))),
    ("counts must be a tensor, got int", Pulse(ONE, 1, shape(), shape())),  # type: ignore[arg-type]
    ("cycles must be a whole number", pulse(cycles=0)), ("cycles must be a whole number", pulse(cycles=True)),
    ("cycles must be a whole number", pulse(cycles=2.0)), ("a whole number of 2001 bits", pulse(cycles=2**2000)),
    ("alternate must be True or False", pulse(alternate=1)),
    ("cannot do 'half'; they can do float, ground", pulse(unselected=Bias.HALF)),
    ("unselected must be a Bias", pulse(unselected="ground")),
    # tensors that are not there
    ("on the CPU, got one on meta", pulse(shape(torch.ones(1, device="meta")))),
    ("on the CPU, got one on meta", read(torch.zeros(1, 1, 2, device="meta"))),
    ("must be a plain tensor", read(torch.zeros(1, 1, 2).to_sparse())),
    ("must be a tensor, got ndarray", replace(read(0.1), volts=np.zeros((1, 1, 2)))),
    ("must be a tensor, got list", replace(read(0.1), volts=[[[0.1, 0.1]]])),
    # blocks
    ("share a cell", Pulse(Blocks((0, 0), (0, 1), (0, 1), 2, 2), torch.tensor(1), shape(), shape())),
    ("not on a chip", replace(pulse(), blocks=Blocks((0,), (5,), (0,), 2, 2))),
    ("not on a chip", replace(pulse(), blocks=Blocks((-1,), (0,), (0,), 2, 2))),
    ("is empty", replace(pulse(), blocks=Blocks((0,), (0,), (0,), 0, 2))),
    ("at least one block", replace(pulse(), blocks=Blocks((), (), (), 2, 2))),
    ("one number for each", replace(pulse(), blocks=Blocks((0, 1), (0,), (0,), 2, 2))),
    ("tuples of whole numbers", replace(pulse(), blocks=Blocks([0], (0,), (0,), 2, 2))),  # type: ignore[arg-type]
    ("tuples of whole numbers", replace(pulse(), blocks=Blocks((0.0,), (0,), (0,), 2, 2))),  # type: ignore[arg-type]
    ("tuples of whole numbers", replace(pulse(), blocks=Blocks((False,), (0,), (0,), 2, 2))),
    ("blocks must be a Blocks", replace(pulse(), blocks=None)),
    # reads
    ("volts must be float", read(torch.zeros(1, 2))), ("volts drive 3 lines", read(torch.zeros(1, 1, 3))),
    ("1 rows, one a block, got 2", read(torch.zeros(2, 1, 2))),
    ("volts must be float32", read(torch.zeros(1, 1, 2).half())),
    ("not finite", read(math.nan)), ("not finite", read(math.inf)), ("not finite", read(-math.inf, dtype=F32)),
    ("drive must be a Side", read(0.1, drive="rows")), ("pairs must be True", read(0.1, pairs=1)),
    ("even number of sensed", Read(Blocks((0,), (0,), (0,), 3, 2), torch.zeros(1, 1, 2), Side.COLS, pairs=True)),
    ("brings its own vectors", read(0.1, sense=Sense(0.1))), ("sense must be a Sense", read(0.1, sense=0.1)),
    ("feed must be a tuple", read(0.1, feed=[0])), ("feed must be a tuple", read(0.1, feed=(0.0,))),
    ("feed must name a row", read(0.1, feed=(-1,))), ("feed must name a row", read(0.1, feed=(0, 0))),
    ("at least 2 rows, got 1", read(0.1, feed=(1,))),
    ("averages must be a whole number", read(0.1, sense=Sense(averages=0))),
    ("averages must be a whole number", read(0.1, sense=Sense(averages=True))),
    ("averages must be a whole number", read(0.1, sense=Sense(averages=1.5))),  # type: ignore[arg-type]
    ("full_scale must be above 0", read(0.1, sense=Sense(full_scale=0.0))),
    ("full_scale must be finite", read(0.1, sense=Sense(full_scale=math.nan))),
    ("read voltage must be a number, got NoneType", read_cells(None)),
    ("read voltage must be finite", read_cells(math.nan)),
    ("read voltage must be a number", read_cells("0.1 V")),
    ("cannot do 'third'", read_cells(0.1, unselected=Bias.THIRD)),
    ("unselected must be", read_cells(0.1, unselected=1)),
    ("averages must be a whole number", ramp(sense=Sense(0.1, averages=0))),
    ("mask must be bool", replace(read_cells(0.1), mask=torch.ones(2, 2))),
    ("mask must be bool and broadcast", replace(read_cells(0.1), mask=torch.ones(3, 2) > 0)),
    # outer
    ("changes its sign", bits(int8([[1, 0], [-1, 0]]), int8([[1, 1], [1, 1]]))),
    ("changes its sign", bits(int8([[1, 0], [0, 0]]), int8([[0, -1], [0, 1]]))),
    ("-1, 0 and 1 only", bits(int8([[2, 0]]), GOOD_BITS)), ("-1, 0 and 1 only", bits(GOOD_BITS, int8([[-128, 0]]))),
    ("must be int8", bits(GOOD_BITS.float(), GOOD_BITS)),
    ("same number of slots", bits(GOOD_BITS, int8([[1, 0], [1, 0]]))),
    ("col_bits must be int8", bits(GOOD_BITS, int8([[1, 0, 1]]))),
    # ramps
    ("sign must be int8", ramp(sign=torch.ones(1, 1, 1))), ("-1, 0 and 1 only", ramp(sign=int8([[3]]))),
    ("since forming raises", ramp(kind=FORM, sign=int8([[-1]]))), ("kind must be a Kind", ramp(kind="set")),  # type: ignore[arg-type]
    ("knob must be", ramp(knob="width")), ("points must be float", ramp(points=torch.ones(2, 2))),
    ("points must be float", replace(ramp(), points=torch.zeros(0))), ("points hold a value", ramp([0.0, math.nan])),
    ("points hold a value", ramp([math.inf, 0.1])), ("start must be a whole", ramp(start=2)),
    ("start must be a whole", ramp(start=True)), ("start must be int8", ramp(start=torch.tensor(0.0))),
    ("start must lie between 0 and 1", ramp(start=torch.tensor([[0], [-1]]))),
    ("start must lie between 0 and 1", ramp(start=torch.tensor(2))), ("broadcast to", ramp(start=torch.zeros(3).int())),
    ("cannot read inside a pulse", ramp(sense=Sense())), ("back must be True or False", ramp(back="yes")),
    ("amps_max must be above 0", ramp(stop=amps_max(0.0))), ("amps_max must be finite", ramp(stop=amps_max(math.inf))),
    ("stop.low must be finite", ramp(stop=Stop(math.nan, 1.0, 1e-5))),
    ("stop.high holds NaN", ramp(stop=Stop(0.0, torch.tensor([1.0, math.nan]), 1e-5))),
    ("stop.jump must be finite", ramp(stop=Stop(0.0, 1.0, 1e-5, jump=math.nan))),
    ("stop.rises must be", ramp(stop=Stop(0.0, 1.0, 1e-5, rises=0))),
    ("pair of numbers", ramp(stop=Stop(0.0, 1.0, 1e-5, rise_after=(1.0,)))),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(("text", "op"), MALFORMED, ids=[str(i) for i in range(len(MALFORMED))])
def test_what_is_not_well_formed_is_refused_with_its_list(gated: BoardSpec, text: str, op: Any) -> None:
    error = refused(gated, pulse(counts=2), op)
    assert isinstance(error, InvalidOperation)
    assert text in str(error)


def test_what_cannot_even_be_looked_at_is_refused(gated: BoardSpec) -> None:
    class Hostile:
        def __iter__(self) -> Any:
            raise RuntimeError("\x1b[31mno")

    board = Recorder(gated)
    for ops in (7, None, Hostile(), pulse()):
        with pytest.raises(InvalidOperation, match="cannot be checked"):
            Guard(board).execute(ops)  # type: ignore[arg-type]
    huge = torch.zeros(1, 1, 1, dtype=F64).expand(1, 2**50, 2)
    with pytest.raises(InvalidOperation, match="cannot be checked"):
        Guard(board).execute([read(huge)])  # type: ignore[arg-type]
    assert not board.sent


def test_an_interrupt_while_checking_leaves_no_wear(gated: BoardSpec) -> None:
    def ops() -> Any:
        yield pulse()
        raise KeyboardInterrupt

    guard = Guard(Recorder(gated))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        guard.execute(ops())
    assert not guard.wear.run.any()


@pytest.mark.parametrize(
    ("selector", "compliance", "allow", "amps", "gate", "legal"),
    [
        ("passive", "none", False, None, None, False), ("passive", "none", True, None, None, True),
        ("passive", "none", False, 1e-5, None, False), ("passive", "gate", False, None, None, False),
        ("passive", "amplifier", False, None, None, True), ("passive", "source", False, None, None, False),
        ("passive", "source", True, None, None, False), ("passive", "source", False, 1e-5, None, True),
        ("passive", "source", False, 1e-5, 2.0, False), ("gated", "gate", False, None, 2.0, True),
        ("gated", "gate", True, None, None, False), ("gated", "none", False, None, 2.0, False),
    ],
)  # fmt: skip
def test_something_must_hold_the_current_of_a_cell(
    spec_of: SpecOf, selector: Any, compliance: str, allow: bool, amps: float | None, gate: float | None, legal: bool
) -> None:
    spec = spec_of(selector=selector, limits={"allow_uncompliant": allow}, writing={"compliance": compliance})
    both = shape(gate=gate, amps=amps)
    op = Pulse(ONE, torch.tensor(1), both, both)
    assert (len(sent(spec, op)) == 1) if legal else isinstance(refused(spec, op), InvalidOperation)


def test_a_source_needs_its_compliance_while_reading_too(passive: BoardSpec) -> None:
    for op in (read(0.1), read_cells(0.1), read(0.1, sense=Sense(gate=2.0, amps=1e-5))):
        assert isinstance(refused(passive, op), InvalidOperation)


def test_a_gate_needs_gates_and_a_limit(gated: BoardSpec, passive: BoardSpec) -> None:
    op = read(0.1, sense=Sense(gate=1.0, amps=1e-5))
    assert "has no gates" in str(refused(limited(passive, {"gate_volts": 3.0}), op))
    assert "sets no limits.gate_volts" in str(refused(limited(gated, {"gate_volts": None}), pulse()))


def test_a_compliance_current_is_above_zero(passive: BoardSpec) -> None:
    free = replace(passive, writing=replace(passive.writing, compliance_low=None, compliance_high=None))
    for amps in (0.0, -1e-5):
        assert isinstance(refused(free, amps_pulse(amps)), InvalidOperation)
    assert sent(free, amps_pulse(1e-9))


@pytest.mark.parametrize(("part", "name"), [("limits", "write_volts"), ("limits", "slew"), ("reading", "volts_low")])
def test_a_board_with_an_unusable_limit_is_not_guarded(gated: BoardSpec, part: str, name: str) -> None:
    broken = replace(gated, **{part: replace(getattr(gated, part), **{name: math.nan})})
    with pytest.raises(UsageError, match=f"unusable limit {name}"):
        Guard(Recorder(broken))  # type: ignore[arg-type]


# -- what was checked is what is sent --------------------------------------------------------------------------------


def all_tensors(op: Any) -> list[torch.Tensor]:
    found = []
    for item in dataclasses.fields(op):
        value = getattr(op, item.name)
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif dataclasses.is_dataclass(value):
            found += all_tensors(value)
    return found


def full_operations() -> list[Any]:
    """One of each, with a tensor wherever there can be one."""
    both = shape(tensor(1.0, F64).expand(1, 2, 2), gate=tensor(2.0, F32))
    stop = Stop(tensor(1e-6, F64), tensor(1e-5, F64), 1e-5)
    return [
        read(0.1), replace(read_cells(0.1), mask=torch.ones(1, 2, 2) > 0),
        Pulse(ONE, torch.ones(2, 2).int(), both, both),
        replace(outer(2), up=both, down=both), ramp(shape=both, start=torch.ones(2, 2).int(), stop=stop),
    ]  # fmt: skip


@pytest.mark.parametrize("when", ["before sending", "while sending", "after"])
def test_changing_an_operation_later_changes_nothing(gated: BoardSpec, when: str) -> None:
    ops = full_operations()
    before = [[t.clone() for t in all_tensors(op)] for op in ops]
    assert sum(map(len, before)) == 20

    def spoil() -> None:
        for op in ops:
            for found in all_tensors(op):
                found.untyped_storage().fill_(0)

    class Spoiler:
        def intent(self, checked: Sequence[Checked]) -> int:
            spoil() if when == "before sending" else None
            return 0

        def outcome(self, number: int, outcomes: Sequence[Outcome]) -> None: ...

    def answer(found: list[Any]) -> list[Outcome]:
        spoil() if when == "while sending" else None
        return [Outcome(None, None, None, 0.0, 0.0, 0) for _ in found]

    board = Recorder(gated, answer)
    Guard(board, audit=Spoiler()).execute(ops)  # type: ignore[arg-type]
    spoil() if when == "after" else None
    for op, wanted in zip(board.sent, before, strict=True):
        for found, value in zip(all_tensors(op), wanted, strict=True):
            assert torch.equal(found, value.to(found.dtype))


def test_a_board_that_changes_what_it_got_does_not_change_the_caller(gated: BoardSpec) -> None:
    ops = full_operations()
    before = [[t.clone() for t in all_tensors(op)] for op in ops]

    def answer(found: list[Any]) -> list[Outcome]:
        for op in found:
            for value in all_tensors(op):
                value.zero_() if value.dtype is not torch.bool else value.logical_not_()
        return [Outcome(None, None, None, 0.0, 0.0, 0) for _ in found]

    Guard(Recorder(gated, answer)).execute(ops)  # type: ignore[arg-type]
    for op, wanted in zip(ops, before, strict=True):
        assert all(torch.equal(found, value) for found, value in zip(all_tensors(op), wanted, strict=True))


def test_a_gradient_stays_with_the_caller(gated: BoardSpec) -> None:
    volts = torch.full((1, 1, 2), 0.1, requires_grad=True)
    (op,) = sent(gated, read(volts))
    assert not op.volts.requires_grad and torch.equal(op.volts, volts.detach())
    refused(gated, read(torch.full((1, 1, 2), 0.3, requires_grad=True)))
    (op,) = sent(gated, read(torch.nn.Parameter(torch.full((1, 1, 2), 0.1))))
    assert type(op.volts) is torch.Tensor


def test_lines_that_keep_their_sign_pass_and_pulse_where_both_fire(gated: BoardSpec) -> None:
    guard = Guard(Recorder(gated))  # type: ignore[arg-type]
    guard.execute([bits(int8([[-1, 0], [0, 1], [-1, 1]]), int8([[0, 1], [-1, 1], [-1, 0]]))])
    assert guard.wear.run[0, :2, :2].tolist() == [[1, 1], [2, 1]]


def test_negative_zero_and_padding_rows_pass(gated: BoardSpec) -> None:
    assert sent(gated, pulse(shape(-0.0, gate=-0.0)), read(-0.0), read(torch.zeros(1, 0, 2)), Wait(0.0))


def test_known_blocks_and_senses_are_still_checked(gated: BoardSpec) -> None:
    """What was seen before passes quickly; what only looks like it must not."""
    guard = Guard(Recorder(gated))  # type: ignore[arg-type]
    feed, sense = (0, 1), Sense()
    twice = Blocks((0, 0), (0, 1), (0, 1), 2, 2)
    for _ in range(2):
        guard.execute([Read(twice, torch.zeros(2, 1, 2), Side.COLS, sense, feed)])
        for bad in (
            Read(twice, torch.ones(2, 1, 2), Side.COLS, sense, feed),
            Read(twice, torch.zeros(1, 1, 2), Side.COLS, sense, feed),
            Read(twice, torch.zeros(2, 1, 2), Side.COLS, Sense(gate=9.0), feed),
            Read(Blocks((0, 0), (0, 1), (0, 1.0), 2, 2), torch.zeros(2, 1, 2), Side.COLS, sense, feed),  # type: ignore[arg-type]
            Pulse(twice, torch.tensor(1), shape(), shape()),
        ):
            with pytest.raises((InvalidOperation, LimitExceeded)):
                guard.execute([bad])
    for _ in range(3000):  # more objects than are remembered, each at an address that may have been another's
        guard.execute([Read(Blocks((0,), (0,), (0,), 2, 2), torch.zeros(1, 1, 2), Side.COLS, Sense())])
        with pytest.raises(LimitExceeded):
            guard.execute([Read(Blocks((0,), (0,), (0,), 2, 2), torch.zeros(1, 1, 2), Side.COLS, Sense(gate=9.0))])


# -- around the board ------------------------------------------------------------------------------------------------


class Audit:
    """Keeps what it is told."""

    def __init__(self, fails: str = "") -> None:
        self.log: list[tuple[str, int]] = []
        self.fails = fails

    def intent(self, checked: Sequence[Checked]) -> int:
        if self.fails == "intent":
            raise StorageError("run.db", "disk full")
        self.log.append(("intent", len(checked)))
        return 41

    def outcome(self, number: int, outcomes: Sequence[Outcome]) -> None:
        assert number == 41
        if self.fails == "outcome":
            raise StorageError("run.db", "disk full")
        self.log.append(("outcome", len(outcomes)))


def written(ops: list[Any]) -> list[Outcome]:
    return [Outcome(None, None, torch.full((1, 2, 2), 3, dtype=torch.int32), 0.0, 0.5, 2) for _ in ops]


def test_a_fault_in_the_middle_books_what_was_done_and_keeps_the_wear(gated: BoardSpec) -> None:
    def fails(ops: list[Any]) -> list[Outcome]:
        raise BoardFault("tiny", "no answer", done=written(ops[:1]), index=1)

    audit = Audit()
    guard = Guard(Recorder(gated, fails), audit=audit)  # type: ignore[arg-type]
    with pytest.raises(BoardFault, match="no answer"):
        guard.execute([pulse(counts=3), pulse(counts=4), pulse(counts=5)])
    assert audit.log == [("intent", 3), ("outcome", 1)]
    assert (guard.ledger.lists, guard.ledger.writes, guard.ledger.pulses, guard.ledger.lab_seconds) == (1, 2, 12, 0.5)
    assert int(guard.wear.run[0, 0, 0]) == 12  # all of it: more may have been done than the board knows
    with pytest.raises(LimitExceeded):
        guard.execute([pulse(counts=9)])
    assert int(guard.wear.run[0, 0, 0]) == 12


def test_a_fault_is_not_hidden_by_a_full_disk(gated: BoardSpec) -> None:
    def fails(ops: list[Any]) -> list[Outcome]:
        raise BoardFault("tiny", "no answer", done=written(ops) * 2, index=1)  # more outcomes than operations

    guard = Guard(Recorder(gated, fails), audit=Audit("outcome"))  # type: ignore[arg-type]
    with pytest.raises(BoardFault) as caught:
        guard.execute([pulse()])
    assert "could not be stored: run.db" in caught.value.__notes__[0]
    assert guard.ledger.writes == 2


def test_a_board_that_forgets_an_outcome_is_a_fault(gated: BoardSpec) -> None:
    guard = Guard(Recorder(gated, lambda ops: written(ops)[1:]))  # type: ignore[arg-type]
    with pytest.raises(BoardFault, match="gave 1 outcomes for 2 operations"):
        guard.execute([pulse(), pulse()])
    assert int(guard.wear.run[0, 0, 0]) == 2


def test_nothing_is_sent_that_cannot_be_recorded(gated: BoardSpec) -> None:
    board = Recorder(gated)
    guard = Guard(board, audit=Audit("intent"))  # type: ignore[arg-type]
    with pytest.raises(StorageError):
        guard.execute([pulse(), ramp(kind=FORM)])
    assert not board.sent and not guard.wear.life.any() and not guard.wear.formed.any() and guard.ledger == Ledger()


def test_an_abort_stops_the_next_list(gated: BoardSpec) -> None:
    board, stop = Recorder(gated), StopToken()
    guard = Guard(board, stop=stop)  # type: ignore[arg-type]
    guard.execute([pulse()])
    stop.abort("operator")
    with pytest.raises(Aborted, match="aborted: operator"):
        guard.execute([pulse()])
    assert len(board.sent) == 1 and int(guard.wear.run.max()) == 1
    guard.close()
    assert board.closed and guard.now() == 7.0 and guard.make_safe().confirmed


# -- afterwards ------------------------------------------------------------------------------------------------------


def answers(value: Any, flags: Any = None) -> Callable[[list[Any]], list[Outcome]]:
    return lambda ops: [Outcome(value, flags, None, 0.0, 0.0, 1) for _ in ops]


@pytest.mark.parametrize(
    ("op", "limit"),
    [(read(0.1), 3e-4), (read_cells(0.1), 1e-4), (ramp(), 1e-4), (ramp(kind=FORM), 2e-4)],
    ids=["line", "cell", "ramp", "form"],
)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_a_current_above_its_limit_ends_the_run(gated: BoardSpec, op: Any, limit: float, dtype: Any) -> None:
    exact = torch.tensor([[[1e-9, math.nan], [-limit, limit]]], dtype=dtype)
    Guard(Recorder(gated, answers(exact))).execute([op])  # type: ignore[arg-type]
    for factor in (1.001, -1.001, math.inf):
        amps = exact * torch.tensor([[[1.0, 1.0], [1.0, factor]]], dtype=dtype)
        guard = Guard(Recorder(gated, answers(amps)), audit=(audit := Audit()))  # type: ignore[arg-type]
        with pytest.raises(LimitBreached, match="kernel 0"):
            guard.execute([op])
        assert audit.log[-1] == ("outcome", 1) and guard.ledger.lists == 1


def test_lines_are_watched_only_where_nothing_holds_them(spec_of: SpecOf) -> None:
    high = answers(torch.full((1, 1, 2), 0.2))
    rails = {"ranges": (Range(negative=0.1, positive=0.05, step=1e-6),)}
    for spec in (spec_of(limits={"line_current_rule": "held"}), spec_of(reading=rails)):
        Guard(Recorder(spec, high)).execute([read(0.1)])  # type: ignore[arg-type]
    wide = {"ranges": (Range(negative=0.11, positive=0.05, step=1e-6),)}
    for spec in (spec_of(), spec_of(reading=wide)):
        with pytest.raises(LimitBreached, match="line current"):
            Guard(Recorder(spec, high)).execute([read(0.1)])  # type: ignore[arg-type]


def test_the_ledger_counts_flags_that_say_something_is_wrong(gated: BoardSpec) -> None:
    flags = [0, Flag.NOT_MEASURED, Flag.STOPPED, Flag.SAT_LOW, Flag.STOPPED | Flag.SAT_HIGH, Flag.ABORTED]
    given = torch.tensor([[[int(flag) for flag in flags]]], dtype=torch.uint8)
    guard = Guard(Recorder(gated, answers(None, given)))  # type: ignore[arg-type]
    guard.execute([read_cells(0.1)])
    assert guard.ledger.as_dict() == {
        "lists": 1, "reads": 1, "writes": 0, "pulses": 0, "lab_seconds": 0.0, "flagged": 3,
    }  # fmt: skip


# -- snapshots -------------------------------------------------------------------------------------------------------


def test_a_snapshot_holds_board_and_wear_and_goes_back_whole_or_not_at_all(
    quiet_board: Callable[..., SimBoard],
) -> None:
    guard = Guard(quiet_board())
    assert guard.restorable
    guard.execute([pulse(shape(gate=2.5), counts=4, down=shape(gate=2.5))])
    saved = guard.snapshot()
    guard.execute([pulse(shape(gate=2.5), counts=3, down=shape(gate=2.5))])
    later = guard.snapshot()
    assert int(guard.wear.life[0, 0, 0]) == 7
    for broken in ("wear.run", "board.clock"):
        with pytest.raises(CheckpointError):
            guard.restore({name: value for name, value in saved.items() if name != broken})
        assert all(torch.equal(value, later[name]) for name, value in guard.snapshot().items())
    guard.restore(saved)
    assert all(torch.equal(value, saved[name]) for name, value in guard.snapshot().items())


def test_a_chip_cannot_be_copied(gated: BoardSpec) -> None:
    guard = Guard(Recorder(gated))  # type: ignore[arg-type]
    assert not guard.restorable
    for act in (guard.snapshot, lambda: guard.restore({})):
        with pytest.raises(Unsupported, match="a chip cannot be copied"):
            act()
