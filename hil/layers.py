"""Layers whose products are measured on a board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from hil.contract import Backend, Outcome, Sense
from hil.mapping import PairMapping
from hil.matrix import PlacedMatrix
from hil.usual import usual_sense


class Backward(Protocol):
    """How an error goes back through a layer; handed to ``deploy``."""

    def observe(self, layer: CrossbarLayer, x: Tensor, z: Tensor) -> None:
        """Sees every product that was measured: inputs [batch, n_in] and currents as outputs [batch, n_out]."""
        ...

    def backward(self, layer: CrossbarLayer, d: Tensor) -> Tensor | None:
        """The error at the inputs [batch, n_in] of an error at the outputs [batch, n_out]; None stops it here."""
        ...

    def snapshot(self, layer: CrossbarLayer) -> dict[str, Tensor]:
        """What the rule remembers of a layer, for a checkpoint."""
        ...

    def restore(self, layer: CrossbarLayer, saved: Mapping[str, Tensor]) -> None:
        """Puts back what a rule remembered of a layer.

        Raises:
            RuntimeError: it does not fit.
        """
        ...


class Reading(Protocol):
    """How products are measured; handed to ``deploy``. One object may serve all layers of a network."""

    def products(self, layer: CrossbarLayer, x: Tensor) -> Tensor:
        """Measures products [batch, n_out] of inputs [batch, n_in], without the bias."""
        ...

    def errors(self, layer: CrossbarLayer, d: Tensor) -> Tensor:
        """Measures products [batch, n_in] of errors [batch, n_out] with the transposed matrices."""
        ...

    def snapshot(self, layer: CrossbarLayer) -> dict[str, Tensor]:
        """What it remembers of a layer, for a checkpoint."""
        ...

    def restore(self, layer: CrossbarLayer, saved: Mapping[str, Tensor]) -> None:
        """Puts back what it remembered of a layer.

        Raises:
            RuntimeError: it does not fit.
        """
        ...

    def told(self) -> str:
        """What the operator should know at the end of a run; empty for nothing."""
        ...


class CrossbarLayer(nn.Module):
    """A linear layer: products on the board, bias on the host.

    Args:
        name: unique in its network.
        matrices: named matrices on the board: ``W`` holds the weights; update rules may ask for more beside it.
        mapping: weights and conductances.
        backend: what carries the reads out.
        backward: how errors go back.
        bias: [n_out], on the host.
        sense: the usual settings of a read; None for the board's.
        reading: how products are measured; None for inputs as they are, each read once.

    Attributes:
        visible: what a product is the sum of, by name; at first ``W`` alone, or all where none has that name. Update
            rules show more of their matrices, as they are or with other gains and signs.
        factors: inputs and errors of the last backward pass, (x, d); None when no error came here.
    """

    def __init__(
        self,
        name: str,
        matrices: Mapping[str, PlacedMatrix],
        *,
        mapping: PairMapping,
        backend: Backend,
        backward: Backward,
        bias: Tensor,
        sense: Sense | None = None,
        reading: Reading | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.matrices = dict(matrices)
        self.visible = {"W": self.matrices["W"]} if "W" in self.matrices else dict(self.matrices)
        self.mapping = mapping
        self.backend = backend
        self.rule = backward
        self.sense = sense or usual_sense(backend.spec)
        self.reading = reading or PlainReading()
        self.bias = nn.Parameter(bias.clone())
        self.factors: tuple[Tensor, Tensor] | None = None
        first = next(iter(self.visible.values()))
        self.n_out, self.n_in = first.n_out, first.n_in

    @property
    def step(self) -> float:
        """The change of weight that one usual pulse on one cell makes."""
        return self.mapping.step(self.backend.spec)

    @torch.no_grad()
    def measure(self, x: Tensor) -> Tensor:
        """Measures products [batch, n_out] of inputs [batch, n_in], without the bias."""
        z = self.reading.products(self, x)
        self.rule.observe(self, x, z)
        return z

    def forward(self, x: Tensor) -> Tensor:
        """Pre-activations [batch, n_out] with bias; differentiable through the layer's ``Backward``."""
        return cast(Tensor, _Product.apply(x, self.bias, self))  # pyright: ignore[reportUnknownMemberType]


