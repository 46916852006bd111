"""Scikit-learn's iris data: 150 flowers by 4 lengths, 3 classes.

Source: UCI Machine Learning Repository, Iris (Fisher 1936), as shipped with scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch

from hil.lab.tasks.samples import Samples, check_least, check_share, split
from hil.lab.tasks.tables import full_range


@dataclass(frozen=True, slots=True, kw_only=True)
class Iris:
    """The iris task; each measurement is mapped to -1 ... 1 by its range in the whole table.

    Args:
        batch: samples of one batch.
        test: share of the samples that is for testing.
        split_seed: seed of the split.
    """

    kind: Literal["iris"] = "iris"
    batch: int = 30
    test: float = 0.2
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "batch")
        check_least(self, 0, "split_seed")
        check_share(self.test)

    def load(self, seed: int) -> Samples:
        """See ``TaskConfig``."""
        from sklearn import datasets  # pyright: ignore[reportMissingTypeStubs]

        columns, labels = cast(Any, datasets).load_iris(return_X_y=True)
        train, test = split(full_range(columns), torch.tensor(labels, dtype=torch.int64), self.test, self.split_seed)
        return Samples(train, test, 3, "cross_entropy", self.batch, seed)
