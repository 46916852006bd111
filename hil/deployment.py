"""Putting a model on a board: place its layers, then program their cells once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from hil.contract import Backend
from hil.errors import UsageError
from hil.layers import Backward, CrossbarLayer, NoBackward, Reading
from hil.mapping import PairMapping, usual_mapping
from hil.matrix import placed_pairs
from hil.network import CostName, Network
from hil.placement import place, tiling
from hil.program import ByPulses, Method, ProgramReport, program

MODULES: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "identity": nn.Identity,
}
"""The torch modules of activations, by the names of ``hil.activations``."""
_NAMES = {module: name for name, module in MODULES.items()}


def deploy(
    model: nn.Sequential,
    backend: Backend,
    *,
    mapping: PairMapping | None = None,
    backward: Backward | None = None,
    reading: Reading | None = None,
    method: Method | None = None,
    cost: CostName = "cross_entropy",
    avoid: Tensor | None = None,
) -> Network:
    """Places a model on a board and programs it once.

    Args:
        model: ``nn.Linear`` layers, each followed by at most one of Tanh, Sigmoid, ReLU, Identity.
        backend: the board.
        mapping: weights and conductances; None for the board's whole window.
        backward: how errors go back; None stops them.
        reading: how products are measured; None for inputs as they are.
        method: how cells are programmed; None for pulses with a window of four usual steps.
        cost: the network's cost.
        avoid: bool [K, R, C], cells that must not be used.

    Returns:
        The network on the board; ``network.reports`` holds the programming report of each layer.

    Raises:
        PlacementError: the model does not fit on the chip.
        ProgramFailed: more cells missed their window than ``method`` allows.
        UsageError: the model holds something else.
    """
    network = place_model(model, backend, mapping=mapping, backward=backward, reading=reading, cost=cost, avoid=avoid)
    write_weights(network, model, method or ByPulses(window=4 * backend.spec.writing.step))
    return network


def place_model(
    model: nn.Sequential,
    backend: Backend,
    *,
    mapping: PairMapping | None = None,
    backward: Backward | None = None,
    reading: Reading | None = None,
    cost: CostName = "cross_entropy",
    avoid: Tensor | None = None,
    beside: Sequence[str] = (),
) -> Network:
    """Places a model on a board and leaves the cells as they are.

    Args:
        model: see ``deploy``, as for the arguments that are not named here.
        backend: the board.
        mapping: weights and conductances.
        backward: how errors go back.
        reading: how products are measured.
        cost: the network's cost.
        avoid: cells that must not be used.
        beside: names of further matrices that each layer gets beside ``W``, of the same shape.

    Raises:
        PlacementError: the model does not fit on the chip.
        UsageError: the model holds something that has no place on a board.
    """
    linears, activations = _read_model(model)
    largest = max(float(m.weight.detach().abs().max()) for m in linears)
    mapping = mapping or usual_mapping(backend.spec, w_max=largest or 1.0)
    tilings = [tiling(m.out_features, m.in_features, backend.spec) for m in linears]
    names = [f"layer{i + 1}" for i in range(len(linears))]
    wanted = {(name, kind): tiles for kind in ("W", *beside) for name, tiles in zip(names, tilings, strict=True)}
    titles = [name if kind == "W" else f"{name} {kind}" for name, kind in wanted]
    blocks = place(list(zip(titles, wanted.values(), strict=True)), backend.spec, avoid)
    placed = dict(zip(wanted, blocks, strict=True))
    layers: list[CrossbarLayer] = []
    for name, linear, tiles in zip(names, linears, tilings, strict=True):
        dtype = linear.weight.dtype
        matrices = {kind: placed_pairs(tiles, placed[name, kind], mapping, dtype) for kind in ("W", *beside)}
        bias = cast(Tensor | None, linear.bias)
        bias = torch.zeros(linear.out_features, dtype=dtype) if bias is None else bias.detach()
        rule = backward or NoBackward()
        layers.append(
            CrossbarLayer(name, matrices, mapping=mapping, backend=backend, backward=rule, reading=reading, bias=bias)
        )
    return Network(layers, activations, cost)


def write_weights(network: Network, model: nn.Sequential, method: Method) -> None:
    """Programs the weights of a model into the cells of its network; the reports go to ``network.reports``.

    Raises:
        ProgramFailed: more cells missed their window than ``method`` allows.
    """
    linears, _ = _read_model(model)
    for layer, linear in zip(network.layers, linears, strict=True):
        network.reports[layer.name] = write_layer(layer, linear, method)


def set_biases(network: Network, model: nn.Sequential) -> None:
    """Takes the biases of a model over to the host side of its network."""
    linears, _ = _read_model(model)
    for layer, linear in zip(network.layers, linears, strict=True):
        set_bias(layer, linear)


@torch.no_grad()
def set_bias(layer: CrossbarLayer, linear: nn.Linear) -> None:
    """Takes the bias of one linear layer over to the host side of its layer; none counts as 0."""
    bias = cast(Tensor | None, linear.bias)
    layer.bias.copy_(torch.zeros_like(layer.bias) if bias is None else bias)


def write_layer(layer: CrossbarLayer, linear: nn.Linear, method: Method) -> ProgramReport:
    """Programs the weights of one linear layer; its bias stays on the host and is not touched.

    Raises:
        ProgramFailed: more cells missed their window than ``method`` allows.
    """
    matrix = layer.matrices["W"]
    plus, minus, clipped = layer.mapping.pair(linear.weight.detach())
    target = torch.where(matrix.polarity > 0, matrix.spread(plus), matrix.spread(minus))
    return program(layer.backend, layer.name, matrix.blocks, target, method, mask=matrix.polarity != 0, clipped=clipped)


def _read_model(model: nn.Sequential) -> tuple[list[nn.Linear], list[str]]:
    linears: list[nn.Linear] = []
    activations: list[str] = []
    for module in model:
        if isinstance(module, nn.Linear):
            linears.append(module)
            activations.append("identity")
        elif type(module) in _NAMES and linears:
            activations[-1] = _NAMES[type(module)]
        else:
            known = ", ".join(["Linear", *(kind.__name__ for kind in _NAMES)])
            raise UsageError(f"cannot put {type(module).__name__} on a board; use {known}")
    if not linears:
        raise UsageError("the model has no Linear layer")
    return linears, activations
