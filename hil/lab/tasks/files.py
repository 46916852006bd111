"""Images or tables that the user brings as files, such as MNIST, Fashion-MNIST or CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hil.lab.plain import printable
from hil.lab.tasks.arrays import Array, read_idx, read_npz, unusable
from hil.lab.tasks.samples import Samples, check_least, check_share
from hil.protocol import Batch

MOST_CLASSES = 1000
_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Part:
    """Training or test samples as they come out of their files.

    Args:
        x: [samples, ...].
        y: class numbers [samples].
        x_path: where x comes from, for messages.
        y_path: where y comes from.
    """

    x: Array
    y: Array
    x_path: Path
    y_path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class IdxFiles:
    """Four IDX files, plain or gzip, as MNIST and Fashion-MNIST come.

    Args:
        train_images: path, from the current folder.
        train_labels: path.
        test_images: path.
        test_labels: path.
    """

    kind: Literal["idx"] = "idx"
    train_images: str
    train_labels: str
    test_images: str
    test_labels: str

    def parts(self, seed: int) -> tuple[Part, Part]:
        """Training and test samples; nothing is drawn."""
        pairs = (self.train_images, self.train_labels), (self.test_images, self.test_labels)
        train, test = ((Path(images), Path(labels)) for images, labels in pairs)
        return Part(read_idx(train[0]), read_idx(train[1]), *train), Part(read_idx(test[0]), read_idx(test[1]), *test)


@dataclass(frozen=True, slots=True, kw_only=True)
class NpzFile:
    """An npz file with arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``, or with ``x``, ``y`` that are split.

    Args:
        path: path, from the current folder.
        test: share of ``x``, ``y`` that is for testing; of no effect on the four arrays.
    """

    kind: Literal["npz"] = "npz"
    path: str
    test: float = 0.2

    def __post_init__(self) -> None:
        check_share(self.test)

    def parts(self, seed: int) -> tuple[Part, Part]:
        """Training and test samples; ``seed`` draws the split."""
        path = Path(self.path)
        arrays = read_npz(path, ("x_train", "y_train", "x_test", "y_test"), ("x", "y"))
        if "x" not in arrays:
            train, test = ((arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
            return Part(*train, path, path), Part(*test, path, path)
        whole = Part(arrays["x"], arrays["y"], path, path)
        _check_counts(whole)
        order = np.random.default_rng(seed).permutation(len(whole.x))
        aside = round(self.test * len(order))
        train, test = (Part(whole.x[i], whole.y[i], path, path) for i in (order[aside:], order[:aside]))
        return train, test


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A task from files of class numbers and images, [n, rows, cols] or [n, rows, cols, channels], or rows [n, n_in].

    Values are mapped to -1 ... 1: 0 ... 255 of unsigned bytes, ``low`` ... ``high`` of anything else.

    Args:
        source: the files.
        batch: samples of one batch.
        classes: outputs of the network; None for as many as the labels need.
        limit: training samples to use, drawn at random; None for all.
        test_limit: test samples to use, drawn at random; None for all.
        pool: side of the squares of pixels that are averaged; 4 makes 7 x 7 of 28 x 28 pixels.
        low: value that becomes -1.
        high: value that becomes 1.
        split_seed: seed of the split and of the limits.
    """

    kind: Literal["files"] = "files"
    source: IdxFiles | NpzFile
    batch: int = 100
    classes: int | None = None
    limit: int | None = None
    test_limit: int | None = None
    pool: int = 1
    low: float | None = None
    high: float | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "batch", "pool", *(n for n in ("limit", "test_limit") if getattr(self, n) is not None))
        check_least(self, 0, "split_seed")
        if self.classes is not None and not 2 <= self.classes <= MOST_CLASSES:
            raise ValueError(f"classes must lie between 2 and {MOST_CLASSES}, got {self.classes}")
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high are given together or not at all")
        if self.low is not None and self.high is not None and not -1e30 <= self.low < self.high <= 1e30:
            raise ValueError(f"low must lie below high, both between -1e30 and 1e30, got {self.low} and {self.high}")

    def load(self, seed: int) -> Samples:
        """See ``TaskConfig``.

        Raises:
            ConfigError: a file cannot be used.
        """
        parts = self.source.parts(self.split_seed)
        for part in parts:
            _check_counts(part)
        train, test = parts
        if train.x.shape[1:] != test.x.shape[1:]:
            sizes = f"{list(train.x.shape[1:])} and {list(test.x.shape[1:])}"
            raise unusable(test.x_path, f"expected training and test samples of one shape, got {sizes}")
        classes = self._outputs(parts)
        limits = self.limit, self.test_limit
        batches = [self._batch(part, limits[number], number) for number, part in enumerate(parts)]
        return Samples(batches[0], batches[1], classes, "cross_entropy", self.batch, seed)

    def _outputs(self, parts: tuple[Part, Part]) -> int:
        """Checks the labels and gives the outputs of the network."""
        most = self.classes or MOST_CLASSES
        for part in parts:
            low, high = int(part.y.min()), int(part.y.max())
            if low < 0 or high >= most:
                raise unusable(part.y_path, f"expected labels between 0 and {most - 1}, got {low} to {high}")
        return self.classes or max(2, *(1 + int(part.y.max()) for part in parts))

    def _batch(self, part: Part, limit: int | None, number: int) -> Batch:
        """Draws samples up to a limit and brings them to -1 ... 1, in pieces, so that little more than they is held."""
        count = len(part.x) if limit is None else min(limit, len(part.x))
        order = np.arange(len(part.x))
        if count < len(order):
            order = np.sort(np.random.default_rng([self.split_seed, number]).permutation(order)[:count])
        pieces = [self._inputs(part.x[order[at : at + _CHUNK]], part.x_path) for at in range(0, count, _CHUNK)]
        return Batch(torch.cat(pieces), torch.as_tensor(part.y.reshape(-1)[order].astype(np.int64)))

    def _inputs(self, values: Array, path: Path) -> Tensor:
        """Maps values to -1 ... 1 and averages over squares, float32 [samples, n_in]."""
        low, high = self._range(values, path)
        # All in float32, where rounding keeps the order of numbers: what lies in the range stays within -1 ... 1.
        x = 2 * ((values.astype(np.float32) - low) / (high - low)) - 1
        if self.pool > 1:
            if x.ndim < 3 or x.shape[1] % self.pool or x.shape[2] % self.pool:
                sizes = " x ".join(map(str, x.shape[1:]))
                problem = f"expected images of rows and columns that pool = {self.pool} divides, got {sizes}"
                raise unusable(path, problem)
            rows, cols = x.shape[1] // self.pool, x.shape[2] // self.pool
            x = x.reshape(len(x), rows, self.pool, cols, self.pool, *x.shape[3:]).mean((2, 4))
        return torch.as_tensor(x.reshape(len(x), -1))

    def _range(self, values: Array, path: Path) -> tuple[np.float32, np.float32]:
        """The values that become -1 and 1; refuses samples outside, which would exceed the read voltage."""
        seen = float(values.min()), float(values.max())
        if self.low is not None and self.high is not None:
            low, high = self.low, self.high
        elif values.dtype == np.uint8:
            low, high = 0.0, 255.0
        else:
            values_seen = f"values of type {values.dtype}, which go from {seen[0]:g} to {seen[1]:g}"
            raise unusable(path, f"expected low and high to be set in the run file for {values_seen}")
        if not (low <= seen[0] and seen[1] <= high):  # also where a value is not a number
            raise unusable(path, f"expected values between {low:g} and {high:g}, got {seen[0]:g} to {seen[1]:g}")
        if not np.float32(low) < np.float32(high):
            raise unusable(path, f"expected low and high further apart, got {low!r} and {high!r}")
        return np.float32(low), np.float32(high)


def _check_counts(part: Part) -> None:
    """Refuses samples without labels, labels that are no class numbers, and no samples at all."""
    if part.x.ndim < 2 or 0 in part.x.shape[1:]:
        raise unusable(part.x_path, f"expected samples of at least one value each, got the shape {list(part.x.shape)}")
    if not len(part.x):
        raise unusable(part.x_path, "expected at least one training and one test sample, got none")
    if part.y.dtype.kind not in "ui" or part.y.ndim not in (1, 2) or part.y.shape[1:] not in ((), (1,)):
        kind = f"{printable(str(part.y.dtype))} of shape {list(part.y.shape)}"
        raise unusable(part.y_path, f"expected a whole class number for each sample, got {kind}")
    if len(part.y) != len(part.x):
        raise unusable(part.y_path, f"expected a label for each of {len(part.x)} samples, got {len(part.y)}")
