"""Supply droop: the more current an array draws, the lower is what its drivers make of a code.

Drivers take their reference from a supply of internal resistance R. With s the share of the nominal voltage that is
left and I0 the current that the array would draw at full voltage, an array of ohmic cells draws s I0, so that

    s = 1 - R s I0 / V,    hence    s = 1 / (1 + R I0 / V)

Every driven voltage becomes s times itself. Each kernel is read by itself; currents count as magnitudes, whether a line
gives or takes them, and are those of cells on lines without resistance. A linear source under a linear load; that
drivers are ratiometric is a choice of this project.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hil.contract.bounds import above_zero, not_negative
from hil.units import Ohms, Volts


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """The supply of the drivers.

    Args:
        source: where the numbers come from.
        ohms: its internal resistance.
        volts: its voltage without load.
    """

    source: str = ""
    ohms: Ohms
    volts: Volts

    def __post_init__(self) -> None:
        not_negative(self, "ohms")
        above_zero(self, "volts")

    def share(self, amps: Tensor) -> Tensor:
        """The share of the voltage that is left, where ``amps`` would flow at full voltage."""
        return 1.0 / (1.0 + (self.ohms / self.volts) * amps)
