"""The voltage that lines leave to a cell that is selected alone: what a programming pulse is worth behind wires.

In a gated array the other cells are open, and one path carries the current of the cell. In a passive array the other
lines float, are grounded, or are held at a half or a third of the voltage (Chen, IEEE Trans. Electron Devices 60, 1318,
2013), and all cells draw current. The voltage across a cell is then the sum of what each line end gives to it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hil.contract import Bias
from sim_backend.wires.access import impedances, joined_ohms, path_ohms
from sim_backend.wires.circuit import Circuit
from sim_backend.wires.elimination import ports
from sim_backend.wires.network import Network

_HELD = 1 << 21
"""Most node voltages that are solved for at once."""
_SHARES = {Bias.GROUND: (0.0, 0.0), Bias.HALF: (1 / 2, 1 / 2), Bias.THIRD: (1 / 3, 2 / 3)}
"""Voltage of word lines and feet that are not selected, over that of the selected word line."""


def gated_share(g: Tensor, circuit: Circuit) -> Tensor:
    """The share of the voltage that is across each cell when its path alone carries current: 1 / (1 + G R).

    Args:
        g: conductances, [T, R, C] S.
        circuit: the circuit; word lines carry the voltage.

    Returns:
        [T, R, C], float64.
    """
    foot, word = path_ohms(circuit.bit, g.shape[1]).flip(0), path_ohms(circuit.word, g.shape[2])
    return 1.0 / (1.0 + g.detach().double() * (foot[:, None] + word).to(g.device))


def passive_share(g: Tensor, circuit: Circuit, unselected: Bias, tol: float, *, wanted: Tensor | None = None) -> Tensor:
    """The share of the voltage that is across each cell of a passive array when it is selected alone.

    Exact: one solution for each cell, or where it is less work one for each line end, and their superposition.

    Args:
        g: conductances, [T, R, C] S.
        circuit: the circuit; word lines carry the voltage.
        unselected: what the other lines do.
        tol: as in ``solve``.
        wanted: [T, R, C], the cells that are asked for; None for all.

    Returns:
        [T, R, C], float64; 1 for some cells that were not asked for.
    """
    tiles, rows, cols = g.shape
    by_row, by_col, volts = _ends(g, circuit, unselected)
    network = Network(g, circuit)
    few = None if wanted is None else wanted.any(0).cpu()
    if few is not None and int(few.sum()) < rows + cols:
        row, col = few.nonzero(as_tuple=True)
        ends = ((by_row[:, :, row] + by_col[:, :, col]) / volts[:, None, row, col]).permute(2, 0, 1)
        share = torch.ones(g.shape, dtype=torch.float64)
        for part, drop in _drops(network, ends, g, tol):
            share[:, row[part], col[part]] = drop[torch.arange(len(drop)), :, row[part], col[part]].mT
        return share.clamp_(0.0, 1.0).to(g.device)
    share = torch.zeros(g.shape, dtype=torch.float64)
    each = torch.eye(rows + cols, dtype=torch.float64).unsqueeze(1).expand(-1, tiles, -1)
    for part, drop in _drops(network, each, g, tol):
        share += torch.einsum("tmr,mtrc->trc", by_row[:, part], drop)
        share += torch.einsum("tmc,mtrc->trc", by_col[:, part], drop)
    return share.div_(volts).clamp_(0.0, 1.0).to(g.device)


def _drops(network: Network, ends: Tensor, g: Tensor, tol: float) -> Iterator[tuple[slice, Tensor]]:
    """Voltages across the cells, [some, T, R, C] V, for voltages of line ends [B, T, R + C], some at a time."""
    step = max(1, _HELD // g.numel())
    for first in range(0, len(ends), step):
        words, feet = ends[first : first + step].split([g.shape[1], g.shape[2]], dim=2)
        drop = network.driven(words.contiguous().numpy(), feet.contiguous().numpy(), tol).drop
        yield slice(first, first + step), torch.from_numpy(drop.copy())


def _ends(g: Tensor, circuit: Circuit, unselected: Bias) -> tuple[Tensor, Tensor, Tensor]:
    """Voltages of all line ends while each cell is selected.

    Returns:
        The part that goes with the row of the cell, [T, R + C, R], the part that goes with its column, [T, R + C, C],
        and the voltage of the selected word line over the foot, [T, R, C]. Float64.
    """
    tiles, rows, cols = g.shape
    if unselected is Bias.FLOAT:  # 1 A from the word line to the foot raises every end
        z = impedances(ports(g, circuit)).cpu()
        return z[:, :, :rows], -z[:, :, rows:], joined_ohms(z, rows)
    word, foot = _SHARES[unselected]
    by_row = torch.zeros(tiles, rows + cols, rows, dtype=torch.float64)
    by_col = torch.zeros(tiles, rows + cols, cols, dtype=torch.float64)
    by_row[:, :rows] = word + (1.0 - word) * torch.eye(rows, dtype=torch.float64)
    by_col[:, rows:] = foot - foot * torch.eye(cols, dtype=torch.float64)
    return by_row, by_col, torch.ones(g.shape, dtype=torch.float64)
