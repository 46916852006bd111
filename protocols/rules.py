"""Update rules: from wanted changes of weights to operations on the chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hil.contract import Op, Pulse
from hil.layers import CrossbarLayer
from hil.network import Network
from hil.program import usual_pulse
from protocols.core.draws import generator
from protocols.core.rounding import split_over_pair
from protocols.parts import Change, Key


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPulses:
    """Sends the nearest whole number of usual pulses, without verification; one list for all layers.

    The pulses of a weight are shared between the two cells of its pair as evenly as possible.

    Args:
        most: most pulses a weight gets in one update; more are an error of the learning rate and are reported.
    """

    kind: Literal["signed_pulses"] = "signed_pulses"
    most: int = 31

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"most must be at least 1, got {self.most}")

    def write(self, network: Network, change: Change, key: Key) -> Mapping[str, float]:
        """See ``Rule``. Numbers: ``pulsed_cells``, ``held_weights`` (weights that wanted more than ``most``)."""
        up, down = usual_pulse(network.backend, up=True), usual_pulse(network.backend, up=False)
        ops: list[Op] = []
        cells = held = 0
        for layer in network.layers:
            wanted = (change[layer.name] / layer.step).round_()
            pulses = wanted.clamp(-self.most, self.most)
            held += int((pulses != wanted).sum())
            counts = cell_counts(layer, pulses, key)
            touched = int(counts.count_nonzero())
            cells += touched
            if touched:
                ops.append(Pulse(layer.matrices["W"].blocks, counts, up, down))
        if ops:
            network.backend.execute(ops)
        return {"pulsed_cells": float(cells), "held_weights": float(held)}


def cell_counts(layer: CrossbarLayer, pulses: Tensor, key: Key) -> Tensor:
    """Signed pulse counts of the cells of a layer, int32 [T, R, C], from whole pulses of its weights."""
    matrix = layer.matrices["W"]
    source = generator(key.seed, f"split/{layer.name}", key.step)
    bits = torch.randint(0, 2, pulses.shape, generator=source).to(pulses.dtype)
    plus, minus = split_over_pair(pulses, bits)
    polarity = matrix.polarity
    counts = torch.where(polarity > 0, matrix.spread(plus), matrix.spread(minus)) * polarity
    return counts.to(torch.int32)


RuleConfig = SignedPulses
"""The update rules a run file can name."""
