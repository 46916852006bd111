"""Boards that all rooms' tests share. Test files cannot import each other, so builders come as fixtures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from hil.contract import (
    Abilities,
    Bias,
    Blocks,
    BoardSpec,
    Geometry,
    Identity,
    Limits,
    Range,
    Reading,
    Side,
    Timing,
    WritingSpec,
)
from hil.lab import config
from sim_backend.board import SimBoard
from sim_backend.config import SimulatorConfig
from sim_backend.faults import Faults
from sim_backend.laws.soft_bounds import SoftBounds

BOARDS = Path(__file__).parent.parent / "config" / "boards"
ALL_OPS = ("Read", "ReadCells", "Pulse", "Outer", "Ramp", "Wait", "Probe")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardFile:
    """The schema of a simulated board's file."""

    kind: Literal["simulated"]
    spec: BoardSpec
    simulator: SimulatorConfig


def pytest_addoption(parser: Any) -> None:
    """Adds ``--board URL``: the battery of tests/conformance then runs on that board."""
    parser.addoption("--board", default=None, help="URL or file of a board on which tests marked hardware run")


def pytest_configure() -> None:
    """Keeps torch from fighting over the two cores of a test machine."""
    torch.set_num_threads(1)


@lru_cache(maxsize=8)
def _board_file(name: str) -> BoardFile:
    return config.load(BOARDS / f"{name}.yaml", BoardFile).value


@pytest.fixture(scope="session")
def board_file() -> Callable[[str], BoardFile]:
    """``board_file("daffodil")``: a file of config/boards, loaded."""
    return _board_file


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., BoardSpec]:
    """``spec_of(drive=Side.ROWS, selector="passive", ops=(...), ...)``: a tiny board of 4 kernels of 6 x 5 cells."""
    return _spec_of


@pytest.fixture(scope="session")
def quiet_board() -> Callable[..., SimBoard]:
    """``quiet_board(spec, dtype="float64", physics={...}, **law)``: no noise, faults, spreads or converters.

    ``physics`` adds parts of the simulator's configuration: ``{"supply": Supply(...)}``.
    """
    return _quiet_board


@pytest.fixture(scope="session")
def noisy_board() -> Callable[..., SimBoard]:
    """``noisy_board(spec, seed=0, fraction=0.05, **law)``: a board with converters, noise, spreads and stuck cells."""
    return _noisy_board


@pytest.fixture(scope="session")
def whole() -> Callable[[BoardSpec], Blocks]:
    """``whole(spec)``: one block for each kernel, all its cells."""
    return _whole


def _spec_of(
    *,
    drive: Side = Side.COLS,
    selector: Literal["gated", "passive"] = "gated",
    kernels: int = 4,
    rows: int = 6,
    cols: int = 5,
    ops: tuple[str, ...] = ALL_OPS,
    reading: dict[str, Any] | None = None,
    writing: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    timing: dict[str, Any] | None = None,
    abilities: dict[str, Any] | None = None,
) -> BoardSpec:
    """A tiny board: window 10 to 210 uS, pulses of 1 V and 1 us, reads at 0.2 V; parts are changed by dictionaries."""
    gated = selector == "gated"
    gates = {"up_gate": 2.5, "down_gate": 3.0, "compliance": "gate", "gate_curve": ((0.5, 1e-6), (3.0, 1e-2))}
    source = {"compliance": "source", "compliance_low": 1e-6, "compliance_high": 5e-4}
    biases = (Bias.FLOAT, Bias.GROUND, Bias.HALF, Bias.THIRD)
    write: dict[str, Any] = {"up_volts": 1.0, "down_volts": 1.2, "seconds": 1e-6, "step": 2e-6, "biases": biases}
    return BoardSpec(
        identity=Identity(name="tiny", vendor="tests", model=f"tiny {selector}", serial="tiny-1"),
        geometry=Geometry(
            kernels=kernels, rows=rows, cols=cols, selector=selector,
            gate_lines=Side.COLS if gated else None, up=Side.ROWS, drive=drive,
        ),
        reading=Reading(
            **{"volts_low": -0.5, "volts_high": 0.5, "pairs": True, "gate": 3.0 if gated else None} | (reading or {})
        ),
        writing=WritingSpec(**write | (gates if gated else source) | (writing or {})),
        limits=Limits(
            **{
                "line_volts": 3.3, "read_cell_volts": 0.2, "read_array_volts": 0.2, "write_volts": 2.0,
                "form_volts": 2.5, "gate_volts": 3.3 if gated else None, "cell_amps": 1e-3, "form_amps": 1e-3,
                "line_amps": 0.1, "pulse_seconds": 1.0, "siemens_low": 10e-6, "siemens_high": 210e-6,
                "forming": "free", "pulses_per_run": 100_000, "pulses_per_life": 10_000_000,
            }
            | (limits or {})
        ),
        timing=Timing(**{"read_event": 1e-3, "write_event": 2e-3} | (timing or {})),
        abilities=Abilities(**{"ops": ops, "safe_preempts": True, "probes": ("temperature",)} | (abilities or {})),
    )  # fmt: skip


def _law(**changes: Any) -> SoftBounds:
    usual: dict[str, Any] = {
        "low": 10e-6, "high": 210e-6, "states": 100.0, "volts_up": 1.0, "volts_down": 1.2, "seconds": 1e-6,
        "threshold": 0.6, "volts_per_decade": 0.4, "start_dtod": 0.2,
    }  # fmt: skip
    return SoftBounds(**usual | changes)


def _quiet_board(
    spec: BoardSpec | None = None,
    *,
    seed: int = 0,
    dtype: Literal["float32", "float64"] = "float64",
    faults: Faults | None = None,
    read_noise: float = 0.0,
    amplifier_noise: float = 0.0,
    physics: dict[str, Any] | None = None,
    **law: Any,
) -> SimBoard:
    spec = spec or _spec_of()
    threshold = 0.4 if spec.geometry.selector == "gated" else None
    config = SimulatorConfig(
        dtype=dtype, law=_law(**law), faults=faults or Faults(), read_noise=read_noise,
        amplifier_noise=amplifier_noise, gate_threshold=threshold, **(physics or {}),
    )  # fmt: skip
    return SimBoard(spec, config, seed)


def _noisy_board(spec: BoardSpec | None = None, *, seed: int = 0, fraction: float = 0.05, **law: Any) -> SimBoard:
    grid = {"volts_step": 1e-3, "ranges": (Range(negative=2e-4, positive=2e-4, step=1e-7),)}
    spreads = {"low_dtod": 0.03, "high_dtod": 0.1, "step_dtod": 0.2, "step_std": 0.3, "start_dtod": 0.2}
    return _quiet_board(
        spec or _spec_of(reading=grid), seed=seed, faults=Faults(fraction=fraction, value=1.0, open=1.0),
        dtype="float32", read_noise=5e-7, amplifier_noise=1e-7, **spreads | law,
    )  # fmt: skip


def _whole(spec: BoardSpec) -> Blocks:
    kernels, rows, cols = spec.cells
    return Blocks(tuple(range(kernels)), (0,) * kernels, (0,) * kernels, rows, cols)
