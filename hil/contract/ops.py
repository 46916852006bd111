"""Operations as data: all that a board can be told.

T is the number of blocks (tiles) of an operation, R and C the rows and columns of each block. ``Cells`` is a float or a
tensor that broadcasts to [T, R, C]. An operation is frozen but its tensors are not: the guard checks a private copy and
sends that copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import get_args

from torch import Tensor

Cells = float | Tensor


class Side(Enum):
    """A side of a crossbar: its rows (word lines) or its columns (bit lines)."""

    ROWS = "rows"
    COLS = "cols"

    @property
    def other(self) -> Side:
        """The opposite side."""
        return Side.COLS if self is Side.ROWS else Side.ROWS


class Bias(Enum):
    """What the unselected lines of a passive array do during an operation."""

    FLOAT = "float"
    GROUND = "ground"
    HALF = "half"
    THIRD = "third"


class Kind(Enum):
    """What a ramp is for."""

    FORM = "form"
    SET = "set"
    RESET = "reset"
    SWEEP = "sweep"


class Flag(IntFlag):
    """What is known about one measured value, next to the value itself."""

    SAT_LOW = 1
    SAT_HIGH = 2
    COMPLIANCE = 4
    NOT_MEASURED = 8
    STOPPED = 16
    ABORTED = 32
    EXHAUSTED = 64


@dataclass(frozen=True, slots=True)
class Blocks:
    """A stack of T equal rectangles of cells; hashable, so that it can be a cache key.

    Args:
        kernel: kernel of each block.
        row: first row of each block.
        col: first column of each block.
        n_rows: rows of every block.
        n_cols: columns of every block.
    """

    kernel: tuple[int, ...]
    row: tuple[int, ...]
    col: tuple[int, ...]
    n_rows: int
    n_cols: int

    def __len__(self) -> int:
        return len(self.kernel)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, R, C)."""
        return len(self.kernel), self.n_rows, self.n_cols

    def lines(self, side: Side) -> int:
        """The number of lines of one block on a side."""
        return self.n_rows if side is Side.ROWS else self.n_cols

    def cell_name(self, t: int, r: int, c: int) -> str:
        """Names one cell by its place on the chip."""
        return f"kernel {self.kernel[t]}, row {self.row[t] + r}, column {self.col[t] + c}"

    def take(self, start: int, stop: int) -> Blocks:
        """The blocks ``start`` to ``stop - 1``."""
        return Blocks(self.kernel[start:stop], self.row[start:stop], self.col[start:stop], self.n_rows, self.n_cols)


