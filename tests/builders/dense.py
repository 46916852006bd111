"""The digital network that a noise-free board in float64 holds, and changes of its cells from outside."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from protocols.parts import Forgetful


def digital(network):
    """(weights, bias) of each layer as its cells make them now."""
    chip = network.backend.inner.chip
    layers = []
    for layer in network.layers:
        matrix = layer.matrices["W"]
        layers.append((matrix.weights(chip.tiles(matrix.blocks)), layer.bias.detach().double()))
    return layers


def outputs(layers, x):
    """Logits of a network of two layers with tanh between."""
    (w1, b1), (w2, b2) = layers
    return torch.tanh(x @ w1.T + b1) @ w2.T + b2


def exact_gradients(network, samples):
    """Weights and bias of each layer in turn, by autograd."""
    layers = [(w.requires_grad_(), b.requires_grad_()) for w, b in digital(network)]
    leaves = [leaf for pair in layers for leaf in pair]
    return torch.autograd.grad(F.cross_entropy(outputs(layers, samples.x), samples.y), leaves)


def change_cells(network, layer, weights):
    """Moves the cells of a layer so that its weights change by ``weights``; half on either cell of a pair."""
    matrix, chip = layer.matrices["W"], network.backend.inner.chip
    moved = matrix.spread(weights) * matrix.polarity * (layer.mapping.scale / 2)
    blocks = matrix.blocks
    for t, (kernel, row, col) in enumerate(zip(blocks.kernel, blocks.row, blocks.col, strict=True)):
        chip.state["g"][kernel, row : row + blocks.n_rows, col : col + blocks.n_cols] += moved[t]
    chip.version += 1


class Exact(Forgetful):
    """An update rule that no chip has: every weight changes by exactly what is wanted."""

    def write(self, network, change, memory, key):
        for layer in network.layers:
            change_cells(network, layer, change[layer.name])
        return {}
