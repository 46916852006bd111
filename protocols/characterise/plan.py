"""The measurement plan: what is measured, on how many cells, with how many reads and pulses.

The order is fixed, lowest voltage first: scan, gates, converters and noise, line resistance, drift, and only then what
pulses cells: stuck map, forming, response.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hil.contract.bounds import above_zero, at_least_one, not_negative
from hil.units import Seconds, Siemens


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisePlan:
    """Converters, amplifiers and read noise.

    Args:
        kernels: kernels measured, spread over the chip.
        levels: read voltages, as shares of the board's highest; one of them 0, at least two above it.
        repeats: conversions of each cell at each level.
    """

    kernels: int = 1
    levels: tuple[float, ...] = (0.0, 0.1, 0.4, 0.7, 1.0)
    repeats: int = 24

    def __post_init__(self) -> None:
        at_least_one(self, "kernels")
        above = sorted({level for level in self.levels if level > 0})
        if any(not 0 <= level <= 1 for level in self.levels) or len(above) < 2 or 0.0 not in self.levels:
            raise ValueError("levels must lie between 0 and 1, with 0 and at least two different ones above it")
        if self.repeats < 4:
            raise ValueError(f"repeats must be at least 4, got {self.repeats}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePlan:
    """Below which gate voltage cells conduct nothing.

    Args:
        points: gate voltages tried in each of two rounds; the second one divides a step of the first.
    """

    points: int = 9

    def __post_init__(self) -> None:
        if self.points < 3:
            raise ValueError(f"points must be at least 3, got {self.points}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlan:
    """Line resistance, from whole-array reads against cell reads.

    Args:
        kernels: kernels measured.
        averages: conversions of each value.
    """

    kernels: int = 1
    averages: int = 64

    def __post_init__(self) -> None:
        at_least_one(self, "kernels", "averages")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftPlan:
    """Two reads of the same cells, a time apart.

    Args:
        kernels: kernels measured.
        seconds: time between the reads.
        averages: conversions of each value.
    """

    kernels: int = 1
    seconds: Seconds = 600.0
    averages: int = 16

    def __post_init__(self) -> None:
        at_least_one(self, "kernels", "averages")
        above_zero(self, "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckPlan:
    """Which cells do not move.

    Args:
        kernels: kernels measured; None for all.
        pulses: pulses of each of three trains (down, up, down) that every cell gets; None for a third of the states
            that the board file names.
        averages: conversions of each value.
        prior: share of cells that is expected to be stuck.
    """

    kernels: int | None = None
    pulses: int | None = None
    averages: int = 4
    prior: float = 0.05

    def __post_init__(self) -> None:
        at_least_one(self, "kernels", "pulses", "averages")
        if not 0 < self.prior < 1:
            raise ValueError(f"prior must lie between 0 and 1, got {self.prior:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormingPlan:
    """Cells without any current: tried once, with a ramp that ends at a current.

    Args:
        points: steps of the ramp; more where the board allows only smaller steps.
        formed: conductance from which a cell counts as formed.
    """

    points: int = 40
    formed: Siemens = 20e-6

    def __post_init__(self) -> None:
        above_zero(self, "formed")
        if self.points < 2:
            raise ValueError(f"points must be at least 2, got {self.points}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsePlan:
    """How pulses move cells.

    Args:
        kernels: kernels measured.
        pulses: pulses of one train; None for 1.6 times the states that the board file names.
        points: reads within a train.
        cycles: trains up and down.
        averages: conversions of each value.
        singles: read before and after a single pulse at each point: (G, dG) samples for jump tables, twice the reads.
    """

    kernels: int = 1
    pulses: int | None = None
    points: int = 40
    cycles: int = 2
    averages: int = 4
    singles: bool = False

    def __post_init__(self) -> None:
        at_least_one(self, "kernels", "pulses", "cycles", "averages")
        if self.points < 6:
            raise ValueError(f"points must be at least 6, got {self.points}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A measurement plan; a part that is null is left out.

    Args:
        source: where the settings come from.
        scan_share: share of the board's highest read voltage at which all cells are read first.
        gates: gate threshold.
        noise: converters, amplifiers and read noise.
        lines: line resistance.
        drift: drift.
        stuck: stuck map.
        forming: forming of cells without any current; it cannot be undone, so it has to be asked for.
        response: response to pulses.
        most_pulses: most pulses a cell may get; a plan that needs more is refused before it starts.
    """

    kind: Literal["characterise"] = "characterise"
    source: str = ""
    scan_share: float = 0.1
    gates: GatePlan | None = field(default_factory=GatePlan)
    noise: NoisePlan = field(default_factory=NoisePlan)
    lines: LinePlan | None = field(default_factory=LinePlan)
    drift: DriftPlan | None = field(default_factory=DriftPlan)
    stuck: StuckPlan | None = field(default_factory=StuckPlan)
    forming: FormingPlan | None = None
    response: ResponsePlan | None = field(default_factory=ResponsePlan)
    most_pulses: int = 20_000

    def __post_init__(self) -> None:
        not_negative(self, "most_pulses")
        if not 0 < self.scan_share <= 1:
            raise ValueError(f"scan_share must lie between 0 and 1, got {self.scan_share:g}")