@dataclass(frozen=True, slots=True, eq=False)
class Sense:
    """How a current is measured.

    Args:
        volts: V across a cell; None in a Read, which brings its own vectors; in a Ramp None means sensing inside
            the pulse.
        averages: conversions averaged into one value.
        gate: V on the gates; None for the board's read gate.
        full_scale: A, the range wanted; None for the board's widest.
        amps: A, compliance while measuring; None where the board needs none.
        unselected: what unselected lines of a passive array do; None for the board's own way.
    """

    volts: float | None = None
    averages: int = 1
    gate: float | None = None
    full_scale: float | None = None
    amps: float | None = None
    unselected: Bias | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """One programming pulse.

    Args:
        volts: V across the cell, a magnitude; the direction comes from the sign of the count.
        seconds: s, width.
        gate: V on the gate of the cell; None on a board without gates.
        amps: A, compliance set before the pulse; None where gate or amplifier holds the current.
    """

    volts: Cells
    seconds: float
    gate: Cells | None = None
    amps: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Stop:
    """When a ramp ends at a cell. Currents are magnitudes in A at the sense voltage.

    A SET, FORM or SWEEP ramp stops at the first reading of at least ``low``, a RESET ramp at the first of at most
    ``high``; both bounds make the window that the last reading is judged by. The abort rules are those learned on real
    devices (facts of the Daffodil board's control library).

    Args:
        low: A, lower end of the window.
        high: A, upper end of the window.
        amps_max: A; a reading above it ends the ramp, flag ABORTED.
        jump: A; a rise above it in one step, or above the first reading, ends a RESET ramp, flag ABORTED.
        rise: A; ``rises`` steps in a row that each rise by more than this end a RESET ramp, flag ABORTED.
        rises: see ``rise``.
        slope: A/V; a step steeper than this is evidence of switching; None: the window decides.
        flat: A; with evidence seen ``hits`` times, a step smaller than this ends the ramp.
        hits: see ``flat``.
        rise_after: (V, A): once the knob has passed the first, a single rise above the second ends a RESET ramp.
    """

    low: Cells
    high: Cells
    amps_max: float
    jump: float = float("inf")
    rise: float = float("inf")
    rises: int = 3
    slope: float | None = None
    flat: float | None = None
    hits: int = 3
    rise_after: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """Multiplies vectors with blocks of cells: currents of all sensed lines, driven lines at the given volts.

    Args:
        blocks: T blocks.
        volts: [feeds, batch, driven] V.
        drive: the side that is driven; the other is sensed.
        sense: how to measure (its ``volts`` is None).
        feed: which row of ``volts`` each block gets; None: one each.
        pairs: give the differences of neighbouring sensed lines (even minus odd), half as many.

    The outcome's value is amps [T, batch, sensed].
    """

    blocks: Blocks
    volts: Tensor
    drive: Side
    sense: Sense = Sense()
    feed: tuple[int, ...] | None = None
    pairs: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ReadCells:
    """Measures cells one by one at ``sense.volts``; the outcome's value is amps [T, R, C].

    Args:
        blocks: T blocks.
        sense: how to measure; ``volts`` is needed.
        drive: the side that carries the read voltage.
        mask: bool [T, R, C], the cells to measure; None for all. The others give NaN and NOT_MEASURED.
    """

    blocks: Blocks
    sense: Sense
    drive: Side
    mask: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Pulse:
    """Applies pulses without verification; a positive count raises the conductance.

    Args:
        blocks: T blocks.
        counts: integer [T, R, C] or broadcastable to it.
        up: the pulse that raises the conductance.
        down: the pulse that lowers it.
        cycles: how often the whole pattern is repeated.
        alternate: turn the sign of the pattern in every other cycle.
        unselected: what unselected lines of a passive array do.
    """

    blocks: Blocks
    counts: Tensor
    up: Shape
    down: Shape
    cycles: int = 1
    alternate: bool = False
    unselected: Bias | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outer:
    """Applies coincidence pulses: in each slot a cell gets one pulse when its row and its column both fire.

    Args:
        blocks: T blocks.
        row_bits: int8 [T, slots, R], -1, 0 or 1; a line keeps one sign over all slots.
        col_bits: int8 [T, slots, C], likewise. The pulse's direction is the product of the two.
        up: the pulse that raises the conductance.
        down: the pulse that lowers it.
        unselected: what unselected lines of a passive array do.
    """

    blocks: Blocks
    row_bits: Tensor
    col_bits: Tensor
    up: Shape
    down: Shape
    unselected: Bias | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Ramp:
    """Steps one knob of a pulse through ``points`` until each cell meets its stop rule.

    Args:
        blocks: T blocks.
        sign: int8 [T, R, C]: +1 raises the conductance, -1 lowers it, 0 leaves the cell alone.
        kind: what the ramp is for; FORM needs the board's permission.
        shape: the pulse; the knob's value in it is replaced by the point.
        knob: ``"volts"`` or ``"gate"``.
        points: [steps] V.
        start: index of the first point, one number or int [T, R, C].
        sense: how to read after each pulse; ``volts`` None reads inside the pulse.
        stop: the stop rules.
        back: step the knob back down to the first point afterwards, never drop it at once.
        trace: give all readings, [T, R, C, steps], instead of the last.

    The outcome's value is the last current of each cell, amps [T, R, C]; its flags say how the cell ended. With
    ``trace`` the flag that says so stands at the last point a cell got.
    """

    blocks: Blocks
    sign: Tensor
    kind: Kind
    shape: Shape
    knob: str
    points: Tensor
    start: int | Tensor
    sense: Sense
    stop: Stop
    back: bool = False
    trace: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Wait:
    """Lets lab time pass.

    Args:
        seconds: s, at least 0.
    """

    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Reads health values of the board by name: temperature in K, supplies in V.

    Args:
        names: what to read; the spec's ``abilities.probes`` lists what there is.
    """

    names: tuple[str, ...]


Writing = Pulse | Outer | Ramp
Op = Read | ReadCells | Pulse | Outer | Ramp | Wait | Probe
OP_NAMES = tuple(kind.__name__ for kind in get_args(Op))
