"""The exact transfer matrix by block elimination.

Word lines are eliminated in closed form (their inverses are semiseparable), then rows are eliminated from the top to
the foot; the Schur complement of a row is a dense matrix over its bit nodes:

    A_i = D_i / g - X_(i-1),  X_i = A_i^-1,  R_i = X_i [R_(i-1), u_i / g],  K^T = g_foot R_(M-1)

with g one segment of a bit line, D_i = diag(..) - G_i T_i^-1 G_i and u_i = G_i (word nodes at 1 V on line i). This is
block Gaussian elimination of a block tridiagonal matrix (Golub and Van Loan, Matrix Computations, 2013, section 4.5).
About 2 M N^3 operations in float64, nearly all in matrix products; the block lies over the shorter side.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hil.contract import Side
from sim_backend.wires.circuit import Circuit, Line
from sim_backend.wires.ladders import Ladders

_LEAF = 64
"""Largest matrix that is inverted by Cholesky; larger ones are split, because products are faster."""
_CHUNK = 1 << 16
"""Most numbers of row matrices that are made at once: they should stay in the cache."""


def transfer(g: Tensor, circuit: Circuit) -> Tensor:
    """The matrix K [T, R, C] S with currents = volts @ K, for cells ``g`` [T, R, C]; float64."""
    if g.shape[2] <= g.shape[1]:
        return _sweep(g, circuit, ports=False)[0]
    return turned(_sweep(turned(g), circuit.turned, ports=False)[0])


def ports(g: Tensor, circuit: Circuit) -> Tensor:
    """The conductance matrix of all line ends: [T, R + C, R + C] S, float64.

    Currents into the array = matrix @ voltages of (word sources, bit feet). Rows add to 0.
    """
    k, bits = _sweep(g, circuit, ports=True)
    words = entries(g, circuit, Side.ROWS)
    return torch.cat((torch.cat((words, -k), 2), torch.cat((-k.mT, bits), 2)), 1)


def entries(g: Tensor, circuit: Circuit, drive: Side) -> Tensor:
    """What the driven line ends draw, the others at 0 V: the block of ``ports`` on its diagonal, float64.

    Args:
        g: conductances, [T, R, C] S.
        circuit: the circuit.
        drive: the side of the ends.

    Returns:
        Y [T, driven, driven] S, symmetric: currents into the lines = volts @ Y, and power = volts Y volts.
    """
    if drive is Side.COLS:
        return _sweep(g, circuit, ports=True)[1]
    return _sweep(turned(g), circuit.turned, ports=True)[1].flip(1, 2)


def turned(g: Tensor) -> Tensor:
    """Rows and columns exchanged, so that sources and feet change places (reciprocity)."""
    return g.mT.flip(1, 2)


class Rows:
    """What each row adds to the elimination; all tensors [T, R, ..]."""

    def __init__(self, g: Tensor, circuit: Circuit) -> None:
        self.words = Ladders(g.detach().cpu().numpy(), circuit.word)
        parts = self.words.generators()
        on = [None if part is None else torch.from_numpy(part.copy()).to(g.device) for part in parts]
        a, b, self._logs = on
        assert a is not None and b is not None
        self._left, self._right = g * a, g * b
        self.pushed = g * torch.from_numpy(self.words.reach.copy()).to(g.device)

    def seen(self, first: int, last: int) -> Tensor:
        """G T^-1 G of rows first .. last - 1: [T, rows, C, C]; only the lower triangle holds."""
        part = slice(first, last)
        product = self._left[:, part, :, None] * self._right[:, part, None, :]
        if self._logs is None:
            return product
        logs = self._logs[:, part]
        return product * (logs[..., None] - logs[..., None, :]).clamp_(max=0.0).exp_()


def _sweep(g: Tensor, circuit: Circuit, *, ports: bool) -> tuple[Tensor, Tensor]:
    g = g.to(torch.float64).contiguous()
    rows = Rows(g, circuit)
    return _merged(g, rows, circuit) if circuit.bit.segment == 0 else _rowwise(g, rows, circuit, ports=ports)


def _merged(g: Tensor, rows: Rows, circuit: Circuit) -> tuple[Tensor, Tensor]:
    """Bit lines without segments: one node each, behind the resistance of its ends."""
    step = max(1, _CHUNK // (g.shape[0] * g.shape[2] ** 2))
    seen = sum(rows.seen(i, min(i + step, g.shape[1])).sum(1) for i in range(0, g.shape[1], step))
    assert isinstance(seen, Tensor)
    bits = torch.diag_embed(g.sum(1)) - (seen.tril() + seen.tril(-1).mT)
    if circuit.bit.near == 0:
        return rows.pushed, bits
    eye = torch.eye(g.shape[2], dtype=g.dtype, device=g.device)
    behind = eye + bits / circuit.bit.ties
    return torch.linalg.solve(behind, rows.pushed, left=False), torch.linalg.solve(behind, bits)


def _rowwise(g: Tensor, rows: Rows, circuit: Circuit, *, ports: bool) -> tuple[Tensor, Tensor]:
    """Bit lines with segments: row by row from the top to the foot.

    Where the top is tied too, ``top`` carries its share of the output down the rows, and ``direct`` collects what
    eliminated rows give to it.
    """
    tiles, m, n = g.shape
    line = circuit.bit
    segment, foot, far = 1.0 / line.segment, 1.0 / line.near, 1.0 / line.far
    pushed = rows.pushed / segment
    eye = torch.eye(n, dtype=g.dtype, device=g.device).expand(tiles, n, n)
    top, bits, x = eye * far, eye * (foot + far), eye
    here, there = pushed.clone(), pushed  # a row that is not yet reached holds its u
    direct = torch.zeros_like(here) if far else None
    for i, x in enumerate(pivots(g, rows, line)):
        top = top + eye * foot if i == m - 1 else top
        torch.bmm(here[:, : i + 1], x, out=there[:, : i + 1])
        here, there = there, here
        if direct is not None:
            direct[:, : i + 1] += here[:, : i + 1] @ top
            through = x @ top
            bits = bits - top.mT @ through / segment
            top = through
    if direct is not None:
        return direct, bits
    return here * foot, bits - x * (foot * foot / segment) if ports else bits


def pivots(g: Tensor, rows: Rows, line: Line) -> Iterator[Tensor]:
    """The matrices X_i [T, C, C] of the rows, from the top to the foot; ``line`` is the bit lines'."""
    segment = 1.0 / line.segment
    diagonal = g + 2.0 * segment
    diagonal[:, 0] += 1.0 / line.far - segment
    diagonal[:, -1] += 1.0 / line.near - segment
    diagonal /= segment
    x = torch.zeros(len(g), g.shape[2], g.shape[2], dtype=g.dtype, device=g.device)
    step = max(1, _CHUNK // x.numel())
    for first in range(0, g.shape[1], step):
        many = rows.seen(first, min(first + step, g.shape[1])).mul_(-1.0 / segment)
        many.diagonal(dim1=2, dim2=3).add_(diagonal[:, first : first + step])
        for one in many.unbind(1):
            x = inverse(one - x)
            yield x


def inverse(a: Tensor) -> Tensor:
    """The inverses of symmetric positive definite matrices [T, n, n], of which only the lower triangle is read.

    Large ones are split in four (Strassen, Numer. Math. 13, 354, 1969): products are faster than factorisations.
    """
    n = a.shape[-1]
    if n <= _LEAF:
        return torch.cholesky_inverse(torch.linalg.cholesky_ex(a)[0])
    half = n // 2
    first = inverse(a[:, :half, :half])
    below = a[:, half:, :half]
    mixed = below @ first
    last = inverse(torch.baddbmm(a[:, half:, half:], mixed, below.mT, alpha=-1.0))
    through = last @ mixed
    whole = torch.empty_like(a)
    torch.baddbmm(first, mixed.mT, through, out=whole[:, :half, :half])
    torch.neg(through, out=whole[:, half:, :half])
    whole[:, :half, half:] = whole[:, half:, :half].mT
    whole[:, half:, half:] = last
    return whole
