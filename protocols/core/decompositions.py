"""Matrix decompositions with their types; torch gives none."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor


def qr(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal columns [..., n, k] and the triangle [..., k, k] of a matrix [..., n, k]."""
    return cast("tuple[Tensor, Tensor]", torch.linalg.qr(matrix))  # pyright: ignore[reportUnknownMemberType]


def svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, the singular values from the largest on, and V^T."""
    return cast("tuple[Tensor, Tensor, Tensor]", torch.linalg.svd(matrix))  # pyright: ignore[reportUnknownMemberType]
