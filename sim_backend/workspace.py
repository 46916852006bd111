"""Memory for intermediate results of a read, kept between operations.

Memory of a megabyte that is asked for anew comes as untouched pages, and the first touch of a page takes longer than
the arithmetic in it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST, MOST = 1 << 13, 1 << 20
"""Numbers of the results that are kept: small ones cost nothing anew, and large ones would be held for ever."""


class Workspace:
    """Tensors to write into; what is in them is gone when the next one is taken under the same name.

    Args:
        dtype: of the numbers.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, shape: torch.Size) -> Tensor | None:
        """A contiguous tensor of a shape, with anything in it; None where new memory will do."""
        count = math.prod(shape)
        if not LEAST <= count <= MOST:
            return None
        kept = self._kept.get(name)
        if kept is None or kept.numel() < count:
            kept = self._kept[name] = torch.empty(count, dtype=self._dtype)
        return kept[:count].view(shape)
