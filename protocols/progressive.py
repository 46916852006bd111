"""Progressive fine-tuning: program layer by layer, and let the layers that are still in software adapt.

After a layer is programmed its outputs are measured on the chip for the training samples; the later layers are then
tuned in software on these measured activations, and absorb the errors of the layers before them. It needs forward reads
only.

Reference: Wan et al. 2022, Nature 608, 504 (chip-in-the-loop progressive fine-tuning).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from hil.deployment import set_bias, write_layer
from hil.network import CostName, Network
from hil.program import Method
from hil.protocol import Batch
from protocols.baselines import Software


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressive:
    """How the layers are tuned.

    Args:
        tuning: the training of the later layers after each layer; its samples are those measured.
        size: samples of one batch of it.
        seed: seed of its batches.
    """

    tuning: Software
    size: int = 100
    seed: int = 0

    def deploy(self, network: Network, model: nn.Sequential, samples: Batch, method: Method, cost: CostName) -> None:
        """Programs a placed network, layer by layer.

        Args:
            network: placed; its layers are those of the model.
            model: trained in software; its later layers are tuned in place.
            samples: training samples.
            method: how cells are programmed.
            cost: the cost.
        """
        linears = [(place, m) for place, m in enumerate(model) if isinstance(m, nn.Linear)]
        x = samples.x
        for number, (layer, (_, linear)) in enumerate(zip(network.layers, linears, strict=True)):
            network.reports[layer.name] = write_layer(layer, linear, method)
            set_bias(layer, linear)
            if number + 1 < len(linears):
                with torch.no_grad():
                    x = network.activations[number](layer.measure(x) + layer.bias)
                rest = nn.Sequential(*list(model)[linears[number + 1][0] :])
                self._tune(rest, Batch(x, samples.y), cost, network.heads)

    def _tune(self, rest: nn.Sequential, samples: Batch, cost: CostName, heads: int) -> None:
        count = samples.x.shape[0]
        source = torch.Generator().manual_seed(self.seed)

        def batch(step: int) -> Batch:
            chosen = torch.randint(0, count, (min(self.size, count),), generator=source)
            return Batch(samples.x[chosen], samples.y[chosen])

        self.tuning.train(rest, batch, cost, heads)
