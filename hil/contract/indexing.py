"""Where the cells of blocks lie in a tensor over the whole chip."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from hil.contract.ops import Blocks


@lru_cache(maxsize=256)
def cell_index(blocks: Blocks, rows: int, cols: int) -> Tensor:
    """Flat indices of the cells of blocks in a chip of [K, rows, cols], int64 [T, R, C]."""
    first = [(k * rows + r) * cols + c for k, r, c in zip(blocks.kernel, blocks.row, blocks.col, strict=True)]
    inside = torch.arange(blocks.n_rows)[:, None] * cols + torch.arange(blocks.n_cols)
    return torch.tensor(first, dtype=torch.int64)[:, None, None] + inside
