"""How many pulses each cell has had, in this run and in its life."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from hil.contract import Blocks, BoardSpec
from hil.errors import CheckpointError, LimitExceeded


@lru_cache(maxsize=256)
def _flat(blocks: Blocks, rows: int, cols: int) -> Tensor:
    first = [(k * rows + r) * cols + c for k, r, c in zip(blocks.kernel, blocks.row, blocks.col, strict=True)]
    inside = torch.arange(blocks.n_rows)[:, None] * cols + torch.arange(blocks.n_cols)
    return (torch.tensor(first)[:, None, None] + inside).reshape(-1)


class Wear:
    """The pulse counters of a chip; charged before pulses are sent and never refunded after.

    Args:
        spec: the board; its limits are checked here.
        life: pulses of each cell before this run, int64 [K, R, C]; None for a fresh chip.
        reserve: called when a cell's life count passes what is on disk; keeps the chip file ahead of the chip.
    """

    def __init__(
        self, spec: BoardSpec, life: Tensor | None = None, reserve: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self._spec = spec
        self.run = torch.zeros(spec.cells, dtype=torch.int64)
        self.life = torch.zeros(spec.cells, dtype=torch.int64) if life is None else life.clone()
        self.formed = torch.zeros(spec.cells, dtype=torch.bool)
        self._reserve = reserve
        self._reserved = self.life.clone()

    def charge(self, blocks: Blocks, counts: Tensor) -> None:
        """Adds worst-case pulse counts [T, R, C] of one operation.

        Raises:
            LimitExceeded: a cell would pass its budget; nothing is added.
        """
        cells = _flat(blocks, *self._spec.cells[1:])
        counts = counts.reshape(-1)
        limits = self._spec.limits
        for counter, limit, name in (
            (self.run, limits.pulses_per_run, "pulses_per_run"),
            (self.life, limits.pulses_per_life, "pulses_per_life"),
        ):
            after = counter.view(-1)[cells] + counts
            most = int(after.max())
            if most > limit:
                self._refuse(blocks, after, most, limit, name)
        self.run.view(-1)[cells] += counts
        self.life.view(-1)[cells] += counts

    def _refuse(self, blocks: Blocks, after: Tensor, most: int, limit: int, name: str) -> None:
        t, r, c = (int(i) for i in torch.unravel_index(after.argmax(), blocks.shape))
        where = f"kernel {blocks.kernel[t]}, row {blocks.row[t] + r}, column {blocks.col[t] + c}"
        quantity = name.replace("_", " ")
        raise LimitExceeded(quantity, most, limit, "", where, self._spec.source(f"limits.{name}"))

    def may_form(self, blocks: Blocks, cells: Tensor) -> None:
        """Checks that cells [T, R, C] may be formed, and remembers that they are.

        Raises:
            LimitExceeded: the board may not form, or a cell was formed before and may be formed only once.
        """
        rule, source = self._spec.limits.forming, self._spec.source("limits.forming")
        index = _flat(blocks, *self._spec.cells[1:])[cells.expand(blocks.shape).reshape(-1)]
        if rule == "never":
            raise LimitExceeded("forming of cells", int(index.numel()), 0, "", f"kernel {blocks.kernel[0]}", source)
        again = int(self.formed.view(-1)[index].sum())
        if rule == "once" and again:
            raise LimitExceeded("forming of cells formed before", again, 0, "", f"kernel {blocks.kernel[0]}", source)
        self.formed.view(-1)[index] = True

    def take_back(self, blocks: Blocks, counts: Tensor) -> None:
        """Undoes a charge of a list that was refused before anything was sent."""
        cells = _flat(blocks, *self._spec.cells[1:])
        self.run.view(-1)[cells] -= counts.reshape(-1)
        self.life.view(-1)[cells] -= counts.reshape(-1)

    def settle(self) -> None:
        """Makes sure that what is on disk is not behind the counters; called before pulses are sent."""
        if self._reserve is not None and bool((self.life > self._reserved).any()):
            self._reserved = self._reserve(self.life)

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of the counters."""
        return {f"wear.{name}": counter.clone() for name, counter in self._counters()}

    def _counters(self) -> list[tuple[str, Tensor]]:
        return [("run", self.run), ("life", self.life), ("formed", self.formed)]

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Puts saved counters back."""
        for name, counter in self._counters():
            found = saved.get(f"wear.{name}")
            if found is None or found.shape != counter.shape or found.dtype != counter.dtype or bool((found < 0).any()):
                raise CheckpointError("snapshot", f"the tensor 'wear.{name}' is missing or does not fit the chip")
        for name, counter in self._counters():
            counter.copy_(saved[f"wear.{name}"])
