"""How finely a weight can be told: ternary, in equal levels, or real; for training and for weights that are given.

In training a hidden real weight h stands behind each weight; the forward pass sees its nearest level and the gradient
goes straight through to h. The scale of a layer is apart, so levels lie in -1 ... 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

_SWEEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Ternary:
    """Weights of -1, 0 and 1 times the scale of their layer.

    Args:
        threshold: magnitude of a hidden weight up to which its weight is 0; given weights are fitted without it.
    """

    kind: Literal["ternary"] = "ternary"
    threshold: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold must be at least 0 and below 1, got {self.threshold}")

    def seen(self, hidden: Tensor) -> Tensor:
        """The weights that hidden weights [...] stand for; gradients go straight through."""
        return straight_through(hidden, hidden.sign() * (hidden.abs() > self.threshold))

    def fit(self, weights: Tensor) -> Tensor:
        """The nearest ternary weights [n_out, n_in] of given ones, see ``nearest_ternary``."""
        return nearest_ternary(weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Weights on equally spaced levels from -1 to 1, times the scale of their layer.

    Args:
        count: levels; an odd number, so that 0 is one of them.
    """

    kind: Literal["levels"] = "levels"
    count: int = 9

    def __post_init__(self) -> None:
        if not 3 <= self.count <= 65535 or self.count % 2 == 0:
            raise ValueError(f"count must be an odd number between 3 and 65535, got {self.count}")

    def seen(self, hidden: Tensor) -> Tensor:
        """The weights that hidden weights [...] stand for; gradients go straight through."""
        return straight_through(hidden, on_levels(hidden, self.count))

    def fit(self, weights: Tensor) -> Tensor:
        """The nearest weights [n_out, n_in] on levels of given ones, see ``nearest_levels``."""
        return nearest_levels(weights, self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """Weights of any size."""

    kind: Literal["real"] = "real"

    def seen(self, hidden: Tensor) -> Tensor:
        """The hidden weights themselves."""
        return hidden

    def fit(self, weights: Tensor) -> Tensor:
        """The weights themselves."""
        return weights


Precision = Ternary | Levels | Real


def straight_through(hidden: Tensor, seen: Tensor) -> Tensor:
    """The values of ``seen`` with the gradient of ``hidden``.

    Reference: Bengio, Léonard and Courville 2013, arXiv:1308.3432 (straight-through estimator).
    """
    return seen.detach() + (hidden - hidden.detach())  # in this order the values are exactly those of seen


def on_levels(values: Tensor, count: int) -> Tensor:
    """The nearest of ``count`` equally spaced levels from -1 to 1; what lies beyond takes the last level."""
    half = (count - 1) / 2
    return (values.clamp(-1, 1) * half).round() / half


def nearest_ternary(weights: Tensor) -> Tensor:
    """The ternary matrix, one scale for all of it, with the least squared distance to a matrix of any shape.

    With the k largest magnitudes kept the best scale is their mean, and the squared distance falls by their sum squared
    over k; the best k is found over all of them. What is dropped then lies below half the scale.

    Raises:
        ValueError: there is no weight.
    """
    if not weights.numel():
        raise ValueError("expected at least one weight to fit, got none")
    sizes = weights.reshape(-1).double().abs().sort(descending=True).values
    sums = sizes.cumsum(0)
    gains = sums.square() / torch.arange(1, len(sizes) + 1, dtype=torch.float64)
    best = int(gains.argmax())
    scale, least = sums[best] / (best + 1), sizes[best]
    kept = (weights.double().abs() >= least) & (weights != 0)
    return (weights.sign() * kept * scale).to(weights.dtype)


def nearest_levels(weights: Tensor, count: int) -> Tensor:
    """A matrix on ``count`` equally spaced levels, one scale for all of it, near a matrix of any shape.

    Scale and levels are fitted in turn by least squares from the largest weight on, until nothing moves; each turn can
    only come nearer, so the result is a local optimum.

    Raises:
        ValueError: there is no weight.
    """
    if not weights.numel():
        raise ValueError("expected at least one weight to fit, got none")
    exact = weights.double()
    scale = exact.abs().max()
    if not scale > 0:
        return weights.clone()
    levels = on_levels(exact / scale, count)
    for _ in range(_SWEEPS):
        scale = (levels * exact).sum() / levels.square().sum()
        moved = on_levels(exact / scale, count)
        if torch.equal(moved, levels):
            break
        levels = moved
    return (scale * levels).to(weights.dtype)
