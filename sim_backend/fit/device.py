"""Fits the soft-bounds law to trains of pulses: arrays in, the numbers of a device file out.

On average k pulses up bring a cell from g to h - (h - g) q^k, with the bound h and q = 1 - pull; a train down likewise
(see ``laws.relaxing``, whose mean is exact also with cycle noise). Bound and rate of each cell and each train are found
by least squares: bound and start are linear, the rate is searched for. The noise of one pulse follows from how far a
cell lands from where the law puts it, beyond the noise of the reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_GRID, _ZOOMS, _SHARP = 32, 7, 12
_MOST_PULL = 0.999
_FAR = 6.0
"""Robust standard deviations from the median, beyond which the fit of a cell is taken to have gone astray."""
_WIDE = 0.35
"""Relative spread of steps from which it matters whether it is normal or log-normal."""
_SURE = 3.0
"""Errors that write noise must be beyond to count."""


@dataclass(frozen=True, slots=True)
class Value:
    """A number and its standard error, both in the same unit."""

    value: float
    error: float


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """One exponential a train: g = bound - gap q^k.

    Args:
        bound: S.
        rate: -log q of one pulse.
        rest: S, rms distance of the readings from the curve.
    """

    bound: Tensor
    rate: Tensor
    rest: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class DeviceFit:
    """The soft-bounds law of the measured cells.

    Args:
        numbers: fields of the law by name, with their errors; conductances in S.
        log_normal: the step is spread log-normally.
        low: [n] S, lower bound of each cell.
        high: [n] S, upper bound.
        up: [n], share of the distance to the bound that one pulse up goes.
        down: [n], likewise.
        misfit: rms distance of the mean cell's readings from its curve, over the window.
        left_out: cells whose trains no curve could be put through.
    """

    numbers: dict[str, Value]
    log_normal: bool
    low: Tensor
    high: Tensor
    up: Tensor
    down: Tensor
    misfit: float
    left_out: int


def fit_soft_bounds(up: Tensor, down: Tensor, counts: Tensor, sigma: float, first: Tensor | None = None) -> DeviceFit:
    """Fits the law.

    Args:
        up: [cycles, points + 1, n] S, readings along trains up, the first before any pulse.
        down: likewise, down.
        counts: [points], pulses between two readings.
        sigma: S, standard error of a reading.
        first: [n] S, the cells as they were found; None where that is not known.

    Raises:
        ValueError: there are fewer than three cells, or they do not move.
    """
    if up.shape[2] < 3:
        raise ValueError(f"a law needs at least 3 cells that move, got {up.shape[2]}")
    at = torch.cat([torch.zeros(1), counts.cumsum(0)]).double()
    rising, falling = (curves(train.double(), at) for train in (up, down))
    window = rising.bound.mean(0) - falling.bound.mean(0)
    typical = float(window.median())
    sane = (window > 0.1 * typical) & (window < 5 * typical) & (falling.bound.mean(0) > -0.5 * typical)
    if not typical > 0 or int(sane.sum()) < 3:
        raise ValueError("the cells do not go up and down with the pulses")
    high, low = rising.bound[:, sane], falling.bound[:, sane]
    pull_up, pull_down = (-torch.expm1(-c.rate[:, sane]) for c in (rising, falling))
    steps, log_normal = _steps(pull_up, pull_down)
    numbers = _window(low, high) | steps
    means = [part.mean(0) for part in (low, high, pull_up, pull_down)]
    mine = (up.double()[..., sane], high, pull_up), (down.double()[..., sane], low, pull_down)
    numbers["step_std"], write = _noise(*mine, counts.double(), sigma)
    step = (numbers["high"].value - numbers["low"].value) / numbers["states"].value
    numbers["write_std"] = Value(write.value / step, write.error / step)
    if first is not None:
        share = ((first.double()[sane] - means[0]) / (means[1] - means[0])).clamp(0.0, 1.0)
        numbers["start"], numbers["start_dtod"] = _mean(share), _std(share, 0.0)
    mean_up, mean_down = (curves(t.double()[..., sane].mean(2, keepdim=True), at) for t in (up, down))
    misfit = float(torch.cat([mean_up.rest, mean_down.rest]).square().mean().sqrt()) / typical
    return DeviceFit(numbers, log_normal, *means, misfit=misfit, left_out=int((~sane).sum()))


def curves(trains: Tensor, at: Tensor) -> Curves:
    """Least squares of g = bound - gap exp(-rate k) for each train, [cycles, points + 1, n].

    Args:
        trains: readings, S.
        at: [points + 1], pulses before each reading.
    """
    last = float(at[-1])
    low, high = math.log(0.02 / last), math.log(20.0 / float(at[1] - at[0]))
    grid = torch.linspace(low, high, _GRID, dtype=torch.float64)
    centre = torch.zeros(trains.shape[0], trains.shape[2], dtype=torch.float64)
    step = (high - low) / (_GRID - 1)
    for zoom in range(_ZOOMS):
        if zoom:
            grid = torch.linspace(-step, step, _SHARP, dtype=torch.float64)
            step = 2 * step / (_SHARP - 1)
        tried = centre[..., None] + grid
        cost = torch.stack([_linear(trains, at, tried[..., k].exp())[1] for k in range(len(grid))], -1)
        centre = tried.gather(-1, cost.argmin(-1, keepdim=True)).squeeze(-1)
    rate = centre.exp().clamp(max=-math.log(1 - _MOST_PULL))
    bound, rest = _linear(trains, at, rate)
    return Curves(bound, rate, (rest / len(at)).sqrt())


def _linear(trains: Tensor, at: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """Bound and sum of squares at given rates [cycles, n]."""
    x = torch.exp(-rate[:, None] * at[None, :, None])
    x_mean, y_mean = x.mean(1, keepdim=True), trains.mean(1, keepdim=True)
    dx, dy = x - x_mean, trains - y_mean
    slope = (dx * dy).sum(1) / dx.square().sum(1).clamp(min=1e-30)
    return (y_mean.squeeze(1) - slope * x_mean.squeeze(1)), (dy - slope[:, None] * dx).square().sum(1)


def _window(low: Tensor, high: Tensor) -> dict[str, Value]:
    """Bounds [cycles, n] and their spreads relative to the window."""
    found: dict[str, Value] = {}
    window = float(high.mean() - low.mean())
    for name, bounds in (("low", low), ("high", high)):
        found[name] = _mean(bounds.mean(0))
        spread = _std(bounds.mean(0), _error_of_mean(bounds))
        found[f"{name}_dtod"] = Value(spread.value / window, spread.error / window)
    return found


def _steps(up: Tensor, down: Tensor) -> tuple[dict[str, Value], bool]:
    """States, asymmetry and spreads from the pulls [cycles, n]; a pull of 2 / states is that of a mean cell.

    Also tells whether the steps are spread log-normally: wide, and less skewed in their logarithm.
    """
    mean_up, mean_down = _mean(_tamed(up.mean(0))), _mean(_tamed(down.mean(0)))
    strong, weak, sign = (mean_up, mean_down, 1) if mean_up.value >= mean_down.value else (mean_down, mean_up, -1)
    ratio, unit = weak.value / strong.value, strong.value
    gain, bias = (up + down) / (2 * unit), _tamed((up - down) / (2 * unit))
    logs = gain.clamp(min=1e-6).log()
    wide = float(_tamed(gain.mean(0)).std()) > _WIDE and _skew(gain.mean(0)) > 2 * _skew(logs.mean(0))
    if wide:
        unit *= math.exp(float(logs.mean()))
    spread = logs if wide else _tamed(gain)
    error = math.hypot(mean_up.error / mean_up.value, mean_down.error / mean_down.value)
    numbers = {
        "states": Value(2.0 / unit, 2.0 * strong.error / strong.value / unit),
        "step_dtod": _std(spread.mean(0), _error_of_mean(spread)),
        "up_down": Value(sign * (1 - ratio), ratio * error),
        "up_down_dtod": _std(bias.mean(0), _error_of_mean(bias)),
    }
    return numbers, wide


def _noise(
    up: tuple[Tensor, Tensor, Tensor], down: tuple[Tensor, Tensor, Tensor], counts: Tensor, sigma: float
) -> tuple[Value, Value]:
    """Cycle noise in units of the step, and write noise in S, from where bursts land beside the law.

    After k pulses a distance d has the variance d^2 k (pull s)^2 q^(2 k - 2), to first order in s^2. What a cell shows
    around its state, through noise of the read or of the write, is in two neighbouring landings with opposite signs:
    their product is -q^k (sigma^2 + w^2). Each train's own straight line in the distance is taken off first, so that
    errors of its fitted rate and bound do not count.
    """
    parts = [_landings(train, bound, pull, counts, sigma) for train, bound, pull in (up, down)]
    x, rest, landed, lost = (torch.cat(column) for column in zip(*parts, strict=True))
    guess = (0.3 * x.clamp(min=0) + 2 * sigma**2 + 1e-6 * x.abs().max() + 1e-40).square()
    pairs = 1.0 / (guess[:, 1:] * guess[:, :-1]).sqrt()
    both = _ratio(-pairs * landed[:, 1:] * rest[:, 1:] * rest[:, :-1], pairs * landed[:, 1:].square())
    written = both.value - sigma**2
    shown = sigma**2 + (written if written > _SURE * both.error else 0.0)
    y = (rest.square() - shown * (1 + landed.square())) * lost
    cycle = _ratio(x * y / guess, x.square() / guess)
    return _root(cycle), _root(Value(max(shown - sigma**2, 0.0), both.error))


def _landings(train: Tensor, bound: Tensor, pull: Tensor, counts: Tensor, sigma: float) -> tuple[Tensor, ...]:
    """For each burst: what one unit of cycle noise would give, where it landed, the share of the distance left."""
    d = bound[:, None] - train
    landed = (1 - pull[:, None]) ** counts[None, :, None]
    rest, lost = _without_trend(d[:, 1:] - landed * d[:, :-1], d[:, :-1])
    x = counts[None, :, None] * (pull[:, None] * landed / (1 - pull[:, None])).square()
    return x * (d[:, :-1].square() - sigma**2), rest, landed, torch.full_like(rest, lost)


def _ratio(above: Tensor, below: Tensor) -> Value:
    """Sum over sum of [cycles, points, n], with the error that the spread between cells gives."""
    a, b = above.sum((0, 1)), below.sum((0, 1))
    value = float(a.sum() / b.sum())
    return Value(value, float((a - value * b).square().sum().sqrt() / b.sum()))


def _root(square: Value) -> Value:
    root = math.sqrt(max(square.value, 0.0))
    return Value(root, square.error / (2 * root) if square.value > square.error else math.sqrt(square.error))


def _tamed(values: Tensor) -> Tensor:
    """Brings values far outside, of cells whose fit went astray, to the edge of the others; along the last one."""
    middle = values.median(-1, keepdim=True).values
    reach = _FAR * 1.4826 * (values - middle).abs().median(-1, keepdim=True).values
    return torch.maximum(torch.minimum(values, middle + reach), middle - reach)


def _skew(values: Tensor) -> float:
    """How far the mean lies from the median, in standard deviations."""
    spread = float(values.std())
    return abs(float(values.mean() - values.median())) / spread if spread > 0 else 0.0


def _without_trend(rest: Tensor, d: Tensor) -> tuple[Tensor, float]:
    """Takes a straight line in the distance off each train, and what squares of the rest are to be multiplied with."""
    x = d - d.mean(1, keepdim=True)
    y = rest - rest.mean(1, keepdim=True)
    slope = (x * y).sum(1, keepdim=True) / x.square().sum(1, keepdim=True).clamp(min=1e-40)
    points = rest.shape[1]
    return y - slope * x, points / max(points - 2, 1)


def _mean(values: Tensor) -> Value:
    return Value(float(values.mean()), float(values.std()) / math.sqrt(values.numel()))


def _std(values: Tensor, noise: float) -> Value:
    """Standard deviation of values without the noise of each of them."""
    variance = float(values.var())
    error = math.sqrt(2.0 / max(values.numel() - 1, 1)) * variance  # of a variance
    return _root(Value(max(variance - noise**2, 0.0), error))


def _error_of_mean(parts: Tensor) -> float:
    """Standard error of the mean over cycles [cycles, n], rms over cells; 0 with one cycle, which tells nothing."""
    cycles = parts.shape[0]
    return float(parts.var(0).mean().sqrt()) / math.sqrt(cycles) if cycles > 1 else 0.0
