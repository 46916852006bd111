"""The gradient of a transfer matrix with respect to the cells.

With p_j the voltage across a cell for 1 V at foot j alone, and q_m the one for 1 V at word line m alone, the element
K[m, j] changes by p_j q_m (Director and Rohrer, IEEE Trans. Circuit Theory 16, 318, 1969). The sum over all inputs is
left to the circuit, which is driven by the gradients of one output at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sim_backend.wires.circuit import Circuit
from sim_backend.wires.elimination import Rows, pivots, turned
from sim_backend.wires.network import Network

_HELD = 1 << 24
"""Most node voltages that are held at once."""
_TOL = 1e-12


def cell_gradient(g: Tensor, circuit: Circuit, grad: Tensor) -> Tensor:
    """The sum over inputs m and outputs j of grad[m, j] dK[m, j] / dG, [T, R, C], float64.

    Args:
        g: conductances, [T, R, C] S.
        circuit: the circuit.
        grad: the gradient of K, [T, R, C], float64.
    """
    if g.shape[2] > g.shape[1]:
        return turned(cell_gradient(turned(g), circuit.turned, turned(grad)))
    g = g.detach().double().contiguous()
    one = g[0].numel() * g.shape[2]
    if circuit.bit.segment == 0 or one > _HELD:
        return _by_vectors(g, circuit, grad)
    tiles = _HELD // one
    parts = [_by_rows(g[t : t + tiles], circuit, grad[t : t + tiles]) for t in range(0, len(g), tiles)]
    return torch.cat(parts)


def _by_rows(g: Tensor, circuit: Circuit, grad: Tensor) -> Tensor:
    """All voltages by the elimination of ``elimination``, and its way back from the foot to the top."""
    rows, line = Rows(g, circuit), circuit.bit
    xs = list(pivots(g, rows, line))
    pushed = (rows.pushed * line.segment).unsqueeze(3) * grad.unsqueeze(2)
    ends = torch.zeros_like(pushed)
    ends.diagonal(dim1=2, dim2=3)[:, 0] += line.segment / line.far
    ends.diagonal(dim1=2, dim2=3)[:, -1] += line.segment / line.near
    drops: list[Tensor] = []
    for force, source in ((pushed, grad), (ends, None)):
        bit = _substituted(xs, force)
        word = _pulled(rows, g.unsqueeze(3) * bit)
        if source is not None:
            word += torch.from_numpy(rows.words.reach.copy()).to(g.device).unsqueeze(3) * source.unsqueeze(2)
        drops.append(word.sub_(bit))
    return -torch.einsum("trcj,trcj->trc", *drops)


def _substituted(xs: list[Tensor], force: Tensor) -> Tensor:
    """Bit voltages [T, R, C, outputs] for currents ``force`` in units of one segment's conductance."""
    volts, last = torch.empty_like(force), torch.zeros_like(force[:, 0])
    for i, x in enumerate(xs):
        last = x @ (force[:, i] + last)
        volts[:, i] = last
    for i in reversed(range(len(xs) - 1)):
        volts[:, i] += xs[i] @ volts[:, i + 1]
    return volts


def _pulled(rows: Rows, amps: Tensor) -> Tensor:
    """Word voltages T^-1 amps, [T, R, C, outputs]."""
    vectors = amps.permute(3, 0, 1, 2).contiguous().cpu().numpy()
    pulled = torch.from_numpy(rows.words.inverse(vectors)).to(amps.device).permute(1, 2, 3, 0)
    return pulled.expand(amps.shape).contiguous()


def _by_vectors(g: Tensor, circuit: Circuit, grad: Tensor) -> Tensor:
    """The same by conjugate gradients, some outputs at a time."""
    network, result = Network(g, circuit), torch.zeros_like(g)
    feet = torch.eye(g.shape[2], dtype=torch.float64).unsqueeze(1).expand(-1, len(g), -1).numpy()
    inputs = grad.permute(2, 0, 1).cpu().contiguous().numpy()
    part = max(1, _HELD // (4 * g.numel()))
    for first in range(0, len(inputs), part):
        some = inputs[first : first + part]
        seen = network.driven(some, None, _TOL).drop
        adjoint = network.driven(0.0 * some, feet[first : first + part], _TOL).drop
        result -= torch.from_numpy((seen * adjoint).sum(0)).to(g.device)
    return result
