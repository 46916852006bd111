"""Reading one cell through the wires: what a read sees, and what unselected cells see.

A passive array leaks through its unselected lines, which float, are grounded, or are held at a half or a third of the
voltage (Chen, IEEE Trans. Electron Devices 60, 1318, 2013). All of it follows from the conductance matrix between line
ends; two line ends with the others floating are joined by the effective resistance of the network (Klein and Randic,
J. Math. Chem. 12, 81, 1993). In a gated array the other cells are open.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hil.contract import Bias
from hil.errors import UsageError
from sim_backend.wires.circuit import Circuit, Ends, Line, checked_cells
from sim_backend.wires.elimination import ports
from sim_backend.wires.exact import solve
from sim_backend.wires.ladders import Ladders
from sim_backend.wires.solution import WireSolution

_LEAK = 1e-13
"""Leak of every line end over the largest conductance, so that lines which nothing joins have a potential."""


def series(g: Tensor, ohms: float | Tensor) -> Tensor:
    """Conductances, S, of cells in series with resistances, such as the channel of a transistor that is on (1T1R)."""
    return g / (1.0 + g * ohms)


def passive_cells(g: Tensor, circuit: Circuit, unselected: Bias) -> Tensor:
    """Current at the selected foot per volt at the selected word line, for each cell read alone.

    Args:
        g: conductances, [T, R, C] S.
        circuit: the circuit.
        unselected: what the other lines do.

    Returns:
        [T, R, C] S, float64; it contains what leaks in through other cells.
    """
    rows, whole = g.shape[1], ports(g, circuit)
    k = -whole[:, :rows, rows:]
    own = whole.diagonal(dim1=1, dim2=2)[:, None, rows:]
    if unselected is Bias.GROUND:
        return k
    if unselected is Bias.HALF:
        return (k + own) / 2.0
    if unselected is Bias.THIRD:
        return (2.0 * k - k.sum(1, keepdim=True) + 2.0 * own) / 3.0
    return 1.0 / joined_ohms(impedances(whole), rows)


def gated_cells(g: Tensor, circuit: Circuit, *, alone: bool) -> Tensor:
    """Current at the foot per volt at the word line, one gate line on, for each cell; [T, R, C] S, float64.

    Args:
        g: conductances of cells with their transistors, [T, R, C] S.
        circuit: the circuit.
        alone: only one bit line is sensed and the others float, or gate lines cross the word lines. Otherwise all
            cells of the row draw current from its word line.
    """
    g = g.detach().double()
    foot = path_ohms(circuit.bit, g.shape[1]).flip(0).to(g.device)[:, None]
    if alone:
        return series(g, foot + path_ohms(circuit.word, g.shape[2]).to(g.device))
    taps = series(g, foot)
    return taps * torch.from_numpy(Ladders(taps.cpu().numpy(), circuit.word).reach.copy()).to(g.device)


def select(
    g: Tensor,
    rows: Tensor,
    cols: Tensor,
    volts: float,
    *,
    r_word: float,
    r_bit: float,
    unselected: Bias,
    ends: Ends | None = None,
    tol: float = 1e-10,
) -> WireSolution:
    """Node voltages while cells of a passive array are selected one by one: half-select disturb and leakage.

    Args:
        g: conductances, [.., R, C] S.
        rows: [B], word line of each selected cell.
        cols: [B], bit line of each selected cell.
        volts: V at the selected word line; the selected foot is at 0 V.
        r_word: ohm, one segment of a word line.
        r_bit: ohm, one segment of a bit line.
        unselected: what the other lines do.
        ends: what the lines end in.
        tol: as in ``solve``.

    Raises:
        UsageError: a selected cell is not in the array.
    """
    cells, circuit = checked_cells(g), Circuit.of(r_word, r_bit, ends or Ends())
    if not (_inside(rows, g.shape[-2]) and _inside(cols, g.shape[-1]) and rows.shape == cols.shape):
        raise UsageError(
            f"selected cells must be inside {g.shape[-2]} rows and {g.shape[-1]} columns, in equal numbers"
        )
    words = torch.zeros(len(cells), len(rows), g.shape[-2], dtype=torch.float64, device=g.device)
    feet = torch.zeros(len(cells), len(rows), g.shape[-1], dtype=torch.float64, device=g.device)
    each = torch.arange(len(rows), device=g.device)
    if unselected is Bias.FLOAT:
        z = impedances(ports(cells, circuit))
        raised = (z[:, rows] - z[:, g.shape[-2] + cols]).mT  # potential of every end, 1 A from word to foot
        low, high = raised[:, g.shape[-2] + cols, each], raised[:, rows, each]
        raised = ((raised - low[:, None]) * (volts / (high - low)[:, None])).mT
        words, feet = raised.split([g.shape[-2], g.shape[-1]], dim=2)
    else:
        share = {Bias.GROUND: (0.0, 0.0), Bias.HALF: (0.5, 0.5), Bias.THIRD: (1 / 3, 2 / 3)}[unselected]
        words, feet = words + share[0] * volts, feet + share[1] * volts
    words[:, each, rows], feet[:, each, cols] = volts, 0.0
    lead = g.shape[:-2]
    words, feet = words.reshape(*lead, *words.shape[1:]), feet.reshape(*lead, *feet.shape[1:])
    return solve(g, words.to(g.dtype), r_word, r_bit, tol, ends=ends, feet=feet.to(g.dtype))


def _inside(lines: Tensor, count: int) -> bool:
    return lines.dim() == 1 and lines.numel() > 0 and int(lines.min()) >= 0 and int(lines.max()) < count


def impedances(whole: Tensor) -> Tensor:
    """Potentials of line ends per ampere, up to a constant that no difference sees; [T, R + C, R + C] ohm."""
    scale = whole.diagonal(dim1=1, dim2=2).amax(1).clamp(min=1e-30)[:, None, None]
    eye = torch.eye(whole.shape[1], dtype=whole.dtype, device=whole.device)
    return torch.linalg.inv(whole + scale * (_LEAK * eye + 1.0 / whole.shape[1]))


def joined_ohms(z: Tensor, rows: int) -> Tensor:
    """Effective resistance between each word line and each bit line, ohm."""
    own = z.diagonal(dim1=1, dim2=2)
    return own[:, :rows, None] + own[:, None, rows:] - 2.0 * z[:, :rows, rows:]


def path_ohms(line: Line, nodes: int) -> Tensor:
    """Resistance between the source and each node of a line that carries no other current, ohm."""
    near = line.near + line.segment * torch.arange(nodes, dtype=torch.float64)
    if line.near == 0 or math.isinf(line.far):
        return near
    far = line.far + line.segment * torch.arange(nodes - 1, -1, -1, dtype=torch.float64)
    return near * far / (near + far)
