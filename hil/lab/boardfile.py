"""Board files: the schemas of what a technician writes about a board, simulated or behind a link."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hil.contract import BoardSpec
from hil.contract.bounds import above_zero, not_negative
from hil.units import Seconds
from instruments.arcone.config import ArcOneConfig
from instruments.smu.channels import SmuMatrixConfig
from sim_backend.config import SimulatorConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedBoard:
    """A board file of a simulated board.

    Args:
        spec: what the board is; the same as for a real one.
        simulator: its physics.
    """

    kind: Literal["simulated"] = "simulated"
    spec: BoardSpec
    simulator: SimulatorConfig

    def __post_init__(self) -> None:
        _check_gates(self.spec, self.simulator)


@dataclass(frozen=True, slots=True, kw_only=True)
class WireBoardFile:
    """What the board files of all boards hold to which frames go, bare or in SCPI blocks.

    Args:
        url: where it is: ``tcp://``, ``serial://`` or ``visa://``.
        spec: what the board is; its identity must be that of the board that answers, and its limits are the limits.
        watchdog: silence after which the board makes itself safe; 0 for never.
        timeout: longest wait for an answer that needs no device time.
        simulator: the physics for dry runs; None for cells after the spec.
    """

    url: str
    spec: BoardSpec
    watchdog: Seconds = 5.0
    timeout: Seconds = 1.0
    simulator: SimulatorConfig | None = None

    def __post_init__(self) -> None:
        not_negative(self, "watchdog")
        above_zero(self, "timeout")
        _check_gates(self.spec, self.simulator)


@dataclass(frozen=True, slots=True, kw_only=True)
class FramedBoardFile(WireBoardFile):
    """A board file of a board that speaks the framed wire protocol."""

    kind: Literal["framed"] = "framed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScpiBoardFile(WireBoardFile):
    """A board file of a crossbar board that speaks SCPI."""

    kind: Literal["scpi"] = "scpi"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArcOneBoardFile:
    """A board file of an ArC ONE.

    Args:
        url: its serial port, ``serial://...?baud=921600&parity=E``.
        spec: what the board is; the serial number is the technician's word, since the board has none to read.
        driver: settings of the driver.
        simulator: the physics for dry runs; None for cells after the spec.
    """

    kind: Literal["arcone"] = "arcone"
    url: str
    spec: BoardSpec
    driver: ArcOneConfig = field(default_factory=ArcOneConfig)
    simulator: SimulatorConfig | None = None

    def __post_init__(self) -> None:
        _check_gates(self.spec, self.simulator)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmuMatrixBoardFile:
    """A board file of a source-measure unit and a switch matrix in front of a chip.

    Args:
        source_url: the Keithley 2450.
        matrix_url: the Keithley 707B.
        spec: what the two make together.
        driver: how they are wired, and their settings.
        simulator: the physics for dry runs; None for cells after the spec.
    """

    kind: Literal["smu_matrix"] = "smu_matrix"
    source_url: str
    matrix_url: str
    spec: BoardSpec
    driver: SmuMatrixConfig
    simulator: SimulatorConfig | None = None

    def __post_init__(self) -> None:
        _check_gates(self.spec, self.simulator)


BoardFile = SimulatedBoard | FramedBoardFile | ScpiBoardFile | ArcOneBoardFile | SmuMatrixBoardFile
ADDRESSES = ("url", "source_url", "matrix_url")
"""Keys that say where a board is, and nothing about what it is."""


def _check_gates(spec: BoardSpec, simulator: SimulatorConfig | None) -> None:
    if simulator is not None and spec.geometry.selector == "gated" and simulator.gate_threshold is None:
        raise ValueError("simulator needs a gate_threshold, since the array is gated")


def simulator_of(board: BoardFile) -> SimulatorConfig:
    """The physics for dry runs: the file's own, or quiet cells that fill the spec's window in its usual steps."""
    if board.simulator is not None:
        return board.simulator
    from sim_backend.laws.soft_bounds import SoftBounds

    spec = board.spec
    limits, writing = spec.limits, spec.writing
    low = limits.siemens_low if limits.siemens_low > 0 else limits.siemens_high / 100
    states = max(2.0, (limits.siemens_high - low) / writing.step)
    law = SoftBounds(
        low=low, high=limits.siemens_high, states=states, seconds=writing.seconds,
        volts_up=writing.up_volts, volts_down=writing.down_volts,
    )  # fmt: skip
    gates = [volts for volts in (writing.up_gate, writing.down_gate, spec.reading.gate) if volts]
    threshold = 0.5 * min(gates, default=1.0) if spec.geometry.selector == "gated" else None
    return SimulatorConfig(source="made of the board's spec for a dry run", law=law, gate_threshold=threshold)
