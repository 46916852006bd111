"""Iterations to an accuracy, of many networks at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from protocols.core.draws import generator
from protocols.core.layerwise import Layerwise, train
from protocols.core.mlp import Mlp


@dataclass(frozen=True, slots=True)
class Data:
    """Samples to learn from and to judge by.

    Args:
        x: [samples, n_in].
        y: classes [samples].
        test_x: [test samples, n_in].
        test_y: classes [test samples].
    """

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.y.max()) + 1

    def to(self, device: str) -> Data:
        """The same on another device."""
        return Data(self.x.to(device), self.y.to(device), self.test_x.to(device), self.test_y.to(device))

    def batches(self, size: int, seed: int) -> Callable[[int], tuple[Tensor, Tensor]]:
        """Random batches; a batch depends on (seed, step) only."""

        def batch(step: int) -> tuple[Tensor, Tensor]:
            chosen = torch.randint(0, self.x.shape[0], (size,), generator=generator(seed, "batch", step))
            chosen = chosen.to(self.x.device)
            return self.x[chosen], self.y[chosen]

        return batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """What is to be reached, and how long to try.

    Args:
        target: test accuracy to reach.
        most: iterations after which to give up.
        every: iterations between two looks at the test samples.
        batch: samples of a batch.
        replicas: networks.
        seed: root seed.
    """

    target: float = 0.8
    most: int
    every: int
    batch: int = 100
    replicas: int = 4
    seed: int = 0


def iterations(network: Mlp, how: Layerwise, data: Data, race: Race) -> list[int | None]:
    """Iterations to the target of each network; None where it was not reached."""
    theta = network.glorot(race.replicas, generator(race.seed, "start", 0)).to(data.x.device)
    reached: list[int | None] = [None] * race.replicas

    def watch(done: int, parameters: Tensor) -> bool:
        if done % race.every:
            return False
        there = network.correct(parameters, data.test_x, data.test_y) >= race.target
        for replica in range(race.replicas):
            if reached[replica] is None and bool(there[replica]):
                reached[replica] = done
        return None not in reached

    train(network, theta, data.batches(race.batch, race.seed), how, steps=race.most, seed=race.seed, watch=watch)
    return reached


def mean(reached: list[int | None]) -> float | None:
    """The mean of all networks; None when one of them did not get there."""
    done = [count for count in reached if count is not None]
    return fmean(done) if len(done) == len(reached) else None


def digits_network(data: Data, width: int) -> Mlp:
    """A network with two hidden layers of one width, tanh and cross-entropy."""
    widths = (data.x.shape[1], width, width, data.classes)
    return Mlp(widths=widths, hidden="tanh", output="identity", cost="cross_entropy")
