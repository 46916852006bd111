"""Which rows of the copies of a layer make its outputs, and with which weight.

A combination is a tensor of coefficients ``[2, copies, rows, pieces]``: what each sensed line of G+ and of G- counts
for. A coefficient of 0 drops the line. ``pieces`` are the tiles along the inputs; 1 judges whole rows, as published,
and more judge each tile's part of a row by itself, which is possible since parts are added digitally.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from hil.errors import UsageError
from hil.mapping import PairMapping


def weight_errors(cells: Tensor, weights: Tensor, mapping: PairMapping, pieces: int = 1) -> Tensor:
    """e(k, j) = sum_i |W_k(j, i) - W(j, i)|, the error of each row of each copy: ``[copies, rows, pieces]``.

    Reference: facts/lea.md 1.2, (L1).

    Args:
        cells: ``[2, copies, rows, cols]`` S, read back or expected.
        weights: ``[rows, cols]``.
        mapping: weights and conductances.
        pieces: parts of a row that are judged separately.
    """
    return in_pieces((mapping.weights(cells[0], cells[1]) - weights).abs(), pieces).sum(-1)


def cell_errors(cells: Tensor, targets: Tensor, pieces: int = 1) -> Tensor:
    """L1 distance of each row of G+ and of G- from its ideal, S: ``[2, copies, rows, pieces]`` (LEA-1).

    Args:
        cells: ``[2, copies, rows, cols]`` S.
        targets: ``[2, rows, cols]`` S, what they should be.
        pieces: parts of a row that are judged separately.
    """
    return in_pieces((cells - targets[:, None]).abs(), pieces).sum(-1)


def in_pieces(rows: Tensor, pieces: int) -> Tensor:
    """Cuts rows ``[..., cols]`` into equal parts ``[..., pieces, ceil(cols / pieces)]``, the last filled up with 0."""
    width = -(-rows.shape[-1] // pieces)
    return pad(rows, (0, pieces * width - rows.shape[-1])).reshape(*rows.shape[:-1], pieces, width)


def mean_of_best(errors: Tensor, beta: int) -> Tensor:
    """Mean of the ``beta`` best rows of each output; of equally good ones the earlier copy counts.

    Args:
        errors: ``[copies, rows, pieces]`` keeps pairs together (the paper); ``[2, copies, rows, pieces]`` chooses for
            G+ and G- separately (LEA-1).
        beta: rows that contribute.

    Returns:
        Coefficients ``[2, copies, rows, pieces]``, 1 / beta or 0.

    Raises:
        UsageError: beta is not within 1 to alpha.
    """
    alpha = errors.shape[-3]
    if not 1 <= beta <= alpha:
        raise UsageError(f"beta {beta} must lie in 1 to alpha ({alpha}): it counts the copies that contribute to a row")
    order = errors.sort(dim=-3, stable=True).indices
    kept = torch.zeros_like(errors).scatter_(-3, order.narrow(-3, 0, beta), 1.0 / beta)
    return kept if errors.ndim == 4 else kept.expand(2, *kept.shape)


def mean_of_all(copies: int, rows: int, pieces: int = 1, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Mean of all copies; also the combination under which every cell of a layer is programmed."""
    return torch.full((2, copies, rows, pieces), 1.0 / copies, dtype=dtype)


def summed(copies: int, rows: int, pieces: int = 1, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sum of all copies, as ``mao`` needs it."""
    return torch.ones(2, copies, rows, pieces, dtype=dtype)


def single(copy: int, copies: int, rows: int, pieces: int = 1, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """One copy alone: a plain mapping, or a member of a committee."""
    coefficients = torch.zeros(2, copies, rows, pieces, dtype=dtype)
    coefficients[:, copy] = 1.0
    return coefficients


def least_squares(
    cells: Tensor, weights: Tensor, mapping: PairMapping, *, ridge: float = 0.1, pieces: int = 1
) -> Tensor:
    """Coefficients that fit each row of the weights best; this project's extension, not the published method.

    For each output, min ||sum_k c_k W_k - W||^2 + ridge ||c - 1/alpha||^2, that is
    (A A^T + ridge I) c = A w + ridge / alpha, the rows of A being W_k (facts/lea.md 2.5). Coefficients may be negative.

    Args:
        cells: ``[2, copies, rows, cols]`` S, read back or expected.
        weights: ``[rows, cols]``.
        mapping: weights and conductances.
        ridge: pull towards the mean, in squares of ``w_max``; above 0. More of it averages noise better.
        pieces: parts of a row that are fitted separately.

    Returns:
        Coefficients ``[2, copies, rows, pieces]``, equal for both cells of a pair.

    Raises:
        UsageError: ridge is not above 0.
    """
    if ridge <= 0:
        raise UsageError(f"ridge {ridge:g} must be above 0: equal copies have no unique fit")
    made = mapping.weights(cells[0].double(), cells[1].double()) / mapping.w_max
    a = in_pieces(made, pieces).permute(1, 2, 0, 3)  # [rows, pieces, copies, cols]
    w = in_pieces(weights.double() / mapping.w_max, pieces)
    alpha = a.shape[2]
    left = a @ a.mT + ridge * torch.eye(alpha, dtype=a.dtype)
    right = a @ w[..., None] + ridge / alpha
    solved = cast(Tensor, torch.linalg.solve(left, right))  # pyright: ignore[reportUnknownMemberType]
    c = solved.squeeze(-1).permute(2, 0, 1).to(cells.dtype)
    return c.expand(2, *c.shape)


def effective_weights(cells: Tensor, coefficients: Tensor, mapping: PairMapping) -> Tensor:
    """W_eff, the weights ``[rows, cols]`` that a combination of cells makes without noise.

    Args:
        cells: ``[2, copies, rows, cols]`` S.
        coefficients: ``[2, copies, rows, pieces]``.
        mapping: weights and conductances.
    """
    parts = in_pieces(cells, coefficients.shape[-1]) * coefficients.to(cells.dtype)[..., None]
    sums = parts.sum(1).flatten(-2)[..., : cells.shape[-1]]
    return mapping.weights(sums[0], sums[1])
