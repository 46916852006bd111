"""How cells are read and judged while they are programmed: what all methods share."""

from __future__ import annotations

from dataclasses import dataclass

from hil.contract.bounds import above_zero, at_least_one, not_negative
from hil.units import Seconds, Siemens


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """Waits after programming, and writes again the cells that left their window meanwhile.

    Args:
        wait: lab time between programming and the read that judges it.
        rounds: most times that cells are written again; one more wait and read then tell what is left.
    """

    wait: Seconds = 1.0
    rounds: int = 2

    def __post_init__(self) -> None:
        above_zero(self, "wait")
        at_least_one(self, "rounds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """How cells are read and judged, by every method.

    Reads fluctuate, so that a single one may say done of a cell that is not (Nminibapiel et al. 2017, IEEE Electron
    Device Letters). A hit is therefore confirmed by a second read, on wish some time later.

    Args:
        window: half width of the window around the target.
        rounds: most rounds of pulses.
        averages: conversions of a verifying read.
        confirm: conversions of the second, confirming read.
        delay: lab time that passes before the confirming read.
        coded: read whole blocks with Hadamard-coded vectors instead of cell by cell.
        neighbours_every: pulses in a kernel after which its finished cells are read again, after the round that reaches
            the number and at the end; 0: never.
        relaxation: what is done about cells that relax out of their window; None: nothing.
        give_up: rounds without movement after which a cell counts as stuck.
        allowed: share of cells that may end outside their window.
    """

    window: Siemens
    rounds: int
    averages: int = 2
    confirm: int = 8
    delay: Seconds = 0.0
    coded: bool = False
    neighbours_every: int = 0
    relaxation: Relaxation | None = None
    give_up: int
    allowed: float = 0.25

    def __post_init__(self) -> None:
        above_zero(self, "window")
        at_least_one(self, "rounds", "averages", "confirm", "give_up")
        not_negative(self, "delay", "neighbours_every")
        if not 0 <= self.allowed <= 1:
            raise ValueError(f"allowed must lie between 0 and 1, got {self.allowed}")
