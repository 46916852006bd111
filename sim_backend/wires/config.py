"""Which wires a simulated board has; the ``wires`` part of its board file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hil.contract import Side
from hil.contract.bounds import above_zero, not_negative
from hil.units import Ohms
from sim_backend.wires.circuit import Circuit, Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Wires:
    """Resistances of lines and of what they end in; all 0 by default, which is no wires at all.

    Word lines (rows) end at their left side, bit lines (columns) below the last row. Drivers sit on the side that is
    driven, amplifiers on the other one.

    Args:
        source: where the numbers come from.
        word_segment: between neighbouring cells of a word line, and from its end to the first cell.
        bit_segment: the same of a bit line.
        driver: output resistance of a driver.
        amplifier: input resistance of an amplifier.
        word_both_sides: word lines are tied at both ends.
        bit_both_sides: bit lines are tied at both ends.
        transistor: channel resistance in series with a cell whose gate is on in a read.
        method: of vector reads: ``exact`` currents, or ``approximate`` ones within the bound of ``approximate_matrix``.
        tolerance: residual over right side of exact currents that are solved for one by one.
        reads_per_write: how many reads of a block are expected between two changes of its cells. Where they hold fewer
            vectors than a transfer matrix costs, currents are solved for one by one.
        corrections: largest share of the changed cells of a tile, of the number at which it no longer pays, that is
            corrected for in a known matrix rather than eliminated anew. Any value above 0 lets the last digits of
            currents depend on what was read before, so that a resumed run is no longer bit-identical.
    """

    source: str = ""
    word_segment: Ohms = 0.0
    bit_segment: Ohms = 0.0
    driver: Ohms = 0.0
    amplifier: Ohms = 0.0
    word_both_sides: bool = False
    bit_both_sides: bool = False
    transistor: Ohms = 0.0
    method: Literal["exact", "approximate"] = "exact"
    tolerance: float = 1e-10
    reads_per_write: float = 100.0
    corrections: float = 0.0

    def __post_init__(self) -> None:
        not_negative(self, "word_segment", "bit_segment", "driver", "amplifier", "transistor", "corrections")
        above_zero(self, "tolerance", "reads_per_write")
        if self.corrections > 1:
            raise ValueError(f"corrections must be at most 1, got {self.corrections:g}")

    @property
    def absent(self) -> bool:
        """No line has any resistance."""
        return self.word_segment == self.bit_segment == self.driver == self.amplifier == 0

    def circuit(self, drive: Side) -> Circuit:
        """The circuit while the lines of a side are driven."""
        at_words, at_bits = self.driver, self.amplifier
        if drive is Side.COLS:
            at_words, at_bits = at_bits, at_words
        return Circuit(
            _line(self.word_segment, at_words, self.word_both_sides),
            _line(self.bit_segment, at_bits, self.bit_both_sides),
        )


def _line(segment: float, end: float, both: bool) -> Line:
    return Line(segment, segment + end, segment + end) if both else Line(segment, segment + end)
