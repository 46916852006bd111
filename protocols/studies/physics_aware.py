"""How much of what broken devices cost does training with the hardware in the loop win back?

The same network is trained in four ways for the same hardware, whose weights have random gains and stuck devices:
in software and then mapped; with the forward pass on the hardware and the derivatives of a twin that knows nothing of
the defects (physics-aware training); and with exact gradients through the defects, the best that can be had.

Reference: Wright et al. 2022, Nature 601, 549 (physics-aware training).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from protocols.core.draws import generator, signs
from protocols.core.mlp import Mlp
from protocols.studies.study import Axis, Cell, Study, Table, curve
from protocols.studies.training import Data

NETWORK = Mlp(widths=(16, 32, 6), hidden="tanh", output="identity", cost="cross_entropy")
DEFECTS = ((0.0, 0.1), (0.05, 0.1), (0.1, 0.1), (0.2, 0.2))
"""Shares of stuck devices and spreads of the gain."""
ETA, BATCH, TRAIN, TEST = 3e-3, 64, 1_000, 2_000
SHARPNESS = 2.0
"""Factor on the Glorot-uniform weights of the teachers; the larger, the harder the task."""
STUCK_AT = 1.25
"""A stuck device pins its weight at this, plus or minus: about the largest weights that training makes."""

Out = Callable[[Tensor, Tensor], Tensor]
"""(parameters [..., P], inputs [..., batch, n_in]) -> logits [..., batch, n_out]."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """Defects of many copies of a network; its biases are on the host and have none.

    Args:
        gain: [..., P], factor of each parameter.
        stuck: bool [..., P].
        value: [..., P], what stuck parameters are.
    """

    gain: Tensor
    stuck: Tensor
    value: Tensor

    def __call__(self, theta: Tensor) -> Tensor:
        """What the hardware makes of parameters [..., P]."""
        return torch.where(self.stuck, self.value, self.gain * theta)


@dataclass(frozen=True, slots=True)
class Found:
    """Test accuracies on the hardware, [defects, seeds], and the cosine at the start of physics-aware training.

    Args:
        ideal: trained and used without defects.
        mapped: trained without, used with defects.
        aware: physics-aware training.
        known: trained with exact gradients through the defects.
        cosine: of the physics-aware gradient with the exact one, before the first step.
    """

    ideal: Tensor
    mapped: Tensor
    aware: Tensor
    known: Tensor
    cosine: Tensor


def physics_aware(*, seeds: int = 4, steps: int = 1_500, device: str = "cpu") -> Study:
    """Compares mapped, physics-aware and defect-aware training of a 16-32-6 network on a teacher's task.

    Args:
        seeds: tasks, each with first weights and defects of its own.
        steps: Adam steps.
        device: where to compute.
    """
    found = trained(seeds=seeds, steps=steps, device=device)
    columns = (found.mapped, found.aware, found.known, found.cosine)
    means = [[float(row.mean()) for row in column] for column in columns]
    rows: list[tuple[Cell, ...]] = [
        (f"{stuck:.0%}", f"{gain:.0%}", *(round(column[k], 3) for column in means))
        for k, (stuck, gain) in enumerate(DEFECTS)
    ]
    shares = [100 * stuck for stuck, _ in DEFECTS]
    names = ("in silico, then mapped", "physics-aware", "defects known")
    return Study(
        name="physics_aware",
        title=f"Accuracy on defective hardware of a 16-32-6 network, by way of training ({steps} Adam steps)",
        table=Table(f"Test accuracy, mean of {seeds} seeds", ("stuck", "gain spread", *names, "cosine"), tuple(rows)),
        x=Axis(label="stuck devices, %"),
        y=Axis(label="test accuracy on the hardware"),
        series=tuple(curve(name, shares, column) for name, column in zip(names, means, strict=False)),
        notes=(
            f"without defects the network reaches {float(found.ideal.mean()):.3f}",
            f"stuck devices pin weights at +-{STUCK_AT:g}; the twin of physics-aware training knows no defect",
            "cosine: of the physics-aware gradient with the exact one before the first step",
        ),
    )


def trained(*, seeds: int, steps: int, device: str = "cpu") -> Found:
    """Trains all networks of the study at once.

    Args:
        seeds: see ``physics_aware``.
        steps: see ``physics_aware``.
        device: see ``physics_aware``.
    """
    data = teacher_task(seeds).to(device)
    first = NETWORK.glorot(seeds, generator(0, "physics-aware/start", 0)).to(device)
    hardware = defects(DEFECTS, seeds, device)
    every = first.expand(len(DEFECTS), *first.shape)

    def aware_out(theta: Tensor, x: Tensor) -> Tensor:
        return aware_of(NETWORK, hardware(theta), theta, x)

    def known_out(theta: Tensor, x: Tensor) -> Tensor:
        return NETWORK.out(hardware(theta), x)

    def accuracy(theta: Tensor) -> Tensor:
        return NETWORK.correct(theta, data.test_x, data.test_y).cpu()

    ideal = fit(NETWORK.out, first, data, steps)
    one, other = (gradient(out, every, data.x, data.y) for out in (aware_out, known_out))
    return Found(
        ideal=accuracy(ideal),
        mapped=accuracy(hardware(ideal)),
        aware=accuracy(hardware(fit(aware_out, every, data, steps))),
        known=accuracy(hardware(fit(known_out, every, data, steps))),
        cosine=F.cosine_similarity(one, other, dim=-1).cpu(),
    )


def aware_of(network: Mlp, real: Tensor, twin: Tensor, x: Tensor) -> Tensor:
    """Outputs of the hardware whose derivatives are those of a twin, [..., batch, n_out].

    Args:
        network: the shape.
        real: parameters as the hardware makes them, [..., P].
        twin: parameters of the twin, [..., P].
        x: inputs [..., batch, n_in].
    """
    layers = list(zip(network.layers(real), network.layers(twin), strict=True))
    for number, ((weights, bias), (copy, copied_bias)) in enumerate(layers):
        measured = x @ weights.transpose(-1, -2) + bias.unsqueeze(-2)
        predicted = x @ copy.transpose(-1, -2) + copied_bias.unsqueeze(-2)
        z = predicted + (measured - predicted).detach()  # the value of the one, the derivative of the other
        x = network.activate(z) if number < len(layers) - 1 else z
    return x


def fit(out: Out, theta: Tensor, data: Data, steps: int) -> Tensor:
    """Trains all copies [..., P] by Adam; they do not see each other.

    Args:
        out: (parameters, inputs) to logits.
        theta: first parameters; left as they are.
        data: the tasks, with a leading axis of seeds.
        steps: steps.
    """
    theta = theta.clone()
    optimiser = torch.optim.Adam([theta], lr=ETA)
    for step in range(steps):
        chosen = torch.randint(0, data.x.shape[1], (BATCH,), generator=generator(0, "physics-aware/batch", step))
        chosen = chosen.to(data.x.device)
        theta.grad = gradient(out, theta, data.x[:, chosen], data.y[:, chosen])
        optimiser.step()  # pyright: ignore[reportUnknownMemberType]
    return theta


def gradient(out: Out, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of each copy's mean cross-entropy, [..., P].

    Args:
        out: (parameters, inputs) to logits.
        theta: [..., P].
        x: [seeds, batch, n_in].
        y: classes [seeds, batch].
    """
    with torch.enable_grad():
        leaf = theta.detach().clone().requires_grad_(True)
        logits = out(leaf, x)
        classes = y.expand(logits.shape[:-1])
        losses = F.cross_entropy(logits.flatten(0, -2), classes.flatten(), reduction="sum") / y.shape[-1]
        (found,) = torch.autograd.grad(losses, leaf)
    return found


