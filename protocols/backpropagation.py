"""Chip-in-the-loop backpropagation: forward on the chip, errors back through a twin or through the chip itself.

With a twin it is physics-aware training: the loss and the activations are those of the hardware, only the derivatives
come from the twin, so training goes around defects that the twin does not know.

Reference: Wright et al. 2022, Nature 601 (physics-aware training).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from hil.errors import UsageError
from hil.network import Network
from protocols.parts import Batch, Estimate, Factors, Key, LayerGradient, Tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Backpropagation:
    """The gradient of the mean cost by backpropagation; ``network.backward`` in the run file says through what."""

    kind: Literal["backpropagation"] = "backpropagation"

    def remembered(self, network: Network, batch: int) -> Mapping[str, tuple[int, ...]]:
        """See ``Source``."""
        return {}

    def estimate(self, network: Network, batch: Batch, key: Key, slots: int, memory: Tensors) -> Estimate:
        """See ``Source``.

        Raises:
            UsageError: errors do not come back to the first layers.
        """
        for layer in network.layers:
            layer.factors = None
        with torch.enable_grad():
            out = network(batch.x)
            losses = network.loss(out, batch.y)
            torch.autograd.backward(losses.mean())
        network.zero_grad(set_to_none=True)
        layers: dict[str, LayerGradient] = {}
        for layer in network.layers:
            if layer.factors is None:
                raise UsageError(
                    f"no error comes back to {layer.name}; backpropagation needs `backward: {{kind: twin}}` or "
                    "`backward: {kind: chip}` in the run file's network"
                )
            x = layer.factors[0]
            d = torch.nan_to_num(layer.factors[1], nan=0.0, posinf=0.0, neginf=0.0)  # not finite is no information
            layers[layer.name] = LayerGradient(d.sum(0), factors=Factors(x, d))
        correct = float(network.correct(out.detach(), batch.y).double().mean())
        return Estimate(layers, float(losses.detach().mean()), correct)
