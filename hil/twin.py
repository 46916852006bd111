"""A digital twin of the matrices on a chip, and how it notices that it is out of date.

The twin is re-read on a schedule. Between re-reads every measured product tells how far it is from the chip: the
distance is the rms of (measured - predicted) over the rms of the measured products, so it contains the read noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hil.contract import Backend, ReadCells
from hil.layers import CrossbarLayer
from hil.matrix import PlacedMatrix
from hil.usual import usual_sense


@dataclass(slots=True)
class _Copy:
    """The twin of one layer."""

    weights: Tensor
    age: int = 0
    residual: float = 0.0
    power: float = 0.0

    @property
    def distance(self) -> float:
        return (self.residual / self.power) ** 0.5 if self.power > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Reread:
    """One re-read of a twin: which layer, after how many products, and how far it had come from the chip."""

    layer: str
    age: int
    distance: float


@dataclass(slots=True)
class MatrixTwin:
    """The matrices of all layers as last read.

    Args:
        bound: distance above which the twin of a layer is re-read before its next use.
        every: products after which it is re-read in any case.
        averages: conversions averaged in a re-read.
        memory: weight of the past in the running distance.
    """

    bound: float = 0.2
    every: int = 1000
    averages: int = 4
    memory: float = 0.7
    rereads: list[Reread] = field(default_factory=list[Reread])
    _copies: dict[str, _Copy] = field(default_factory=dict[str, _Copy])

    def distance(self, layer: CrossbarLayer) -> float:
        """The running distance of a layer's twin from the chip, relative."""
        copy = self._copies.get(layer.name)
        return float("inf") if copy is None else copy.distance

    def weights(self, layer: CrossbarLayer) -> Tensor:
        """The twin's matrix [n_out, n_in], re-read first when it is out of date."""
        copy = self._copies.get(layer.name)
        if copy is None or copy.age >= self.every or copy.distance > self.bound:
            copy = self.reread(layer)
        return copy.weights

    def reread(self, layer: CrossbarLayer) -> _Copy:
        """Reads the cells of a layer and starts its twin anew."""
        old = self._copies.get(layer.name)
        if old is not None:
            self.rereads.append(Reread(layer.name, old.age, old.distance))
        parts = [matrix.weights(self.siemens(matrix, layer.backend)) for matrix in layer.visible.values()]
        copy = self._copies[layer.name] = _Copy(torch.stack(parts).sum(0))
        return copy

    def siemens(self, matrix: PlacedMatrix, backend: Backend) -> Tensor:
        """What each cell of a matrix contributes, [T, R, C] S: over ideal lines its conductance, read cell by cell."""
        return read_siemens(matrix, backend, self.averages)

    def snapshot(self, layer: CrossbarLayer) -> dict[str, Tensor]:
        """The twin of a layer as tensors; nothing before its first reading."""
        copy = self._copies.get(layer.name)
        if copy is None:
            return {}
        numbers = torch.tensor([copy.age, copy.residual, copy.power], dtype=torch.float64)
        return {"weights": copy.weights.clone(), "numbers": numbers}

    def restore(self, layer: CrossbarLayer, saved: Mapping[str, Tensor]) -> None:
        """Puts a snapshot back.

        Raises:
            RuntimeError: it does not fit the layer.
        """
        self._copies.pop(layer.name, None)
        if not saved:
            return
        shapes = {name: tuple(tensor.shape) for name, tensor in saved.items()}
        if shapes != {"weights": (layer.n_out, layer.n_in), "numbers": (3,)}:
            raise RuntimeError(f"the twin of {layer.name} does not fit: it holds {shapes}")
        weights, numbers = saved["weights"], saved["numbers"]
        if not (weights.is_floating_point() and numbers.dtype is torch.float64 and bool((numbers >= 0).all())):
            raise RuntimeError(f"the twin of {layer.name} does not fit: its numbers make no sense")
        age, residual, power = (float(n) for n in numbers)
        self._copies[layer.name] = _Copy(weights.clone(), int(age), residual, power)

    def observe(self, layer: CrossbarLayer, x: Tensor, z: Tensor) -> None:
        """Compares a measured product with the twin's."""
        copy = self._copies.get(layer.name)
        if copy is None:
            return
        miss = z - (x.to(copy.weights.dtype) @ copy.weights.T).to(z.dtype)
        copy.age += 1
        copy.residual = self.memory * copy.residual + float(miss.square().mean())
        copy.power = self.memory * copy.power + float(z.square().mean())


class TwinBackward:
    """Sends errors back through a twin.

    Args:
        twin: ``MatrixTwin`` for ideal lines, ``WireTwin`` for lines with resistance.
    """

    def __init__(self, twin: MatrixTwin) -> None:
        self.twin = twin

    def observe(self, layer: CrossbarLayer, x: Tensor, z: Tensor) -> None:
        """See ``Backward``."""
        self.twin.observe(layer, x, z)

    def backward(self, layer: CrossbarLayer, d: Tensor) -> Tensor | None:
        """See ``Backward``."""
        return d @ self.twin.weights(layer).to(d.dtype)

    def snapshot(self, layer: CrossbarLayer) -> dict[str, Tensor]:
        """See ``Backward``."""
        return self.twin.snapshot(layer)

    def restore(self, layer: CrossbarLayer, saved: Mapping[str, Tensor]) -> None:
        """See ``Backward``."""
        self.twin.restore(layer, saved)


def read_siemens(matrix: PlacedMatrix, backend: Backend, averages: int) -> Tensor:
    """The conductances of a matrix, read cell by cell: [T, R, C] S."""
    volts = backend.spec.limits.read_cell_volts
    (outcome,) = backend.execute([ReadCells(matrix.blocks, usual_sense(backend.spec, volts, averages), matrix.drive)])
    assert outcome.value is not None
    return outcome.value.abs() / volts


def read_weights(matrix: PlacedMatrix, backend: Backend, averages: int = 4) -> Tensor:
    """A matrix [n_out, n_in] as its cells make it now."""
    return matrix.weights(read_siemens(matrix, backend, averages))
