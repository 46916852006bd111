"""Training and test samples, and how batches are drawn from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hil.network import CostName, is_correct, own_head
from hil.protocol import Batch


@dataclass(slots=True)
class Samples:
    """A data set, split.

    Inputs never exceed 1 in magnitude: an input of 1 is driven with the full read voltage, and the guard refuses more.

    Args:
        train: samples to learn from.
        test: samples to judge by.
        classes: outputs of the network.
        cost: the cost that fits the targets.
        size: samples of one batch.
        seed: root seed of the batches.
        heads: tasks that have outputs of their own; a sample belongs to task ``y // (classes // heads)``.
    """

    train: Batch
    test: Batch
    classes: int
    cost: CostName
    size: int
    seed: int
    heads: int = 1
    _epoch: tuple[int, Tensor] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, part in (("train", self.train), ("test", self.test)):
            if not bool((part.x.abs() <= 1).all()):
                raise ValueError(f"{name} inputs must lie between -1 and 1, or they exceed the read voltage")
        if self.heads < 1 or self.classes % self.heads:
            raise ValueError(f"heads must divide the {self.classes} outputs, got {self.heads}")
        if self.heads > 1 and self.cost != "cross_entropy":
            raise ValueError(f"several heads need class numbers (cross_entropy), the cost is {self.cost}")

    def digest(self) -> str:
        """A fingerprint of all samples; a run goes on only with the data it began with."""
        found = hashlib.blake2b(digest_size=16)
        for part in (self.train.x, self.train.y, self.test.x, self.test.y):
            found.update(part.contiguous().numpy().tobytes())
        return found.hexdigest()

    def correct(self, out: Tensor, y: Tensor) -> Tensor:
        """Which samples are right within their own head, bool [batch]; see ``hil.network.is_correct``."""
        return is_correct(*own_head(out, y, self.heads), self.cost)

    def of_task(self, task: int) -> Samples:
        """The samples of one of the tasks, to learn them one after the other; outputs and class numbers stay.

        Raises:
            ValueError: there is no such task.
        """
        if not 0 <= task < self.heads:
            raise ValueError(f"task must lie between 0 and {self.heads - 1}, got {task}")
        if self.heads == 1:
            return self
        parts = [_of_task(part, task, self.classes // self.heads) for part in (self.train, self.test)]
        return Samples(parts[0], parts[1], self.classes, self.cost, self.size, self.seed, self.heads)

    def batch(self, number: int) -> Batch:
        """Batch ``number``; every epoch is shuffled anew, and a batch depends on (seed, number) only."""
        count = self.train.x.shape[0]
        if self.size >= count:
            return self.train
        per_epoch = count // self.size
        epoch, place = divmod(number, per_epoch)
        order = self._order(epoch, count)[place * self.size : (place + 1) * self.size]
        return Batch(self.train.x[order], self.train.y[order])

    def _order(self, epoch: int, count: int) -> Tensor:
        if self._epoch is None or self._epoch[0] != epoch:
            source = np.random.default_rng([self.seed, epoch])
            self._epoch = epoch, torch.as_tensor(source.permutation(count))
        return self._epoch[1]


def _of_task(part: Batch, task: int, classes: int) -> Batch:
    chosen = part.y // classes == task
    return Batch(part.x[chosen], part.y[chosen])


class TaskConfig(Protocol):
    """A data set as a run file names it."""

    def load(self, seed: int) -> Samples:
        """Reads or makes the samples; ``seed`` draws the batches, never the split."""
        ...


def check_least(task: object, least: int, *names: str) -> None:
    """Refuses settings of a task that are below the least value they may have.

    Raises:
        ValueError: with the name of the setting.
    """
    for name in names:
        if getattr(task, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(task, name)}")


def check_share(test: float) -> None:
    """Refuses a share of test samples that leaves none to test with, or none to learn from.

    Raises:
        ValueError: with the name of the setting.
    """
    if not 0 < test < 1:
        raise ValueError(f"test must lie between 0 and 1, got {test}")


def split(x: Tensor, y: Tensor, share: float, seed: int) -> tuple[Batch, Batch]:
    """Shuffles samples and puts a share of them aside as test samples.

    Args:
        x: [samples, n_in].
        y: [samples].
        share: part of the samples that is for testing.
        seed: seed of the shuffle.

    Returns:
        Training and test samples.
    """
    order = torch.as_tensor(np.random.default_rng(seed).permutation(x.shape[0]))
    x, y = x[order], y[order]
    aside = round(share * x.shape[0])
    return Batch(x[aside:], y[aside:]), Batch(x[:aside], y[:aside])
