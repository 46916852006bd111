"""How many runs solve exclusive or, after how many slots, with which code?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from protocols.core.codes import CodeConfig, RandomCode, SequentialCode, SinusoidalCode, WalshCode
from protocols.core.descent import Descent, descend
from protocols.core.draws import generator
from protocols.core.mlp import Mlp
from protocols.studies.study import Axis, Cell, Study, Table, curve

NETWORK = Mlp(widths=(2, 4, 1))
X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
CODES: tuple[CodeConfig, ...] = (RandomCode(), WalshCode(), SinusoidalCode(), SequentialCode())
MARKS = (300, 1_000, 3_000, 10_000, 30_000)


def xor(*, marks: Sequence[int] = MARKS, replicas: int = 64, seed: int = 0, device: str = "cpu") -> Study:
    """Trains 2-4-1 networks on XOR with four codes; all times are one slot, the learning rate is P / 4.

    Args:
        marks: slots after which the solved share is taken, ascending.
        replicas: networks.
        seed: root seed.
        device: where to compute.
    """
    count = NETWORK.count
    found: dict[str, list[float]] = {}
    for code in CODES:
        eta = count / 2 if code.kind == "sequential" else count / 4
        how = Descent(code=code, norm=0.05, eta=eta)
        found[code.kind] = solved(NETWORK, how, marks, replicas=replicas, seed=seed, device=device)
    rows: list[tuple[Cell, ...]] = [
        (slots, *(round(values[k], 3) for values in found.values())) for k, slots in enumerate(marks)
    ]
    return Study(
        name="xor",
        title=f"Share of 2-4-1 networks that solve XOR ({count} parameters, tau_p = tau_x = tau_theta = 1)",
        table=Table(f"Share of {replicas} networks with all four patterns right", ("slots", *found), tuple(rows)),
        x=Axis(label="slots", log=True),
        y=Axis(label="share solved"),
        series=tuple(curve(kind, marks, values) for kind, values in found.items()),
        notes=(
            "learning rate P / 4, sequential codes P / 2; perturbation of length 0.05; first weights in -0.5 ... 0.5",
        ),
    )


def solved(
    network: Mlp, how: Descent, marks: Sequence[int], *, replicas: int, seed: int = 0, device: str = "cpu"
) -> list[float]:
    """The share of networks that has all four patterns right, at the marks.

    Args:
        network: the shape, two inputs and one output.
        how: the settings.
        marks: slots, ascending.
        replicas: networks; each has its own first weights, perturbations and order of the patterns in every epoch.
        seed: root seed.
        device: where to compute.
    """
    x, y = X.to(device), Y.to(device)
    theta = network.uniform(replicas, generator(seed, "start", 0)).to(device)
    epochs = -(-marks[-1] // (4 * how.tau_x))
    shuffled = torch.rand(epochs, 4, replicas, generator=generator(seed, "order", 0)).argsort(1)
    order = shuffled.flatten(0, 1).to(device)
    inputs, targets = x[order].unsqueeze(2), y[order].unsqueeze(2)

    def cost(parameters: Tensor, sample: int) -> Tensor:
        return network.loss(parameters, inputs[sample], targets[sample])

    found: list[float] = []

    def watch(done: int, parameters: Tensor) -> None:
        while len(found) < len(marks) and marks[len(found)] <= done:
            found.append(float((network.correct(parameters, x, y) == 1.0).double().mean()))

    descend(cost, theta, how, steps=marks[-1], seed=seed, watch=watch)
    return found
