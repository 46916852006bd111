"""A network on a board, and the step that puts one there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hil.activations import ACTIVATIONS, Activation
from hil.contract import Backend
from hil.layers import Backward, CrossbarLayer, Reading
from hil.program import ProgramReport

Port = Tensor | Callable[[Tensor], Tensor]
"""What is added to a layer's measured products: a tensor that broadcasts to [batch, n_out], or a function of the
layer's inputs [batch, n_in] that gives one."""

CostName = Literal["cross_entropy", "mse"]
_KEEPERS = ("backward", "reading")
"""Names of what remembers something of a layer, in snapshots."""


@dataclass(frozen=True, slots=True)
class Fan:
    """A baseline and its perturbed branches, measured together.

    Args:
        outs: [1 + branches, batch, n_out], or [branches, batch, n_out] without a baseline; the baseline is row 0.
        inputs: baseline inputs of each layer, [batch, n_in], as far as a baseline was measured.
    """

    outs: Tensor
    inputs: Mapping[str, Tensor]


class Network(nn.Module):
    """Layers on a board, activations and cost on the host.

    Args:
        layers: in order.
        activations: the activation after each layer, or its name.
        cost: ``cross_entropy`` on class numbers, or ``mse`` on targets.

    Attributes:
        heads: tasks that share the network; a sample is judged by the outputs of its own task, see ``own_head``.
    """

    def __init__(
        self, layers: Sequence[CrossbarLayer], activations: Sequence[str | Activation], cost: CostName
    ) -> None:
        super().__init__()
        self._layers = list(layers)
        for layer in layers:
            self.add_module(layer.name, layer)
        self.activations = [ACTIVATIONS[a] if isinstance(a, str) else a for a in activations]
        self.cost: CostName = cost
        self.heads = 1
        self.reports: dict[str, ProgramReport] = {}
        self._inputs: dict[str, Tensor] = {}

    @property
    def layers(self) -> Sequence[CrossbarLayer]:
        """The layers in order."""
        return self._layers

    def snapshot(self) -> dict[str, Tensor]:
        """All that a checkpoint keeps of it: parameters on the host, and the memory of backward rules and readings."""
        memory: dict[str, Tensor] = {}
        for prefix, layer, keeper in self._keepers():
            memory |= {f"{prefix}{name}": t for name, t in keeper.snapshot(layer).items()}
        return {**self.state_dict(), **memory}

    def parameters_of(self, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A snapshot without the memory of backward rules and readings, which come and go."""
        return {name: t for name, t in saved.items() if not any(f".{kind}." in name for kind in _KEEPERS)}

    def _keepers(self) -> list[tuple[str, CrossbarLayer, Backward | Reading]]:
        """Who remembers something of a layer, with the beginning of its names in a snapshot."""
        return [
            (f"{layer.name}.{kind}.", layer, keeper)
            for layer in self._layers
            for kind, keeper in zip(_KEEPERS, (layer.rule, layer.reading), strict=True)
        ]

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Puts a snapshot back.

        Raises:
            RuntimeError: a parameter is missing or does not fit.
        """
        own = self.state_dict().keys()
        self.load_state_dict({name: t for name, t in saved.items() if name in own})
        rest = {name: t for name, t in saved.items() if name not in own}
        for prefix, layer, keeper in self._keepers():
            mine = {name.removeprefix(prefix): rest.pop(name) for name in list(rest) if name.startswith(prefix)}
            keeper.restore(layer, mine)
        if rest:
            raise RuntimeError(f"unknown tensors: {', '.join(sorted(rest))}")

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
            x = activation(z)
        return x

    def inputs(self, layer: str) -> Tensor:
        """The inputs of a layer in the last forward pass, [batch, n_in]."""
        return self._inputs[layer]

    @torch.no_grad()
    def fan(self, x: Tensor, branches: Sequence[Mapping[str, Port]], *, baseline: bool = True) -> Fan:
        """Measures a baseline and its branches, one Read a layer.

        A branch begins at the first of its layers: its port is added on the host to the baseline's product, so
        perturbing only the last layer needs no read of its own.

        Args:
            x: [batch, n_in].
            branches: the ports of each branch, by layer.
            baseline: measure the baseline to the end; else only as far as branches begin from it.
        """
        order = [layer.name for layer in self._layers]
        first = [min(order.index(name) for name in branch) for branch in branches]
        batch, inputs = x.shape[0], dict[str, Tensor]()
        running: list[tuple[int | None, Tensor]] = [(None, x)]
        for number, (layer, activation) in enumerate(zip(self._layers, self.activations, strict=True)):
            whole: Tensor = layer.measure(torch.cat([part for _, part in running])) + layer.bias
            begun: list[tuple[int | None, Tensor]] = []
            for (branch, part), z in zip(running, whole.view(-1, batch, layer.n_out), strict=True):
                if branch is None:
                    inputs[layer.name] = part
                    if baseline or number < max(first, default=-1):
                        begun.append((None, z))
                    begun += [(i, z + _port(branches[i][layer.name], part)) for i in _begin(first, number)]
                elif layer.name in branches[branch]:
                    begun.append((branch, z + _port(branches[branch][layer.name], part)))
                else:
                    begun.append((branch, z))
            running = [(branch, activation(z)) for branch, z in begun]
        running.sort(key=lambda pair: -1 if pair[0] is None else pair[0])
        return Fan(torch.stack([part for _, part in running]), inputs)

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        """The cost of each sample, float64 [..., batch], of outputs [..., batch, n_out].

        Args:
            out: outputs; logits for ``cross_entropy``.
            y: class numbers [batch], or targets [batch, n_out] for ``mse`` (sum of squares over the outputs divided
                by their number).
        """
        out, y = own_head(out.to(torch.float64), y, self.heads)
        if self.cost == "mse":
            return (out - y.to(torch.float64)).square().mean(-1)
        classes = y.expand(out.shape[:-1])
        flat = F.cross_entropy(out.reshape(-1, out.shape[-1]), classes.reshape(-1), reduction="none")
        return flat.view(classes.shape)

    def correct(self, out: Tensor, y: Tensor) -> Tensor:
        """Which samples are right, bool [batch]; see ``is_correct``."""
        return is_correct(*own_head(out, y, self.heads), self.cost)


def _begin(first: Sequence[int], number: int) -> list[int]:
    """The branches that begin at a layer."""
    return [branch for branch, layer in enumerate(first) if layer == number]


def own_head(out: Tensor, y: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """The outputs of each sample's own task, and its class within the task.

    Args:
        out: outputs [..., batch, heads x classes]; each head's outputs are neighbours.
        y: class numbers [batch] over all heads; the head of a sample is ``y // classes``.
        heads: tasks with outputs of their own; with 1 both come back as they are.

    Returns:
        Outputs [..., batch, classes] and class numbers [batch].
    """
    if heads == 1:
        return out, y
    classes = out.shape[-1] // heads
    apart = out.reshape(*out.shape[:-1], heads, classes)
    samples = torch.arange(y.shape[0], device=y.device)
    return apart[..., samples, y // classes, :], y % classes


def is_correct(out: Tensor, y: Tensor, cost: CostName) -> Tensor:
    """Which samples are right, bool [batch]: the largest output is that of the class.

    A single output is right on its target's side of 0.5; targets of several outputs are one-hot.
    """
    if cost == "mse" and out.shape[-1] == 1:
        return ((out > 0.5) == (y > 0.5)).all(-1)
    return out.argmax(-1) == (y.argmax(-1) if cost == "mse" else y)


def _port(port: Port, x: Tensor) -> Tensor:
    return port if isinstance(port, Tensor) else port(x)
