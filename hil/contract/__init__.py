"""The one contract between the algorithms and every board, real or simulated.

All that a board can be told is a small value (``ops``); a board says what it is in a ``BoardSpec`` (``spec``) and obeys
a list of operations through a ``Backend`` (``backend``). Everything is in SI units; docs/conventions.md has the signs.
"""

from hil.contract.backend import Backend, Outcome, Restorable, SafeReport, restorable, same
from hil.contract.lacking import lacking
from hil.contract.ops import (
    Bias,
    Blocks,
    Cells,
    Flag,
    Kind,
    Op,
    Outer,
    Probe,
    Pulse,
    Ramp,
    Read,
    ReadCells,
    Sense,
    Shape,
    Side,
    Stop,
    Wait,
    Writing,
)
from hil.contract.spec import (
    Abilities,
    BoardSpec,
    Geometry,
    Identity,
    Limits,
    Range,
    Reading,
    Timing,
)
from hil.contract.spec import (
    Writing as WritingSpec,
)
from hil.contract.traffic import Linked, Traffic

__all__ = [
    "Abilities",
    "Backend",
    "Bias",
    "Blocks",
    "BoardSpec",
    "Cells",
    "Flag",
    "Geometry",
    "Identity",
    "Kind",
    "Limits",
    "Linked",
    "Op",
    "Outcome",
    "Outer",
    "Probe",
    "Pulse",
    "Ramp",
    "Range",
    "Read",
    "ReadCells",
    "Reading",
    "Restorable",
    "SafeReport",
    "Sense",
    "Shape",
    "Side",
    "Stop",
    "Timing",
    "Traffic",
    "Wait",
    "Writing",
    "WritingSpec",
    "lacking",
    "restorable",
    "same",
]
