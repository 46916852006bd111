"""Write-verify: bringing cells to target conductances, with a report for every cell.

A cell counts as done only when a second, averaged read confirms it. Cells that do not follow their pulses are given up
as stuck, so that a broken cell does not eat the chip's endurance.
"""

from __future__ import annotations

from hil.program.job import program
from hil.program.methods import ByPulses, ByRamps, Method
from hil.program.ramps import GateRamp, VoltsRamp
from hil.program.report import CellState, ProgramReport
from hil.program.verify import Relaxation, Verify

__all__ = [
    "ByPulses",
    "ByRamps",
    "CellState",
    "GateRamp",
    "Method",
    "ProgramReport",
    "Relaxation",
    "Verify",
    "VoltsRamp",
    "program",
]
