"""How long must be integrated until the estimate points along the gradient?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from protocols.core.codes import CodeConfig, RandomCode, SequentialCode, SinusoidalCode, WalshCode
from protocols.core.descent import Descent, gradients
from protocols.core.draws import generator
from protocols.core.mlp import Mlp
from protocols.studies.published import WIDTHS, angles
from protocols.studies.study import Axis, Cell, Series, Study, Table, curve

CODES: tuple[CodeConfig, ...] = (SequentialCode(), WalshCode(), RandomCode(), SinusoidalCode())
MARKS = (1, 10, 100, 220, 256, 512, 1_000, 3_000, 10_000, 30_000)
NETWORK = Mlp(widths=(49, 4, 4))
TARGET = 15.0
"""Degrees; the angle of the paper's Fig. 3."""


def law(count: int, slots: float) -> float:
    """The angle of random codes, degrees: atan sqrt((P - 1) / T)."""
    return math.degrees(math.atan(math.sqrt((count - 1) / slots)))


def angle(
    *, marks: Sequence[int] = MARKS, replicas: int = 16, seed: int = 0, norm: float = 0.01, device: str = "cpu"
) -> Study:
    """Measures the angle between estimate and gradient of a 49-4-4 network at fixed input, for four codes.

    Args:
        marks: integration times, slots, ascending.
        replicas: random networks and inputs; angles are their mean.
        seed: root seed.
        norm: length of the perturbation.
        device: where to compute.
    """
    count = NETWORK.count
    found = {code.kind: measure(code, marks, replicas=replicas, seed=seed, norm=norm, device=device) for code in CODES}
    theory = [law(count, slots) for slots in marks]
    columns = ("T, slots", *found, "law of random codes")
    rows: list[tuple[Cell, ...]] = [
        (slots, *(round(values[k], 2) for values in found.values()), round(theory[k], 2))
        for k, slots in enumerate(marks)
    ]
    weight = Series(
        "weight, Oripov 2025",
        tuple(w.weight_15 for w in WIDTHS), (TARGET,) * len(WIDTHS), "published",
    )  # fmt: skip
    node = Series("node, Oripov 2025", tuple(w.node_15 for w in WIDTHS), weight.y, "published")
    needed = (count - 1) / math.tan(math.radians(TARGET)) ** 2
    times = {kind: _reached(marks, values) for kind, values in found.items()}
    reached = [f"{kind} {slots:,.0f}" for kind, slots in times.items() if slots is not None]
    return Study(
        name="angle",
        title=f"Angle between estimate and gradient against integration time (49-4-4, {count} parameters)",
        table=Table(f"Degrees, mean of {replicas} random networks", columns, tuple(rows)),
        published=(angles(),),
        x=Axis(label="integration time T, slots", log=True),
        y=Axis(label="angle to the gradient, degrees"),
        series=(
            *(curve(k, marks, v) for k, v in found.items()),
            curve("law, random", marks, theory, "law"),
            weight,
            node,
        ),
        notes=(
            f"slots to {TARGET:g} degrees, between the marks: {', '.join(reached) or 'none'}; "
            f"the law of random codes gives {needed:,.0f} slots, {needed / count:.1f} a parameter",
            f"in the paper {WIDTHS[0].weight_15 / WIDTHS[0].parameters:.1f} to "
            f"{WIDTHS[-1].weight_15 / WIDTHS[-1].parameters:.1f} iterations a parameter, since layers are perturbed "
            "one at a time",
        ),
    )


def measure(
    code: CodeConfig, marks: Sequence[int], *, replicas: int, seed: int = 0, norm: float = 0.01, device: str = "cpu"
) -> list[float]:
    """Mean angles of one code at integration times, degrees."""
    theta, x, y = problem(replicas, seed, device)
    exact = NETWORK.gradient(theta, x, y)

    def cost(parameters: Tensor, sample: int) -> Tensor:
        return NETWORK.loss(parameters, x, y)

    estimates = gradients(cost, theta, Descent(code=code, norm=norm), marks=marks, seed=seed)
    return [float(degrees(estimate, exact).mean()) for estimate in estimates]


def problem(replicas: int, seed: int, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Random parameters, one random input and one random target for each of the networks, float64."""
    source = generator(seed, "problem", 0)
    theta = NETWORK.uniform(replicas, source).double()
    x = torch.rand(replicas, 1, NETWORK.widths[0], dtype=torch.float64, generator=source)
    y = torch.rand(replicas, 1, NETWORK.widths[-1], dtype=torch.float64, generator=source)
    return theta.to(device), x.to(device), y.to(device)


def degrees(a: Tensor, b: Tensor) -> Tensor:
    """Angles between vectors in the last axis; exact for small ones, where the arc cosine is not."""
    a, b = torch.nn.functional.normalize(a, dim=-1), torch.nn.functional.normalize(b, dim=-1)
    apart, together = (a - b).square().sum(-1).sqrt(), (a + b).square().sum(-1).sqrt()
    return torch.rad2deg(2.0 * torch.atan2(apart, together))


def _reached(marks: Sequence[int], values: Sequence[float]) -> float | None:
    """The integration time at which the angle falls to the target, on a straight line over the logarithm of time."""
    for k, value in enumerate(values):
        if value <= TARGET:
            if k == 0:
                return float(marks[0])
            share = (values[k - 1] - TARGET) / (values[k - 1] - value)
            return math.exp(math.log(marks[k - 1]) + share * math.log(marks[k] / marks[k - 1]))
    return None
