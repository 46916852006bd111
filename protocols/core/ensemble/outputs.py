"""What networks of combined or single copies answer, without noise; and the committee machine as a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor


def logits(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: Callable[[Tensor], Tensor]
) -> Tensor:
    """Outputs ``[..., batch, classes]`` of the last layer; weights ``[..., rows, cols]`` may have replica axes.

    Args:
        x: ``[batch, inputs]``.
        weights: of each layer.
        biases: ``[rows]`` of each layer, digital.
        activation: between layers.
    """
    for number, (w, b) in enumerate(zip(weights, biases, strict=True)):
        x = (activation(x) if number else x) @ w.mT + b
    return x


def committee(members: Tensor) -> Tensor:
    """Mean of the members' class probabilities: ``[batch, classes]`` of logits ``[members, batch, classes]``.

    The final outputs of whole networks are averaged, so errors spread within each (Joksas et al. 2020, Nat. Commun.
    11); layer ensemble averaging averages before each non-linearity.
    """
    return members.softmax(-1).mean(0)


def accuracy(answers: Tensor, classes: Tensor) -> Tensor:
    """Share of right answers ``[...]`` of ``[..., batch, classes]``."""
    return (answers.argmax(-1) == classes).double().mean(-1)
