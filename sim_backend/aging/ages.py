"""How old cells are: when each was last pulsed or disturbed, and at what conductance it started from there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def age_tensors(g: Tensor, pulses: Tensor) -> dict[str, Tensor]:
    """What the ages of a chip need: its clock, and per cell the start, its conductance then and now, and the pulses.

    Args:
        g: conductances, S.
        pulses: pulses of each cell so far.
    """
    return {
        "age.clock": torch.zeros((), dtype=torch.float64),
        "age.shown": torch.zeros((), dtype=torch.float64),
        "age.born": torch.zeros(g.shape, dtype=torch.float64),
        "age.start": g.clone(),
        "age.seen": g.clone(),
        "age.pulses": pulses.clone(),
    }


def renewed(state: Mapping[str, Tensor]) -> Tensor | None:
    """Starts anew the cells that were pulsed or moved since the last look, and names them, [n] flat; None for none."""
    if torch.equal(state["age.pulses"], state["pulses"]) and torch.equal(state["age.seen"], state["g"]):
        return None
    moved = state["age.seen"] != state["g"]  # by pulses on other cells
    cells = (moved | (state["age.pulses"] != state["pulses"])).view(-1).nonzero().view(-1)
    state["age.pulses"].copy_(state["pulses"])
    state["age.seen"].copy_(state["g"])
    state["age.start"].view(-1)[cells] = state["g"].view(-1)[cells]
    state["age.born"].view(-1)[cells] = state["age.clock"]
    return cells


def due(state: Mapping[str, Tensor], seconds: float, refresh: float) -> bool:
    """Moves the clock on; True when conductances are to be brought up to date.

    Args:
        state: the chip's.
        seconds: s that have passed.
        refresh: s of lab time that may pass before they are.
    """
    state["age.clock"].add_(seconds)
    passed = float(state["age.clock"] - state["age.shown"])
    return passed > 0 and passed >= refresh


def shown(state: Mapping[str, Tensor], g: Tensor) -> bool:
    """Puts up-to-date conductances into the state, stuck cells left out; True when one has changed."""
    state["age.shown"].copy_(state["age.clock"])
    fresh = torch.where(state["stuck"], state["g"], g.to(state["g"].dtype))
    if torch.equal(fresh, state["g"]):
        return False
    state["g"].copy_(fresh)
    state["age.seen"].copy_(fresh)
    return True
