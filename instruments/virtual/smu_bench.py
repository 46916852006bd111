"""A bench in memory: a source-measure unit, a switch matrix and the crossbar between them.

The matrix joins the source to cells of a backend. A read measures them at the source's level; a level above a threshold
that was held for a time has been a pulse of that width. Relays that move while the source is on are counted.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

from hil.contract import Backend, Blocks, Pulse, ReadCells, Sense, Shape, Side
from instruments.scpi.text import NOT_A_NUMBER, OVERFLOW
from instruments.smu.channels import SmuMatrixConfig

Cell = tuple[int, int, int]

_KEPT = 10_000
_LEAST_SECONDS = 1e-4
"""s; no source changes its level faster."""


@dataclass(frozen=True, slots=True)
class _State:
    """What of the bench makes the voltage across cells."""

    level: float = 0.0
    on: bool = False
    closed: frozenset[str] = frozenset()


class SmuBench:
    """What the two virtual instruments share.

    Args:
        backend: the crossbar.
        wiring: which channels reach which lines.
        threshold: V; a level of at least this changes cells, one below only reads them; None for just above the board's
            limit for a read.
        clock: s; how long a level was held is read here, because a host that times pulses does so by its own clock.

    Attributes:
        limit: A, the compliance current.
        tripped: the limit held the current of the last measurement.
        hot: relays that moved while the output was on.
        history: the last changes, oldest first: ``("volts", V)``, ``("output", bool)`` and ``("closed", channels)``.
        pulses: pulses that each cell got.
    """

    def __init__(
        self,
        backend: Backend,
        wiring: SmuMatrixConfig,
        *,
        threshold: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        wiring.fits(backend.spec)
        self.backend = backend
        self.limit, self.tripped, self.hot = 1e-6, False, 0
        self.history: deque[tuple[str, Any]] = deque(maxlen=_KEPT)
        self.pulses = torch.zeros(backend.spec.cells, dtype=torch.int64)
        self._threshold = 1.001 * backend.spec.limits.read_cell_volts if threshold is None else threshold
        self._clock = clock
        self._rows = {name: (k, r) for k, kernel in enumerate(wiring.rows) for r, name in enumerate(kernel)}
        self._cols = {name: (k, c) for k, kernel in enumerate(wiring.cols) for c, name in enumerate(kernel)}
        self._state, self._since = _State(), clock()

    # -- what instruments do ---------------------------------------------------------------------------------------

    @property
    def volts(self) -> float:
        """The level of the source, V."""
        return self._state.level

    @property
    def on(self) -> bool:
        """Whether the output of the source is on."""
        return self._state.on

    @property
    def closed(self) -> frozenset[str]:
        """The closed channels of the matrix."""
        return self._state.closed

    def set_level(self, volts: float) -> None:
        """Sets the level of the source."""
        if volts != self.volts:
            self.history.append(("volts", volts))
            self._become(replace(self._state, level=volts))

    def switch(self, on: bool) -> None:
        """Switches the output of the source."""
        if on != self.on:
            self.history.append(("output", on))
            self._become(replace(self._state, on=on))

    def move(self, closed: Iterable[str]) -> None:
        """Closes exactly these channels; every relay that moves while the output is on is counted as hot."""
        wanted = frozenset(closed)
        moved = wanted ^ self.closed
        if moved:
            self.history.append(("closed", sorted(wanted)))
            self.hot += len(moved) if self.on else 0
            self._become(replace(self._state, closed=wanted))

    def measure(self, averages: int, full_scale: float) -> list[float]:
        """Currents out of the source, A, or the instruments' code for overflow or no measurement."""
        if not self.on:
            return [NOT_A_NUMBER] * averages
        amps = self._amps(averages)
        self.tripped = any(abs(value) > self.limit for value in amps)
        held = [math.copysign(min(abs(value), self.limit), value) for value in amps]
        return [value if abs(value) <= 1.05 * full_scale else math.copysign(OVERFLOW, value) for value in held]

    def _amps(self, averages: int) -> list[float]:
        total = torch.zeros(averages, dtype=torch.float64)
        for kernel, row, col in self._across(self._state):
            read = ReadCells(Blocks((kernel,), (row,), (col,), 1, 1), Sense(self.volts, amps=self.limit), Side.ROWS)
            got = self.backend.execute([read] * averages)
            total += torch.tensor([float(outcome.value) for outcome in got if outcome.value is not None])
        return total.tolist()

    # -- what happens to cells -------------------------------------------------------------------------------------

    def _across(self, state: _State) -> list[Cell]:
        """Cells between the terminals."""
        rows = [self._rows[name] for name in state.closed if name in self._rows]
        cols = [self._cols[name] for name in state.closed if name in self._cols]
        return sorted((k, r, c) for k, r in rows for kernel, c in cols if k == kernel)

    def _become(self, state: _State) -> None:
        """Takes a new state; a pulse ends when the voltage across a cell does."""
        before, volts = self._across(self._state), self.volts if self.on else 0.0
        after = self._across(state), state.level if state.on else 0.0
        if after != (before, volts):
            now = self._clock()
            if abs(volts) >= self._threshold:
                for cell in before:
                    self._pulse(cell, volts, max(now - self._since, _LEAST_SECONDS))
            self._since = now
        self._state = state

    def _pulse(self, cell: Cell, volts: float, seconds: float) -> None:
        kernel, row, col = cell
        raising = (volts > 0) == (self.backend.spec.geometry.up is Side.ROWS)
        shape = Shape(abs(volts), seconds, amps=self.limit)
        counts = torch.tensor([[[1 if raising else -1]]], dtype=torch.int32)
        self.backend.execute([Pulse(Blocks((kernel,), (row,), (col,), 1, 1), counts, shape, shape)])
        self.pulses[cell] += 1

    # -- for tests -------------------------------------------------------------------------------------------------

    def inspect(self, what: str, arguments: Any) -> Any:
        """See ``Personality.inspect``.

        Raises:
            ValueError: there is no such thing.
        """
        match what:
            case "outputs":
                return {"on": self.on, "volts": self.volts, "closed": sorted(self.closed)}
            case "history":
                return [list(change) for change in self.history][-int(arguments.get("last", 100)) :]
            case "pulses":
                return int(self.pulses.sum()) if arguments.get("sum") else self.pulses.tolist()
            case "counters":
                return {"hot": self.hot, "pulses": int(self.pulses.sum())}
            case _:
                raise ValueError(f"there is no {what[:40]!r}; there are outputs, history, pulses, counters")
