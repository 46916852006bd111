"""What asymmetric devices take from a weight, and what a residual tile, more tiles and a tracked reference give back.

All on the noisy quadratic: the smallest task on which the pull towards the symmetry point shows as a slope below 1.

References: Wu et al. 2025, arXiv 2502.06309; Li et al. 2025, arXiv 2510.02516; arXiv 2602.21321 (2026, reconstructed).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from protocols.core.noisy_quadratic import Learnt, Problem, descent, residual, tiles
from protocols.core.residual_learning import Residual, SoftBounds, regression_slope, slope_of_descent
from protocols.core.symmetric_point import Tracking
from protocols.studies.study import Axis, Cell, Study, Table, curve

NOISES = (0.0, 0.1, 0.3, 1.0)
STATES = (4, 10, 16, 256)
MOST_TILES = 6
ALPHA, TAU = 0.05, 1.0
GAMMA_TILES, NOISE_TILES = 0.3, 0.1
NOISE_TRACKING, OFFSET = 0.3, 0.3

SLOPES = Table(
    "Prototype of this project: slopes, 200 weights, 20,000 steps",
    ("gradient noise", "law of descent", "descent", "Tiki-Taka", "residual"),
    (
        (0.0, 1.0, 1.0, 1.0, 1.0),
        (0.1, 0.926, 0.923, 0.992, 1.001),
        (0.3, 0.807, 0.805, 0.973, 0.996),
        (1.0, 0.556, 0.576, 0.883, 0.937),
    ),
)
TILES = Table(
    "Prototype of this project: relative error of 1 to 6 tiles, 400 weights, 3,000 steps a tile, 5 seeds",
    ("states", "1 tile", "2", "3", "4", "6"),
    (
        (4, 0.94, 0.46, 0.31, 0.27, 0.25),
        (10, 0.40, 0.19, 0.12, 0.10, 0.09),
        (16, 0.30, 0.14, 0.09, 0.075, 0.07),
        (256, 0.10, 0.054, 0.046, 0.041, 0.038),
    ),
)
TRACKED = Table(
    "Prototype of this project: relative error of W, 300 weights, 20,000 steps, first and second run",
    ("offset", "reference", "first run", "second run"),
    (
        (0.3, "zero", 0.225, 0.235),
        (0.3, "known", 0.102, 0.105),
        (0.3, "tracked, period 200, eta 0.002", 0.103, 0.102),
        (0.3, "tracked, period 200, eta 0.01", 0.096, 0.096),
        (0.3, "tracked, period 50, eta 0.002", 0.187, 0.161),
        (0.3, "tracked, period 10, eta 0.002", 0.57, 0.57),
        (0.0, "zero", 0.102, 0.105),
        (0.0, "tracked without chopper", 0.45, 0.44),
    ),
)


@dataclass(frozen=True, slots=True)
class Slopes:
    """Slopes on the targets, [noises, replicas].

    Args:
        descent: plain descent on the devices.
        tiki_taka: two tiles, the product sees the main one.
        residual: two tiles, the product sees their weighed sum.
    """

    descent: Tensor
    tiki_taka: Tensor
    residual: Tensor


def residual_learning(*, replicas: int = 5, steps: int = 20_000, tile_steps: int = 3_000) -> Study:
    """Measures slopes of three rules, errors of one to six tiles, and errors with a tracked symmetry point.

    Args:
        replicas: copies with draws of their own.
        steps: updates of the slopes and of the tracking.
        tile_steps: updates of each tile.
    """
    found = slopes(replicas=replicas, steps=steps)
    means = [[float(v) for v in part.mean(-1)] for part in (found.descent, found.tiki_taka, found.residual)]
    law = [slope_of_descent(noise, TAU) for noise in NOISES]
    rows: list[tuple[Cell, ...]] = [
        ("slope", f"gradient noise {noise:g}", *(round(part[k], 3) for part in (law, *means)), *[None] * MOST_TILES)
        for k, noise in enumerate(NOISES)
    ]
    several = tile_errors(replicas=replicas, steps=tile_steps).mean(-1)
    rows += [
        ("relative error", f"{count} states", *[None] * 4, *(round(float(v), 3) for v in several[:, k]))
        for k, count in enumerate(STATES)
    ]
    tracked = tracking_errors(replicas=replicas, steps=steps)
    rows += [
        ("relative error", f"{name}, offset {offset:g}", None, None, None, round(error, 3), *[None] * MOST_TILES)
        for (offset, name), error in tracked.items()
    ]
    names = ("descent", "Tiki-Taka", "residual")
    k = NOISES.index(0.3)
    return Study(
        name="residual",
        title=f"Residual learning on a noisy quadratic with soft-bounds devices, mean of {replicas} copies",
        table=Table(
            f"Slopes of mean weights on targets, and relative errors ({steps:,} steps; {tile_steps:,} a tile)",
            ("number", "case", "law of descent", *names, "1 tile", *(f"{n} tiles" for n in range(2, MOST_TILES + 1))),
            tuple(rows),
        ),
        published=(SLOPES, TILES, TRACKED),
        x=Axis(label="gradient noise"),
        y=Axis(label="slope of learnt weights on targets"),
        series=(
            *(curve(name, NOISES, part) for name, part in zip(names, means, strict=True)),
            curve("law of descent", NOISES, law, "law"),
        ),
        notes=(
            f"at noise 0.3 descent keeps {means[0][k]:.3f} of a target, Tiki-Taka {means[1][k]:.3f}, residual learning "
            f"{means[2][k]:.3f}; the law of descent holds while the error is below the noise",
            "tiles are trained one after the other, tile n on the residual with rate alpha / gamma^n",
            "tracking of the symmetry point is a reconstruction in the spirit of arXiv 2602.21321",
            "slopes are those of weights averaged over snapshots of the second half; one snapshot scatters by 0.01",
        ),
    )


def slopes(*, replicas: int, steps: int, noises: tuple[float, ...] = NOISES, every: int = 50) -> Slopes:
    """Slopes of weights that are averaged over snapshots of the second half.

    Args:
        replicas: copies.
        steps: updates.
        noises: of the gradient.
        every: steps between snapshots.
    """
    problem = Problem(steps=steps, settled=steps // 2, every=every, replicas=replicas)
    noise = torch.tensor(noises, dtype=torch.float64)

    def slope(learnt: Learnt) -> Tensor:
        return regression_slope(learnt.weights, learnt.target)

    return Slopes(
        slope(descent(problem, noise, SoftBounds(TAU), ALPHA)),
        slope(residual(problem, noise, Residual(alpha=ALPHA, gamma=0.0), tau=TAU)[0]),
        slope(residual(problem, noise, Residual(alpha=ALPHA), tau=TAU, main_only=False)[0]),
    )


def tile_errors(*, replicas: int, steps: int, most: int = MOST_TILES) -> Tensor:
    """Relative errors after each tile, [tiles, states, replicas]."""
    problem = Problem(steps=steps, settled=0, weights=400, replicas=replicas)
    return tiles(problem, NOISE_TILES, STATES, most, alpha=ALPHA, gamma=GAMMA_TILES, tau=TAU)


def tracking_errors(*, replicas: int, steps: int) -> dict[tuple[float, str], float]:
    """Relative error of W by offset of the symmetry points and kind of reference.

    Offsets are normal with standard deviation 0.3, cut at 0.8: no device has its symmetry point near a bound.
    """
    problem = Problem(steps=steps, settled=steps // 2, every=max(1, steps // 40), weights=300, replicas=replicas)
    drawn = torch.randn(replicas, 300, generator=problem.source("offset", 0), dtype=torch.float64)
    offset = (OFFSET * drawn).clamp(-0.8, 0.8)
    found: dict[tuple[float, str], float] = {}

    def add(
        name: str, points: float | Tensor, reference: float | Tensor = 0.0, tracking: Tracking | None = None
    ) -> None:
        noise = torch.tensor([NOISE_TRACKING], dtype=torch.float64)
        learnt, _ = residual(
            problem, noise, Residual(alpha=ALPHA), offset=points, reference=reference, tracking=tracking, tau=TAU
        )
        found[OFFSET if isinstance(points, Tensor) else points, name] = float(learnt.error.mean())

    add("zero", offset)
    add("known", offset, reference=offset)
    for period, eta in ((200, 0.002), (200, 0.01), (50, 0.002), (10, 0.002)):
        add(f"tracked, period {period}, eta {eta:g}", offset, tracking=Tracking(eta=eta, period=period))
    add("zero", 0.0)
    add("tracked without chopper", 0.0, tracking=Tracking(period=None))
    return found
