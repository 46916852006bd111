"""Where the copies of a layer go: at random, or where stuck cells do the least harm.

Greedy placement evaluates every position of a block on the whole chip at once: its cost is the sum of
|g_stuck - g_target| over the stuck cells under the block (Yousuf et al. 2025, reconstruction in facts/lea.md 1.3).
Random placement is the same walk with every cost 0, since ties are broken by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from hil.contract import Blocks
from hil.errors import PlacementError, UsageError
from hil.placement import free_windows
from protocols.core.ensemble.faults import Faults
from protocols.core.ensemble.tiles import Copies, Tiles, padding_mask

Placing = Literal["random", "greedy"]

_MOST_LEVELS = 8
"""Targets of at most so many conductances are correlated conductance by conductance."""
_GRID = 17
"""Conductances of stuck cells that are told apart when targets take more than that."""


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """A layer that wants a place.

    Args:
        name: for messages.
        tiles: how it is cut.
        targets: ``[2, n_out, n_in]`` S, nominal G+ and G-.
    """

    name: str
    tiles: Tiles
    targets: Tensor


def place_copies(
    layers: Sequence[Wanted],
    alpha: int,
    faults: Faults,
    *,
    placing: Placing,
    source: torch.Generator,
    avoid: Tensor | None = None,
) -> list[Copies]:
    """Places ``alpha`` copies of both polarities of layers without overlap.

    Args:
        layers: in the order in which they may choose; the largest first leaves most room.
        alpha: copies of each.
        faults: stuck cells of the chip, ``[K, R, C]``.
        placing: ``random`` takes any free position, ``greedy`` the cheapest.
        source: of the draws; greedy placement breaks ties with it.
        avoid: bool ``[K, R, C]``, cells that must not be used; None for none.

    Raises:
        PlacementError: the copies of a layer do not fit; the error tells how many blocks it needs and how many fitted.
        UsageError: alpha is below 1.
    """
    if alpha < 1:
        raise UsageError(f"alpha {alpha} must be at least 1: it counts the copies of each layer")
    free = torch.ones_like(faults.stuck) if avoid is None else ~avoid
    placed: list[Copies] = []
    for layer in layers:
        fits = free_windows(free, *layer.tiles.block)
        if placing == "greedy" and fits.numel():
            costs = position_costs(layer, faults).masked_fill(~fits, torch.inf)
        else:
            costs = torch.zeros(1, *fits.shape).masked_fill(~fits, torch.inf)
        placed.append(_take(layer, alpha, costs, free, source))
    return placed


def _take(layer: Wanted, alpha: int, costs: Tensor, free: Tensor, source: torch.Generator) -> Copies:
    """Takes the cheapest positions of one layer's blocks; their cells go out of ``costs`` and ``free``."""
    n_rows, n_cols = layer.tiles.block
    count = len(layer.tiles)
    what = f"blocks of {n_rows} x {n_cols} cells for {alpha} copies"
    if costs.numel() == 0:  # larger than a kernel
        raise PlacementError(layer.name, 2 * alpha * count, 0, what)
    at: dict[tuple[int, int, int], tuple[int, int, int]] = {}
    for copy in range(alpha):
        for tile in range(count):
            for polarity in range(2):
                spot = _cheapest(costs[(polarity * count + tile) % len(costs)], source)
                if spot is None:
                    raise PlacementError(layer.name, 2 * alpha * count, len(at), what)
                k, r, c = spot
                free[k, r : r + n_rows, c : c + n_cols] = False
                costs[:, k, max(r - n_rows + 1, 0) : r + n_rows, max(c - n_cols + 1, 0) : c + n_cols] = torch.inf
                at[polarity, copy, tile] = spot
    kernel, row, col = (tuple(axis) for axis in zip(*(at[key] for key in sorted(at)), strict=True))
    return Copies(layer.name, layer.tiles, alpha, Blocks(kernel, row, col, n_rows, n_cols))


def _cheapest(costs: Tensor, source: torch.Generator) -> tuple[int, int, int] | None:
    """A position of lowest cost, ties broken by chance; None when none is free."""
    flat = costs.reshape(-1)
    lowest = float(flat.min())
    if lowest == torch.inf:
        return None
    ties = (flat == lowest).nonzero()
    chosen = int(ties[int(torch.randint(len(ties), (1,), generator=source))])
    _, rows, cols = costs.shape
    return chosen // (rows * cols), chosen // cols % rows, chosen % cols


def position_costs(layer: Wanted, faults: Faults) -> Tensor:
    """What each tile costs at each position, S: ``[2 * tiles, K, R - n_rows + 1, C - n_cols + 1]``.

    The sum over stuck cells becomes one correlation for each conductance that targets take or, where these are many,
    that stuck cells take. Padding cells of a tile cost nothing; their lines are never driven or never counted.
    """
    targets = layer.tiles.split(layer.targets.to(faults.siemens.dtype), 0.0).flatten(0, 1)
    used = padding_mask(layer.tiles).repeat(2, 1, 1)
    levels = _distinct(targets[used])
    if len(levels) <= _MOST_LEVELS:
        return costs_by_target(targets, used, levels, faults)
    return costs_by_fault(targets, used, faults)


def costs_by_target(targets: Tensor, used: Tensor, levels: Tensor, faults: Faults) -> Tensor:
    """Costs of targets that take few ``levels``."""
    steps = levels[:, None, None]
    harm = torch.where(faults.stuck[:, None], (faults.siemens[:, None] - steps).abs(), 0.0)
    return _correlated(harm, ((targets[:, None] == steps) & used[:, None]).to(harm.dtype))


def costs_by_fault(targets: Tensor, used: Tensor, faults: Faults) -> Tensor:
    """Costs of targets of any conductances.

    Exact where stuck cells take few conductances. Else each is shared between the two nearest levels of a grid, and the
    cost of a stuck cell is up to half a step of the grid too high where its target lies within the same step.
    """
    values = faults.siemens[faults.stuck]
    levels, step = _distinct(values), 0.0
    if len(levels) > _GRID:
        levels = torch.linspace(float(levels[0]), float(levels[-1]), _GRID, dtype=levels.dtype)
        step = float(levels[-1] - levels[0]) / (_GRID - 1)
    away = (faults.siemens[:, None] - levels[:, None, None]).abs()
    share = (1.0 - away / step).clamp(min=0.0) if step else (away == 0).to(away.dtype)
    share = torch.where(faults.stuck[:, None], share, 0.0)
    return _correlated(share, (levels[:, None, None] - targets[:, None]).abs() * used[:, None])


def _correlated(chip: Tensor, pattern: Tensor) -> Tensor:
    """Products of patterns ``[targets, levels, ...]`` with all places of a chip ``[K, levels, ...]``, summed."""
    if chip.shape[1] == 0:  # no cell is stuck
        places = [whole - part + 1 for whole, part in zip(chip.shape[2:], pattern.shape[2:], strict=True)]
        return chip.new_zeros(len(pattern), len(chip), *places)
    if chip.shape[2:] == pattern.shape[2:]:  # one place a kernel: a plain product is faster
        return (pattern.flatten(1) @ chip.flatten(1).T)[:, :, None, None]
    return conv2d(chip, pattern).transpose(0, 1).contiguous()


def _distinct(values: Tensor) -> Tensor:
    """The different values, ascending."""
    return cast(Tensor, values.unique())  # pyright: ignore[reportUnknownMemberType]
