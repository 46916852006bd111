"""Where the cells of one programming job stand."""

from __future__ import annotations

import torch
from torch import Tensor

from hil.contract import Backend, Blocks, Wait
from hil.program.reading import Reader
from hil.program.report import CellState
from hil.program.verify import Relaxation, Verify


class Progress:
    """The cells of one programming job: which still want pulses, and what is known of each.

    Args:
        backend: the board.
        blocks: T blocks.
        target: [T, R, C] S.
        wanted: bool [T, R, C], the cells to program.
        how: how cells are read and judged.
        reader: how they are measured.

    Attributes:
        active: bool [T, R, C], cells that still want pulses.
        siemens: [T, R, C] S, as last read.
        first: [T, R, C] S, what a read said that first saw a cell inside its window; NaN where none did.
        state: uint8 [T, R, C], a ``CellState``.
        pulses: int64 [T, R, C], pulses so far.
        still: int32 [T, R, C], rounds in which a cell has not moved.
        false_hits: hits that the confirming read did not confirm.
        disturbed: hits that were found outside their window while others were written.
        relaxed: hits that were found outside their window after a wait.
    """

    def __init__(
        self, backend: Backend, blocks: Blocks, target: Tensor, wanted: Tensor, *, how: Verify, reader: Reader
    ) -> None:
        self.backend, self.blocks, self.target, self.how, self.reader = backend, blocks, target, how, reader
        self.active = wanted.clone()
        self.siemens = torch.zeros(blocks.shape, dtype=target.dtype)
        self.first = torch.full(blocks.shape, torch.nan, dtype=target.dtype)
        self.state = torch.where(wanted, int(CellState.MISSED), int(CellState.LEFT)).to(torch.uint8)
        self.pulses = torch.zeros(blocks.shape, dtype=torch.int64)
        self.still = torch.zeros(blocks.shape, dtype=torch.int32)
        self.false_hits = self.disturbed = self.relaxed = 0
        self._kernel = torch.tensor(blocks.kernel, dtype=torch.int64)
        self._unlooked = torch.zeros(backend.spec.geometry.kernels, dtype=torch.int64)

    def verify(self) -> None:
        """Reads the active cells and retires those that are inside their window twice."""
        self._read(self.active, self.how.averages)
        inside = self.active & self._inside()
        if not bool(inside.any()):
            return
        self.first = torch.where(inside & self.first.isnan(), self.siemens, self.first)
        self._read(inside, self.how.confirm, self.how.delay)
        hits = inside & self._inside()
        self.false_hits += int((inside & ~hits).sum())
        self.retire(hits, CellState.HIT)

    def retire(self, cells: Tensor, state: CellState) -> None:
        """Ends programming for some cells."""
        self.state = torch.where(cells, int(state), self.state).to(torch.uint8)
        self.active = self.active & ~cells

    def sent(self, pulses: Tensor) -> None:
        """Counts pulses [T, R, C] that were sent."""
        self.pulses += pulses
        if self.how.neighbours_every:
            self._unlooked.index_add_(0, self._kernel, pulses.flatten(1).sum(1, dtype=torch.int64))

    def look_beside(self, pulses: int) -> bool:
        """Reads the hits of kernels that got so many pulses since the last look, where neighbours are looked at at all.

        Those that were disturbed want pulses again; gives whether there are any.
        """
        due = self._unlooked >= pulses
        if not self.how.neighbours_every or not bool(due.any()):
            return False
        self._unlooked[due] = 0
        lost = self._lost(due[self._kernel].view(-1, 1, 1), 0.0)
        self.disturbed += int(lost.sum())
        self._reopen(lost)
        return bool(lost.any())

    def wait_and_look(self, relaxation: Relaxation) -> bool:
        """Reads all hits after a wait; those that left their window, and only they, want pulses again."""
        lost = self._lost(torch.ones((), dtype=torch.bool), relaxation.wait)
        self.relaxed += int(lost.sum())
        self.active = torch.zeros_like(self.active)
        self._reopen(lost)
        return bool(lost.any())

    def _lost(self, among: Tensor, wait: float) -> Tensor:
        """The hits that a read finds outside their window."""
        hits = among & (self.state == int(CellState.HIT))
        if not bool(hits.any()):
            return hits
        self._read(hits, self.how.confirm, wait)
        return hits & ~self._inside()

    def _reopen(self, cells: Tensor) -> None:
        self.state = torch.where(cells, int(CellState.MISSED), self.state).to(torch.uint8)
        self.active = self.active | cells
        self.still = torch.where(cells, 0, self.still)

    def _inside(self) -> Tensor:
        return (self.siemens - self.target).abs() <= self.how.window

    def _read(self, cells: Tensor, averages: int, wait: float = 0.0) -> None:
        """Reads cells into ``siemens``, after a wait in the same list."""
        found = self.reader.read(cells, averages, [Wait(wait)] if wait > 0 else [])
        self.siemens = torch.where(cells, found.to(self.siemens.dtype), self.siemens)
