"""What the laws of all cells share: their window, the usual pulse, compliance, spreads, corrupt cells, write noise.

A law is a frozen record of numbers; a cell's own parameters are tensors made by ``build``. Conductances are S. A law
says in ``moved`` what pulses do; ``pulse`` holds the result in the window of the cell and below the compliance ceiling.

Weights in the source of a law (from w_min over 0 to w_max) become conductances by g = low + (w - w_min) / (w_max -
w_min) (high - low); ``zero`` is where w = 0 lies in the window.

Reference: Gokmen and Vlasov 2016 (spreads, cycle noise); the construction of cells follows that of aihwkit 1.2.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hil.contract import Shape
from hil.contract.bounds import above_zero, not_negative
from hil.units import Seconds, Siemens, Volts

CHUNK = 1 << 15
"""Cells that are worked on at once: their tensors stay in the cache, and memory is not asked for anew each time."""
NARROWEST = 0.05
"""The smallest window of a cell, as a share of the mean window."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Draws normal numbers, one a cell.

    Args:
        shape: [K, R, C].
        generator: the chip's own stream.
        dtype: of the numbers.
    """

    shape: tuple[int, ...]
    generator: torch.Generator
    dtype: torch.dtype

    def __call__(self, std: float) -> Tensor:
        """Numbers of this standard deviation around 0; takes as much of the stream whatever the deviation is."""
        return std * torch.randn(self.shape, generator=self.generator, dtype=self.dtype)

    def share(self) -> Tensor:
        """Numbers spread evenly from 0 to 1."""
        return torch.rand(self.shape, generator=self.generator, dtype=self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What every cell has.

    Args:
        low: lower bound of the mean cell.
        high: upper bound of the mean cell.
        low_dtod: spread of the lower bound between cells, relative to the window.
        high_dtod: spread of the upper bound between cells, relative to the window.
        corrupt: share of cells that no pulse moves; a share of a window is where they sit.
        corrupt_range: how far corrupt cells lie from ``zero`` (its mean cell's), evenly, as a share of the window.
        zero: the point of the window that is weight 0 in the source of the law, as a share of the window.
        volts_up: amplitude of a usual pulse that raises the conductance.
        volts_down: amplitude of a usual pulse that lowers it.
        seconds: width of a usual pulse.
        threshold: amplitude below which nothing switches.
        volts_per_decade: amplitude that makes a pulse ten times stronger.
        compliance_volts: voltage left across a cell when compliance ends a pulse that raises its conductance.
        start: conductance of a fresh cell, as a share of the window.
        start_dtod: spread of ``start`` between cells.
    """

    low: Siemens
    high: Siemens
    low_dtod: float = 0.0
    high_dtod: float = 0.0
    corrupt: float = 0.0
    corrupt_range: float = 0.05
    zero: float = 0.5
    volts_up: Volts
    volts_down: Volts
    seconds: Seconds
    threshold: Volts = 0.0
    volts_per_decade: Volts = 0.5
    compliance_volts: Volts = 0.6
    start: float = 0.5
    start_dtod: float = 0.0

    def __post_init__(self) -> None:
        not_negative(self, "low", "low_dtod", "high_dtod", "corrupt_range", "threshold", "start_dtod")
        above_zero(self, "volts_up", "volts_down", "seconds", "volts_per_decade", "compliance_volts")
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} S must lie below high {self.high:g} S")
        within_one(self, "start", "zero", "corrupt")

    @property
    def window(self) -> float:
        """The window of the mean cell, S."""
        return self.high - self.low

    @property
    def zero_siemens(self) -> float:
        """The conductance that is weight 0, S; one number for all cells."""
        return self.low + self.zero * self.window

    @property
    def kept(self) -> tuple[str, ...]:
        """Parameters that ``pulse`` rewrites: what a cell remembers beside its conductance."""
        return ()

    def build(self, shape: tuple[int, int, int], generator: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
        """See ``Law``. Parameters: ``low`` and ``high`` in S, and those of the law."""
        spread = Spread(shape, generator, dtype)
        params = self.bounds_of(spread) | self.parameters(spread)
        if self.corrupt > 0:
            self._break(params, spread)
        if self.kept:
            params["offset"] = torch.zeros(shape, dtype=dtype)
        return params

    def parameters(self, spread: Spread) -> dict[str, Tensor]:
        """The law's own parameters of each cell."""
        raise NotImplementedError

    def initial(self, params: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """See ``Law``."""
        low, high = params["low"], params["high"]
        share = self.start + self.start_dtod * torch.randn(low.shape, generator=generator, dtype=low.dtype)
        return low + (high - low) * share.clamp_(0.0, 1.0)

    def bounds(self, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """See ``Law``."""
        return params["low"], params["high"]

    def strength(self, shape: Shape, up: bool) -> float | Tensor:
        """See ``Law``: exponential in the amplitude above a sharp threshold, proportional to the width."""
        usual = self.volts_up if up else self.volts_down
        width = shape.seconds / self.seconds
        if isinstance(shape.volts, Tensor):
            factor = torch.pow(10.0, (shape.volts - usual) / self.volts_per_decade)
            return width * torch.where(shape.volts >= self.threshold, factor, 0.0)
        if shape.volts < self.threshold:
            return 0.0
        return width * math.pow(10.0, (shape.volts - usual) / self.volts_per_decade)

    def ceiling(self, amps: float | Tensor) -> float | Tensor:
        """See ``Law``."""
        return amps / self.compliance_volts

    def pulse(
        self,
        g: Tensor,
        params: Mapping[str, Tensor],
        dose: Tensor,
        ceiling: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """See ``Law``; parameters named in ``kept`` are rewritten in place, and a dose of 0 leaves a cell alone."""
        whole = (g, dose, *params.values(), *(() if ceiling is None else (ceiling,)))
        if g.numel() <= CHUNK or not all(t.shape == g.shape and t.is_contiguous() for t in whole):
            return self._pulse(g, params, dose, ceiling, generator)
        result, lines = torch.empty_like(g), {name: values.view(-1) for name, values in params.items()}
        for first in range(0, g.numel(), CHUNK):
            part = slice(first, first + CHUNK)
            some = {name: values[part] for name, values in lines.items()}
            top = None if ceiling is None else ceiling.view(-1)[part]
            moved = self._pulse(g.view(-1)[part], some, dose.view(-1)[part], top, generator)
            result.view(-1)[part] = moved
        return result

    def moved(
        self, g: Tensor, params: Mapping[str, Tensor], dose: Tensor, top: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Where the pulses take the cells, S, in new memory; ``top`` is how far up they may go. Bounds come after."""
        raise NotImplementedError

    def write_spread(self, g: Tensor) -> Tensor:
        """Standard deviation of what a cell shows around its state after a pulse, S; asked for only with an offset."""
        raise NotImplementedError

    def bounds_of(self, spread: Spread) -> dict[str, Tensor]:
        """Draws the bounds of each cell: they lie on either side of ``zero``, and far enough apart.

        As aihwkit does: a bound that was drawn on the wrong side of 0 is mirrored.
        """
        zero, window = self.zero_siemens, self.window
        low = spread(self.low_dtod).mul_(window).add_(self.low)
        high = spread(self.high_dtod).mul_(window).add_(self.high)
        low, high = torch.minimum(low, 2 * zero - low), torch.maximum(high, 2 * zero - high)
        low.clamp_(min=0.0)
        return {"low": low, "high": torch.maximum(high, low + NARROWEST * window)}

    def _pulse(
        self, g: Tensor, params: Mapping[str, Tensor], dose: Tensor, ceiling: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        offset = params.get("offset")
        base, top = g if offset is None else g - offset, params["high"]
        if ceiling is not None:  # a ceiling below a cell does not take back what it has
            top = torch.where(dose > 0, torch.maximum(torch.minimum(top, ceiling), base), top)
        moved = self.moved(base, params, dose, top, generator).clamp_(params["low"], top)
        if offset is None:
            return moved
        noise = torch.randn(g.shape, generator=generator, dtype=g.dtype)
        shown = torch.addcmul(moved, noise, self.write_spread(moved)).clamp_(params["low"], top)
        touched = dose != 0
        offset.copy_(torch.where(touched, shown - moved, offset))
        return torch.where(touched, shown, g)

    def _break(self, params: dict[str, Tensor], spread: Spread) -> None:
        """Makes some cells corrupt: both bounds at one value, so that no pulse moves them."""
        broken = spread.share() < self.corrupt
        away = self.corrupt_range * self.window * (2.0 * spread.share() - 1.0)
        value = (self.zero_siemens + away).clamp_(min=0.0)
        for name in ("low", "high"):
            params[name] = torch.where(broken, value, params[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCell(Cell):
    """What cells have that go up and down in steps.

    Args:
        states: usual steps that fit into the window; the step is the one at ``zero``, or what the law says.
        step_dtod: relative spread of the step between cells.
        log_normal: the step is spread log-normally between cells.
        up_down: how much weaker a pulse down is than one up, relative; below 0: a pulse up than one down.
        up_down_dtod: spread of ``up_down`` between cells.
        step_std: cycle-to-cycle noise of one pulse, in units of its step.
        write_std: noise of what a cell shows around its state, redrawn with each pulse, in units of the mean step.
    """

    states: float = 100.0
    step_dtod: float = 0.0
    log_normal: bool = False
    up_down: float = 0.0
    up_down_dtod: float = 0.0
    step_std: float = 0.0
    write_std: float = 0.0

    def __post_init__(self) -> None:
        Cell.__post_init__(self)
        not_negative(self, "step_dtod", "up_down_dtod", "step_std", "write_std")
        above_zero(self, "states")
        if not -1 <= self.up_down <= 1:
            raise ValueError(f"up_down must lie between -1 and 1, got {self.up_down:g}")

    @property
    def step(self) -> float:
        """The step of the mean cell, S."""
        return self.window / self.states

    @property
    def kept(self) -> tuple[str, ...]:
        """See ``Cell``: with write noise a cell remembers how far it shows itself from its state."""
        return ("offset",) if self.write_std > 0 else ()

    def parameters(self, spread: Spread) -> dict[str, Tensor]:
        """The steps ``up`` and ``down`` of each cell, S."""
        gain = step_gain(spread, self.step_dtod, log_normal=self.log_normal)
        bias = spread(self.up_down_dtod)
        up = self.step * (gain + bias + min(0.0, self.up_down)).abs_()
        down = self.step * (gain - bias - max(0.0, self.up_down)).abs_()
        return {"up": up, "down": down}

    def write_spread(self, g: Tensor) -> Tensor:
        """See ``Cell``."""
        return torch.full_like(g, self.write_std * self.step)


def step_gain(spread: Spread, std: float, *, log_normal: bool = False) -> Tensor:
    """How large the step of each cell is against the mean step: 1 + std xi, or exp(std xi)."""
    return spread(std).exp_() if log_normal else spread(std).add_(1.0)


def rising(dose: Tensor) -> Tensor:
    """1 for cells that go up, 0 for those that go down (and one half for those that stay), in the dose's dtype.

    ``torch.lerp(down, up, rising(dose))`` picks a parameter by direction several times faster than ``torch.where``.
    """
    return torch.sign(dose).add_(1.0).mul_(0.5)


def root_(values: Tensor) -> Tensor:
    """Square roots in place, 3e-19 for 0: math libraries take ten times as long over an exact 0."""
    return values.clamp_(min=1e-37).sqrt_()


def within_one(part: object, *names: str) -> None:
    """Refuses shares outside 0 to 1.

    Raises:
        ValueError: a field lies outside.
    """
    for name in names:
        value = getattr(part, name)
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {value:g}")
