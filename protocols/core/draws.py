"""Random draws as functions of (root seed, stream, step).

A draw depends on nothing else, so a run that is resumed in the middle draws what an unbroken run would have drawn, and
two tensors of equal shape never get the same draw.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hil.draws import generator

__all__ = ["generator", "signs"]


def signs(shape: tuple[int, ...], source: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Independent random signs, -1 or +1."""
    return torch.randint(0, 2, shape, generator=source).to(dtype).mul_(2).sub_(1)
