"""A network on a board, and the step that puts one there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hil.contract import Backend
from hil.errors import UsageError
from hil.layers import CrossbarLayer
from hil.program import ProgramReport

Port = Tensor | Callable[[Tensor], Tensor]
"""What is added to a layer's measured products: a tensor that broadcasts to [batch, n_out], or a function of the
layer's inputs [batch, n_in] that gives one."""

CostName = Literal["cross_entropy", "mse"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "identity": lambda z: z,
}


@dataclass(frozen=True, slots=True)
class Fan:
    """A baseline and its perturbed branches, measured together.

    Args:
        outs: [1 + branches, batch, n_out]; row 0 is the baseline.
        inputs: baseline inputs of each layer, [batch, n_in].
    """

    outs: Tensor
    inputs: Mapping[str, Tensor]


class Network(nn.Module):
    """Layers on a board, activations and cost on the host.

    Args:
        layers: in order.
        activations: name of the activation after each layer.
        cost: ``cross_entropy`` on class numbers, or ``mse`` on targets.
    """

    def __init__(self, layers: Sequence[CrossbarLayer], activations: Sequence[str], cost: CostName) -> None:
        super().__init__()
        self._layers = list(layers)
        for layer in layers:
            self.add_module(layer.name, layer)
        self.activations = list(activations)
        self.cost: CostName = cost
        self.reports: dict[str, ProgramReport] = {}
        self._inputs: dict[str, Tensor] = {}

    @property
    def layers(self) -> Sequence[CrossbarLayer]:
        """The layers in order."""
        return self._layers

    @property
    def backend(self) -> Backend:
        """What carries the network's operations out."""
        return self._layers[0].backend

    def forward(self, x: Tensor, ports: Mapping[str, Port] | None = None, start: str | None = None) -> Tensor:
        """Outputs [batch, n_out] of inputs [batch, n_in].

        Args:
            x: inputs of the first layer, or of layer ``start``.
            ports: what to add to the measured products of layers.
            start: layer to begin with.
        """
        names = [layer.name for layer in self._layers]
        first = 0 if start is None else names.index(start)
        self._inputs = {}
        for layer, activation in list(zip(self._layers, self.activations, strict=True))[first:]:
            self._inputs[layer.name] = x
            z = layer(x)
            if ports is not None and layer.name in ports:
                z = z + _port(ports[layer.name], x)
            x = ACTIVATIONS[activation](z)
        return x

    def inputs(self, layer: str) -> Tensor:
        """The inputs of a layer in the last forward pass, [batch, n_in]."""
        return self._inputs[layer]

    @torch.no_grad()
    def fan(self, x: Tensor, ports: Sequence[tuple[str, Port]]) -> Fan:
        """Measures a baseline and one branch for each port, one Read a layer.

        A branch begins at its layer: the port is added on the host to the baseline's product, so perturbing the last
        layer needs no read of its own.

        Args:
            x: [batch, n_in].
            ports: (layer, port) of each branch, in order of the layers.
        """
        order = [layer.name for layer in self._layers]
        if sorted(ports, key=lambda pair: order.index(pair[0])) != list(ports):
            raise UsageError("the ports of a fan must be in the order of the network's layers")
        batch, rest = x.shape[0], list(ports)
        inputs: dict[str, Tensor] = {}
        for layer, activation in zip(self._layers, self.activations, strict=True):
            inputs[layer.name] = x[:batch]
            z = layer.measure(x) + layer.bias
            begun = [z]
            while rest and rest[0][0] == layer.name:
                begun.append(z[:batch] + _port(rest.pop(0)[1], x[:batch]))
            x = ACTIVATIONS[activation](torch.cat(begun) if len(begun) > 1 else z)
        return Fan(x.view(1 + len(ports), batch, -1), inputs)

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        """The cost of each sample, float64 [..., batch], of outputs [..., batch, n_out].

        Args:
            out: outputs; logits for ``cross_entropy``.
            y: class numbers [batch], or targets [batch, n_out] for ``mse`` (sum of squares over the outputs divided
                by their number).
        """
        out = out.to(torch.float64)
        if self.cost == "mse":
            return (out - y.to(torch.float64)).square().mean(-1)
        classes = y.expand(out.shape[:-1])
        flat = F.cross_entropy(out.reshape(-1, out.shape[-1]), classes.reshape(-1), reduction="none")
        return flat.view(classes.shape)

    def correct(self, out: Tensor, y: Tensor) -> Tensor:
        """Which samples are right, bool [batch]; see ``is_correct``."""
        return is_correct(out, y, self.cost)


def is_correct(out: Tensor, y: Tensor, cost: CostName) -> Tensor:
    """Which samples are right, bool [batch]: the class, or for ``mse`` every output on its target's side of 0.5."""
    if cost == "mse":
        return ((out > 0.5) == (y > 0.5)).all(-1)
    return out.argmax(-1) == y


def _port(port: Port, x: Tensor) -> Tensor:
    return port if isinstance(port, Tensor) else port(x)
