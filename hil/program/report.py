"""What programming came to, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from hil.units import engineering


class CellState(IntEnum):
    """How programming ended for a cell."""

    LEFT = 0
    HIT = 1
    MISSED = 2
    STUCK = 3
    ABORTED = 4


@dataclass(frozen=True, slots=True, eq=False)
class ProgramReport:
    """What programming came to, cell by cell.

    Args:
        target: [T, R, C] S.
        siemens: [T, R, C] S, as last read; of a hit, the value that confirmed it or a later look.
        state: uint8 [T, R, C], a ``CellState``.
        pulses: int64 [T, R, C].
        rounds: rounds that were needed.
        clipped: weights outside the mapping's range that were mapped to its end.
        first: [T, R, C] S, what the read said that first saw a cell inside its window; NaN where none did.
        false_hits: hits that the confirming read did not confirm.
        disturbed: hits that were found outside their window while others were written.
        relaxed: hits that were found outside their window after a wait.
    """

    target: Tensor
    siemens: Tensor
    state: Tensor
    pulses: Tensor
    rounds: int
    clipped: int
    first: Tensor
    false_hits: int = 0
    disturbed: int = 0
    relaxed: int = 0

    @property
    def wanted(self) -> Tensor:
        """Bool [T, R, C]: the cells that were to be programmed."""
        return self.state != int(CellState.LEFT)

    @property
    def error(self) -> Tensor:
        """[T, R, C] S: how far above its target each cell is; 0 for cells left alone."""
        return torch.where(self.wanted, self.siemens - self.target, 0.0)

    def count(self, state: CellState) -> int:
        """The number of cells that ended in a state."""
        return int((self.state == int(state)).sum())

    def histogram(self, bins: int) -> tuple[Tensor, dict[CellState, Tensor]]:
        """How the errors are spread, for each way in which cells ended.

        Args:
            bins: number of equal bins between the smallest and the largest error.

        Returns:
            The edges, [bins + 1] S, and the number of cells in each bin, int64 [bins], by state; ``LEFT`` is left out.
            An upper edge belongs to the next bin, except the last one.

        Raises:
            ValueError: ``bins`` is below 1.
        """
        if bins < 1:
            raise ValueError(f"bins must be at least 1, got {bins}")
        state, error = self.state[self.wanted], self.error[self.wanted].double()
        state, error = state[error.isfinite()], error[error.isfinite()]
        low, high = (float(error.min()), float(error.max())) if error.numel() else (0.0, 0.0)
        if low == high:  # all alike, or none: bins of some width around it
            room = max(abs(low), 1e-9)
            low, high = low - room, high + room
        edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
        place = torch.bucketize(error, edges, right=True).sub_(1).clamp_(0, bins - 1)
        counts = {
            s: torch.bincount(place[state == int(s)], minlength=bins) for s in CellState if s is not CellState.LEFT
        }
        return edges, counts

    def lines(self) -> list[str]:
        """A summary for people, in at most three lines."""
        lines = [str(self)]
        hits = self.state == int(CellState.HIT)
        if bool(hits.any()):
            error = (self.siemens - self.target)[hits].double()
            mean, spread = error.mean(), error.square().mean().sqrt()
            lines.append(f"error of hits: mean {engineering(float(mean), 'S')}, rms {engineering(float(spread), 'S')}")
        if bool(self.wanted.any()):
            each = self.pulses[self.wanted].double()
            lines.append(f"pulses a cell: mean {float(each.mean()):.1f}, most {int(each.max())}")
        return lines

    def __str__(self) -> str:
        parts = ", ".join(f"{self.count(s)} {s.name.lower()}" for s in CellState if s is not CellState.LEFT)
        notes = {"false hits": self.false_hits, "disturbed": self.disturbed, "relaxed": self.relaxed}
        notes["weights clipped"] = self.clipped
        noted = "".join(f", {number} {what}" for what, number in notes.items() if number)
        return (
            f"{int(self.wanted.sum())} cells: {parts}; {int(self.pulses.sum())} pulses in {self.rounds} rounds{noted}"
        )
