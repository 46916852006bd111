"""The circuit of an array with line resistance: segments, ends and the checks on what is asked.

Word line i is fed at its left end, bit line j ends at the foot, below the last row, in an amplifier's virtual ground.
One segment lies between neighbouring cells and one more between the first cell and the end. A driver or an amplifier
adds its own resistance there. The far ends are open unless both sides are tied to the same source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hil.errors import HilError, UsageError
from hil.units import Ohms


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What the lines end in.

    Args:
        driver: output resistance of a driver, at the word lines.
        amplifier: input resistance of an amplifier, at the bit lines.
        word_both_sides: word lines are driven at both ends.
        bit_both_sides: bit lines are sensed at both ends.
    """

    driver: Ohms = 0.0
    amplifier: Ohms = 0.0
    word_both_sides: bool = False
    bit_both_sides: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of line.

    Args:
        segment: ohm between neighbouring cells; 0 merges the nodes of a line into one.
        near: ohm between the source and the first cell.
        far: ohm between the source and the last cell; infinite for an open end.
    """

    segment: float
    near: float
    far: float = math.inf

    @property
    def ties(self) -> float:
        """S between the source and a line whose nodes are one; infinite where the source holds the line."""
        return math.inf if self.near == 0 else 1.0 / self.near + 1.0 / self.far


@dataclass(frozen=True, slots=True)
class Circuit:
    """Both kinds of lines; ``near`` of a bit line is its foot."""

    word: Line
    bit: Line

    @classmethod
    def of(cls, r_word: float, r_bit: float, ends: Ends) -> Circuit:
        """The circuit of an array.

        Args:
            r_word: ohm, one segment of a word line.
            r_bit: ohm, one segment of a bit line.
            ends: what the lines end in.

        Raises:
            UsageError: a resistance is negative or not finite.
        """
        named = {"r_word": r_word, "r_bit": r_bit, "driver": ends.driver, "amplifier": ends.amplifier}
        for name, ohms in named.items():
            if not (math.isfinite(ohms) and ohms >= 0):
                raise UsageError(f"{name} must be a finite resistance of at least 0 ohm, got {ohms:g} ohm")
        word, bit = r_word + ends.driver, r_bit + ends.amplifier
        return cls(
            Line(r_word, word, word if ends.word_both_sides else math.inf),
            Line(r_bit, bit, bit if ends.bit_both_sides else math.inf),
        )

    @property
    def turned(self) -> Circuit:
        """The same circuit with rows and columns exchanged."""
        return Circuit(self.bit, self.word)


@dataclass(eq=False)
class NotConverged(HilError):
    """An iteration did not reach the error that was asked for."""

    iterations: int
    residual: float
    tolerance: float
    exit_code = 3

    def __str__(self) -> str:
        return (
            f"line resistance: residual {self.residual:.3g} after {self.iterations} iterations, asked for "
            f"{self.tolerance:.3g}; ask for a larger tolerance, or use transfer_matrix"
        )


def checked_cells(g: Tensor) -> Tensor:
    """Conductances as [T, R, C].

    Raises:
        UsageError: fewer than two dimensions, no cells, whole numbers, or a value that is negative or not finite.
    """
    if g.dim() < 2 or g.numel() == 0 or not g.is_floating_point():
        raise UsageError(f"conductances must be floats [.., rows, columns], got {tuple(g.shape)} {g.dtype}")
    low, high = (float(limit) for limit in torch.aminmax(g.detach()))
    if not (low >= 0 and math.isfinite(high)):
        raise UsageError(f"conductances must be finite and at least 0 S, got values from {low:g} S to {high:g} S")
    return g.reshape(-1, *g.shape[-2:])


def checked_volts(volts: Tensor, g: Tensor, lines: int, name: str) -> Tensor:
    """Voltages [.., B, lines] for cells ``g`` [.., R, C] as [T, B, lines], in the format of the cells.

    Raises:
        UsageError: they do not fit the cells, or are not finite.
    """
    lead = g.shape[:-2]
    fits = volts.dim() >= 2 and volts.shape[-1] == lines and volts.numel() > 0
    if not fits or volts.shape[:-2] not in (lead, (), (1,) * len(lead)):
        raise UsageError(
            f"{name} {tuple(volts.shape)} does not fit cells {tuple(g.shape)}: wanted [.., batch, {lines}]"
        )
    if not all(math.isfinite(float(limit)) for limit in torch.aminmax(volts.detach())):
        raise UsageError(f"{name} must be finite")
    return volts.to(g.dtype).expand(*lead, *volts.shape[-2:]).reshape(-1, *volts.shape[-2:])
