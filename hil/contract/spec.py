"""What a board is: geometry, ranges, limits, timing and abilities.

The fields are what planning, guard and lowering need to know. What only a driver needs (codes, calibration, switch
bits, order of events) stays in the driver. A board file in config/boards is a ``BoardSpec`` in YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from hil.contract.bounds import above_zero, at_least_one, not_negative
from hil.contract.ops import OP_NAMES, Bias, Side
from hil.units import Amps, BytesPerSecond, Seconds, Siemens, Volts


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the board is. ``serial`` names the physical chip; wear is kept under it."""

    name: str
    vendor: str
    model: str
    serial: str
    firmware: str = ""
    calibration: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How many cells there are and how they are wired.

    Args:
        kernels: number of switch-selected arrays.
        rows: word lines of a kernel.
        cols: bit lines of a kernel.
        selector: ``gated`` (1T1R) or ``passive``.
        gate_lines: the side that each gate line runs along; None on a passive array.
        up: the side that is positive in a pulse that raises the conductance.
        drive: the side that inputs go to.
    """

    kernels: int
    rows: int
    cols: int
    selector: Literal["gated", "passive"] = "gated"
    gate_lines: Side | None = Side.COLS
    up: Side = Side.ROWS
    drive: Side = Side.COLS

    def __post_init__(self) -> None:
        at_least_one(self, "kernels", "rows", "cols")
        if (self.selector == "gated") != (self.gate_lines is not None):
            wanted = "name a side on a gated array" if self.selector == "gated" else "be null on a passive array"
            raise ValueError(f"gate_lines must {wanted}")

    def lines(self, side: Side) -> int:
        """The number of lines of a kernel on a side."""
        return self.rows if side is Side.ROWS else self.cols


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """One current range of the sensing amplifiers: rails (magnitudes) and the step of one code."""

    negative: Amps
    positive: Amps
    step: Amps

    def __post_init__(self) -> None:
        not_negative(self, "negative", "positive")
        above_zero(self, "step")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the board reads.

    Args:
        sides: sides that may be driven in a read.
        volts_low: lowest input voltage.
        volts_high: highest input voltage.
        volts_step: step of one input code; None for a continuous input.
        input_coding: how an input value is realised.
        input_levels: number of input levels; None for a continuous input.
        ranges: current ranges, widest first; empty for an unlimited, continuous reading.
        normalised: the board divides by the read voltage itself.
        pairs: the board can give differences of neighbouring sensed lines.
        inside_pulse: the board can read during a programming pulse.
        gate: gate voltage of a read.
    """

    sides: tuple[Side, ...] = (Side.ROWS, Side.COLS)
    volts_low: Volts
    volts_high: Volts
    volts_step: Volts | None = None
    input_coding: Literal["amplitude", "width", "bits"] = "amplitude"
    input_levels: int | None = None
    ranges: tuple[Range, ...] = ()
    normalised: bool = False
    pairs: bool = False
    inside_pulse: bool = False
    gate: Volts | None = None

    def __post_init__(self) -> None:
        above_zero(self, "volts_step")
        not_negative(self, "gate")
        if self.volts_low >= self.volts_high:
            raise ValueError(f"volts_low {self.volts_low:g} V must lie below volts_high {self.volts_high:g} V")
        if self.input_levels is not None and self.input_levels < 2:
            raise ValueError(f"input_levels must be at least 2, got {self.input_levels}")
        if not self.sides:
            raise ValueError("sides must name at least one side that can be driven")


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """How the board writes.

    Args:
        volts_step: step of the write amplitude; None for continuous.
        seconds_step: step of the pulse width; None for continuous.
        gate_step: step of the gate voltage; None for continuous.
        biases: what unselected lines can do; the first is the board's own way, where an operation names none.
        compliance: what holds the current of a cell during a pulse.
        compliance_low: lowest compliance current that can be set.
        compliance_high: highest.
        gate_curve: (gate volts, amps) points: the current that a gate voltage lets through.
        up_volts: usual amplitude of a pulse that raises the conductance.
        down_volts: usual amplitude of one that lowers it.
        seconds: usual width.
        up_gate: usual gate voltage of a pulse that raises the conductance.
        down_gate: usual gate voltage of one that lowers it.
        step: conductance change of one usual pulse in the middle of the window.
    """

    volts_step: Volts | None = None
    seconds_step: Seconds | None = None
    gate_step: Volts | None = None
    biases: tuple[Bias, ...] = (Bias.FLOAT, Bias.GROUND)
    compliance: Literal["source", "gate", "amplifier", "none"] = "gate"
    compliance_low: Amps | None = None
    compliance_high: Amps | None = None
    gate_curve: tuple[tuple[Volts, Amps], ...] = ()
    up_volts: Volts
    down_volts: Volts
    seconds: Seconds
    up_gate: Volts | None = None
    down_gate: Volts | None = None
    step: Siemens

    def __post_init__(self) -> None:
        above_zero(self, "volts_step", "seconds_step", "gate_step", "up_volts", "down_volts", "seconds", "step")
        not_negative(self, "up_gate", "down_gate")
        low, high = self.compliance_low, self.compliance_high
        if low is not None and high is not None and low > high:
            raise ValueError(f"compliance_low {low:g} A lies above compliance_high {high:g} A")
        volts, amps = [v for v, _ in self.gate_curve], [a for _, a in self.gate_curve]
        if any(a >= b for a, b in pairwise(volts)) or any(a > b for a, b in pairwise(amps)):
            raise ValueError("gate_curve must rise: each point at a higher gate voltage, with no lower a current")
        if volts and (volts[0] <= 0 or amps[0] <= 0):
            raise ValueError("gate_curve must hold volts and amperes above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What must never be passed. The guard refuses; nothing is ever clipped.

    Args:
        line_volts: V between any line and ground.
        read_cell_volts: V across a cell that is read alone.
        read_array_volts: V on a driven line while a whole array is read.
        write_volts: V across a cell in a SET or RESET pulse.
        form_volts: V across a cell while it is formed.
        gate_volts: V on a gate.
        half_select_volts: V across a half-selected cell of a passive array.
        gate_step: V, the largest step of a gate ramp.
        cell_amps: A through a cell; a reading above it ends the run.
        form_amps: A through a cell while it is formed.
        line_amps: A through a line.
        pulse_seconds: s, the longest pulse.
        slew: V, the largest step of an amplitude ramp.
        siemens_low: S, lowest conductance to program to.
        siemens_high: S, highest.
        forming: whether cells may be formed.
        pulses_per_run: pulses a cell may get in one run.
        pulses_per_life: pulses a cell may get in its life.
        line_current_rule: whether ``line_amps`` is held by the read voltage or watched in the readings.
        allow_uncompliant: a board without gates and without compliance may write all the same.
    """

    line_volts: Volts
    read_cell_volts: Volts
    read_array_volts: Volts
    write_volts: Volts
    form_volts: Volts
    gate_volts: Volts | None = None
    half_select_volts: Volts | None = None
    gate_step: Volts | None = None
    cell_amps: Amps
    form_amps: Amps
    line_amps: Amps
    pulse_seconds: Seconds
    slew: Volts | None = None
    siemens_low: Siemens
    siemens_high: Siemens
    forming: Literal["never", "once", "free"] = "never"
    pulses_per_run: int
    pulses_per_life: int
    line_current_rule: Literal["held", "watched"] = "watched"
    allow_uncompliant: bool = False

    def __post_init__(self) -> None:
        above_zero(self, "read_cell_volts", "read_array_volts")
        not_negative(self, "line_volts", "write_volts", "form_volts", "gate_volts", "half_select_volts", "gate_step")
        not_negative(self, "cell_amps", "form_amps", "line_amps", "pulse_seconds", "slew", "siemens_low")
        not_negative(self, "pulses_per_run", "pulses_per_life")
        if self.siemens_low >= self.siemens_high:
            raise ValueError(f"siemens_low {self.siemens_low:g} S must lie below siemens_high {self.siemens_high:g} S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long things take, and what happens at the same time.

    Args:
        read_event: one read event of one kernel, pulse width, wait and conversion included.
        write_event: one programming event beside the pulse's own width.
        kernel_select: switching to another kernel.
        turnaround: switching between reading and writing; a writing operation is charged for it twice.
        gap: between two events.
        round_trip: of one list of operations over the link.
        bytes_per_second: of the link; None when the board is in this process.
        slice: longest time a board may be busy before the host looks at the stop token.
        parallel_kernels: kernels that work at the same time.
    """

    read_event: Seconds
    write_event: Seconds
    kernel_select: Seconds = 0.0
    turnaround: Seconds = 0.0
    gap: Seconds = 0.0
    round_trip: Seconds = 0.0
    bytes_per_second: BytesPerSecond | None = None
    slice: Seconds = 1.0
    parallel_kernels: int = 1

    def __post_init__(self) -> None:
        not_negative(self, "read_event", "write_event", "kernel_select", "turnaround", "gap", "round_trip")
        above_zero(self, "bytes_per_second", "slice")
        at_least_one(self, "parallel_kernels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What the board can do by itself; lowering makes the rest where it is true.

    Args:
        ops: names of the operations it carries out natively.
        largest_batch: vectors of one Read; None for no bound.
        tokens: repeated state changes are recognised and not applied twice.
        safe_preempts: a safe command takes effect in the middle of an operation.
        reads_back_outputs: the state of the outputs can be read.
        watchdog: the board makes itself safe when the host falls silent.
        signed_read: driven lines may be positive and negative in the same read.
        probes: names that ``Probe`` knows.
    """

    ops: tuple[str, ...] = ("ReadCells", "Pulse", "Wait")
    largest_batch: int | None = None
    tokens: bool = False
    safe_preempts: bool = False
    reads_back_outputs: bool = False
    watchdog: bool = False
    signed_read: bool = True
    probes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least_one(self, "largest_batch")
        unknown = [name for name in self.ops if name not in OP_NAMES]
        if unknown:
            raise ValueError(f"ops names the unknown operation {unknown[0]!r}; there are {', '.join(OP_NAMES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardSpec:
    """Everything that planning, guard and lowering know about a board.

    ``where`` maps the dotted key of a field to the ``file:line`` that set it.
    """

    identity: Identity
    geometry: Geometry
    reading: Reading
    writing: Writing
    limits: Limits
    timing: Timing
    abilities: Abilities
    where: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if self.geometry.selector == "gated" and None in (self.writing.up_gate, self.writing.down_gate):
            raise ValueError("writing needs up_gate and down_gate, since the array is gated")

    @property
    def cells(self) -> tuple[int, int, int]:
        """(kernels, rows, cols)."""
        return self.geometry.kernels, self.geometry.rows, self.geometry.cols

    def source(self, key: str) -> str:
        """The ``file:line`` that set a field, or an empty text."""
        return self.where.get(key, "")