def teacher_task(seeds: int) -> Data:
    """Points in a cube and the class that a random network of the same shape gives them; a leading axis of seeds."""
    source = generator(0, "physics-aware/task", 0)
    teacher = SHARPNESS * NETWORK.glorot(seeds, source)
    x = 2 * torch.rand(seeds, TRAIN + TEST, NETWORK.widths[0], generator=source) - 1
    y = NETWORK.out(teacher, x).argmax(-1)
    return Data(x[:, :TRAIN], y[:, :TRAIN], x[:, TRAIN:], y[:, TRAIN:])


def defects(levels: Sequence[tuple[float, float]], seeds: int, device: str = "cpu") -> Hardware:
    """Draws the defects, [levels, seeds, P].

    Args:
        levels: share of stuck devices and spread of the gain.
        seeds: hardware of each level.
        device: where it is to be.
    """
    shape = (seeds, NETWORK.count)
    ones = NETWORK.layers(torch.ones(NETWORK.count))
    cells = torch.cat([part.flatten() for w, b in ones for part in (w, 0 * b)]) > 0
    source = generator(0, "physics-aware/defects", 0)
    gain = torch.stack([1.0 + spread * torch.randn(shape, generator=source) for _, spread in levels])
    stuck = torch.stack([torch.rand(shape, generator=source) < share for share, _ in levels]) & cells
    value = STUCK_AT * torch.stack([signs(shape, source) for _ in levels])
    return Hardware(torch.where(cells, gain, 1.0).to(device), stuck.to(device), value.to(device))
