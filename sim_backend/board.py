"""The simulated board: a backend whose chip is tensors and whose clock is virtual."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hil.contract import (
    Bias,
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
    Shape,
    Side,
    Wait,
    lacking,
)
from hil.contract.cost import Cost, coincidences, cost, ramp_cost
from hil.contract.indexing import cell_index
from hil.contract.stopping import RampProgress, ramp_shape
from hil.converters import pair_differences
from hil.errors import BoardMissing, Unsupported
from sim_backend.channels import Channels
from sim_backend.chip import Chip, checked
from sim_backend.config import SimulatorConfig
from sim_backend.doors import Aging, Conduction, NoAging, NoisyCells, NoWires
from sim_backend.energy import pulse_joules
from sim_backend.gates import Gates
from sim_backend.half_select import HalfSelect
from sim_backend.periphery import Measured, Periphery, Seen
from sim_backend.pulse_grid import PulseGrid
from sim_backend.pulsed.lines import PulseLines, through
from sim_backend.pulsed.saturation import full_trains
from sim_backend.wires.conduction import LineResistance

_STREAMS = {"chip": 0x9E3779B1, "op": 0x85EBCA6B, "channels": 0xC2B2AE35}
_PROBES = {"temperature": 300.0}
"""What ``Probe`` reads: an ambient temperature in K; the physics does not depend on it."""


def _seed(root: int, stream: str, number: int) -> int:
    """A 63-bit seed from the root seed, a stream and a number (splitmix64 finaliser)."""
    z = (root * 0x9E3779B97F4A7C15 + _STREAMS[stream] * 0xC2B2AE3D27D4EB4F + number * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (z ^ (z >> 31)) >> 1


class SimBoard:
    """A board in memory.

    Noise is keyed by (seed, number of the operation): equal lists of operations give equal results, and the state of
    the noise is one integer.

    Args:
        spec: what the board is.
        config: the physics.
        seed: root seed where the config names none.
        wires: what lies between cells and amplifiers; None for what the config says.
        aging: what lab time does to cells; None for what the config says.
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
        self._spec = spec
        self._root = seed if config.seed is None else config.seed
        self._generator = torch.Generator()
        self._generator.manual_seed(_seed(self._root, "chip", 0))
        self.chip = Chip(spec.cells, config, self._generator)
        self._gates = Gates(spec, config.gate_threshold)
        self._gate_limits_reads = config.gate_limits_reads
        self._grid = PulseGrid.of(spec)
        self._beside = HalfSelect(spec)
        self._disturbs, self._counts_energy = config.half_select, config.energy is not None
        self._aging: Aging = aging or config.aging or NoAging()
        self.chip.state |= self._aging.tensors(self.chip.state, self._generator)
        if self._disturbs:
            self.chip.state |= self._beside.tensors()
        self._noisy = [part for part in (self.chip.law, self._aging) if isinstance(part, NoisyCells)]
        self._generator.manual_seed(_seed(self._root, "channels", 0))
        dtype = self.chip.state["g"].dtype
        self._channels = Channels(spec, config.drivers, config.amplifiers, self._generator, dtype)
        lines = wires or (NoWires() if config.wires is None else LineResistance(config.wires))
        self._periphery = Periphery(spec, config, lines, self._channels)
        self._lines = PulseLines(spec, lines)
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
        channels = {name: values.clone() for name, values in self._channels.params.items()}
        own = {"board.clock": self._clock.clone(), "board.number": self._number.clone()}
        return {**self.chip.snapshot(), **channels, **own}

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """See ``Restorable``."""
        clock, number = checked(saved, "board.clock", self._clock), checked(saved, "board.number", self._number)
        channels = {name: checked(saved, name, mine) for name, mine in self._channels.params.items()}
        self.chip.restore(saved)
        for name, values in channels.items():
            self._channels.params[name].copy_(values)
        self._clock.copy_(clock)
        self._number.copy_(number)

    def _one(self, op: Op) -> Outcome:
        self._generator.manual_seed(_seed(self._root, "op", int(self._number)))
        self._number += 1
        return self._work[type(op)](op)

    def _outcome(
        self,
        price: Cost,
        value: Tensor | None = None,
        flags: Tensor | None = None,
        applied: Tensor | None = None,
        joules: float | None = None,
    ) -> Outcome:
        began = float(self._clock)
        self._clock += price.seconds
        if self._aging.advance(self.chip.state, price.seconds, self._generator):
            self.chip.version += 1
        return Outcome(value, flags, applied, began, price.seconds, price.events, joules)

    def _read(self, op: Read) -> Outcome:
        got = self._periphery.read(self._seen(op.blocks, op.sense), op, self._generator)
        amps, flags = pair_differences(got.amps, got.flags) if op.pairs else (got.amps, got.flags)
        return self._outcome(cost(op, self._spec), amps, flags, joules=got.joules)

    def _read_cells(self, op: ReadCells) -> Outcome:
        counted = self._on_selected_lines(op) if self._counts_energy else None
        got = self._cells(op.blocks, op.sense, op.drive, counted=counted)
        amps, flags = got.amps, got.flags
        if op.mask is not None:
            mask = op.mask.expand(op.blocks.shape)
            amps = torch.where(mask, amps, torch.nan)
            flags = torch.zeros(amps.shape, dtype=torch.uint8) if flags is None else flags
            flags = torch.where(mask, flags, int(Flag.NOT_MEASURED)).to(torch.uint8)
        return self._outcome(cost(op, self._spec), amps, flags, joules=got.joules)

    def _pulse(self, op: Pulse) -> Outcome:
        shapes = self._grid.made(op.up), self._grid.made(op.down)
        counts = op.counts.to(torch.int32).expand(op.blocks.shape)
        joules = 0.0
        for cycle in range(op.cycles):
            pattern = -counts if op.alternate and cycle % 2 else counts
            joules += self._apply(op.blocks, pattern, shapes, op.unselected)
        return self._outcome(cost(op, self._spec), applied=counts.abs() * op.cycles, joules=self._known(joules))

    def _outer(self, op: Outer) -> Outcome:
        counts = coincidences(op)
        self.chip.saturation.full += full_trains(op)
        joules = self._apply(op.blocks, counts, (self._grid.made(op.up), self._grid.made(op.down)), op.unselected)
        return self._outcome(cost(op, self._spec), applied=counts.abs(), joules=self._known(joules))

    def _ramp(self, op: Ramp) -> Outcome:
        progress, joules = RampProgress(op), 0.0
        for step, point in enumerate(op.points.tolist()):
            cells = progress.wanted(step)
            if not bool(cells.any()):
                progress.skip()
                continue
            shape = self._grid.made(ramp_shape(op, point))
            joules += self._apply(op.blocks, op.sign * cells, (shape, shape), op.sense.unselected)
            got = self._cells(op.blocks, op.sense, self._spec.geometry.drive, inside=shape.volts, counted=cells)
            if op.sense.volts is not None:  # inside a pulse, its own energy holds that of the reading
                joules += got.joules or 0.0
            progress.observe(step, got.amps, got.flags)
        price = ramp_cost(op, int(progress.applied.sum()), self._spec)
        return self._outcome(price, progress.value, progress.flags, progress.applied, self._known(joules))

    def _apply(self, blocks: Blocks, counts: Tensor, shapes: tuple[Shape, Shape], unselected: Bias | None) -> float:
        """Applies signed pulse counts to cells, and to what lies beside; gives the energy in J, 0 if not counted."""
        limits = self._gates.let_through(shapes[0]), self._gates.let_through(shapes[1])
        left = self._lines.left(self.chip, blocks, counts, shapes, limits=limits, unselected=unselected)
        made, shapes = shapes, through(shapes, left)
        bias = self._beside.scheme(unselected) if self._disturbs or self._counts_energy else None
        before = self.chip.tiles(blocks).clone() if self._counts_energy else None
        joules = 0.0
        if bias is not None and self._counts_energy:
            joules += self._beside.joules(self.chip, blocks, counts, shapes, bias)
        self.chip.pulse(blocks, counts, *shapes, limits=limits, generator=self._generator)
        if before is not None:
            joules += pulse_joules(before, self.chip.tiles(blocks), counts, made, limits, left=left)
        if bias is not None and self._disturbs:
            self._beside.disturb(self.chip, blocks, counts, shapes, bias=bias, generator=self._generator)
        return joules

    def _cells(
        self, blocks: Blocks, sense: Sense, drive: Side, *, inside: Cells = 0.0, counted: Tensor | None = None
    ) -> Measured:
        """Reads cells at ``sense.volts``, or inside a pulse at the amplitude of the pulse (gates as in a read)."""
        volts = inside if sense.volts is None else sense.volts
        return self._periphery.cells(self._seen(blocks, sense), volts, sense, drive, self._generator, counted=counted)

    def _seen(self, blocks: Blocks, sense: Sense) -> Seen:
        """The cells of blocks as a read sees them."""
        g, shut = self.chip.tiles(blocks), self._gates.shut(sense.gate)
        if shut:
            return Seen(blocks, torch.zeros_like(g), shut=True)
        limit = self._gates.read_limit(sense.gate) if self._gate_limits_reads else None
        return Seen(blocks, g, self._noise(blocks), limit)

    def _noise(self, blocks: Blocks) -> Tensor | None:
        """Read noise of each cell, S rms; None where neither law nor aging tells it."""
        if not self._noisy:
            return None
        each = [part.read_noise(self.chip.state).square() for part in self._noisy]
        return sum(each[1:], each[0]).sqrt().view(-1)[cell_index(blocks, *self.chip.shape[1:])]

    def _on_selected_lines(self, op: ReadCells) -> Tensor | None:
        """Cells that carry current while others on their line are measured, [T, R, C]; None for all."""
        if op.mask is None:
            return None
        along = 1 if (self._spec.geometry.gate_lines or op.drive) is Side.COLS else 2
        return op.mask.expand(op.blocks.shape).any(along, keepdim=True)

    def _known(self, joules: float) -> float | None:
        return joules if self._counts_energy else None

    def _wait(self, op: Wait) -> Outcome:
        return self._outcome(cost(op, self._spec), joules=self._known(0.0))

    def _probe(self, op: Probe) -> Outcome:
        value = torch.tensor([_PROBES[name] for name in op.names], dtype=torch.float64)
        return self._outcome(cost(op, self._spec), value, joules=self._known(0.0))
