"""Forward-only learning: every layer has a loss of its own, so that no error goes back.

A layer's goodness is the sum of its squared outputs. A sample with its right label in the input is to have a large one,
the same sample with a wrong label a small one. The change of a layer needs its input and output only; inputs are
normalised in between, so that a layer cannot pass its goodness on.

Functions over tensors with leading replica axes; a label takes the place of one more input a class.

References: Hinton 2022, arXiv 2212.13345 (forward-forward learning: goodness, loss, label in the input); arXiv
2601.09903 (2026; forward-only learning on memristors with pulses that only lower conductances).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Product = Callable[[int, Tensor], Tensor]
"""(layer, inputs [..., batch, n_in]) -> pre-activations [..., batch, n_out]: one read on a chip."""


def embedded(x: Tensor, labels: Tensor, classes: int, size: float = 1.0) -> Tensor:
    """Inputs with their labels, [..., batch, n_in + classes].

    Args:
        x: [..., batch, n_in].
        labels: class numbers [..., batch].
        classes: number of classes.
        size: input of the line of the label; the other lines get 0.
    """
    marks = F.one_hot(labels, classes).to(x.dtype) * size
    return torch.cat((x.expand(*marks.shape[:-1], x.shape[-1]), marks), -1)


def wrong_labels(labels: Tensor, classes: int, source: torch.Generator) -> Tensor:
    """Labels that are not the right ones, evenly drawn; shape as ``labels``."""
    return (labels + torch.randint(1, classes, labels.shape, generator=source)) % classes


def goodness(h: Tensor) -> Tensor:
    """The sum of squared outputs [..., batch]."""
    return h.square().sum(-1)


def normalised(h: Tensor) -> Tensor:
    """Outputs of length 1 as inputs of the next layer; a silent sample stays 0."""
    length = h.square().sum(-1, keepdim=True).sqrt()
    return h / torch.where(length > 0, length, 1.0)


def loss(positive: Tensor, negative: Tensor, threshold: float) -> Tensor:
    """log(1 + exp(-(g+ - th))) + log(1 + exp(g- - th)) of each sample, [..., batch].

    Reference: Hinton 2022 (logistic loss of the goodness against a threshold).
    """
    return F.softplus(threshold - positive) + F.softplus(negative - threshold)


def local_error(h: Tensor, positive: bool, threshold: float) -> Tensor:
    """The error -dL/dz at a layer's pre-activations, [..., batch, n_out]; with its input it is a layer's factors.

    -dL/dg is sigmoid(th - g) of a positive sample and -sigmoid(g - th) of a negative one, and dg/dz is 2 h with ReLU.

    Args:
        h: the layer's outputs, after ReLU.
        positive: whether the labels are right.
        threshold: th.
    """
    good = goodness(h).unsqueeze(-1)
    pull = torch.sigmoid(threshold - good) if positive else -torch.sigmoid(good - threshold)
    return pull * 2.0 * h


def local_factors(
    product: Product, layers: int, x: Tensor, positive: bool, threshold: Sequence[float]
) -> list[tuple[Tensor, Tensor]]:
    """One pass: inputs and errors of every layer, whose summed outer products lower the layer's own loss.

    Args:
        product: how layers are read; one read a layer.
        layers: number of layers.
        x: inputs with labels, [..., batch, n_in].
        positive: whether the labels are right.
        threshold: of each layer.

    Returns:
        For each layer (x [..., batch, n_in], e [..., batch, n_out]).
    """
    found: list[tuple[Tensor, Tensor]] = []
    for number in range(layers):
        h = torch.relu(product(number, x))
        found.append((x, local_error(h, positive, threshold[number])))
        x = normalised(h)
    return found


def scores(product: Product, layers: int, x: Tensor, classes: int, *, size: float = 1.0, skip: int = 0) -> Tensor:
    """The summed goodness of each label, [..., batch, classes]; the largest is the class.

    Args:
        product: how layers are read.
        layers: number of layers.
        x: inputs without labels, [..., batch, n_in].
        classes: labels to try; each is a pass of its own.
        size: see ``embedded``.
        skip: first layers whose goodness is left out.
    """
    found: list[Tensor] = []
    for label in range(classes):
        labels = torch.full(x.shape[:-1], label, dtype=torch.int64, device=x.device)
        h = embedded(x, labels, classes, size)
        total: Tensor | None = None
        for number in range(layers):
            out = torch.relu(product(number, h))
            if number >= skip:
                total = goodness(out) if total is None else total + goodness(out)
            h = normalised(out)
        if total is None:
            raise ValueError(f"skip must be below the number of layers, {layers}, got {skip}")
        found.append(total)
    return torch.stack(found, -1)
