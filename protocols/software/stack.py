"""Several networks of one shape that are trained at once: layers whose parameters have a leading replica axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from hil.network import own_head
from protocols.core.draws import generator
from protocols.core.precision import Precision


@dataclass(slots=True)
class Stack:
    """The parameters of S networks, and how they become weights.

    Args:
        hidden: hidden weights of each layer [S, n_out, n_in].
        biases: of each layer [S, n_out]; digital on a chip.
        logs: logarithm of the scale of each layer [S]; a weight is the scale times what its hidden weight stands for.
        precision: what hidden weights stand for.
        slope: hidden activations are tanh(slope z).
    """

    hidden: list[Tensor]
    biases: list[Tensor]
    logs: list[Tensor]
    precision: Precision
    slope: float

    @property
    def parameters(self) -> list[Tensor]:
        """All parameters: hidden weights, then biases, then logarithms of scales."""
        return [*self.hidden, *self.biases, *self.logs]

    def with_parameters(self, values: Sequence[Tensor]) -> Stack:
        """The same networks with other parameters, in the order of ``parameters``."""
        n = len(self.hidden)
        return Stack(list(values[:n]), list(values[n : 2 * n]), list(values[2 * n :]), self.precision, self.slope)

    def weights(self, layer: int) -> Tensor:
        """The weights of a layer, [S, n_out, n_in]."""
        return self.precision.seen(self.hidden[layer]) * self.logs[layer].exp()[:, None, None]

    def products(self, x: Tensor, noise: Sequence[Tensor] = ()) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs [S, batch, n_in] and pre-activations [S, batch, n_out] of every layer; the last are the outputs.

        Args:
            x: [batch, n_in].
            noise: what is added to the weights of each layer [S, n_out, n_in], as a share of its scale; none if empty.
        """
        inputs: list[Tensor] = []
        found: list[Tensor] = []
        h = x.expand(self.hidden[0].shape[0], *x.shape)
        for layer, bias in enumerate(self.biases):
            weights = self.weights(layer)
            if noise:
                weights = weights + noise[layer] * self.logs[layer].exp()[:, None, None]
            inputs.append(h)
            found.append(torch.baddbmm(bias.unsqueeze(1), h, weights.transpose(1, 2)))
            h = torch.tanh(self.slope * found[-1])
        return inputs, found

    @torch.no_grad()
    def correct(self, x: Tensor, y: Tensor, heads: int) -> Tensor:
        """Share of the samples that is right within their own head, float64 [S]."""
        out, classes = own_head(self.products(x)[1][-1], y, heads)
        return (out.argmax(-1) == classes).double().mean(-1)

    @torch.no_grad()
    def model(self, replica: int) -> nn.Sequential:
        """One of the networks as Linear and Tanh layers; scale and slope are in its weights and biases."""
        modules: list[nn.Module] = []
        for layer, bias in enumerate(self.biases):
            last = layer == len(self.biases) - 1
            factor = 1.0 if last else self.slope
            n_out, n_in = self.hidden[layer].shape[1:]
            linear = nn.Linear(n_in, n_out)
            linear.weight.copy_(factor * self.weights(layer)[replica])
            linear.bias.copy_(factor * bias[replica])
            modules += [linear] if last else [linear, nn.Tanh()]
        return nn.Sequential(*modules)


def new_stack(widths: Sequence[int], precision: Precision, slope: float, seeds: int, seed: int) -> Stack:
    """Networks with hidden weights drawn evenly from -1 to 1, biases of 0, and scales that keep products of order 1.

    A network depends on its own number and on ``seed``, not on how many are drawn beside it.
    """
    shapes = list(pairwise(widths))
    sources = [generator(seed, "software/weights", replica) for replica in range(seeds)]
    drawn = [[2 * torch.rand(n_out, n_in, generator=s) - 1 for n_in, n_out in shapes] for s in sources]
    return Stack(
        hidden=[torch.stack(layers) for layers in zip(*drawn, strict=True)],
        biases=[torch.zeros(seeds, n_out) for _, n_out in shapes],
        # Two thirds of the ternary weights are not 0 at the usual threshold.
        logs=[torch.full((seeds,), -0.5 * math.log(n_in * 2 / 3)) for n_in, _ in shapes],
        precision=precision,
        slope=slope,
    )


def fisher(stack: Stack, x: Tensor, heads: int, y: Tensor) -> list[Tensor]:
    """Diagonal Fisher information of every parameter, in the order of ``Stack.parameters``.

    The expectation over classes is exact: each class of a sample's head counts with the probability that the network
    gives it. No gradient of single samples is needed: that of a weight is the error at its output times its input, that
    of the scale's logarithm the sum of errors times products. Gradients of hidden weights go straight through.

    Args:
        stack: the networks.
        x: inputs [samples, n_in].
        heads: see ``own_head``.
        y: class numbers [samples]; only the head of a sample is taken from them.

    Reference: Kirkpatrick et al. 2017, PNAS 114, 3521 (elastic weight consolidation).
    """
    leaves = [p.detach().requires_grad_(True) for p in stack.parameters]
    inputs, products = stack.with_parameters(leaves).products(x)
    logits = own_head(products[-1], y, heads)[0].double().log_softmax(-1)
    found = [torch.zeros_like(p) for p in leaves]
    n, count = len(stack.hidden), x.shape[0]
    for number in range(logits.shape[-1]):
        errors = torch.autograd.grad(logits[..., number].sum(), products, retain_graph=True)
        share = logits[..., number].detach().exp().unsqueeze(-1).to(x.dtype)
        for layer, (h, d) in enumerate(zip(inputs, errors, strict=True)):
            squares = share * d.square() / count
            scale = stack.logs[layer].exp().square()[:, None, None]
            found[layer] += scale * (squares.transpose(1, 2) @ h.detach().square())
            found[n + layer] += squares.sum(1)
            sensed = ((products[layer] - leaves[n + layer].unsqueeze(1)).detach() * d).sum(-1, keepdim=True)
            found[2 * n + layer] += (share * sensed.square() / count).sum((1, 2))
    return found
