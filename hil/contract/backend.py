"""What carries operations out: backends, their outcomes and their safe state."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from hil.contract.ops import Op
from hil.contract.spec import BoardSpec


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of one operation.

    Args:
        value: what was measured, or None; see the operation.
        flags: uint8 like ``value`` (see ``Flag``), or None when nothing is flagged.
        applied: int32 [T, R, C], pulses that each cell received, or None when the operation does not write.
        began: lab time at the start, s since the chip's epoch.
        seconds: lab time it took, s.
        events: number of board events (one kernel, one vector or pulse slot each).
        joules: energy in the array and the lines to them, or None when the board does not know it.
    """

    value: Tensor | None
    flags: Tensor | None
    applied: Tensor | None
    began: float
    seconds: float
    events: int
    joules: float | None = None


@dataclass(frozen=True, slots=True)
class SafeReport:
    """The state of the outputs after ``make_safe``.

    Args:
        outputs: ``"off"``, ``"on"`` or ``"unreadable"`` for each output.
        confirmed: every output was read back as off.
    """

    outputs: Mapping[str, str]
    confirmed: bool

    def __str__(self) -> str:
        if self.confirmed:
            return "SAFE confirmed"
        bad = ", ".join(f"{name} {state}" for name, state in self.outputs.items() if state != "off")
        return f"SAFE NOT CONFIRMED: switch off by hand ({bad or 'no answer'})"


class Backend(Protocol):
    """A board or a simulator of one.

    The list given to ``execute`` has an order; tiles, batch rows and cells inside one operation have none.
    """

    @property
    def spec(self) -> BoardSpec:
        """What the board is and what it may do."""
        ...

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        """Carries out a list of operations and gives one outcome each.

        Raises:
            BoardFault: the board failed in the middle; the error says what was done.
        """
        ...

    def now(self) -> float:
        """Lab seconds since the chip's epoch: UTC-based on a board, virtual on the simulator."""
        ...

    def make_safe(self) -> SafeReport:
        """Switches every output off; legal in every state and bounded in time."""
        ...

    def close(self) -> None:
        """Makes the board safe and releases it."""
        ...


@runtime_checkable
class Restorable(Protocol):
    """A board whose whole state can be saved and put back: a simulator or a virtual board, never a chip."""

    @property
    def restorable(self) -> bool:
        """Whether it can be done now; what wraps a board asks the board inside."""
        ...

    def snapshot(self) -> dict[str, Tensor]:
        """The whole state as tensors."""
        ...

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Puts a snapshot back.

        Raises:
            CheckpointError: a tensor is missing, or has another shape or dtype.
        """
        ...


def restorable(backend: Backend) -> TypeGuard[Restorable]:
    """Whether a backend's whole state can be saved and put back."""
    return isinstance(backend, Restorable) and backend.restorable


def same(a: object, b: object) -> bool:
    """Compares two operations (or parts of them) by value; for tests."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return a == b
