"""Updates in whole pulses: rounding that loses nothing on average."""

from __future__ import annotations

import torch
from torch import Tensor


def stochastic_round(values: Tensor, uniform: Tensor) -> Tensor:
    """Rounds up with a probability equal to the fraction, so that the mean is exact.

    Args:
        values: any shape.
        uniform: draws from [0, 1), same shape.
    """
    return torch.floor(values + uniform)


def round_with_residual(values: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds the sum of values and what was left over before; gives the whole numbers and the new rest.

    Reference: mixed-precision training keeps the rest digitally (Nandakumar et al. 2020).
    """
    total = values + residual
    whole = torch.trunc(total)
    return whole, total - whole


def split_over_pair(pulses: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
    """Shares whole pulses of a weight between the two cells of its pair as evenly as possible.

    Args:
        pulses: whole numbers; positive raises the weight.
        bits: 0 or 1, same shape: which cell gets an odd pulse.

    Returns:
        Pulses of the plus cell and of the minus cell, both counted as raising the weight; they add up to ``pulses``.
    """
    plus = torch.floor((pulses + bits) / 2)
    return plus, pulses - plus
