"""Two Yin-Yang tasks that one network learns one after the other: the data set, and points of it turned.

The split into tasks is this project's own; that of any published study may differ. Each task has three outputs of its
own (its head), so a network has six; a sample is judged by the outputs of its own task.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hil.lab.tasks.samples import Samples, check_least
from hil.lab.tasks.yinyang import yinyang_points
from hil.protocol import Batch

_CLASSES = 3
_TASKS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoYinYang:
    """Two Yin-Yang tasks; inputs as in ``YinYang``; classes 0 to 2 are those of the first task, 3 to 5 of the second.

    ``Samples.of_task`` gives the samples of one task, to train on one after the other.

    Args:
        batch: samples of one batch.
        train_samples: samples to learn from, of each task.
        test_samples: samples to judge by, of each task.
        degrees: the turn of the second task, counter-clockwise.
        data_seed: seed of the points; the tasks, and training and test samples, draw from streams of their own.
    """

    kind: Literal["two_yinyang"] = "two_yinyang"
    batch: int = 50
    train_samples: int = 5000
    test_samples: int = 1000
    degrees: float = 45.0
    data_seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "batch", "train_samples", "test_samples")
        check_least(self, 0, "data_seed")
        if not 0 < self.degrees < 360:
            raise ValueError(f"degrees must lie between 0 and 360, or both tasks are one, got {self.degrees}")

    def load(self, seed: int) -> Samples:
        """See ``TaskConfig``."""
        train, test = self._both(self.train_samples, 0), self._both(self.test_samples, 1)
        return Samples(train, test, _TASKS * _CLASSES, "cross_entropy", self.batch, seed, heads=_TASKS)

    def _both(self, count: int, part: int) -> Batch:
        """Draws the samples of both tasks, those of the first task first."""
        drawn = [yinyang_points(count, np.random.default_rng([self.data_seed, part, task])) for task in range(_TASKS)]
        turned = _turned(drawn[1].x, math.radians(self.degrees))
        return Batch(torch.cat([drawn[0].x, turned]), torch.cat([drawn[0].y, drawn[1].y + _CLASSES]))


def _turned(x: Tensor, angle: float) -> Tensor:
    """Turns inputs [samples, 4] about the middle of the disc."""
    points = x[:, :2].double()
    radii = points.square().sum(1, keepdim=True).sqrt()
    points = points / radii.clamp(min=1.0)  # float32 may have rounded a point out of the disc
    cos, sin = math.cos(angle), math.sin(angle)
    turned = points @ torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    return torch.cat([turned, -turned], 1).float()
