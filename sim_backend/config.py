"""How a simulated board is configured; the ``simulator`` part of a board file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hil.contract.bounds import not_negative
from hil.units import Amps, Siemens, Volts
from sim_backend.faults import Faults
from sim_backend.soft_bounds import SoftBounds

DeviceLaw = SoftBounds


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """The physics of a simulated board.

    Args:
        source: where the numbers come from.
        seed: root seed of chip and noise; None: the run's seed.
        dtype: number format of cells and currents.
        law: how pulses change cells.
        faults: stuck cells.
        read_noise: conductance noise of a cell in one conversion, rms.
        amplifier_noise: current noise of an amplifier in one conversion, rms at its input.
        gate_threshold: gate voltage below which a cell conducts nothing; None for a passive array.
    """

    source: str = ""
    seed: int | None = None
    dtype: Literal["float32", "float64"] = "float32"
    law: DeviceLaw
    faults: Faults = field(default_factory=Faults)
    read_noise: Siemens = 0.0
    amplifier_noise: Amps = 0.0
    gate_threshold: Volts | None = None

    def __post_init__(self) -> None:
        not_negative(self, "seed", "read_noise", "amplifier_noise", "gate_threshold")
