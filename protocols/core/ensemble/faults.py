"""Cells that keep their conductance whatever is written to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Faults:
    """The stuck cells of a chip ``[K, R, C]``, or of the copies of a layer ``[2, copies, rows, cols]``.

    Args:
        stuck: bool.
        siemens: S, same shape; counts where ``stuck``.
    """

    stuck: Tensor
    siemens: Tensor

    def __post_init__(self) -> None:
        if self.stuck.shape != self.siemens.shape or self.stuck.dtype != torch.bool:
            raise ValueError(
                f"stuck must be bool in the shape of siemens, not {self.stuck.dtype} {tuple(self.stuck.shape)} "
                f"beside {tuple(self.siemens.shape)}"
            )
        if not bool(self.siemens[self.stuck].isfinite().all()):
            raise ValueError("the conductance of every stuck cell must be finite")

    def realised(self, targets: Tensor) -> Tensor:
        """What writing without error makes of targets (S, broadcastable): stuck cells stay where they are."""
        return torch.where(self.stuck, self.siemens, targets.to(self.siemens.dtype))


def drawn_faults(
    shape: Sequence[int],
    rate: float,
    values: Sequence[float],
    source: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> Faults:
    """Independent faults with equal chances of each stuck value.

    Args:
        shape: of the chip or of the copies.
        rate: probability that a cell is stuck.
        values: conductances of stuck cells, S.
        source: of the draws.
        dtype: of the conductances.
    """
    if not 0 <= rate <= 1 or not values:
        raise ValueError(f"rate {rate} must lie in 0 to 1, with at least one stuck value")
    stuck = torch.rand(*shape, generator=source) < rate
    which = torch.randint(len(values), tuple(shape), generator=source)
    return Faults(stuck, torch.tensor(values, dtype=dtype)[which])
