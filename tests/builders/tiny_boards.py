"""Tiny boards that all rooms' tests share, and the boards of config/boards; conftest.py gives them as fixtures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

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

BOARDS = Path(__file__).parents[2] / "config" / "boards"
ALL_OPS = ("Read", "ReadCells", "Pulse", "Outer", "Ramp", "Wait", "Probe")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardFile:
    """The schema of a simulated board's file."""

    kind: Literal["simulated"]
    spec: BoardSpec
    simulator: SimulatorConfig


@lru_cache(maxsize=8)
def board_file(name: str) -> BoardFile:
    """A file of config/boards, loaded."""
    return config.load(BOARDS / f"{name}.yaml", BoardFile).value


def spec_of(
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


def law_of(**changes: Any) -> SoftBounds:
    """The law of the tiny boards, with changes."""
    usual: dict[str, Any] = {
        "low": 10e-6, "high": 210e-6, "states": 100.0, "volts_up": 1.0, "volts_down": 1.2, "seconds": 1e-6,
        "threshold": 0.6, "volts_per_decade": 0.4, "start_dtod": 0.2,
    }  # fmt: skip
    return SoftBounds(**usual | changes)


def quiet_board(
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
    """A board without noise, faults, spreads or converters; ``physics`` adds parts of the configuration."""
    spec = spec or spec_of()
    threshold = 0.4 if spec.geometry.selector == "gated" else None
    simulator = SimulatorConfig(
        dtype=dtype, law=law_of(**law), faults=faults or Faults(), read_noise=read_noise,
        amplifier_noise=amplifier_noise, gate_threshold=threshold, **(physics or {}),
    )  # fmt: skip
    return SimBoard(spec, simulator, seed)


def noisy_board(spec: BoardSpec | None = None, *, seed: int = 0, fraction: float = 0.05, **law: Any) -> SimBoard:
    """A board with converters, noise, spreads and stuck cells."""
    grid = {"volts_step": 1e-3, "ranges": (Range(negative=2e-4, positive=2e-4, step=1e-7),)}
    spreads = {"low_dtod": 0.03, "high_dtod": 0.1, "step_dtod": 0.2, "step_std": 0.3, "start_dtod": 0.2}
    return quiet_board(
        spec or spec_of(reading=grid), seed=seed, faults=Faults(fraction=fraction, value=1.0, open=1.0),
        dtype="float32", read_noise=5e-7, amplifier_noise=1e-7, **spreads | law,
    )  # fmt: skip


def whole(spec: BoardSpec) -> Blocks:
    """One block for each kernel, all its cells."""
    kernels, rows, cols = spec.cells
    return Blocks(tuple(range(kernels)), (0,) * kernels, (0,) * kernels, rows, cols)
