"""Exact correction of a known transfer matrix after a few cells have changed.

A changed cell is one more resistor between two nodes, so that K changes by a matrix of low rank (Sherman and Morrison,
Ann. Math. Stat. 21, 124, 1950; Woodbury, Memorandum Report 42, Princeton, 1950). With 1 A through a changed cell of
the old array, the currents at feet and sources are its two vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sim_backend.wires.circuit import Circuit
from sim_backend.wires.network import Network

_TOL = 1e-13


def break_even(rows: int, cols: int) -> int:
    """How many solutions by conjugate gradients cost about as much as one elimination (measured, 32 to 256)."""
    return 2 + min(rows, cols) // 10


def corrected(k: Tensor, old: Tensor, new: Tensor, circuit: Circuit) -> Tensor:
    """The transfer matrix of the cells ``new`` [T, R, C] from that of the cells ``old``.

    Args:
        k: [T, R, C] S, exact for ``old``, float64.
        old: S, before the change.
        new: S, after it.
        circuit: the circuit of both.

    Returns:
        K of ``new``, float64. The cost grows with the largest number of changed cells in a tile.
    """
    delta = (new.double() - old.double()).flatten(1)
    tiles, (rows, cols) = len(old), old.shape[1:]
    changed = delta != 0
    slots = int(changed.sum(1).max())
    if slots == 0:
        return k
    cells = changed.to(torch.uint8).topk(slots, dim=1).indices  # [T, slots]; unused slots point at unchanged cells
    amount = delta.gather(1, cells)
    at = torch.zeros(slots, tiles, rows * cols, dtype=torch.float64, device=old.device)
    at.scatter_(2, cells.T.unsqueeze(2), 1.0)
    found = Network(old, circuit).injected(at.view(slots, tiles, rows, cols).cpu().numpy(), _TOL)
    drop = torch.from_numpy(found.drop.copy()).to(old.device).transpose(0, 1)
    through = at.view(slots, tiles, rows, cols).transpose(0, 1) - old.double().unsqueeze(1) * drop
    from_words, to_feet = through.sum(3), -through.sum(2)
    seen = drop.flatten(2).gather(2, cells.unsqueeze(1).expand(-1, slots, -1))
    eye = torch.eye(slots, dtype=torch.float64, device=old.device)
    mixed = torch.linalg.solve(eye + amount.unsqueeze(2) * seen, amount.unsqueeze(2) * to_feet)
    return k - from_words.mT @ mixed
