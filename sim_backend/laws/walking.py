"""Pulse by pulse, for cells whose step is not linear in their conductance.

The first pulses are taken one by one, with the window applied after each. Beyond ``SINGLE`` pulses in one operation,
each round takes a growing number at the slope of its start (1 / SINGLE of all before), so that a very strong pulse
ends in a few thousand rounds; cells have then mostly come to rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from sim_backend.laws.cell import rising

SINGLE = 128

Rate = Callable[[Tensor, Mapping[str, Tensor], Tensor], tuple[Tensor, Tensor | None]]
"""(g, params, rising) -> size of one usual pulse and its cycle noise, S; None for no noise."""


def walked(
    g: Tensor, params: Mapping[str, Tensor], dose: Tensor, top: Tensor, *, rate: Rate, generator: torch.Generator
) -> Tensor:
    """Where pulses take the cells, S.

    Args:
        g: where they start, S, any shape.
        params: ``low`` and what ``rate`` needs, in the shape of ``g``.
        dose: signed usual pulses of each cell.
        top: how far up each cell may go, S.
        rate: the law of one pulse.
        generator: noise of this operation.
    """
    result = g.reshape(-1).clone()
    now = {name: values.reshape(-1) for name, values in params.items()}
    now |= {"g": result, "top": top.reshape(-1), "left": dose.abs().reshape(-1), "sign": dose.sign().reshape(-1)}
    now["rising"] = rising(now["sign"])
    cells: Tensor | None = None  # which cells ``now`` holds; None for all
    for done, most in rounds(float(now["left"].max()) if g.numel() else 0.0):
        active = now["left"] > done
        if 2 * int(active.count_nonzero()) < active.numel():  # few are left: go on with these alone
            kept = active.nonzero().view(-1)
            if cells is not None:
                result[cells] = now["g"]
            else:
                result = now["g"].clone()
            cells = kept if cells is None else cells[kept]
            now = {name: values[kept] for name, values in now.items()}
        part = (now["left"] - done).clamp_(0.0, most)
        size, noise = rate(now["g"], now, now["rising"])
        moved = torch.addcmul(now["g"], size * now["sign"], part)
        if noise is not None:
            xi = torch.randn(moved.shape, generator=generator, dtype=moved.dtype)
            moved.addcmul_(part.sqrt_().mul_(noise), xi)
        still = now["left"] <= done
        moved = moved.clamp_(now["low"], now["top"])
        now["g"] = torch.where(still, now["g"], moved) if bool(still.any()) else moved
    if cells is None:
        return now["g"].view(g.shape)
    result[cells] = now["g"]
    return result.view(g.shape)


def rounds(most: float) -> Iterator[tuple[float, float]]:
    """Pulses done before each round, and how many the round takes."""
    done = 0.0
    while done < most:
        size = max(1.0, done // SINGLE)
        yield done, size
        done += size
