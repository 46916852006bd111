"""The letters N, I, S and T in frames of 7 x 7 pixels: this project's own stand-in.

McCaughan et al. 2023 (APL Machine Learning 1, 026118) train on a data set of 7 x 7 letters whose generator and file
are not published. This is not that data set: it only asks for the same kind of network, with numbers of its own.
Letters are drawn on 5 x 5 pixels, stretched to 4 ... 7 rows and columns (nearest neighbour), put anywhere in the frame,
and spoilt by flipped pixels. The smallest size matters: from 5 on, the task is nearly solved without a hidden layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from hil.lab.tasks.samples import Samples, check_least
from hil.network import CostName
from hil.protocol import Batch

_FRAME, _SMALLEST, _DRAWN = 7, 4, 5
_LETTERS = {
    "N": ("#...#", "##..#", "#.#.#", "#..##", "#...#"),
    "I": (".###.", "..#..", "..#..", "..#..", ".###."),
    "S": (".####", "#....", ".###.", "....#", "####."),
    "T": ("#####", "..#..", "..#..", "..#..", "..#.."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Nist7x7:
    """The task of 7 x 7 letters; pixels are -1 and 1, the classes are N, I, S, T in this order and equally many.

    Few clean letters exist, so many test samples also occur among the training samples.

    Args:
        batch: samples of one batch.
        train_samples: samples to learn from.
        test_samples: samples to judge by.
        flips: chance of each pixel to be flipped.
        cost: ``cross_entropy``, or ``mse`` on targets of 0 and 1, as the papers use it.
        data_seed: seed of the letters; training and test samples draw from streams of their own.
    """

    kind: Literal["nist7x7"] = "nist7x7"
    batch: int = 100
    train_samples: int = 2000
    test_samples: int = 1000
    flips: float = 0.02
    cost: CostName = "cross_entropy"
    data_seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "batch", "train_samples", "test_samples")
        check_least(self, 0, "data_seed")
        if not 0 <= self.flips < 0.5:
            raise ValueError(f"flips must lie between 0 and 0.5, got {self.flips}")

    def load(self, seed: int) -> Samples:
        """See ``TaskConfig``."""
        train = self._draw(self.train_samples, np.random.default_rng([self.data_seed, 0]))
        test = self._draw(self.test_samples, np.random.default_rng([self.data_seed, 1]))
        return Samples(train, test, len(_LETTERS), self.cost, self.batch, seed)

    def _draw(self, count: int, source: np.random.Generator) -> Batch:
        """Draws letters in turn, so that the classes are equally many."""
        glyphs = [np.array([[pixel == "#" for pixel in row] for row in rows]) for rows in _LETTERS.values()]
        frames = np.stack([_placed(glyphs[number % len(glyphs)], source) for number in range(count)])
        frames ^= source.random(frames.shape) < self.flips
        x = torch.as_tensor(np.where(frames, np.float32(1), np.float32(-1))).flatten(1)
        y = torch.arange(count) % len(glyphs)
        return Batch(x, y if self.cost == "cross_entropy" else F.one_hot(y, len(glyphs)).float())


def _placed(glyph: NDArray[np.bool_], source: np.random.Generator) -> NDArray[np.bool_]:
    """Stretches a letter and puts it anywhere in the frame, bool [7, 7]."""
    rows, cols = source.integers(_SMALLEST, _FRAME + 1, 2)
    top, left = source.integers(0, (_FRAME - rows + 1, _FRAME - cols + 1))
    frame = np.zeros((_FRAME, _FRAME), dtype=np.bool_)
    frame[top : top + rows, left : left + cols] = glyph[np.ix_(_nearest(rows), _nearest(cols))]
    return frame


def _nearest(size: int) -> NDArray[np.intp]:
    """The drawn pixel under the middle of each of ``size`` pixels."""
    return ((np.arange(size) + 0.5) * _DRAWN / size).astype(np.intp)
