"""Exclusive or: four patterns, one output; the smallest task that needs a hidden layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from hil.lab.tasks.samples import Samples
from hil.protocol import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Xor:
    """The XOR task; inputs are -1 and 1, targets 0 and 1. Training and test samples are the same four patterns.

    Args:
        batch: patterns of one batch; 4 shows all of them.
    """

    kind: Literal["xor"] = "xor"
    batch: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= 4:
            raise ValueError(f"batch must lie between 1 and 4, got {self.batch}")

    def load(self, seed: int) -> Samples:
        """See ``TaskConfig``."""
        x = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
        y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
        patterns = Batch(x, y)
        return Samples(patterns, patterns, 1, "mse", self.batch, seed)
