"""Weight perturbation by real pulses: the cells themselves are moved, measured and moved back.

Every step writes to every cell twice. On memristors that is wear, so it needs an explicit budget. Where cells do not
return exactly, what is left of a perturbation stays on the chip: noise, and with soft bounds a pull towards the
symmetric point in every step. That is the reason to prefer the digital shadow.

Reference: McCaughan et al. 2023, APL Machine Learning 1, 026118.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from hil.contract import Op, Pulse
from hil.errors import LimitExceeded, Unsupported
from hil.network import Network, Port
from hil.usual import usual_pulse
from protocols.core.draws import generator, signs
from protocols.core.mgd import normaliser
from protocols.parts import Batch, Estimate, Key, LayerGradient, Tensors
from protocols.rules import cell_counts


@dataclass(frozen=True, slots=True, kw_only=True)
class PulsedPerturbation:
    """Perturbs all weights at once by whole pulses in random directions, and the biases on the host by as much.

    A step that is aborted between its two lists of pulses leaves the cells perturbed.

    Args:
        pulses: pulses that move each weight; shared between the two cells of its pair.
        budget: most perturbation pulses that a cell may get in the run; the run ends when it is used up.
    """

    kind: Literal["pulsed_perturbation"] = "pulsed_perturbation"
    pulses: int = 2
    budget: int

    def __post_init__(self) -> None:
        if self.pulses < 1 or self.budget < 1:
            raise ValueError(f"pulses and budget must be at least 1, got {self.pulses} and {self.budget}")

    def remembered(self, network: Network, batch: int) -> Mapping[str, tuple[int, ...]]:
        """See ``Source``."""
        return {}

    def estimate(self, network: Network, batch: Batch, key: Key, slots: int, memory: Tensors) -> Estimate:
        """See ``Source``.

        Raises:
            LimitExceeded: the write budget is used up; nothing was perturbed in this step.
            Unsupported: the board cannot pulse cells.
        """
        spec = network.backend.spec
        if "Pulse" not in spec.abilities.ops:
            raise Unsupported("perturbation by pulses", spec.identity.name, "it does not pulse cells")
        wanted = (key.step + 1) * 2 * -(-self.pulses // 2)  # a cell gets half of its weight's pulses, there and back
        if wanted > self.budget:
            raise LimitExceeded("perturbation pulses per cell", wanted, self.budget, "", "every cell", "source.budget")
        codes, biases = dict[str, torch.Tensor](), dict[str, Port]()
        for layer in network.layers:
            source = generator(key.seed, f"pulsed/{layer.name}", key.slot)
            codes[layer.name] = signs((layer.n_out, layer.n_in + 1), source, batch.x.dtype)
            biases[layer.name] = self.pulses * layer.step * codes[layer.name][:, -1]
        with torch.no_grad():
            before = network(batch.x)
            self._move(network, codes, key, 1)
            after = network(batch.x, biases)
            self._move(network, codes, key, -1)
        costs = network.loss(before, batch.y)
        change = torch.nan_to_num(network.loss(after, batch.y) - costs, nan=0.0, posinf=0.0, neginf=0.0).mean()
        count = sum(code.numel() for code in codes.values())
        layers: dict[str, LayerGradient] = {}
        for layer in network.layers:
            a = self.pulses * layer.step
            found = (change * codes[layer.name].double() / normaliser(a, count, slots)).to(batch.x.dtype)
            layers[layer.name] = LayerGradient(found[:, -1], found[:, :-1])
        correct = float(network.correct(before, batch.y).double().mean())
        return Estimate(layers, float(costs.mean()), correct)

    def _move(self, network: Network, codes: Tensors, key: Key, direction: int) -> None:
        """Moves all weights along their codes, or back, in one list."""
        up, down = usual_pulse(network.backend, up=True), usual_pulse(network.backend, up=False)
        ops: list[Op] = []
        for layer in network.layers:
            # the same split both ways, so that every cell gets its own pulses back
            counts = direction * cell_counts(layer, self.pulses * codes[layer.name][:, :-1], key)
            ops.append(Pulse(layer.matrices["W"].blocks, counts, up, down))
        network.backend.execute(ops)
