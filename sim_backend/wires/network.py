"""The nodal equations of many tiles, ready to be solved for many voltages.

Arrays are numpy float64 in one of two layouts, both with the end of the line before its first node, so that rows run
from the foot upwards: words [.., T, R, C] and bits [.., T, C, R]. A line without segments is one node.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sim_backend.wires.circuit import Circuit, NotConverged
from sim_backend.wires.ladders import Array, Ladders

_PER_LINE = 20
"""Most iterations, per line of the array; usual arrays need less than ten in all."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Voltages of all nodes, [B, T, R, C] V, and how the iteration ended."""

    word: Array
    bit: Array
    iterations: int
    residual: Array

    @property
    def drop(self) -> Array:
        """Voltages across the cells, V."""
        return self.word - self.bit


class Network:
    """The equations of cells ``g`` [T, R, C] S in a circuit."""

    def __init__(self, g: Tensor, circuit: Circuit) -> None:
        cells = g.detach().double().cpu().numpy()
        self._gw = np.ascontiguousarray(cells[:, ::-1])
        self._gb = np.ascontiguousarray(self._gw.swapaxes(1, 2))
        self._word = Ladders(self._gw, circuit.word)
        self._bit = Ladders(self._gb, circuit.bit)

    def driven(self, volts: Array, feet: Array | None, tol: float) -> Nodes:
        """Node voltages for word sources ``volts`` [B, T, R] and bit feet [B, T, C] V (None: 0 V).

        Raises:
            NotConverged: the residual stayed above ``tol``.
        """
        word = self._word.reach * volts[..., ::-1, None]
        return self._solve(word, feet, None, tol)

    def injected(self, at: Array, tol: float) -> Nodes:
        """Node voltages for 1 A that leaves through bit nodes and enters through word nodes, per vector.

        Args:
            at: A into the word node and out of the bit node of each cell, [B, T, R, C].
            tol: as in ``driven``.
        """
        entering = np.ascontiguousarray(at[..., ::-1, :])
        leaving = -_swapped(entering)
        word = np.broadcast_to(self._word.inverse(entering), leaving.swapaxes(-1, -2).shape)
        return self._solve(word, None, leaving, tol)

    def _solve(self, word: Array, feet: Array | None, entering: Array | None, tol: float) -> Nodes:
        """Solves for the bit nodes, with word nodes ``word`` at bit nodes of 0 V, then for the word nodes.

        Bit nodes are counted from their feet: the right side is then of the size of the cells' currents, and so is
        the error.
        """
        if feet is not None:
            word = word + self._word.inverse(self._gw * feet[..., None, :])
        drop = _swapped(word) if feet is None else _swapped(word) - feet[..., None]
        if self._bit.held:
            bit = np.zeros((*drop.shape[:-1], 1))
            iterations, residual = 0, np.zeros(word.shape[:2])
        else:
            force = self._gb * drop
            force = force if entering is None else force + entering
            bit, iterations, residual = self._relax(force.sum(-1, keepdims=True) if self._bit.merged else force, tol)
        whole = np.broadcast_to(bit, drop.shape)
        word = word + self._word.inverse(self._gw * whole.swapaxes(-1, -2))
        whole = whole if feet is None else whole + feet[..., None]
        return Nodes(word[..., ::-1, :], whole.swapaxes(-1, -2)[..., ::-1, :], iterations, residual)

    def _coupling(self, bit: Array) -> Array:
        """Currents G T_word^-1 G b that the word lines send to bit nodes at voltages b."""
        pulled = self._word.inverse(_swapped(self._gb * bit))
        if pulled.shape[-1] == 1:
            pulled = np.broadcast_to(pulled, (*bit.shape[:2], *self._gw.shape[1:]))
        back = self._gb * _swapped(pulled)
        return back.sum(-1, keepdims=True) if self._bit.merged else back

    def _relax(self, force: Array, tol: float) -> tuple[Array, int, Array]:
        """Conjugate gradients on S b = force, S = T_bit - G T_word^-1 G, with exact solves of the bit lines first.

        The preconditioned method of Hestenes and Stiefel (1952) in the form of Saad, Iterative Methods for Sparse
        Linear Systems (2003), algorithm 9.1. T_bit times a direction follows by recursion, and is never applied.
        """
        limit, scale = _PER_LINE * sum(self._gw.shape[1:]), tol * _norms(force)
        bit = self._bit.inverse(force.copy())
        residual = self._coupling(bit)
        direction, held, past = np.zeros_like(bit), np.zeros_like(bit), np.zeros(force.shape[:2])
        norms, iterations = _norms(residual), 0
        while not (norms <= scale).all():
            if iterations == limit:
                worst = norms > scale
                raise NotConverged(limit, float((norms[worst] / scale[worst]).max()) * tol, tol)
            step = self._bit.inverse(residual.copy())
            now = np.where(norms > scale, _dots(residual, step), 0.0)
            turn = _ratio(now, past)
            direction = step + turn * direction
            held = residual + turn * held
            forward = held - self._coupling(direction)
            length = _ratio(now, _dots(direction, forward))
            bit += length * direction
            residual -= length * forward
            past, norms, iterations = now, _norms(residual), iterations + 1
        return bit, iterations, np.divide(norms * tol, scale, out=np.zeros_like(norms), where=scale > 0)


def _swapped(x: Array) -> Array:
    """The other layout, in memory of its own."""
    return np.ascontiguousarray(x.swapaxes(-1, -2))


def _dots(x: Array, y: Array) -> Array:
    return np.einsum("btij,btij->bt", x, y)


def _norms(x: Array) -> Array:
    return np.sqrt(_dots(x, x))


def _ratio(above: Array, below: Array) -> Array:
    """Quotients above / below for each vector, 0 where a vector has converged; [B, T, 1, 1]."""
    return np.divide(above, below, out=np.zeros_like(above), where=(above > 0) & (below > 0))[..., None, None]
