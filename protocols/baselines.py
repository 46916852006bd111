"""Software baselines: the same model trained by backpropagation in floating point, without a chip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hil.network import CostName, own_head
from protocols.parts import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """Plain mini-batch training in torch.

    Args:
        optimiser: ``sgd`` or ``adam``.
        eta: learning rate.
        steps: updates.
    """

    kind: Literal["software"] = "software"
    optimiser: Literal["sgd", "adam"] = "sgd"
    eta: float = 0.1
    steps: int = 1000

    def train(self, model: nn.Sequential, batch: Callable[[int], Batch], cost: CostName, heads: int = 1) -> None:
        """Trains a model in place.

        Args:
            model: the network.
            batch: gives the batch of a step.
            cost: ``cross_entropy`` or ``mse``.
            heads: tasks that have outputs of their own, see ``own_head``.
        """
        parameters = list(model.parameters())
        if self.optimiser == "adam":
            optimiser: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=self.eta)
        else:
            optimiser = torch.optim.SGD(parameters, lr=self.eta)
        for step in range(self.steps):
            samples = batch(step)
            optimiser.zero_grad()
            out, y = own_head(model(samples.x), samples.y, heads)
            software_cost(out, y, cost).backward()  # pyright: ignore[reportUnknownMemberType]
            optimiser.step()  # pyright: ignore[reportUnknownMemberType]


def software_cost(out: Tensor, y: Tensor, cost: CostName) -> Tensor:
    """Mean cost of a batch."""
    if cost == "mse":
        return (out - y).square().mean()
    return F.cross_entropy(out, y)
