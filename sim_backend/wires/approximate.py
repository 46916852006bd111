"""A fast approximate transfer matrix with an error bound.

If neighbouring lines are held, word and bit lines are independent ladders and K is the product of cell, word ladder
and bit ladder: K0 = G * reach_word * reach_bit, the first term of the Neumann series of the Schur complement (Saad,
Iterative Methods for Sparse Linear Systems, 2003, section 12.3). All terms of that series are positive, because the
nodal matrix is an M-matrix (Berman and Plemmons, Nonnegative Matrices, 1994, chapter 6), so that K >= K0 everywhere.
One exact solution, all inputs at 1 V, gives the sums of K over inputs and, by reciprocity, over outputs. What K0 lacks
is spread in proportion to both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sim_backend.wires.circuit import Circuit, Ends, checked_cells
from sim_backend.wires.ladders import Array, Ladders
from sim_backend.wires.network import Network

_TOL = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Approximation:
    """An approximate transfer matrix.

    Args:
        k: [.., R, C] S; exact where all inputs are equal.
        bound: [.., C] S; currents miss the exact ones by at most bound * (highest - lowest input).
    """

    k: Tensor
    bound: Tensor


def approximate_matrix(g: Tensor, r_word: float, r_bit: float, *, ends: Ends | None = None) -> Approximation:
    """The transfer matrix in a time that grows with the number of cells; arguments as in ``transfer_matrix``."""
    k, bound = approximation(checked_cells(g), Circuit.of(r_word, r_bit, ends or Ends()))
    return Approximation(k.to(g.dtype).reshape(g.shape), bound.to(g.dtype).reshape(*g.shape[:-2], g.shape[-1]))


def approximation(g: Tensor, circuit: Circuit) -> tuple[Tensor, Tensor]:
    """The matrix [T, R, C] and its bound [T, C] for cells ``g`` [T, R, C], float64."""
    cells = g.detach().to("cpu", torch.float64).numpy()
    flipped = np.ascontiguousarray(cells[:, ::-1])
    by_bit = np.ascontiguousarray(flipped.swapaxes(1, 2))
    word, bit = Ladders(flipped, circuit.word).reach, Ladders(by_bit, circuit.bit).reach
    k = cells * word[:, ::-1] * bit.swapaxes(1, 2)[:, ::-1]
    nodes = Network(g, circuit).driven(np.ones((1, *g.shape[:2])), None, _TOL)
    amps = cells * nodes.drop[0]
    to_feet, from_words = _rest(amps.sum(1), k.sum(1)), _rest(amps.sum(2), k.sum(2))
    total = from_words.sum(-1, keepdims=True)
    share = np.divide(from_words, total, out=np.full_like(from_words, 1.0 / g.shape[1]), where=total > 0)
    k = k + share[:, :, None] * to_feet[:, None, :]
    return torch.from_numpy(k).to(g.device), torch.from_numpy(to_feet).to(g.device)


def _rest(exact: Array, ladder: Array) -> Array:
    """What the ladders lack; rounding may make nothing negative."""
    return np.maximum(exact - ladder, 0.0)
