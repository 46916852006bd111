"""Activations on the host, and the defects that studies give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Activation = Callable[[Tensor], Tensor]
"""From pre-activations [..., n] to activations [..., n]."""


def identity(z: Tensor) -> Tensor:
    """Gives back what it gets."""
    return z


ACTIVATIONS: dict[str, Activation] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "identity": identity,
}


@dataclass(frozen=True, slots=True, eq=False)
class Defective:
    """An activation whose neurons differ: y = height f(slope (z - shift)) + offset.

    Args:
        inner: f.
        height: [n].
        slope: [n].
        shift: [n].
        offset: [n].

    Reference: McCaughan et al. 2023, APL Machine Learning 1, 026118 (study of activation defects).
    """

    inner: Activation
    height: Tensor
    slope: Tensor
    shift: Tensor
    offset: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        """The activations of pre-activations [..., n]."""
        return self.height * self.inner(self.slope * (z - self.shift)) + self.offset


def defective(inner: Activation, width: int, sigma: float, source: torch.Generator) -> Defective:
    """Draws the defects of a layer: height and slope from N(1, sigma), shift and offset from N(0, sigma).

    Args:
        inner: the activation without defects.
        width: neurons.
        sigma: size of the defects.
        source: where the draws come from; the same source makes the same neurons.
    """
    draws = sigma * torch.randn(4, width, generator=source)
    return Defective(inner, 1.0 + draws[0], 1.0 + draws[1], draws[2], draws[3])
