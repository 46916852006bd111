"""What a solution of the node equations says: currents, node voltages, power and the mismatch that is left."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sim_backend.wires.circuit import Circuit, Line


@dataclass(frozen=True, slots=True, eq=False)
class WireSolution:
    """Currents and node voltages of an array.

    Args:
        currents: [.., B, C] A into the amplifiers; the only part that carries a gradient.
        word: [.., B, R, C] V, word side of each cell.
        bit: [.., B, R, C] V, bit side of each cell.
        iterations: of the slowest vector.
        residual: [.., B], rest of the node equations of the bit lines over their right side, Euclidean norms.
    """

    currents: Tensor
    word: Tensor
    bit: Tensor
    iterations: int
    residual: Tensor

    @property
    def drop(self) -> Tensor:
        """Voltage across each cell, [.., B, R, C] V: what disturbs a cell that is not meant to see any."""
        return self.word - self.bit


@dataclass(frozen=True, slots=True, eq=False)
class Power:
    """Where the power goes, [.., B] W each; ends are counted with their lines.

    Args:
        cells: dissipated in the cells.
        word_lines: dissipated in word lines and drivers.
        bit_lines: dissipated in bit lines and amplifier inputs.
        delivered: given by the sources; the sum of the other three.
    """

    cells: Tensor
    word_lines: Tensor
    bit_lines: Tensor
    delivered: Tensor


def power(g: Tensor, circuit: Circuit, found: WireSolution, volts: Tensor, feet: Tensor | None = None) -> Power:
    """Power in cells, wires and sources.

    Args:
        g: conductances, [.., R, C] S.
        circuit: the circuit of the solution.
        found: the solution.
        volts: [.., B, R] V at the word sources.
        feet: [.., B, C] V at the bit feet; None for 0 V.
    """
    currents = g.unsqueeze(-3) * found.drop
    words, bits = currents.sum(-1), currents.sum(-2)
    feet = torch.zeros_like(bits) if feet is None else feet
    in_words = _lost(found.word, volts, circuit.word, words)
    in_bits = _lost(found.bit.flip(-2).mT, feet, circuit.bit, bits)
    delivered = (volts * words).sum(-1) - (feet * bits).sum(-1)
    return Power((currents * found.drop).sum((-1, -2)), in_words, in_bits, delivered)


def _lost(nodes: Tensor, source: Tensor, line: Line, through: Tensor) -> Tensor:
    """Power lost in lines whose nodes [.., B, lines, n] are at the given volts, with the source before the first."""
    if line.segment == 0:
        return (through.square() / line.ties).sum(-1)
    inside = nodes.diff(dim=-1).square().sum((-1, -2)) / line.segment
    near = (nodes[..., 0] - source).square().sum(-1) / line.near
    return inside + near + (nodes[..., -1] - source).square().sum(-1) / line.far


def kirchhoff(g: Tensor, circuit: Circuit, found: WireSolution, volts: Tensor, feet: Tensor | None = None) -> Tensor:
    """The largest sum of currents at any node, [.., B] A; 0 for an exact solution. Arguments as in ``power``."""
    currents = g.unsqueeze(-3) * found.drop
    feet = torch.zeros_like(currents[..., 0, :]) if feet is None else feet
    words = _mismatch(found.word, currents, volts, circuit.word)
    bits = _mismatch(found.bit.flip(-2).mT, -currents.flip(-2).mT, feet, circuit.bit)
    return torch.maximum(words, bits)


def _mismatch(nodes: Tensor, leaving: Tensor, source: Tensor, line: Line) -> Tensor:
    if line.segment == 0:
        if math.isinf(line.ties):
            return torch.zeros_like(nodes[..., 0, 0])  # a source takes any current
        return (leaving.sum(-1) + (nodes[..., 0] - source) * line.ties).abs().amax(-1)
    along = nodes.diff(dim=-1) / line.segment
    leaving = leaving.clone()
    leaving[..., :-1] -= along
    leaving[..., 1:] += along
    leaving[..., 0] += (nodes[..., 0] - source) / line.near
    leaving[..., -1] += (nodes[..., -1] - source) / line.far
    return leaving.abs().amax((-1, -2))
