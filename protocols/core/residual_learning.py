"""Residual learning: a second array learns what the first one, pulled by its asymmetry, cannot hold.

A device answers to a wanted change d with w + d F(w) - |d| G(w). Noise makes |d| large where the mean gradient is zero,
so plain descent ends nearer to the symmetry point than it should. A second tile, weighed by gamma, learns the residual
of the first, and the first follows the second. Pure functions over tensors of any shape.

References: Wu et al. 2025, NeurIPS, arXiv 2502.06309 (residual learning, general response functions); Li et al. 2025,
arXiv 2510.02516 (a sum of many tiles).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Response(Protocol):
    """How devices answer to pulses: the factors on a wanted change up, and down."""

    def up(self, w: Tensor) -> Tensor:
        """q+: actual change over wanted change, upwards."""
        ...

    def down(self, w: Tensor) -> Tensor:
        """q-: the same downwards."""
        ...


@dataclass(frozen=True, slots=True)
class SoftBounds:
    """Soft bounds with equal slopes: F = 1, G = (w - symmetric_point) / tau.

    Args:
        tau: distance from the symmetry point to the bounds, in units of weight.
        symmetric_point: where up and down are equally large; one number or one a device.
    """

    tau: float = 1.0
    symmetric_point: float | Tensor = 0.0

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise ValueError(f"tau must be above 0, got {self.tau}")

    def up(self, w: Tensor) -> Tensor:
        """See ``Response``."""
        return 1.0 - (w - self.symmetric_point) / self.tau

    def down(self, w: Tensor) -> Tensor:
        """See ``Response``."""
        return 1.0 + (w - self.symmetric_point) / self.tau

    def pulsed(self, w: Tensor, pulses: Tensor, step: float | Tensor) -> Tensor:
        """The weights after whole pulses, one after the other; they saturate at the bounds.

        Args:
            w: weights.
            pulses: whole numbers; positive raises the weight.
            step: what a pulse does at the symmetry point, in units of weight, at most tau.

        Each pulse takes the share step / tau of what is left to the bound, so n leave (1 - step / tau)^n of it.
        """
        bound = self.symmetric_point + self.tau * pulses.sign()
        return torch.where(pulses == 0, w, bound + (w - bound) * (1.0 - step / self.tau) ** pulses.abs())


def symmetric_part(device: Response, w: Tensor) -> Tensor:
    """F = (q+ + q-) / 2: what a wanted change is multiplied with."""
    return (device.up(w) + device.down(w)) / 2


def asymmetric_part(device: Response, w: Tensor) -> Tensor:
    """G = (q- - q+) / 2: the pull towards the symmetry point, for a unit of change of either sign."""
    return (device.down(w) - device.up(w)) / 2


def moved(device: Response, w: Tensor, wanted: Tensor) -> Tensor:
    """The weights after a wanted change: w + d F(w) - |d| G(w).

    Reference: Wu et al. 2025 (response functions of analog devices).
    """
    return w + wanted * symmetric_part(device, w) - wanted.abs() * asymmetric_part(device, w)


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """The rates of residual learning with two tiles.

    Args:
        alpha: rate of the residual tile P on the gradient.
        beta: rate of the main tile W on the residual tile.
        gamma: weight of P in the product; 0 is Tiki-Taka, whose product sees W alone.
    """

    alpha: float = 0.05
    beta: float = 0.02
    gamma: float = 0.4

    def __post_init__(self) -> None:
        if not (self.alpha > 0 and self.beta > 0 and 0 <= self.gamma <= 1):
            raise ValueError(
                f"alpha and beta must be above 0 and gamma from 0 to 1, got {self.alpha}, {self.beta} and {self.gamma}"
            )


def slope_of_descent(noise: float, tau: float) -> float:
    """What plain descent on a noisy quadratic keeps of a target: 1 / (1 + noise sqrt(2/pi) / tau).

    The gradient is w - target + noise n, n standard normal. At rest -(w - target) = E|g| w / tau, and E|g| is near
    noise sqrt(2/pi) while |w - target| is below about the noise.
    """
    return 1.0 / (1.0 + noise * math.sqrt(2.0 / math.pi) / tau)


def regression_slope(learnt: Tensor, target: Tensor) -> Tensor:
    """The slope of learnt weights on their targets through 0, over the last axis: 1 is unbiased."""
    return (learnt * target).sum(-1) / target.square().sum(-1)


def relative_error(learnt: Tensor, target: Tensor) -> Tensor:
    """Root of the mean squared error over that of the target, over the last axis."""
    return ((learnt - target).square().sum(-1) / target.square().sum(-1)).sqrt()
