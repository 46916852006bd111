"""The cells of a simulated chip: their state, how blocks address them and how pulses change them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hil.contract import Blocks, Shape
from hil.contract.indexing import cell_index
from hil.errors import CheckpointError
from sim_backend.config import SimulatorConfig
from sim_backend.doors import Law


class Chip:
    """All cells of a chip as tensors [K, R, C].

    Args:
        shape: (kernels, rows, cols).
        config: the physics.
        generator: the chip's own stream; the same seed builds the same chip.
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
        self.version = 0
        self._tiles: dict[Blocks, tuple[int, Tensor]] = {}

    def tiles(self, blocks: Blocks) -> Tensor:
        """Conductances of blocks, [T, R, C] S; kept until a cell changes."""
        known = self._tiles.get(blocks)
        if known is not None and known[0] == self.version:
            return known[1]
        if len(self._tiles) > 64:
            self._tiles.clear()
        g = self.state["g"].view(-1)[cell_index(blocks, *self.shape[1:])]
        self._tiles[blocks] = (self.version, g)
        return g

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
        """Applies signed pulse counts [T, R, C]; work is done only for cells that have a count.

        Args:
            blocks: the blocks.
            counts: signed counts; positive raises the conductance.
            up: shape of a pulse up.
            down: shape of a pulse down.
            limits: the current let through by gate or compliance in a pulse up and down, A; None for no limit. A cell
                whose current is limited to 0 does not switch.
            generator: noise of this operation.
        """
        counts = counts.to(torch.int32).expand(blocks.shape).reshape(-1)
        chosen = counts.nonzero().view(-1)
        cells, signed = cell_index(blocks, *self.shape[1:]).view(-1)[chosen], counts[chosen]
        self.state["pulses"].view(-1)[cells] += signed.abs()
        free = ~self.state["stuck"].view(-1)[cells]
        g = self.state["g"]
        dtype, rising = g.dtype, signed > 0
        strengths = self.law.strength(up, True), self.law.strength(down, False)
        raw = torch.where(rising, *(_per_cell(strength, blocks, chosen, dtype) for strength in strengths))
        let = [None if amps is None else _per_cell(amps, blocks, chosen, dtype) for amps in limits]
        for amps, side in zip(let, (rising, ~rising), strict=True):
            free = free if amps is None else free & (~side | (amps > 0))
        ceiling = None if let[0] is None else torch.as_tensor(self.law.ceiling(let[0]), dtype=dtype)
        dose = raw * signed
        free &= dose != 0
        cells = cells[free]
        if cells.numel() == 0:
            return
        params = {name: values.view(-1)[cells] for name, values in self.params.items()}
        ceiling = None if ceiling is None else ceiling.expand(free.shape)[free]
        flat = g.view(-1)
        flat[cells] = self.law.pulse(flat[cells], params, dose[free], ceiling, generator)
        self.version += 1

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of all state and parameter tensors."""
        tensors = {f"chip.{name}": t.clone() for name, t in self.state.items()}
        return tensors | {f"law.{name}": t.clone() for name, t in self.params.items()}

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Puts a snapshot back; checks everything before changing anything."""
        fresh: list[tuple[Tensor, Tensor]] = []
        for prefix, own in (("chip", self.state), ("law", self.params)):
            for name, mine in own.items():
                fresh.append((mine, checked(saved, f"{prefix}.{name}", mine)))
        for mine, theirs in fresh:
            mine.copy_(theirs)
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


def _per_cell(value: float | Tensor, blocks: Blocks, chosen: Tensor, dtype: torch.dtype) -> Tensor:
    """A number for all cells, or the chosen cells' values of a tensor that broadcasts to [T, R, C]."""
    if isinstance(value, Tensor):
        return value.expand(blocks.shape).reshape(-1)[chosen].to(dtype)
    return torch.tensor(value, dtype=dtype)
