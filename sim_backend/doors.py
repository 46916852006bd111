"""The three places where physics plugs into the simulated board.

A ``Law`` says how a pulse changes a cell, a ``Conduction`` stands between cells and periphery (line resistance), and an
``Aging`` changes cells with lab time (drift, relaxation). The board knows only these protocols.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from hil.contract import Shape, Side


class Law(Protocol):
    """How pulses change cells; conductances in S, cells in any shape."""

    def build(self, shape: tuple[int, int, int], generator: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
        """Draws the parameters of every cell, [K, R, C] each; device-to-device variation happens here."""
        ...

    def initial(self, params: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """The conductances of a fresh, formed chip, S."""
        ...

    def bounds(self, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The lowest and highest conductance of each cell, S."""
        ...

    def strength(self, shape: Shape, up: bool) -> float | Tensor:
        """How many usual pulses one pulse of this shape is worth; 0 below the switching threshold."""
        ...

    def ceiling(self, amps: float | Tensor) -> float | Tensor:
        """The highest conductance a compliance current allows at the end of a pulse that raises it, S."""
        ...

    def pulse(
        self,
        g: Tensor,
        params: Mapping[str, Tensor],
        dose: Tensor,
        ceiling: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """Applies ``dose`` usual pulses (signed, real-valued) to each cell and gives the new conductances, S."""
        ...


class Conduction(Protocol):
    """What lies between cells and amplifiers."""

    def matrix(self, g: Tensor, drive: Side) -> Tensor:
        """The transfer matrix K [T, driven, sensed] of cells ``g`` [T, R, C] S: currents = volts @ K."""
        ...


class Aging(Protocol):
    """What lab time does to cells."""

    def advance(self, state: Mapping[str, Tensor], seconds: float, generator: torch.Generator) -> bool:
        """Ages the chip's state tensors in place; True when a conductance has changed."""
        ...


class NoWires:
    """Lines without resistance: K is the matrix of conductances."""

    def matrix(self, g: Tensor, drive: Side) -> Tensor:
        """See ``Conduction``."""
        return g if drive is Side.ROWS else g.transpose(1, 2)


class NoAging:
    """Cells that keep their state."""

    def advance(self, state: Mapping[str, Tensor], seconds: float, generator: torch.Generator) -> bool:
        """See ``Aging``."""
        return False
