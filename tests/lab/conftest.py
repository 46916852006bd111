"""What tests of the lab share: boards with every limit set, and a small run on a board that a test can make fail."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hil.contract import Bias, BoardSpec, Op, Outcome, SafeReport
from hil.lab.job import Job, RunResult
from hil.lab.ledger import Ledger
from hil.protocol import StepRecord
from sim_backend.board import SimBoard

ROOT = Path(__file__).parents[2]
XOR: dict[str, Any] = {
    "name": "xor",
    "seed": 1,
    "board": str(ROOT / "config" / "boards" / "daffodil.yaml"),
    "task": {"kind": "xor"},
    "network": {
        "hidden": [3], "activation": "sigmoid", "output": "sigmoid", "w_max": 4.0,
        "program": {"kind": "pulses", "window": "30 uS"},
    },
    "protocol": {
        "source": {"kind": "node_perturbation", "norm": 0.5},
        "transforms": [{"kind": "sgd", "eta": 1.0}, {"kind": "residual"}],
        "rule": {"kind": "signed_pulses"},
    },
    "steps": 30,
    "evaluate_every": 10,
    "checkpoint_every": 10,
}  # fmt: skip


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
def gated(spec_of: Callable[..., BoardSpec]) -> BoardSpec:
    return where(spec_of(limits=GATED, writing={"biases": (Bias.FLOAT, Bias.GROUND)}))


@pytest.fixture(scope="session")
def passive(spec_of: Callable[..., BoardSpec]) -> BoardSpec:
    source = {"compliance": "source", "compliance_low": 1e-6, "compliance_high": 5e-4, "biases": tuple(Bias)}
    return where(spec_of(selector="passive", limits=PASSIVE, writing=source))


class Bench:
    """Hands out boards to whoever opens one, and can make them fail.

    Attributes:
        is_chip: boards cannot be saved and put back, and all are the same chip.
        before: called with the number of the list before it is carried out.
        safe: called instead of the board's ``make_safe``.
        closing: called when a board is closed.
        lists: lists that were carried out.
        sent: the last list that came.
        made_safe: calls of ``make_safe``.
        closed: calls of ``close``.
    """

    def __init__(self) -> None:
        self.is_chip = False
        self.before: Callable[[int], object] = lambda number: None
        self.safe: Callable[[], SafeReport] | None = None
        self.closing: Callable[[], object] = lambda: None
        self.lists = self.made_safe = self.closed = 0
        self.sent: Sequence[Op] = ()
        self._chip: SimBoard | None = None

    def open(self, *args: Any, **named: Any) -> Board:
        if not self.is_chip:
            return Simulated(self, SimBoard(*args, **named))
        if self._chip is None:
            self._chip = SimBoard(*args, **named)
        return Board(self, self._chip)


class Board:
    """A board on the bench; a chip as it is."""

    def __init__(self, bench: Bench, inner: SimBoard) -> None:
        self._bench, self._inner = bench, inner

    @property
    def spec(self) -> BoardSpec:
        return self._inner.spec

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        self._bench.sent = ops
        self._bench.before(self._bench.lists)
        self._bench.lists += 1
        return self._inner.execute(ops)

    def now(self) -> float:
        return self._inner.now()

    def make_safe(self) -> SafeReport:
        self._bench.made_safe += 1
        return self._inner.make_safe() if self._bench.safe is None else self._bench.safe()

    def close(self) -> None:
        self._bench.closed += 1
        self._bench.closing()


class Simulated(Board):
    """A board that can be saved and put back."""

    restorable = True

    def snapshot(self) -> dict[str, Any]:
        return self._inner.snapshot()

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._inner.restore(saved)


@pytest.fixture
def bench(mocker: Any) -> Bench:
    """The bench that all runs of a test open their boards on."""
    bench = Bench()
    mocker.patch("hil.lab.opening.SimBoard", bench.open)
    mocker.patch("hil.lab.report.write_report")  # has its own tests, and takes longer than these runs
    return bench


@pytest.fixture
def xor() -> Callable[..., dict[str, Any]]:
    """``xor(steps=20)``: a run file's content: XOR by node perturbation, 30 steps on the noisy board."""
    return lambda **changes: copy.deepcopy(XOR) | changes


class Watcher:
    """An observer that keeps what it saw, and acts after steps.

    Attributes:
        said: all that was said.
        done: steps seen.
        after: what to do after a step, by its number.
    """

    def __init__(self, after: Mapping[int, Callable[[], object]] | None = None) -> None:
        self.said: list[str] = []
        self.done: list[int] = []
        self.totals: list[dict[str, float | int]] = []
        self.first: int | None = None
        self.ended = 0
        self.after = dict(after or {})

    def begin(self, job: Job, first: int) -> None:
        self.first = first

    def step(self, record: StepRecord, ledger: Ledger, evaluation: Mapping[str, float]) -> None:
        self.done.append(record.step)
        self.totals.append(ledger.as_dict())
        self.after.pop(record.step, lambda: None)()

    def say(self, text: str) -> None:
        self.said.append(text)

    def end(self) -> None:
        self.ended += 1


@pytest.fixture
def watcher() -> type[Watcher]:
    """``watcher({3: stop.stop})``: an observer that acts after steps."""
    return Watcher


@pytest.fixture
def comparable() -> Callable[[RunResult], dict[str, Any]]:
    """``comparable(result)``: what must be equal of two equal runs."""
    volatile = ("run_dir", "iterations_per_second")
    return lambda result: {name: value for name, value in result.as_dict().items() if name not in volatile}
