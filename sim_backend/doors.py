"""The three places where physics plugs into the simulated board.

A ``Law`` says how a pulse changes a cell, a ``Conduction`` stands between cells and periphery (line resistance), and an
``Aging`` changes cells with lab time (drift, relaxation). The board knows only these protocols.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hil.contract import Bias, Shape, Side


class Law(Protocol):
    """How pulses change cells; conductances in S, cells in any shape."""

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of parameters that ``pulse`` rewrites in place: what a cell remembers beside its conductance."""
        ...

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

    def currents(self, g: Tensor, volts: Tensor, drive: Side) -> Tensor | None:
        """Currents [T, batch, sensed] A for ``volts`` [1 or T, batch, driven] V where K would cost more, else None.

        The choice depends on shapes and configuration only, never on what was asked before.
        """
        ...

    def cells(self, g: Tensor, drive: Side, unselected: Bias, gate_lines: Side | None) -> Tensor:
        """What cells read one by one seem to conduct: current into the selected amplifier per volt, [T, R, C] S.

        Args:
            g: conductances, [T, R, C] S.
            drive: the side that carries the read voltage.
            unselected: what the other lines do.
            gate_lines: the side that each gate line runs along; None for a passive array.
        """
        ...

    def drawn(self, g: Tensor, volts: Tensor, drive: Side) -> Tensor | None:
        """Currents [T, batch, driven] A that lines take from their drivers at ``volts`` [1 or T, batch, driven] V.

        None on lines without resistance, where they are ``volts`` times the sums of the cells.
        """
        ...

    def left(self, g: Tensor, wanted: Tensor, drive: Side, unselected: Bias, gate_lines: Side | None) -> Tensor | None:
        """The share of a pulse's amplitude that lines leave to each cell, pulsed alone, [T, R, C]; None for all of it.

        Arguments as in ``cells``; ``g`` are whole kernels, and ``wanted`` [T, R, C] says which cells are asked for.
        """
        ...


class Aging(Protocol):
    """What lab time does to cells."""

    def tensors(self, state: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """What it adds to the state of a new chip, under names that begin with ``age.``; saved with the chip."""
        ...

    def advance(self, state: Mapping[str, Tensor], seconds: float, generator: torch.Generator) -> bool:
        """Ages the chip's state tensors in place; True when a conductance has changed."""
        ...


@runtime_checkable
class NoisyCells(Protocol):
    """A law or an aging that says how noisy each cell is."""

    def read_noise(self, state: Mapping[str, Tensor]) -> Tensor:
        """Conductance noise of each cell in one conversion now, [K, R, C] S rms."""
        ...


class NoWires:
    """Lines without resistance: K is the matrix of conductances."""

    def matrix(self, g: Tensor, drive: Side) -> Tensor:
        """See ``Conduction``."""
        return g if drive is Side.ROWS else g.transpose(1, 2)

    def currents(self, g: Tensor, volts: Tensor, drive: Side) -> Tensor | None:
        """See ``Conduction``."""
        return None

    def cells(self, g: Tensor, drive: Side, unselected: Bias, gate_lines: Side | None) -> Tensor:
        """See ``Conduction``; currents through other cells are left out."""
        return g

    def drawn(self, g: Tensor, volts: Tensor, drive: Side) -> Tensor | None:
        """See ``Conduction``."""
        return None

    def left(self, g: Tensor, wanted: Tensor, drive: Side, unselected: Bias, gate_lines: Side | None) -> Tensor | None:
        """See ``Conduction``."""
        return None


class NoAging:
    """Cells that keep their state."""

    def tensors(self, state: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """See ``Aging``."""
        return {}

    def advance(self, state: Mapping[str, Tensor], seconds: float, generator: torch.Generator) -> bool:
        """See ``Aging``."""
        return False
