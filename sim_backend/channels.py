"""Errors of single channels: every input driver and every amplifier has an offset and a gain of its own.

A channel makes y = (1 + gain) x + offset of what it should make. Its calibration knows both up to a rest: drivers are
told what makes up for the known part, and readings are corrected for it after conversion, so that the rest stays, and
codes and rails are those of the raw channel. Channels belong to the board: kernels that are switched to the same
converters share them. Errors are normal, drawn once from the seed; a choice of this project.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Blocks, BoardSpec, Side
from hil.contract.bounds import not_negative
from hil.units import Amps, Volts


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverErrors:
    """Errors of the input drivers, rms over channels.

    Args:
        source: where the numbers come from.
        offset: as built.
        gain: as built, relative.
        offset_left: what the calibration leaves; None for a board without one.
        gain_left: what the calibration leaves, relative; None for a board without one.
    """

    source: str = ""
    offset: Volts = 0.0
    gain: float = 0.0
    offset_left: Volts | None = None
    gain_left: float | None = None

    def __post_init__(self) -> None:
        not_negative(self, "offset", "gain", "offset_left", "gain_left")


@dataclass(frozen=True, slots=True, kw_only=True)
class AmplifierErrors:
    """Errors of the amplifiers and the converters behind them, rms over channels; offsets at the input.

    Args:
        source: where the numbers come from.
        offset: as built.
        gain: as built, relative.
        offset_left: what the calibration leaves; None for a board without one.
        gain_left: what the calibration leaves, relative; None for a board without one.
    """

    source: str = ""
    offset: Amps = 0.0
    gain: float = 0.0
    offset_left: Amps | None = None
    gain_left: float | None = None

    def __post_init__(self) -> None:
        not_negative(self, "offset", "gain", "offset_left", "gain_left")


@dataclass(frozen=True, slots=True)
class Lines:
    """The channels of the lines of an operation, [T, lines] each: what they do, and what the calibration knows."""

    gain: Tensor
    offset: Tensor
    known_gain: Tensor
    known_offset: Tensor

    def along(self, dim: int) -> Lines:
        """The same with a dimension of 1 put in, to stand beside [T, R, C] or [T, batch, lines]."""
        parts = (self.gain, self.offset, self.known_gain, self.known_offset)
        return Lines(*(part.unsqueeze(dim) for part in parts))

    def take(self, tiles: slice) -> Lines:
        """Those of some tiles."""
        return Lines(self.gain[tiles], self.offset[tiles], self.known_gain[tiles], self.known_offset[tiles])

    def made_(self, values: Tensor) -> Tensor:
        """What the channels make of values, in place."""
        return values.mul_(1.0 + self.gain).add_(self.offset)

    def corrected_(self, values: Tensor) -> Tensor:
        """Values with the known part of the errors taken out, in place."""
        return values.sub_(self.known_offset).div_(1.0 + self.known_gain)


class Channels:
    """The drivers and amplifiers of a board.

    Drivers belong to a line of a side. There is one set of amplifiers, which the board switches to either side; kernels
    that work at the same time have sets of their own.

    Args:
        spec: the board.
        drivers: errors of drivers; None for none.
        amplifiers: errors of amplifiers; None for none.
        generator: their own stream; the same seed builds the same channels.
        dtype: of the parameters.
    """

    def __init__(
        self,
        spec: BoardSpec,
        drivers: DriverErrors | None,
        amplifiers: AmplifierErrors | None,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        rows, cols = spec.geometry.rows, spec.geometry.cols
        self._sets = min(spec.timing.parallel_kernels, spec.geometry.kernels)
        self.params: dict[str, Tensor] = {}
        for name, errors, lines in (
            ("row_driver", drivers, rows), ("col_driver", drivers, cols), ("amplifier", amplifiers, max(rows, cols)),
        ):  # fmt: skip
            if errors is not None:
                self.params[f"channel.{name}"] = _drawn(errors, (self._sets, lines), generator, dtype)

    def drivers(self, blocks: Blocks, side: Side) -> Lines | None:
        """The drivers of the lines of blocks on a side; None where drivers have no errors."""
        return self._lines("row_driver" if side is Side.ROWS else "col_driver", blocks, side)

    def amplifiers(self, blocks: Blocks, side: Side) -> Lines | None:
        """The amplifiers that sense the lines of blocks on a side; None where amplifiers have no errors."""
        return self._lines("amplifier", blocks, side)

    def _lines(self, name: str, blocks: Blocks, side: Side) -> Lines | None:
        params = self.params.get(f"channel.{name}")
        if params is None:
            return None
        first = blocks.row if side is Side.ROWS else blocks.col
        line = torch.tensor(first)[:, None] + torch.arange(blocks.lines(side))
        which = torch.tensor(blocks.kernel)[:, None] % self._sets
        return Lines(*params[:, which, line])


def _drawn(
    errors: DriverErrors | AmplifierErrors, shape: tuple[int, int], generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Gain, offset and their known parts, [4, sets, lines]."""
    made, known = [], []
    for built, left in ((errors.gain, errors.gain_left), (errors.offset, errors.offset_left)):
        raw, rest = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
        made.append(built * raw)
        known.append(torch.zeros_like(raw) if left is None else built * raw - left * rest)
    return torch.stack(made + known)
