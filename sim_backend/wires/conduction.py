"""Line resistance as the simulated board sees it: transfer matrices that are kept until a cell changes."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Bias, Side
from sim_backend.wires.access import gated_cells, passive_cells, series
from sim_backend.wires.approximate import approximation
from sim_backend.wires.circuit import Circuit, checked_cells
from sim_backend.wires.config import Wires
from sim_backend.wires.elimination import entries, transfer, turned
from sim_backend.wires.ladders import Array
from sim_backend.wires.lowrank import break_even, corrected
from sim_backend.wires.network import Network
from sim_backend.wires.selected import gated_share, passive_share

_KEPT = 32
"""Most transfer matrices that are kept."""
_CORRECTED = 32
"""Most corrections of a matrix in a row, so that rounding does not add up."""


@dataclass(slots=True)
class _Known:
    """A transfer matrix and the state of the cells that it belongs to."""

    cells: weakref.ref[Tensor]
    version: int
    given: Tensor
    """K as it is given out, [T, driven, sensed]."""
    past: tuple[Tensor, Tensor] | None = None
    """Cells at that state and their K [T, R, C] in float64, where K may be corrected later."""
    corrections: int = 0
    drivers: Tensor | None = None
    """What drivers give, [T, driven, driven] S; None as long as nobody asked."""

    def holds(self, g: Tensor) -> bool:
        """Whether it belongs to these cells, and nothing has changed them."""
        return self.cells() is g and self.version == g._version  # noqa: SLF001 - torch's own count of changes in place


class LineResistance:
    """The ``Conduction`` of a board with resistive lines.

    Args:
        wires: the resistances, and how to deal with them.
    """

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._known: OrderedDict[tuple[int, Side], _Known] = OrderedDict()

    def matrix(self, g: Tensor, drive: Side) -> Tensor:
        """See ``Conduction``."""
        if self._wires.absent:
            return _as_driven(series(g, self._wires.transistor) if self._wires.transistor else g, drive)
        key = (id(g), drive)
        known = self._known.get(key)
        if known is None or not known.holds(g):
            if not bool(g.any()):  # gates are shut
                return _as_driven(g, drive)
            known = self._learnt(g, drive)
            self._forget()
            self._known[key] = known
        self._known.move_to_end(key)
        return known.given

    def currents(self, g: Tensor, volts: Tensor, drive: Side) -> Tensor | None:
        """See ``Conduction``."""
        if not self._by_vectors(g, volts):
            return None
        amps = self._solved(g, volts, drive)
        return amps.sum(2 if drive is Side.ROWS else 3).to(g.dtype)

    def drawn(self, g: Tensor, volts: Tensor, drive: Side) -> Tensor | None:
        """See ``Conduction``; with ``method: approximate`` exact for equal inputs, and else too low."""
        wires = self._wires
        if wires.absent:
            cells = series(g, wires.transistor)
            return None if wires.transistor == 0 else volts * _sums(cells, drive).unsqueeze(1)
        if not bool(g.any()):
            return torch.zeros_like(volts)
        if self._by_vectors(g, volts):
            return self._solved(g, volts, drive).sum(3 if drive is Side.ROWS else 2).to(g.dtype)
        k = self.matrix(g, drive)
        if wires.method == "approximate":
            return volts * k.sum(2).unsqueeze(1)
        known = self._known[(id(g), drive)]
        if known.drivers is None:
            cells = series(checked_cells(g).double(), wires.transistor)
            known.drivers = entries(cells, wires.circuit(drive), drive).to(g.dtype)
        return volts @ known.drivers

    def cells(self, g: Tensor, drive: Side, unselected: Bias, gate_lines: Side | None) -> Tensor:
        """See ``Conduction``."""
        if self._wires.absent and gate_lines is not None:
            return series(g, self._wires.transistor)
        cells = series(checked_cells(g).double(), self._wires.transistor)
        circuit = self._wires.circuit(drive)
        if drive is Side.COLS:
            cells, circuit = cells.mT.flip(1, 2), circuit.turned
        if gate_lines is None:
            seen = passive_cells(cells, circuit, unselected)
        else:
            seen = gated_cells(cells, circuit, alone=gate_lines is not drive or unselected is Bias.FLOAT)
        return (seen.flip(1, 2).mT if drive is Side.COLS else seen).to(g.dtype)

    def left(self, g: Tensor, wanted: Tensor, drive: Side, unselected: Bias, gate_lines: Side | None) -> Tensor | None:
        """See ``Conduction``. The channel of a transistor belongs to its cell here: gate and current limit say it."""
        if self._wires.absent:
            return None
        cells, circuit = checked_cells(g).double(), self._wires.circuit(drive)
        if drive is Side.COLS:
            cells, wanted, circuit = turned(cells), turned(wanted), circuit.turned
        if gate_lines is None:
            share = passive_share(cells, circuit, unselected, self._wires.tolerance, wanted=wanted)
        else:
            share = gated_share(cells, circuit)
        return (turned(share) if drive is Side.COLS else share).to(g.dtype)

    def _by_vectors(self, g: Tensor, volts: Tensor) -> bool:
        """Whether currents are solved for one by one, because there will be too few for a transfer matrix."""
        wires = self._wires
        vectors = volts.shape[1] * wires.reads_per_write
        return not wires.absent and wires.method == "exact" and vectors < break_even(*g.shape[1:])

    def _solved(self, g: Tensor, volts: Tensor, drive: Side) -> Tensor:
        """Currents through all cells by conjugate gradients, [T, batch, R, C] A, float64; from the driven side."""
        wires = self._wires
        cells = series(checked_cells(g).double(), wires.transistor)
        inputs = volts.double().expand(len(g), -1, -1).transpose(0, 1).cpu().numpy()
        network = Network(cells, wires.circuit(drive))
        if drive is Side.ROWS:
            drop = network.driven(inputs, None, wires.tolerance).drop
        else:
            drop = -network.driven(_grounded(cells, len(inputs)), inputs, wires.tolerance).drop
        return torch.from_numpy(drop.swapaxes(0, 1).copy()).to(g.device) * cells.unsqueeze(1)

    def _forget(self) -> None:
        """Makes room: drops matrices whose cells are gone and that no correction can start from, then the oldest."""
        gone = [key for key, known in self._known.items() if known.past is None and known.cells() is None]
        for key in gone:
            del self._known[key]
        while len(self._known) >= _KEPT:
            self._known.popitem(last=False)

    def _learnt(self, g: Tensor, drive: Side) -> _Known:
        cells = series(checked_cells(g).double(), self._wires.transistor)
        circuit = self._wires.circuit(drive)
        near = None
        if self._wires.method == "approximate":
            k = approximation(cells, circuit)[0]
        elif self._wires.corrections == 0 or (near := self._nearest(cells, drive)) is None:
            k = transfer(cells, circuit)
        else:
            k = self._amended(near, cells, circuit)
        past = (cells.clone(), k) if self._wires.corrections > 0 and self._wires.method == "exact" else None
        count = 0 if near is None else near.corrections + 1
        return _Known(weakref.ref(g), g._version, _as_driven(k.to(g.dtype), drive), past, count)  # noqa: SLF001

    def _nearest(self, cells: Tensor, drive: Side) -> _Known | None:
        """The known state of the same shape from which fewest cells have changed."""
        fit = [
            known
            for (_, side), known in self._known.items()
            if side is drive and known.past is not None and known.past[0].shape == cells.shape
        ]
        fit = [known for known in fit if known.corrections < _CORRECTED]
        return min(fit, key=lambda known: int((_past(known)[0] != cells).sum()), default=None)

    def _amended(self, near: _Known, cells: Tensor, circuit: Circuit) -> Tensor:
        """K of these cells from a known one: kept, corrected or eliminated anew, tile by tile."""
        old, k = _past(near)
        most = int(self._wires.corrections * break_even(*cells.shape[1:]))
        changed = (old != cells).flatten(1).sum(1)
        few, many = (changed > 0) & (changed <= most), changed > most
        k = k.clone()
        if bool(few.any()):
            k[few] = corrected(k[few], old[few], cells[few], circuit)
        if bool(many.any()):
            k[many] = transfer(cells[many], circuit)
        return k


def _past(known: _Known) -> tuple[Tensor, Tensor]:
    assert known.past is not None
    return known.past


def _as_driven(k: Tensor, drive: Side) -> Tensor:
    return k if drive is Side.ROWS else k.transpose(1, 2)


def _sums(g: Tensor, drive: Side) -> Tensor:
    """The sums of the cells of each driven line, [T, driven] S."""
    return g.sum(2 if drive is Side.ROWS else 1)


def _grounded(cells: Tensor, vectors: int) -> Array:
    return torch.zeros(vectors, *cells.shape[:2], dtype=torch.float64).numpy()
