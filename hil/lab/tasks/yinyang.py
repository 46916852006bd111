"""The Yin-Yang task: points in a disc that is cut into yin, yang and two dots.

The idea and the numbers of the geometry are those of Kriener, Göltz and Petrovici 2021, "The Yin-Yang dataset"
(arXiv:2102.08211); the code is this project's own, and so are the points. The geometry, in units of the disc's radius:
a line of lobes divides the disc, the left lobe (middle (-1/2, 0), radius 1/2) belongs to the upper half and the right
lobe (middle (1/2, 0)) to the lower half; a dot of radius 1/5 sits in the middle of each lobe. A turn by 180 degrees
swaps yin and yang. Only a network with a hidden layer can follow the curved border.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hil.lab.tasks.samples import Samples, check_least
from hil.protocol import Batch

_LOBE, _DOT = 0.5, 0.2
_CLASSES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class YinYang:
    """The Yin-Yang task; inputs are (x, y, -x, -y) with the disc of radius 1; classes are yin, yang, dot, equally many.

    In the coordinates of the paper, 0 ... 1, these inputs are (x, y, 1 - x, 1 - y), here stretched to -1 ... 1.

    Args:
        batch: samples of one batch.
        train_samples: samples to learn from.
        test_samples: samples to judge by.
        data_seed: seed of the points; training and test samples draw from streams of their own.
    """

    kind: Literal["yinyang"] = "yinyang"
    batch: int = 100
    train_samples: int = 5000
    test_samples: int = 1000
    data_seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "batch", "train_samples", "test_samples")
        check_least(self, 0, "data_seed")

    def load(self, seed: int) -> Samples:
        """See ``TaskConfig``."""
        train = yinyang_points(self.train_samples, np.random.default_rng([self.data_seed, 0]))
        test = yinyang_points(self.test_samples, np.random.default_rng([self.data_seed, 1]))
        return Samples(train, test, _CLASSES, "cross_entropy", self.batch, seed)


def yinyang_classes(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """The class of points in the unit disc, [points, 2] -> [points]: 0 yin, 1 yang, 2 dot."""
    left = np.hypot(points[:, 0] + _LOBE, points[:, 1])
    right = np.hypot(points[:, 0] - _LOBE, points[:, 1])
    is_yin = (left <= _LOBE) | ((points[:, 1] > 0) & (right > _LOBE))
    return np.where(np.minimum(left, right) <= _DOT, 2, np.where(is_yin, 0, 1))


def yinyang_points(count: int, source: np.random.Generator) -> Batch:
    """Draws points evenly over each class; the classes come in turn, so that they are equally many."""
    wanted = np.arange(count) % _CLASSES
    points = np.empty((count, 2))
    for number in range(_CLASSES):
        places = np.flatnonzero(wanted == number)
        points[places] = _points_of(number, len(places), source)
    return Batch(torch.as_tensor(np.hstack([points, -points])).float(), torch.as_tensor(wanted))


def _points_of(number: int, count: int, source: np.random.Generator) -> NDArray[np.float64]:
    """Draws points until enough of them lie in the disc and in the class."""
    found = np.empty((0, 2))
    while len(found) < count:
        points = source.uniform(-1, 1, (4 * count, 2))
        points = points[np.hypot(points[:, 0], points[:, 1]) <= 1]
        found = np.vstack([found, points[yinyang_classes(points) == number]])
    return found[:count]
