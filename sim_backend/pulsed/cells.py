"""Pulses on the cells of a chip: everything that happens to the cells of one piece, while it lies in the cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sim_backend.doors import Law
from sim_backend.laws.cell import CHUNK
from sim_backend.pulsed.place import Place, Where, put, taken
from sim_backend.pulsed.push import Push

DENSE_FROM = {"run": 0.6, "scattered": 0.8}
"""Share of cells with a pulse from which all cells of a place are worked on; see ``is_dense``."""


@dataclass(frozen=True, slots=True)
class PulsedCells:
    """The tensors of a chip that pulses change, flat over all its cells.

    Args:
        law: how pulses change cells.
        g: conductances, S.
        pulses: int32, pulses that each cell has had.
        stuck: bool, cells that keep their conductance.
        params: parameters of the law.
    """

    law: Law
    g: Tensor
    pulses: Tensor
    stuck: Tensor
    params: Mapping[str, Tensor]

    def pulse(
        self, place: Place, counts: Tensor, push: Push, generator: torch.Generator, *, dense: bool | None = None
    ) -> tuple[int, int]:
        """Applies signed counts (int32 [cells]) to the cells of a place.

        Args:
            place: the cells.
            counts: signed pulses of each.
            push: what a pulse is worth.
            generator: noise of this operation.
            dense: whether to work on all cells of the place, also on those without a pulse; None for the faster way.

        Returns:
            How many cells were told to move, and how many of them did not.
        """
        dense = is_dense(place, counts) if dense is None else dense
        told = stayed = 0
        for part in _slices(place.cells) if dense else _active(counts):
            some, where = taken(counts, part), place.on_chip(part)
            self._wear(where, some)
            some_told, some_stayed = self._move(where, push.doses(some, part), push.ceilings(part), generator)
            told, stayed = told + some_told, stayed + some_stayed
        return told, stayed

    def _wear(self, where: Where, counts: Tensor) -> None:
        pulses = taken(self.pulses, where).add_(counts.abs())
        if not isinstance(where, slice):
            put(self.pulses, where, pulses)

    def _move(
        self, where: Where, doses: Tensor, ceilings: Tensor | None, generator: torch.Generator
    ) -> tuple[int, int]:
        stuck = taken(self.stuck, where)
        if stuck.numpy().any():  # numpy scans and counts several times faster than torch
            doses.mul_(~stuck)
        is_told = doses.sign().abs_()
        told = int(is_told.sum())
        if told == 0:
            return 0, 0
        g, params = taken(self.g, where), {name: taken(values, where) for name, values in self.params.items()}
        moved = self.law.pulse(g, params, doses, ceilings, generator)
        if told < len(moved):
            moved = torch.lerp(g, moved, is_told)  # exact at 0 and 1, and far faster than torch.where
        changed = int(np.count_nonzero(moved.numpy() != g.numpy()))
        put(self.g, where, moved)
        if not isinstance(where, slice):
            for name in self.law.kept:
                put(self.params[name], where, params[name])
        return told, told - changed


def is_dense(place: Place, counts: Tensor) -> bool:
    """Whether working on all cells of a place is faster than on those with a pulse.

    The numbers of single cells have to be gathered and scattered, those of a run do not. Measured on tiles of 25 to 512
    lines (``benchmarks/simulator.py`` prints the times of both paths), the paths break even at 0.4 to 0.7 of the cells
    of a run, and at 0.8 or more where cells are scattered anyway; laws that go pulse by pulse, at 0.8 or more.
    """
    least = DENSE_FROM["run" if place.index is None else "scattered"]
    return int(np.count_nonzero(counts.numpy())) >= least * counts.numel()


def _slices(cells: int) -> Iterator[slice]:
    for first in range(0, cells, CHUNK):
        yield slice(first, min(first + CHUNK, cells))


def _active(counts: Tensor) -> Iterator[Tensor]:
    """The cells that have a count, in pieces."""
    yield from torch.from_numpy(np.flatnonzero(np.not_equal(counts.numpy(), 0))).split(CHUNK)
