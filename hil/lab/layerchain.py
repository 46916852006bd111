"""The order of linear layers that come by name: by the numbers in their names, or else by their sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from torch import Tensor

from hil.lab.plain import printable
from hil.lab.tasks.arrays import unusable

Layer = tuple[Tensor, Tensor | None]
"""Weights [n_out, n_in] and bias [n_out], if there is one."""

_NAME = re.compile(r"(?s)(.*?)[._]?(weight|bias)")
_NUMBER = re.compile(r"[0-9]{1,9}")


def chained(path: Path, tensors: Mapping[str, Tensor]) -> list[Layer]:
    """Puts layers in order, so that the outputs of each are the inputs of the next.

    Args:
        path: where the tensors come from, for messages.
        tensors: weights and biases by name, such as ``0.weight``, ``0.bias``, ``layer2.weight``.

    Raises:
        ConfigError: names, shapes or the chain are not those of linear layers in one row.
    """
    layers = _layers(path, tensors)
    numbers = {name: tuple(int(n) for n in _NUMBER.findall(name)) for name in layers}
    if len(set(numbers.values())) == len(layers) and all(numbers.values()):
        order = sorted(layers, key=lambda name: numbers[name])
        _check_chain(path, order, layers)
    else:
        order = _by_sizes(path, layers)
    return [layers[name] for name in order]


def _layers(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Layer]:
    """Pairs weights with their biases and checks their shapes."""
    parts: dict[tuple[str, str], Tensor] = {}
    for name, value in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            problem = "expected names that end in weight or bias; other kinds of layers cannot be put on a chip"
            raise unusable(path, f"{printable(name)}: {problem}")
        if (match[1], match[2]) in parts:
            raise unusable(path, f"{printable(name)}: there are two tensors of this name")
        parts[match[1], match[2]] = value
    for (layer, part), value in parts.items():
        dims, shape = (2, "[n_out, n_in]") if part == "weight" else (1, "[n_out]")
        if value.dim() != dims or 0 in value.shape:
            problem = f"expected {shape}, got the shape {list(value.shape)}; only linear layers can be put on a chip"
            raise unusable(path, f"{printable(layer)} {part}: {problem}")
        weight = parts.get((layer, "weight"))
        if weight is None:
            raise unusable(path, f"{printable(layer)} bias: there is no weight that belongs to it")
        if part == "bias" and value.shape[0] != weight.shape[0]:
            seen = f"{weight.shape[0]} outputs of its weight, got {value.shape[0]}"
            raise unusable(path, f"{printable(layer)} bias: expected one number for each of the {seen}")
    return {layer: (value, parts.get((layer, "bias"))) for (layer, part), value in parts.items() if part == "weight"}


def _check_chain(path: Path, order: Sequence[str], layers: Mapping[str, Layer]) -> None:
    """Refuses layers whose sizes do not fit."""
    for before, after in pairwise(order):
        made, taken = layers[before][0].shape[0], layers[after][0].shape[1]
        if made != taken:
            names = printable(f"{before!r} makes {made} outputs and {after!r} takes {taken} inputs")
            raise unusable(path, f"{names}; weights are [n_out, n_in], in the order of the numbers in their names")


def _by_sizes(path: Path, layers: Mapping[str, Layer]) -> list[str]:
    """The one order in which sizes fit; names without numbers say nothing of it."""
    found: list[list[str]] = []
    _extend([], layers, found, [10_000])
    if len(found) == 1:
        return found[0]
    sizes = ", ".join(f"{name} {list(layers[name][0].shape)}" for name in list(layers)[:8])
    problem = "no order makes them a chain" if not found else "they can be chained in more than one order"
    raise unusable(path, f"{problem}: {printable(sizes, 300)}; number the names, as in layer1.weight, layer2.weight")


def _extend(begun: list[str], layers: Mapping[str, Layer], found: list[list[str]], left: list[int]) -> None:
    """Collects up to two whole chains that go on from a part of one; ``left`` bounds the search."""
    left[0] -= 1
    if len(begun) == len(layers):
        found.append(begun)
    for name in layers:
        if len(found) > 1 or left[0] < 0:
            return
        if name not in begun and (not begun or layers[begun[-1]][0].shape[0] == layers[name][0].shape[1]):
            _extend([*begun, name], layers, found, left)
