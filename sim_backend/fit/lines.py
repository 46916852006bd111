"""Fits line resistance of a gated array to whole-array reads beside cell reads.

Both kinds of read see the wires, and the cells behind them are not known: for trial resistances the cells are found
that would show what the cell reads show, and the currents of the whole array follow from them. Gauss and Newton's
steps bring these currents to the measured ones. Driver and amplifier are taken to have no resistance of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hil.contract import Bias, Side
from sim_backend.wires.conduction import LineResistance
from sim_backend.wires.config import Wires

_STEP = 0.05
"""ohm, over which derivatives are taken."""
_ROUNDS = 12


@dataclass(frozen=True, slots=True)
class CellReads:
    """Cells read one by one.

    Args:
        siemens: [T, R, C] S, as they seem to conduct.
        error: S, standard error.
        unselected: what the other lines did.
        gate_lines: the side that each gate line runs along.
    """

    siemens: Tensor
    error: float
    unselected: Bias
    gate_lines: Side


@dataclass(frozen=True, slots=True)
class LineFit:
    """Resistance of one segment of each kind of line, ohm.

    Args:
        word: of word lines.
        word_error: standard error.
        bit: of bit lines.
        bit_error: standard error.
        misfit: rms of measured minus modelled currents over the rms of their expected noise; about 1 for a good fit.
    """

    word: float
    word_error: float
    bit: float
    bit_error: float
    misfit: float

    def resolved(self, name: str) -> bool:
        """Whether the resistance of a kind of line, ``word`` or ``bit``, is beyond three standard errors."""
        value, error = getattr(self, name), getattr(self, f"{name}_error")
        return value > 3 * error


def fit_lines(
    cells: dict[Side, CellReads], volts: dict[Side, Tensor], amps: dict[Side, Tensor], amps_error: float
) -> LineFit:
    """Fits the resistances of word and bit segments.

    Args:
        cells: cells read one by one, by the side driven; a tile with values that are not finite is left out.
        volts: [batch, driven] V, by the side driven.
        amps: [T, batch, sensed] A; values that are not finite are left out.
        amps_error: A, standard error of one value.

    Raises:
        ValueError: nothing is left to fit to.
    """
    whole = torch.stack([one.siemens.isfinite().flatten(1).all(1) for one in cells.values()]).all(0)
    if not bool(whole.any()):
        raise ValueError("no kernel has all its cells known")
    cells = {s: replace(one, siemens=one.siemens[whole].double().clamp(min=1e-12)) for s, one in cells.items()}
    measured = {side: a[whole].double() for side, a in amps.items()}
    parts = [(side, volts[side].double()) for side in sorted(volts, key=lambda s: s.value)]
    good = torch.cat([measured[side].isfinite().flatten() for side, _ in parts])
    target = torch.cat([measured[side].flatten() for side, _ in parts])[good]
    # noise of the cell reads is common to all currents of a line; it counts as noise of each
    of_cells = [
        cells[s].error ** 2 * v.square().sum(1).view(1, -1, 1) + torch.zeros_like(measured[s]) for s, v in parts
    ]
    variance = amps_error**2 + torch.cat([part.flatten() for part in of_cells])[good]
    sigma = variance.sqrt().clamp(min=3e-7 * float(target.abs().max()) + 1e-18)  # float32 is the least noise there is

    def model(ohms: Tensor) -> Tensor:
        wires = LineResistance(Wires(word_segment=float(ohms[0]), bit_segment=float(ohms[1])))
        seen = [
            torch.einsum("bd,tds->tbs", v, wires.matrix(_behind(cells[s], s, wires), s)).flatten() for s, v in parts
        ]
        return torch.cat(seen)[good]

    ohms = torch.zeros(2, dtype=torch.float64)
    rest, slopes = target, torch.zeros(len(target), 2, dtype=torch.float64)
    for _ in range(_ROUNDS):
        here = model(ohms)
        slopes = torch.stack([(model(ohms + _STEP * unit) - here) / _STEP for unit in torch.eye(2).double()], 1)
        rest = (target - here) / sigma
        weighted = slopes / sigma[:, None]
        move = torch.linalg.lstsq(weighted, rest[:, None], driver="gelsd").solution[:, 0]
        fresh = (ohms + move).clamp(min=0.0)
        done = float((fresh - ohms).abs().max()) < 1e-6
        ohms = fresh
        if done:
            break
    weighted = slopes / sigma[:, None]
    misfit = float(rest.square().mean().sqrt())
    errors = torch.linalg.pinv(weighted.T @ weighted).diagonal().clamp(min=0.0).sqrt() * max(1.0, misfit)
    (word, bit), (word_error, bit_error) = ohms.tolist(), errors.tolist()
    if not all(math.isfinite(x) for x in (word, bit, word_error, bit_error)):
        raise ValueError("the currents do not tell the resistances")
    return LineFit(word, word_error, bit, bit_error, misfit)


def path_ohms(cells: CellReads, drive: Side, fit: LineFit) -> Tensor:
    """What a cell read alone has in series with it, [T, R, C] ohm, on an array as it was when it was read."""
    wires = LineResistance(Wires(word_segment=fit.word, bit_segment=fit.bit))
    cells = replace(cells, siemens=cells.siemens.double().clamp(min=1e-12))
    g = _behind(cells, drive, wires)
    shown = wires.cells(g, drive, cells.unselected, cells.gate_lines).clamp(min=1e-15)
    return (1.0 / shown - 1.0 / g).clamp(min=0.0)


def _behind(cells: CellReads, drive: Side, wires: LineResistance) -> Tensor:
    """The cells that show the measured conductances through the wires, by fixed-point iteration."""
    g = cells.siemens
    for _ in range(8):
        shown = wires.cells(g, drive, cells.unselected, cells.gate_lines)
        g = (g * (cells.siemens / shown.clamp(min=1e-15))).clamp(1e-12, 10 * float(cells.siemens.max()))
    return g
