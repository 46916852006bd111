"""Parity of n bits: all 2^n patterns, one output; n = 2 is exclusive or."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch

from hil.lab.tasks.samples import Samples
from hil.protocol import Batch

MOST_BITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The parity task; inputs are -1 and 1, the target is 1 for an odd number of ones and else 0.

    Training and test samples are the same patterns.

    Args:
        bits: inputs of the network.
        batch: patterns of one batch; None shows all of them.
    """

    kind: Literal["parity"] = "parity"
    bits: int = 4
    batch: int | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= MOST_BITS:
            raise ValueError(f"bits must lie between 2 and {MOST_BITS}, got {self.bits}")
        if self.batch is not None and not 1 <= self.batch <= 2**self.bits:
            raise ValueError(f"batch must lie between 1 and {2**self.bits}, got {self.batch}")

    def load(self, seed: int) -> Samples:
        """See ``TaskConfig``."""
        x = torch.tensor(list(product((-1.0, 1.0), repeat=self.bits)))
        y = (x > 0).sum(1, keepdim=True).remainder(2).float()
        patterns = Batch(x, y)
        return Samples(patterns, patterns, 1, "mse", self.batch or 2**self.bits, seed)
