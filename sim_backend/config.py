"""How a simulated board is configured: the ``simulator`` part of a board file, and device files.

A board file holds its device in full (``law`` and ``aging``), or names a device file (``device``); the lab puts the
law and the aging of the named file in their places before this schema is read, so that a run's record is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hil.contract.bounds import not_negative
from hil.units import Amps, Siemens, Volts
from sim_backend.aging.leak import Leak
from sim_backend.aging.pcm import PcmDrift
from sim_backend.aging.relaxation import Relaxation
from sim_backend.channels import AmplifierErrors, DriverErrors
from sim_backend.energy import Energy
from sim_backend.faults import Faults
from sim_backend.laws.binary import Binary
from sim_backend.laws.constant_step import ConstantStep
from sim_backend.laws.exp_step import ExpStep
from sim_backend.laws.jump_table import JumpTableLaw
from sim_backend.laws.linear_step import LinearStep
from sim_backend.laws.one_sided import OneSided
from sim_backend.laws.pcm import Pcm
from sim_backend.laws.piecewise_step import PiecewiseStep
from sim_backend.laws.pow_step import PowStep
from sim_backend.laws.soft_bounds import SoftBounds
from sim_backend.laws.soft_bounds_reference import SoftBoundsReference
from sim_backend.supply import Supply
from sim_backend.wires.config import Wires

DeviceLaw = (
    SoftBounds
    | SoftBoundsReference
    | ConstantStep
    | LinearStep
    | ExpStep
    | PowStep
    | PiecewiseStep
    | OneSided
    | Pcm
    | Binary
    | JumpTableLaw
)
AgingLaw = PcmDrift | Leak | Relaxation


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFile:
    """A device: a file of config/devices.

    Args:
        source: where the numbers come from, and which are a choice.
        law: how pulses change cells.
        aging: what lab time does to cells; None for nothing.
    """

    source: str
    law: DeviceLaw
    aging: AgingLaw | None = None

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise ValueError("source must say where the numbers come from")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """The physics of a simulated board.

    Args:
        source: where the numbers come from.
        seed: root seed of chip and noise; None: the run's seed.
        dtype: number format of cells and currents.
        device: the device file that ``law`` and ``aging`` come from; empty when they are the board file's own.
        law: how pulses change cells.
        aging: what lab time does to cells; None for nothing.
        faults: stuck cells.
        read_noise: conductance noise of a cell in one conversion, rms.
        amplifier_noise: current noise of an amplifier in one conversion, rms at its input.
        gate_threshold: gate voltage below which a cell conducts nothing; None for a passive array.
        gate_limits_reads: a cell that is read carries no more than its gate lets through (the gate curve of the spec).
        drivers: errors of the input drivers; None for none.
        amplifiers: errors of the amplifiers; None for none.
        wires: resistance of the lines; None for ideal ones.
        supply: the supply of the drivers; None for one that does not droop.
        energy: how energy is counted; None where it is not.
        half_select: pulses disturb and count the cells beside, on a passive array; the law says how much.
    """

    source: str = ""
    seed: int | None = None
    dtype: Literal["float32", "float64"] = "float32"
    device: str = ""
    law: DeviceLaw
    aging: AgingLaw | None = None
    faults: Faults = field(default_factory=Faults)
    read_noise: Siemens = 0.0
    amplifier_noise: Amps = 0.0
    gate_threshold: Volts | None = None
    gate_limits_reads: bool = False
    drivers: DriverErrors | None = None
    amplifiers: AmplifierErrors | None = None
    wires: Wires | None = None
    supply: Supply | None = None
    energy: Energy | None = None
    half_select: bool = False

    def __post_init__(self) -> None:
        not_negative(self, "seed", "read_noise", "amplifier_noise", "gate_threshold")
