"""Weights that are given, brought to the precision that a chip can hold."""

from __future__ import annotations

import copy

import torch
from torch import nn

from protocols.core.precision import Precision


@torch.no_grad()
def fitted(model: nn.Sequential, precision: Precision) -> nn.Sequential:
    """A copy of a model whose weights are the nearest of a precision, with one scale for each layer; biases stay.

    Nothing is trained: weights that were not trained for a coarse precision lose accuracy by it.
    """
    found = copy.deepcopy(model)
    for module in found:
        if isinstance(module, nn.Linear):
            module.weight.copy_(precision.fit(module.weight))
    return found
