"""Boards, operations and refusals that the tests of the guard share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from hil.contract import (
    Blocks,
    BoardSpec,
    Kind,
    Outcome,
    Outer,
    Pulse,
    Ramp,
    Read,
    ReadCells,
    SafeReport,
    Sense,
    Shape,
    Side,
    Stop,
)
from hil.errors import HilError, InvalidOperation, LimitExceeded, StorageError
from hil.lab.checks import Checked
from hil.lab.guard import Guard

F32, F64 = torch.float32, torch.float64
ONE = Blocks((0,), (0,), (0,), 2, 2)
TWO = Blocks((0, 1), (0, 1), (0, 1), 2, 2)
FORM = Kind.FORM


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


def written(ops: list[Any]) -> list[Outcome]:
    return [Outcome(None, None, torch.full((1, 2, 2), 3, dtype=torch.int32), 0.0, 0.5, 2) for _ in ops]


def answers(value: Any, flags: Any = None) -> Callable[[list[Any]], list[Outcome]]:
    return lambda ops: [Outcome(value, flags, None, 0.0, 0.0, 1) for _ in ops]


def limited(spec: BoardSpec, changes: dict[str, Any]) -> BoardSpec:
    return replace(spec, limits=replace(spec.limits, **changes))


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


def bits(rows: Any, cols: Any) -> Outer:
    return Outer(ONE, rows, cols, shape(), shape())


def int8(*values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int8)


def tensor(value: float, dtype: Any) -> torch.Tensor:
    return torch.tensor([[[value]]], dtype=dtype)


def amps_max(value: float) -> Stop:
    return Stop(1e-6, 1e-5, value)
