"""How an ArC ONE is driven; the part of its board file that only the driver needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hil.contract.bounds import above_zero, at_least_one, not_negative
from hil.units import Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ArcOneConfig:
    """Settings of the driver. What unselected lines do comes with each operation, or from the spec's first bias.

    Args:
        read_mode: ``classic`` reads at 0.5 V only; ``four_point`` has a code for each sign of the read voltage.
        session: where the cells are connected.
        read_cycles: samples that the board takes for one reading (a choice of this project).
        answered_pulses: the last pulse of each cell is one that answers with a reading, so that a board that is out
            of step is noticed at that cell; it costs one read a cell.
        retries: how often a read is tried again; pulses never are.
        gap: between two messages; the board drops what comes sooner than 0.5 ms.
        reset_wait: after a reset, until the board listens again.
        conversion: allowed for one reading, in deadlines.
        margin: allowed beside wire time and conversions, in deadlines.
        baud: of the serial line, 11 bits a byte; for deadlines.
    """

    read_mode: Literal["classic", "tia", "four_point"] = "four_point"
    session: Literal["local", "bnc", "bnc_to_local", "offline"] = "local"
    read_cycles: int = 50
    answered_pulses: bool = True
    retries: int = 2
    gap: Seconds = 0.5e-3
    reset_wait: Seconds = 2.0
    conversion: Seconds = 2e-3
    margin: Seconds = 0.5
    baud: int = 921600

    def __post_init__(self) -> None:
        at_least_one(self, "read_cycles", "baud")
        not_negative(self, "retries", "gap", "reset_wait")
        above_zero(self, "conversion", "margin")
