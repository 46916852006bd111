"""Update rules: from wanted changes of weights to operations on the chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hil.contract import Op, Pulse
from hil.layers import CrossbarLayer
from hil.network import Network
from hil.program import ByPulses, ByRamps, CellState, program
from hil.twin import read_siemens
from hil.usual import usual_pulse
from protocols.core.draws import generator
from protocols.core.rounding import split_over_pair
from protocols.parts import Change, Forgetful, Key, Tensors, dense


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPulses(Forgetful):
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

    def write(self, network: Network, change: Change, memory: Tensors, key: Key) -> Mapping[str, float]:
        """See ``Rule``. Numbers: ``pulsed_cells``, ``held_weights`` (weights that wanted more than ``most``)."""
        up, down = usual_pulse(network.backend, up=True), usual_pulse(network.backend, up=False)
        ops: list[Op] = []
        cells = held = 0
        changes = dense(change)
        for layer in network.layers:
            wanted = (changes[layer.name] / layer.step).round_()
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SignThreshold(Forgetful):
    """One pulse in the direction of the wanted change where it is above a threshold, none elsewhere (Manhattan rule).

    Args:
        above: smallest wanted change that gets a pulse, in units of weight.

    Reference: Zhang et al. 2023, Science 381, 1205 (sign-and-threshold update without write-verify).
    """

    kind: Literal["sign_threshold"] = "sign_threshold"
    above: float

    def __post_init__(self) -> None:
        if not self.above >= 0:
            raise ValueError(f"above must be at least 0, got {self.above}")

    def write(self, network: Network, change: Change, memory: Tensors, key: Key) -> Mapping[str, float]:
        """See ``Rule``. Numbers: ``pulsed_cells``."""
        changes = dense(change)
        single: Change = {
            layer.name: changes[layer.name].sign() * (changes[layer.name].abs() > self.above) * layer.step
            for layer in network.layers
        }
        return {"pulsed_cells": SignedPulses(most=1).write(network, single, memory, key)["pulsed_cells"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteVerify(Forgetful):
    """Reads the weights that are to change, and programs them to the new value by write-verify.

    Cells that miss are reported and do not end the run, whatever ``method.allowed`` says: an update of a few weights
    may well fall on broken cells only, and training goes around them.

    Args:
        above: changes up to this are left alone, in units of weight; put a ``threshold`` before it to collect them.
        method: how cells are programmed.
    """

    kind: Literal["write_verify"] = "write_verify"
    above: float = 0.0
    method: ByPulses | ByRamps

    def __post_init__(self) -> None:
        if not self.above >= 0:
            raise ValueError(f"above must be at least 0, got {self.above}")

    def write(self, network: Network, change: Change, memory: Tensors, key: Key) -> Mapping[str, float]:
        """See ``Rule``. Numbers: ``pulsed_cells``, ``missed_cells``, ``held_cells`` (kept in the window)."""
        pulsed = missed = held = 0
        changes = dense(change)
        method = replace(self.method, allowed=1.0)
        for layer in network.layers:
            matrix, mapping = layer.matrices["W"], layer.mapping
            wanted = changes[layer.name]
            chosen = (matrix.spread((wanted.abs() > self.above).to(wanted.dtype)) > 0) & updated(layer)
            if not bool(chosen.any()):
                continue
            half = matrix.spread(wanted) * matrix.polarity * (mapping.scale / (1 if mapping.fixed else 2))
            target = read_siemens(matrix, layer.backend, method.averages) + half
            bounded = target.clamp(mapping.siemens_low, mapping.siemens_high)
            held += int(((bounded != target) & chosen).sum())
            report = program(layer.backend, layer.name, matrix.blocks, bounded, method, mask=chosen)
            pulsed += int((report.pulses > 0).sum())
            missed += int(chosen.sum()) - report.count(CellState.HIT)
        return {"pulsed_cells": float(pulsed), "missed_cells": float(missed), "held_cells": float(held)}


def updated(layer: CrossbarLayer) -> Tensor:
    """The cells that updates may pulse, bool [T, R, C]: of a fixed reference the plus cells alone."""
    polarity = layer.matrices["W"].polarity
    return polarity > 0 if layer.mapping.fixed else polarity != 0


def cell_counts(layer: CrossbarLayer, pulses: Tensor, key: Key) -> Tensor:
    """Signed pulse counts of the cells of a layer, int32 [T, R, C], from whole pulses of its weights."""
    matrix = layer.matrices["W"]
    if layer.mapping.fixed:
        return (matrix.spread(pulses) * (matrix.polarity > 0)).to(torch.int32)
    source = generator(key.seed, f"split/{layer.name}", key.step)
    bits = torch.randint(0, 2, pulses.shape, generator=source).to(pulses.dtype)
    plus, minus = split_over_pair(pulses, bits)
    polarity = matrix.polarity
    counts = torch.where(polarity > 0, matrix.spread(plus), matrix.spread(minus)) * polarity
    return counts.to(torch.int32)


RuleConfig = SignedPulses | SignThreshold | WriteVerify
"""The update rules a run file can name."""
