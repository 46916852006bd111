"""Signals of 40 values that belong to one of 10 shapes: this project's own kin of MNIST-1D.

The recipe's idea is that of Greydanus 2020, "Scaling down deep learning" (arXiv:2011.14439): a short template for each
class is padded, shifted, scaled, sheared, buried in correlated noise and sampled anew. Templates, numbers and code are
this project's own, and so is the accuracy to expect: the figures of that paper do not hold here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hil.lab.tasks.samples import Samples, check_least
from hil.protocol import Batch

_LENGTH = 40
_KNOTS = 12
_SHORTEST, _LONGEST = 18, 26
_TEMPLATES = np.array(
    [
        [0, 3, 6, 8, 9, 10, 10, 9, 8, 6, 3, 0],  # hill
        [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0],  # falling saw tooth
        [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],  # rising saw tooth
        [0, 8, 10, 8, 0, 0, 0, 0, 8, 10, 8, 0],  # two hills
        [0, 5, 9, 10, 9, 5, -5, -9, -10, -9, -5, 0],  # up, then down
        [0, -5, -9, -10, -9, -5, 5, 9, 10, 9, 5, 0],  # down, then up
        [10, 10, 10, 10, 0, 0, 0, 0, -10, -10, -10, -10],  # stairs
        [0, 10, 0, -10, 0, 10, 0, -10, 0, 10, 0, -10],  # fast wave
        [-10, -9, -8, -4, 4, 10, 10, 4, -4, -8, -9, -10],  # hill between valleys
        [0, 0, 10, 10, 2, 2, 2, 2, 2, 2, 0, 0],  # peak with a tail
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mnist1dLike:
    """The task of 1-D signals; each signal is scaled to a peak of 1; 10 classes, equally many.

    Args:
        batch: samples of one batch.
        train_samples: samples to learn from.
        test_samples: samples to judge by.
        noise: rms of the correlated noise, where a template's peak is 1.
        shear: largest slope that is added, end to end.
        data_seed: seed of the signals; training and test samples draw from streams of their own.
    """

    kind: Literal["mnist1d_like"] = "mnist1d_like"
    batch: int = 100
    train_samples: int = 4000
    test_samples: int = 1000
    noise: float = 0.15
    shear: float = 0.4
    data_seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "batch", "train_samples", "test_samples")
        check_least(self, 0, "noise", "shear", "data_seed")

    def load(self, seed: int) -> Samples:
        """See ``TaskConfig``."""
        train = self._draw(self.train_samples, np.random.default_rng([self.data_seed, 0]))
        test = self._draw(self.test_samples, np.random.default_rng([self.data_seed, 1]))
        return Samples(train, test, len(_TEMPLATES), "cross_entropy", self.batch, seed)

    def _draw(self, count: int, source: np.random.Generator) -> Batch:
        """Draws signals; the classes come in turn, so that they are equally many."""
        classes = np.arange(count) % len(_TEMPLATES)
        signals = _placed(classes, source) * source.uniform(0.8, 1.2, (count, 1))
        slopes = source.uniform(-self.shear, self.shear, (count, 1))
        signals += slopes * np.linspace(-0.5, 0.5, _LENGTH) + self.noise * _noise(count, source)
        peaks = np.abs(signals).max(1, keepdims=True)
        return Batch(torch.as_tensor(signals / peaks).float(), torch.as_tensor(classes))


def _placed(classes: NDArray[np.int64], source: np.random.Generator) -> NDArray[np.float64]:
    """Stretches the templates of classes and puts them anywhere in signals of zeros, [count, 40]."""
    widths = source.uniform(_SHORTEST, _LONGEST, (len(classes), 1))
    firsts = source.uniform(0, 1, widths.shape) * (_LENGTH - 1 - widths)
    places = (np.arange(_LENGTH) - firsts) / widths * (_KNOTS - 1)
    padded = np.pad(_TEMPLATES / 10, ((0, 0), (1, 2)))
    places = np.clip(places + 1, 0, _KNOTS + 1)
    knots = places.astype(np.intp)
    part, rows = places - knots, classes[:, None]
    return (1 - part) * padded[rows, knots] + part * padded[rows, knots + 1]


def _noise(count: int, source: np.random.Generator) -> NDArray[np.float64]:
    """Noise of rms 1 that is correlated over about 2 values, [count, 40]."""
    reach = np.arange(-6, 7)
    kernel = np.exp(-((reach / 2) ** 2) / 2)
    kernel /= np.sqrt((kernel**2).sum())
    white = source.standard_normal((count, _LENGTH + len(reach) - 1))
    return np.lib.stride_tricks.sliding_window_view(white, len(reach), axis=1) @ kernel
