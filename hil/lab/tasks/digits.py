"""Scikit-learn's hand-written digits: 1,797 images of 8 x 8 pixels, 10 classes.

Source: UCI Machine Learning Repository, Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), as
shipped with scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch

from hil.lab.tasks.samples import Samples, check_least, check_share, split


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """The digits task; pixels are mapped to -1 ... 1.

    Args:
        batch: samples of one batch.
        test: share of the samples that is for testing.
        split_seed: seed of the split.
    """

    kind: Literal["digits"] = "digits"
    batch: int = 100
    test: float = 0.2
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "batch")
        check_least(self, 0, "split_seed")
        check_share(self.test)

    def load(self, seed: int) -> Samples:
        """See ``TaskConfig``."""
        from sklearn import datasets  # pyright: ignore[reportMissingTypeStubs]

        pixels, labels = cast(Any, datasets).load_digits(return_X_y=True)
        x = torch.tensor(pixels, dtype=torch.float32) / 8.0 - 1.0
        train, test = split(x, torch.tensor(labels, dtype=torch.int64), self.test, self.split_seed)
        return Samples(train, test, 10, "cross_entropy", self.batch, seed)
