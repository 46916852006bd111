"""Many small networks at once: a multi-layer perceptron whose parameters have leading replica axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def _same(z: Tensor) -> Tensor:
    return z


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "identity": _same,
}
Activation = Literal["tanh", "sigmoid", "relu", "identity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlp:
    """The shape of a network; parameters are one flat vector, weights row by row and then bias, layer by layer.

    Args:
        widths: inputs, hidden widths, outputs.
        hidden: activation of hidden layers.
        output: activation of the last layer.
        cost: ``mse`` on targets (mean over outputs) or ``cross_entropy`` on class numbers.
    """

    widths: tuple[int, ...]
    hidden: Activation = "sigmoid"
    output: Activation = "sigmoid"
    cost: Literal["mse", "cross_entropy"] = "mse"

    @property
    def sizes(self) -> list[int]:
        """Parameters of each layer."""
        return [n_out * (n_in + 1) for n_in, n_out in zip(self.widths[:-1], self.widths[1:], strict=True)]

    @property
    def count(self) -> int:
        """All parameters."""
        return sum(self.sizes)

    def uniform(self, replicas: int, source: torch.Generator, half: float = 0.5) -> Tensor:
        """Parameters drawn evenly from -half to half, float32 [replicas, P]."""
        return half * (2 * torch.rand(replicas, self.count, generator=source) - 1)

    def glorot(self, replicas: int, source: torch.Generator) -> Tensor:
        """Glorot-uniform weights and biases of 0, float32 [replicas, P]."""
        parts: list[Tensor] = []
        for n_in, n_out in zip(self.widths[:-1], self.widths[1:], strict=True):
            bound = (6.0 / (n_in + n_out)) ** 0.5
            parts += [
                bound * (2 * torch.rand(replicas, n_out * n_in, generator=source) - 1),
                torch.zeros(replicas, n_out),
            ]
        return torch.cat(parts, 1)

    def layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Weights [..., n_out, n_in] and biases [..., n_out] of each layer, of [..., P]."""
        found: list[tuple[Tensor, Tensor]] = []
        first = 0
        for n_in, n_out in zip(self.widths[:-1], self.widths[1:], strict=True):
            middle, last = first + n_out * n_in, first + n_out * (n_in + 1)
            weights = theta[..., first:middle].reshape(*theta.shape[:-1], n_out, n_in)
            found.append((weights, theta[..., middle:last]))
            first = last
        return found

    def activate(self, z: Tensor) -> Tensor:
        """Activation of the hidden layers."""
        return _ACTIVATIONS[self.hidden](z)

    def out(self, theta: Tensor, x: Tensor) -> Tensor:
        """Outputs [..., batch, n_out] for inputs [..., batch, n_in]."""
        layers = self.layers(theta)
        for number, (weights, bias) in enumerate(layers):
            z = x @ weights.transpose(-1, -2) + bias.unsqueeze(-2)
            x = _ACTIVATIONS[self.output if number == len(layers) - 1 else self.hidden](z)
        return x

    def loss(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Mean cost over the batch, float64 [...]."""
        out = self.out(theta, x).double()
        if self.cost == "mse":
            return (out - y.double()).square().mean((-1, -2))
        classes = y.expand(out.shape[:-1])
        flat = F.cross_entropy(out.reshape(-1, out.shape[-1]), classes.reshape(-1), reduction="none")
        return flat.view(classes.shape).mean(-1)

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The gradient of the mean cost by backpropagation, [..., P] as ``theta``."""
        with torch.enable_grad():
            leaf = theta.detach().requires_grad_(True)
            (found,) = torch.autograd.grad(self.loss(leaf, x, y).sum(), leaf)
        return found

    def correct(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Share of the samples that is right, float64 [...]."""
        out = self.out(theta, x)
        right = ((out > 0.5) == (y > 0.5)).all(-1) if self.cost == "mse" else out.argmax(-1) == y
        return right.double().mean(-1)
