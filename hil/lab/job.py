"""What a run consists of, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, Protocol

from hil.lab.guard import Guard
from hil.lab.ledger import Ledger
from hil.lab.tasks.samples import Samples
from hil.network import Network
from hil.protocol import StepRecord, TrainingProtocol


@dataclass(slots=True)
class Job:
    """A run, ready to begin.

    Args:
        network: placed and programmed.
        protocol: how it learns.
        samples: what it learns from.
        guard: the guard in front of the board.
        seed: root seed.
        steps: steps to do.
        evaluate_every: steps between two looks at the test samples.
        checkpoint_every: steps between two checkpoints.
        facts: what the run depends on; a checkpoint is refused when they have changed.
    """

    network: Network
    protocol: TrainingProtocol
    samples: Samples
    guard: Guard
    seed: int
    steps: int
    evaluate_every: int
    checkpoint_every: int
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run came to.

    Args:
        status: ``done``, ``stopped``, ``aborted`` or ``failed``.
        exit_code: what the command line ends with.
        run_dir: the run's folder.
        steps: steps done.
        test_accuracy: share of the test samples that is right, measured on the chip.
        software_accuracy: the same of the software baseline; None when there is none.
        reads: read events.
        pulses: pulses over all cells.
        lab_seconds: lab time, s.
        half_selects: half-selected cell events that pulses caused on a passive array.
        joules: energy in the array, J, as far as the board knows it; None where it tells none.
        iterations_per_second: steps per second of wall time in this session, without evaluations and checkpoints.
        safe: what ``make_safe`` reported.
        error: why the run ended early.
        link_fraction: share of the training time that link and board need at least; None without a link.
        link: the same in words, with what bounds it.
    """

    status: str
    exit_code: int
    run_dir: Path
    steps: int
    test_accuracy: float | None
    software_accuracy: float | None
    reads: int
    pulses: int
    lab_seconds: float
    half_selects: int
    joules: float | None
    iterations_per_second: float
    safe: str
    error: str | None = None
    link_fraction: float | None = None
    link: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        names = (
            "status", "exit_code", "steps", "test_accuracy", "software_accuracy", "reads", "pulses", "lab_seconds",
            "half_selects", "joules", "iterations_per_second", "safe", "error", "link_fraction", "link",
        )  # fmt: skip
        return {"run_dir": str(self.run_dir), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], run_dir: Path) -> RunResult | None:
        """The result that a folder's ``result.json`` holds; None when it is not one."""
        kinds: dict[str, tuple[type, ...]] = {
            "status": (str,), "exit_code": (int,), "steps": (int,), "test_accuracy": (float, int, NoneType),
            "software_accuracy": (float, int, NoneType), "reads": (int,), "pulses": (int,), "lab_seconds": (float, int),
            "half_selects": (int,), "joules": (float, int, NoneType), "iterations_per_second": (float, int),
            "safe": (str,), "error": (str, NoneType), "link_fraction": (float, int, NoneType), "link": (str, NoneType),
        }  # fmt: skip
        if any(name not in data or type(data[name]) not in allowed for name, allowed in kinds.items()):
            return None
        return cls(run_dir=run_dir, **{name: data[name] for name in kinds})


def failure(error: str, exit_code: int) -> dict[str, Any]:
    """What ``as_dict`` gives, for a command that ended before there was a run."""
    names = ("run_dir", "test_accuracy", "software_accuracy", "joules", "safe", "link_fraction", "link")
    nothing: dict[str, Any] = dict.fromkeys(names)
    zero = {"steps": 0, "reads": 0, "pulses": 0, "lab_seconds": 0.0, "half_selects": 0}
    return {"status": "failed", "exit_code": exit_code, "error": error, **nothing, **zero, "iterations_per_second": 0.0}


class Observer(Protocol):
    """Sees a run go by."""

    def begin(self, job: Job, first: int) -> None:
        """The run is about to do step ``first``."""
        ...

    def step(self, record: StepRecord, ledger: Ledger, evaluation: Mapping[str, float]) -> None:
        """A step was done and recorded."""
        ...

    def say(self, text: str) -> None:
        """Something to tell the operator."""
        ...

    def end(self) -> None:
        """No further step will come."""
        ...


class Silent:
    """An observer that shows nothing."""

    def begin(self, job: Job, first: int) -> None:
        """See ``Observer``."""

    def step(self, record: StepRecord, ledger: Ledger, evaluation: Mapping[str, float]) -> None:
        """See ``Observer``."""

    def say(self, text: str) -> None:
        """See ``Observer``."""

    def end(self) -> None:
        """See ``Observer``."""
