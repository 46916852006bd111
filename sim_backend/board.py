"""The simulated board: a backend whose chip is tensors and whose clock is virtual."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hil.contract import (
    Blocks,
    BoardSpec,
    Cells,
    Flag,
    Op,
    Outcome,
    Outer,
    Probe,
    Pulse,
    Ramp,
    Read,
    ReadCells,
    SafeReport,
    Sense,
    Wait,
    lacking,
)
from hil.contract.cost import Cost, coincidences, cost, ramp_cost
from hil.contract.stopping import RampProgress, ramp_shape
from hil.converters import pair_differences
from hil.errors import BoardMissing, Unsupported
from sim_backend.chip import Chip, checked
from sim_backend.config import SimulatorConfig
from sim_backend.doors import Aging, Conduction, NoAging, NoWires
from sim_backend.gates import Gates
from sim_backend.periphery import Periphery
from sim_backend.pulse_grid import PulseGrid

_STREAMS = {"chip": 0x9E3779B1, "op": 0x85EBCA6B}
_PROBES = {"temperature": 300.0}
"""What ``Probe`` reads: an ambient temperature in K; the physics does not depend on it."""


def _seed(root: int, stream: str, number: int) -> int:
    """A 63-bit seed from the root seed, a stream and a number (splitmix64 finaliser)."""
    z = (root * 0x9E3779B97F4A7C15 + _STREAMS[stream] * 0xC2B2AE3D27D4EB4F + number * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (z ^ (z >> 31)) >> 1


def _check_modelled(spec: BoardSpec) -> None:
    """Refuses a board that reads in a way which is not simulated, rather than to simulate another one."""
    reading = spec.reading
    unmodelled = {
        "input_coding": reading.input_coding != "amplitude",
        "input_levels": reading.input_levels is not None,
        "normalised": reading.normalised,
    }
    for name, is_wanted in unmodelled.items():
        if is_wanted:
            text = f"set in {at}" if (at := spec.source(f"reading.{name}")) else "leave it out"
            raise Unsupported(f"reading.{name}", spec.identity.name, f"the simulator does not model it; {text}")


class SimBoard:
    """A board in memory.

    Noise is keyed by (seed, number of the operation): equal lists of operations give equal results, and the state of
    the noise is one integer.

    Args:
        spec: what the board is.
        config: the physics.
        seed: root seed where the config names none.
        wires: what lies between cells and amplifiers.
        aging: what lab time does to cells.
    """

    def __init__(
        self,
        spec: BoardSpec,
        config: SimulatorConfig,
        seed: int = 0,
        *,
        wires: Conduction | None = None,
        aging: Aging | None = None,
    ) -> None:
        unknown = [name for name in spec.abilities.probes if name not in _PROBES]
        if unknown:
            raise Unsupported(f"probe {unknown[0]!r}", spec.identity.name, f"the simulator knows {', '.join(_PROBES)}")
        _check_modelled(spec)
        self._spec = spec
        self._root = seed if config.seed is None else config.seed
        self._generator = torch.Generator()
        self._generator.manual_seed(_seed(self._root, "chip", 0))
        self.chip = Chip(spec.cells, config, self._generator)
        self._periphery = Periphery(spec, config, wires or NoWires())
        self._gates = Gates(spec, config.gate_threshold)
        self._grid = PulseGrid.of(spec)
        self._aging: Aging = aging or NoAging()
        self._clock = torch.zeros((), dtype=torch.float64)
        self._number = torch.zeros((), dtype=torch.int64)
        self._closed = False
        self._work: dict[type[Any], Callable[[Any], Outcome]] = {
            Read: self._read,
            ReadCells: self._read_cells,
            Pulse: self._pulse,
            Outer: self._outer,
            Ramp: self._ramp,
            Wait: self._wait,
            Probe: self._probe,
        }

    @property
    def spec(self) -> BoardSpec:
        """What the board is and what it may do."""
        return self._spec

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        """See ``Backend``."""
        name = self._spec.identity.name
        if self._closed:
            raise BoardMissing(name, "it was closed; open it again")
        for op in ops:
            reason = lacking(op, self._spec)
            if reason:
                raise Unsupported(type(op).__name__, name, reason)
        return [self._one(op) for op in ops]

    def now(self) -> float:
        """Virtual lab seconds since the chip was made."""
        return float(self._clock)

    def make_safe(self) -> SafeReport:
        """See ``Backend``; the outputs of a simulated board are off between operations."""
        return SafeReport({"rows": "off", "cols": "off", "gates": "off"}, confirmed=True)

    def close(self) -> None:
        """See ``Backend``."""
        self._closed = True

    @property
    def restorable(self) -> bool:
        """See ``Restorable``."""
        return True

    def snapshot(self) -> dict[str, Tensor]:
        """See ``Restorable``: cells, parameters, clock and the number of the next operation."""
        return {**self.chip.snapshot(), "board.clock": self._clock.clone(), "board.number": self._number.clone()}

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """See ``Restorable``."""
        clock, number = checked(saved, "board.clock", self._clock), checked(saved, "board.number", self._number)
        self.chip.restore(saved)
        self._clock.copy_(clock)
        self._number.copy_(number)

    def _one(self, op: Op) -> Outcome:
        self._generator.manual_seed(_seed(self._root, "op", int(self._number)))
        self._number += 1
        return self._work[type(op)](op)

    def _outcome(self, price: Cost, value: Tensor | None, flags: Tensor | None, applied: Tensor | None) -> Outcome:
        began = float(self._clock)
        self._clock += price.seconds
        if self._aging.advance(self.chip.state, price.seconds, self._generator):
            self.chip.version += 1
        return Outcome(value, flags, applied, began, price.seconds, price.events)

    def _read(self, op: Read) -> Outcome:
        g, shut = self._seen(op.blocks, op.sense.gate)
        amps, flags = self._periphery.read(g, op, self._generator, shut=shut)
        if op.pairs:
            amps, flags = pair_differences(amps, flags)
        return self._outcome(cost(op, self._spec), amps, flags, None)

    def _read_cells(self, op: ReadCells) -> Outcome:
        amps, flags = self._cells(op.blocks, op.sense)
        if op.mask is not None:
            mask = op.mask.expand(op.blocks.shape)
            amps = torch.where(mask, amps, torch.nan)
            flags = torch.zeros(amps.shape, dtype=torch.uint8) if flags is None else flags
            flags = torch.where(mask, flags, int(Flag.NOT_MEASURED)).to(torch.uint8)
        return self._outcome(cost(op, self._spec), amps, flags, None)

    def _pulse(self, op: Pulse) -> Outcome:
        up, down = self._grid.made(op.up), self._grid.made(op.down)
        limits = self._gates.let_through(up), self._gates.let_through(down)
        counts = op.counts.to(torch.int32).expand(op.blocks.shape)
        for cycle in range(op.cycles):
            pattern = -counts if op.alternate and cycle % 2 else counts
            self.chip.pulse(op.blocks, pattern, up, down, limits=limits, generator=self._generator)
        applied = counts.abs() * op.cycles
        return self._outcome(cost(op, self._spec), None, None, applied)

    def _outer(self, op: Outer) -> Outcome:
        counts = coincidences(op)
        up, down = self._grid.made(op.up), self._grid.made(op.down)
        limits = self._gates.let_through(up), self._gates.let_through(down)
        self.chip.pulse(op.blocks, counts, up, down, limits=limits, generator=self._generator)
        return self._outcome(cost(op, self._spec), None, None, counts.abs())

    def _ramp(self, op: Ramp) -> Outcome:
        progress = RampProgress(op)
        for step, point in enumerate(op.points.tolist()):
            cells = progress.wanted(step)
            if not bool(cells.any()):
                progress.skip()
                continue
            shape = self._grid.made(ramp_shape(op, point))
            limit = self._gates.let_through(shape)
            counts = op.sign * cells
            self.chip.pulse(op.blocks, counts, shape, shape, limits=(limit, limit), generator=self._generator)
            progress.observe(step, *self._cells(op.blocks, op.sense, shape.volts))
        price = ramp_cost(op, int(progress.applied.sum()), self._spec)
        return self._outcome(price, progress.value, progress.flags, progress.applied)

    def _cells(self, blocks: Blocks, sense: Sense, inside: Cells | None = None) -> tuple[Tensor, Tensor | None]:
        """Reads cells at ``sense.volts``, or inside a pulse at the amplitude of the pulse (gates as in a read)."""
        volts = sense.volts if sense.volts is not None else inside
        g, shut = self._seen(blocks, sense.gate)
        return self._periphery.cells(g, 0.0 if volts is None else volts, sense, self._generator, shut=shut)

    def _seen(self, blocks: Blocks, gate: float | None) -> tuple[Tensor, bool]:
        """Conductances of blocks as a read sees them, and whether the gates shut the cells off."""
        g, shut = self.chip.tiles(blocks), self._gates.shut(gate)
        return torch.zeros_like(g) if shut else g, shut

    def _wait(self, op: Wait) -> Outcome:
        return self._outcome(cost(op, self._spec), None, None, None)

    def _probe(self, op: Probe) -> Outcome:
        value = torch.tensor([_PROBES[name] for name in op.names], dtype=torch.float64)
        return self._outcome(cost(op, self._spec), value, None, None)
