"""Going on with a chip: what is on it now, against what was on it at the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from hil.network import Network
from hil.twin import read_siemens

AVERAGES = 4


def read_network(network: Network) -> dict[str, Tensor]:
    """Conductances of all matrices of a network, S, by ``layer/matrix``; what a chip's checkpoint holds."""
    return {
        f"{layer.name}/{name}": read_siemens(matrix, layer.backend, AVERAGES)
        for layer in network.layers
        for name, matrix in layer.matrices.items()
    }


def distance(saved: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> dict[str, float]:
    """Rms change of each matrix's cells in S; NaN where the checkpoint does not have it."""
    found: dict[str, float] = {}
    for name, value in now.items():
        old = saved.get(name)
        fits = old is not None and old.shape == value.shape
        found[name] = float((value - old).square().mean().sqrt()) if old is not None and fits else float("nan")
    return found


