"""The cells of a simulated chip: their state, how blocks address them and how pulses change them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hil.contract import Blocks, Shape
from hil.errors import CheckpointError
from sim_backend.config import SimulatorConfig
from sim_backend.doors import Law
from sim_backend.pulsed.cells import PulsedCells
from sim_backend.pulsed.place import copied, place_of
from sim_backend.pulsed.push import CellsOf, Push
from sim_backend.pulsed.saturation import Saturation


class Chip:
    """All cells of a chip as tensors [K, R, C].

    Args:
        shape: (kernels, rows, cols).
        config: the physics.
        generator: the chip's own stream; the same seed builds the same chip.

    ``state`` and ``params`` are changed in place and never bound anew.
    """

    def __init__(self, shape: tuple[int, int, int], config: SimulatorConfig, generator: torch.Generator) -> None:
        dtype = torch.float32 if config.dtype == "float32" else torch.float64
        self.law: Law = config.law
        self.shape = shape
        self.params = self.law.build(shape, generator, dtype)
        low, high = self.law.bounds(self.params)
        stuck, value = config.faults.draw(low, high, generator)
        g = torch.where(stuck, value, self.law.initial(self.params, generator))
        self.state = {"g": g, "stuck": stuck, "pulses": torch.zeros(shape, dtype=torch.int32)}
        self.saturation = Saturation()
        self._highest = float(high.max())
        self._pulsed = PulsedCells(
            law=self.law,
            g=self.state["g"].view(-1),
            pulses=self.state["pulses"].view(-1),
            stuck=self.state["stuck"].view(-1),
            params={name: values.view(-1) for name, values in self.params.items()},
        )
        self.version = 0
        self._tiles: dict[Blocks, tuple[int, Tensor]] = {}

    def tiles(self, blocks: Blocks) -> Tensor:
        """Conductances of blocks, [T, R, C] S; kept until a cell changes."""
        known = self._tiles.get(blocks)
        if known is not None and known[0] == self.version:
            return known[1]
        if len(self._tiles) > 64:
            self._tiles.clear()
        g = self.picked(self.state["g"], blocks)
        self._tiles[blocks] = (self.version, g)
        return g

    def picked(self, values: Tensor, blocks: Blocks) -> Tensor:
        """The values [T, R, C] of blocks from a tensor over the chip, in memory of their own."""
        place = place_of(blocks, *self.shape[1:])
        return copied(values.view(-1), place.on_chip(slice(0, place.cells))).view(blocks.shape)

    def pulse(
        self,
        blocks: Blocks,
        counts: Tensor,
        up: Shape,
        down: Shape,
        *,
        limits: tuple[Tensor | float | None, Tensor | float | None],
        generator: torch.Generator,
    ) -> None:
        """Applies signed pulse counts [T, R, C]; see ``sim_backend.pulsed`` for the ways it can go.

        Args:
            blocks: the blocks.
            counts: signed counts; positive raises the conductance.
            up: shape of a pulse up.
            down: shape of a pulse down.
            limits: the current let through by gate or compliance in a pulse up and down, A; None for no limit. A cell
                whose current is limited to 0 does not switch.
            generator: noise of this operation.
        """
        flat = counts.to(torch.int32).expand(blocks.shape).reshape(-1)
        push = Push.of(self.law, (up, down), limits, CellsOf(blocks.shape, self.state["g"].dtype, self._highest))
        told, stayed = self._pulsed.pulse(place_of(blocks, *self.shape[1:]), flat, push, generator)
        self.saturation.held += stayed
        self.version += told > 0

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of all state and parameter tensors."""
        tensors = {f"chip.{name}": t.clone() for name, t in self.state.items()}
        tensors |= {f"law.{name}": t.clone() for name, t in self.params.items()}
        return tensors | {"chip.saturated": self.saturation.saved()}

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Puts a snapshot back; checks everything before changing anything."""
        fresh: list[tuple[Tensor, Tensor]] = []
        counted = checked(saved, "chip.saturated", self.saturation.saved())
        for prefix, own in (("chip", self.state), ("law", self.params)):
            for name, mine in own.items():
                fresh.append((mine, checked(saved, f"{prefix}.{name}", mine)))
        for mine, theirs in fresh:
            mine.copy_(theirs)
        self.saturation.restore(counted)
        self._highest = float(self.law.bounds(self.params)[1].max())
        self.version += 1


def checked(saved: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """A tensor of a snapshot, of the right shape and dtype and finite.

    Raises:
        CheckpointError: it is missing or does not fit.
    """
    found = saved.get(name)
    if found is None:
        raise CheckpointError("snapshot", f"the tensor {name!r} is missing")
    if found.shape != like.shape or found.dtype != like.dtype:
        seen, wanted = f"{tuple(found.shape)} {found.dtype}", f"{tuple(like.shape)} {like.dtype}"
        raise CheckpointError("snapshot", f"the tensor {name!r} is {seen}, expected {wanted}")
    if found.is_floating_point() and not bool(torch.isfinite(found).all()):
        raise CheckpointError("snapshot", f"the tensor {name!r} holds values that are not finite")
    return found
