"""Exact currents and transfer matrices with exact gradients.

Gradients follow from the adjoint circuit, the same array with its feet at the gradient of the currents and its word
sources at 0 V (Director and Rohrer, IEEE Trans. Circuit Theory 16, 318, 1969): the gradient of a cell is the product
of the two voltages across it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hil.errors import UsageError
from sim_backend.wires.adjoint import cell_gradient
from sim_backend.wires.circuit import Circuit, Ends, checked_cells, checked_volts
from sim_backend.wires.elimination import transfer
from sim_backend.wires.network import Network, Nodes
from sim_backend.wires.solution import WireSolution

_ADJOINT_TOL = 1e-12


def transfer_matrix(g: Tensor, r_word: float, r_bit: float, *, ends: Ends | None = None) -> Tensor:
    """The exact transfer matrix K of an array: currents = volts @ K, for every input at once.

    Args:
        g: conductances, [.., R, C] S.
        r_word: ohm, one segment of a word line.
        r_bit: ohm, one segment of a bit line.
        ends: what the lines end in; None for bare segments.

    Returns:
        K, [.., R, C] S, computed in float64 and given in the format of ``g``. It carries gradients.

    Raises:
        UsageError: conductances or resistances make no sense.
    """
    cells, circuit = checked_cells(g), Circuit.of(r_word, r_bit, ends or Ends())
    return _Transfer.apply(cells, circuit).reshape(g.shape)  # pyright: ignore[reportOptionalMemberAccess]


def solve(
    g: Tensor,
    volts: Tensor,
    r_word: float,
    r_bit: float,
    tol: float = 1e-10,
    *,
    ends: Ends | None = None,
    feet: Tensor | None = None,
) -> WireSolution:
    """Currents and node voltages for some inputs, by conjugate gradients; cheaper than K for a few vectors.

    Args:
        g: conductances, [.., R, C] S.
        volts: [.., B, R] V at the word sources; the leading part as in ``g``, or left out for all tiles.
        r_word: ohm, one segment of a word line.
        r_bit: ohm, one segment of a bit line.
        tol: residual over right side at which a vector is done.
        ends: what the lines end in; None for bare segments.
        feet: [.., B, C] V at the feet of the bit lines; None for virtual ground.

    Returns:
        The solution, in the format of ``g``; its currents carry gradients with respect to g, volts and feet.

    Raises:
        UsageError: conductances, voltages, resistances or ``tol`` make no sense.
        NotConverged: ``tol`` was not reached.
    """
    cells, circuit = checked_cells(g), Circuit.of(r_word, r_bit, ends or Ends())
    if not tol > 0:
        raise UsageError(f"tol must be above 0, got {tol:g}")
    drive = checked_volts(volts, g, g.shape[-2], "volts")
    held = None if feet is None else checked_volts(feet, g, g.shape[-1], "feet").expand(-1, drive.shape[1], -1)
    task = _Task(circuit, tol)
    currents, word, bit = _Solve.apply(cells, drive, held, task)  # pyright: ignore[reportGeneralTypeIssues]
    assert task.nodes is not None
    lead = (*g.shape[:-2], drive.shape[1])
    residual = torch.from_numpy(task.nodes.residual.T.copy()).to(g.device)
    nodes = (*lead, *g.shape[-2:])
    return WireSolution(
        currents.reshape(*lead, g.shape[-1]),
        word.reshape(nodes),
        bit.reshape(nodes),
        task.nodes.iterations,
        residual.reshape(lead),
    )


def _numbers(volts: Tensor) -> Any:
    """[T, B, lines] as float64 [B, T, lines] of numpy."""
    return volts.detach().to("cpu", torch.float64).transpose(0, 1).numpy()


def _tensor(nodes: Any, like: Tensor) -> Tensor:
    """[B, T, R, C] of numpy as [T, B, R, C] beside ``like``, float64."""
    return torch.from_numpy(nodes.swapaxes(0, 1).copy()).to(like.device)


@dataclass(slots=True)
class _Task:
    """What to solve, and the nodes that were found."""

    circuit: Circuit
    tol: float
    nodes: Nodes | None = None


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, volts: Tensor, feet: Tensor | None, task: _Task) -> tuple[Tensor, Tensor, Tensor]:
        network = Network(g, task.circuit)
        nodes = task.nodes = network.driven(_numbers(volts), None if feet is None else _numbers(feet), task.tol)
        word, bit = _tensor(nodes.word, g), _tensor(nodes.bit, g)
        drop = word - bit
        currents = torch.einsum("trc,tbrc->tbc", g.double(), drop).to(g.dtype)
        ctx.network, ctx.tol = network, min(task.tol, _ADJOINT_TOL)
        ctx.save_for_backward(g, drop if ctx.needs_input_grad[0] else g)
        word, bit = word.to(g.dtype), bit.to(g.dtype)
        ctx.mark_non_differentiable(word, bit)
        return currents, word, bit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        g, drop = ctx.saved_tensors
        feet = _numbers(grads[0])
        nodes = ctx.network.driven(np.zeros((len(feet), *g.shape[:-1])), feet, ctx.tol)
        adjoint = -_tensor(nodes.drop, g)
        amps = g.unsqueeze(1) * adjoint
        to_g = (adjoint * drop).sum(1).to(g.dtype) if ctx.needs_input_grad[0] else None
        to_feet = -amps.sum(-2).to(g.dtype) if ctx.needs_input_grad[2] else None
        return to_g, amps.sum(-1).to(g.dtype), to_feet, None


class _Transfer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, circuit: Circuit) -> Tensor:
        ctx.save_for_backward(g)
        ctx.circuit = circuit
        return transfer(g, circuit).to(g.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (g,) = ctx.saved_tensors
        return cell_gradient(g, ctx.circuit, grads[0].double()).to(g.dtype), None
