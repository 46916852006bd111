"""Pulse trains of one vector update, with update management and management of the train's length: what tests share.

An update rule on the host makes such trains; this is the rule of Gokmen and Vlasov 2016 as aihwkit 1.2.0 does it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Blocks, Outer, Shape

UP, DOWN = Shape(1.0, 1e-6), Shape(1.2, 1e-6)


@dataclass(frozen=True)
class Trains:
    """Firing probabilities of each line, at most 1: ``d`` of rows, ``x`` of columns, in each of ``slots``."""

    d: Tensor
    x: Tensor
    slots: int

    def outer(self, tiles: int, seed: int, up: Shape = UP, down: Shape = DOWN, kernels: bool = True) -> Outer:
        """One update for each of ``tiles`` blocks (one a kernel, or all of kernel 0), drawn independently."""
        source = torch.Generator().manual_seed(seed)
        rows, cols = (
            (torch.rand(tiles, self.slots, len(p), generator=source) < p.abs()).to(torch.int8) * p.sign().to(torch.int8)
            for p in (self.d, self.x)
        )
        kernel = tuple(range(tiles)) if kernels else (0,) * tiles
        return Outer(Blocks(kernel, (0,) * tiles, (0,) * tiles, len(self.d), len(self.x)), rows, cols, up, down)


def trains(x: Tensor, d: Tensor, rate: float, step: float, longest: int = 31, slots: int | None = None) -> Trains:
    """The trains of an update rate * d x^T with steps of ``step``; ``slots`` fixes their length."""
    xm, dm = float(x.abs().max()), float(d.abs().max())
    k = rate * xm * dm / step
    slots = min(math.ceil(k), longest) if slots is None else slots
    if k > longest:
        dm *= longest / k
    gain = math.sqrt(rate / (step * slots))
    p_x, p_d = gain * math.sqrt(dm / xm) * x, gain * math.sqrt(xm / dm) * d
    return Trains(p_d.clamp(-1.0, 1.0), p_x.clamp(-1.0, 1.0), slots)