class _Product(torch.autograd.Function):
    """Forward on the board, backward by the layer's own rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, layer: CrossbarLayer) -> Tensor:
        ctx.save_for_backward(x)
        ctx.set_materialize_grads(False)
        ctx.layer = layer
        return layer.measure(x) + bias

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        d, layer = grads[0], ctx.layer
        if d is None:  # a later layer stopped the error
            layer.factors = None
            return None, None, None
        (x,) = ctx.saved_tensors
        layer.factors = (x.detach(), d.detach())
        back = layer.rule.backward(layer, d) if ctx.needs_input_grad[0] else None
        return back, d.sum(0), None


def collected(matrices: Sequence[PlacedMatrix], outcomes: Sequence[Outcome]) -> Tensor:
    """The outputs [batch, n_out] of reads of several matrices, added up."""
    total: Tensor | None = None
    for matrix, outcome in zip(matrices, outcomes, strict=True):
        assert outcome.value is not None
        part = matrix.collect(outcome.value)
        total = part if total is None else total + part
    assert total is not None
    return total


class PlainReading:
    """Reads inputs as they are and errors scaled to the full voltage, by one list with one Read a matrix."""

    def products(self, layer: CrossbarLayer, x: Tensor) -> Tensor:
        """See ``Reading``."""
        matrices = list(layer.visible.values())
        outcomes = layer.backend.execute([matrix.read(x, layer.sense) for matrix in matrices])
        return collected(matrices, outcomes).to(x.dtype)

    def errors(self, layer: CrossbarLayer, d: Tensor) -> Tensor:
        """See ``Reading``."""
        matrices = list(layer.visible.values())
        asked = [matrix.read_transposed(d, layer.mapping.volts, layer.sense) for matrix in matrices]
        outcomes = layer.backend.execute([read for read, _ in asked])
        total = torch.zeros(d.shape[0], layer.n_in, dtype=d.dtype)
        for matrix, (_, scale), outcome in zip(matrices, asked, outcomes, strict=True):
            assert outcome.value is not None
            total += matrix.collect_transposed(outcome.value, scale).to(d.dtype)
        return total

    def snapshot(self, layer: CrossbarLayer) -> dict[str, Tensor]:
        """See ``Reading``."""
        return {}

    def restore(self, layer: CrossbarLayer, saved: Mapping[str, Tensor]) -> None:
        """See ``Reading``."""
        if saved:
            raise RuntimeError(f"a plain reading has no memory and cannot take back {', '.join(saved)}")

    def told(self) -> str:
        """See ``Reading``."""
        return ""


class _Forgetful:
    """What backward rules share that remember nothing and look at no product."""

    def observe(self, layer: CrossbarLayer, x: Tensor, z: Tensor) -> None:
        """See ``Backward``."""

    def snapshot(self, layer: CrossbarLayer) -> dict[str, Tensor]:
        """See ``Backward``."""
        return {}

    def restore(self, layer: CrossbarLayer, saved: Mapping[str, Tensor]) -> None:
        """See ``Backward``."""
        if saved:
            raise RuntimeError(f"a backward rule without memory cannot take back {', '.join(saved)}")


class NoBackward(_Forgetful):
    """Stops errors: for training that needs no backward pass, and for inference."""

    def backward(self, layer: CrossbarLayer, d: Tensor) -> Tensor | None:
        """See ``Backward``."""
        return None


class ChipBackward(_Forgetful):
    """Sends errors back through the chip, by transposed reads."""

    def backward(self, layer: CrossbarLayer, d: Tensor) -> Tensor | None:
        """See ``Backward``."""
        return layer.reading.errors(layer, d)
