"""Line resistance: exact currents of an array whose wires are resistors."""

from sim_backend.wires.access import passive_cells, select, series
from sim_backend.wires.approximate import Approximation, approximate_matrix
from sim_backend.wires.circuit import Circuit, Ends, NotConverged
from sim_backend.wires.conduction import LineResistance
from sim_backend.wires.config import Wires
from sim_backend.wires.exact import solve, transfer_matrix
from sim_backend.wires.lowrank import corrected
from sim_backend.wires.solution import Power, WireSolution, kirchhoff, power

__all__ = [
    "Approximation", "Circuit", "Ends", "LineResistance", "NotConverged", "Power", "WireSolution", "Wires",
    "approximate_matrix", "corrected", "kirchhoff", "passive_cells", "power", "select", "series", "solve",
    "transfer_matrix",
]  # fmt: skip
