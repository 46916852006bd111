"""Updates that were lost: cells that were told to move and did not, and trains that could not say more.

Silent loss of gradient is the commonest mis-tuning of pulsed training (bounds too near, learning rate too high for the
train). The simulator counts; what to make of it is the host's. Only the host knows how many pulses it asked for before
it cut probabilities at 1, so the cells of a full train are those whose count *may* have been cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Outer


@dataclass(slots=True)
class Saturation:
    """Counts since the chip was made.

    Args:
        held: cell updates that changed nothing though pulses were strong enough: at a bound and told to go further,
            held by compliance, corrupt, a step below the resolution of numbers (binary cells: also no luck). Stuck
            cells do not count.
        full: cell updates in which row and column fired in every slot of a train of at least two.
    """

    held: int = 0
    full: int = 0

    def saved(self) -> Tensor:
        """The counts as int64 [2], for a snapshot."""
        return torch.tensor([self.held, self.full])

    def restore(self, saved: Tensor) -> None:
        """Takes over saved counts."""
        self.held, self.full = saved.tolist()


def full_trains(op: Outer) -> int:
    """How many cells fire in every slot of their train; 0 for trains of one slot, which are always full."""
    slots = op.row_bits.shape[1]
    if slots < 2:
        return 0
    rows, cols = ((bits != 0).all(1).sum(1) for bits in (op.row_bits, op.col_bits))
    return int((rows * cols).sum())
