"""How many pulses each cell has had, in this run and in its life, and which cells were formed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hil.contract import Blocks, BoardSpec
from hil.contract.indexing import cell_index
from hil.errors import CheckpointError, LimitExceeded

_ENDLESS = torch.iinfo(torch.int64).max


class Wear:
    """The counters of a chip; charged before pulses are sent and never refunded after.

    What one list of operations charges is remembered until the next ``begin``, so that a list that is refused as a
    whole leaves no trace.

    Args:
        spec: the board; its limits are checked here.
        life: pulses of each cell before this run, int64 [K, R, C]; None for a fresh chip.
        formed: cells formed before this run, bool [K, R, C]; None for a fresh chip.
        reserve: keeps the chip file ahead of the chip: given life and formed, it stores a life that is at least as
            high and gives it back.
        settle: stores life and formed as they are, at a clean close.

    Attributes:
        run: pulses of each cell in this run, int64 [K, R, C].
        life: pulses of each cell in its life, int64 [K, R, C].
        formed: cells that were formed, bool [K, R, C].
    """

    def __init__(
        self,
        spec: BoardSpec,
        life: Tensor | None = None,
        formed: Tensor | None = None,
        reserve: Callable[[Tensor, Tensor], Tensor] | None = None,
        settle: Callable[[Tensor, Tensor], None] | None = None,
    ) -> None:
        self._spec = spec
        self.run = torch.zeros(spec.cells, dtype=torch.int64)
        self.life = torch.zeros(spec.cells, dtype=torch.int64) if life is None else life.clone()
        self.formed = torch.zeros(spec.cells, dtype=torch.bool) if formed is None else formed.clone()
        self._reserve, self._settle = reserve, settle
        self._reserved, self._formed_kept = self.life.clone(), self.formed.clone()
        self._charges: list[tuple[Tensor, Tensor]] = []
        self._formings: list[Tensor] = []

    def begin(self) -> None:
        """Starts a list of operations; what was charged before stays charged."""
        self._charges.clear()
        self._formings.clear()

    def roll_back(self) -> None:
        """Undoes what was charged since ``begin``, of a list of which nothing was sent."""
        for cells, counts in self._charges:
            self.run.view(-1)[cells] -= counts
            self.life.view(-1)[cells] -= counts
        for cells in self._formings:
            self.formed.view(-1)[cells] = False
        self.begin()

    def charge(self, blocks: Blocks, counts: Tensor) -> None:
        """Adds worst-case pulse counts of one operation, int64 [T, R, C] of at least 0.

        Raises:
            LimitExceeded: a cell that gets pulses would pass its budget; nothing is added.
        """
        cells = cell_index(blocks, *self._spec.cells[1:]).view(-1)
        counts = counts.reshape(-1)
        limits = self._spec.limits
        for counter, limit, name in (
            (self.run, limits.pulses_per_run, "pulses_per_run"),
            (self.life, limits.pulses_per_life, "pulses_per_life"),
        ):
            before = counter.view(-1)[cells]
            over = (before > min(limit, _ENDLESS) - counts) & (counts > 0)
            if bool(over.any()):
                self._refuse(blocks, torch.where(over, before.double() + counts, -1.0), limit, name)
        self._charges.append((cells, counts.clone()))
        self.run.view(-1)[cells] += counts
        self.life.view(-1)[cells] += counts

    def _refuse(self, blocks: Blocks, after: Tensor, limit: int, name: str) -> None:
        t, r, c = (int(i) for i in torch.unravel_index(after.argmax(), blocks.shape))
        where = blocks.cell_name(t, r, c)
        most, quantity = int(after.max()), name.replace("_", " ")
        raise LimitExceeded(quantity, most, limit, "", where, self._spec.source(f"limits.{name}"))

    def form(self, blocks: Blocks, cells: Tensor) -> None:
        """Notes that cells [T, R, C] are formed.

        Raises:
            LimitExceeded: the board may not form, or a cell was formed before and may be formed only once.
        """
        rule, source = self._spec.limits.forming, self._spec.source("limits.forming")
        index = cell_index(blocks, *self._spec.cells[1:]).view(-1)[cells.expand(blocks.shape).reshape(-1)]
        where = f"kernel {blocks.kernel[0]}"
        if rule not in ("once", "free") and index.numel():
            raise LimitExceeded("forming of cells", index.numel(), 0, "", where, source)
        before = self.formed.view(-1)[index]
        if rule == "once" and bool(before.any()):
            raise LimitExceeded("forming of cells formed before", int(before.sum()), 0, "", where, source)
        self._formings.append(index[~before])
        self.formed.view(-1)[index] = True

    def keep_ahead(self) -> None:
        """Makes sure that the chip file is not behind the counters; called before pulses are sent.

        Raises:
            StorageError: the chip file cannot be written, so nothing may be sent.
        """
        if self._reserve is None or not self._charges:
            return
        behind = any(bool((self.life.view(-1)[c] > self._reserved.view(-1)[c]).any()) for c, _ in self._charges)
        if behind or any(not bool(self._formed_kept.view(-1)[c].all()) for c in self._formings):
            self._reserved = self._reserve(self.life, self.formed)
            self._formed_kept = self.formed.clone()

    def close(self) -> None:
        """Stores the exact counters in the chip file.

        Raises:
            StorageError: the chip file cannot be written; it reads too high until the next clean close.
        """
        if self._settle is not None:
            self._settle(self.life, self.formed)
            self._reserved, self._formed_kept = self.life.clone(), self.formed.clone()

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of the counters."""
        return {f"wear.{name}": counter.clone() for name, counter in self._counters()}

    def _counters(self) -> list[tuple[str, Tensor]]:
        return [("run", self.run), ("life", self.life), ("formed", self.formed)]

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Puts saved counters back, all or none.

        Raises:
            CheckpointError: a counter is missing, or does not fit the chip.
        """
        for name, counter in self._counters():
            found = saved.get(f"wear.{name}")
            if found is None or found.shape != counter.shape or found.dtype != counter.dtype or bool((found < 0).any()):
                raise CheckpointError("snapshot", f"the tensor 'wear.{name}' is missing or does not fit the chip")
        for name, counter in self._counters():
            counter.copy_(saved[f"wear.{name}"])
        self.begin()
