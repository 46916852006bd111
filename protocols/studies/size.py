"""Does training take longer for larger networks?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from protocols.core.layerwise import Layerwise, Method
from protocols.studies.published import WIDTHS, sizes
from protocols.studies.study import Axis, Cell, Study, Table, curve, rounded, slope
from protocols.studies.training import Data, Race, digits_network, iterations, mean

SETTINGS: dict[str, tuple[Layerwise, Race]] = {
    "backprop": (Layerwise(method="backprop", eta=0.1), Race(most=2_000, every=5)),
    "node": (Layerwise(method="node", eta=0.1), Race(most=4_000, every=5)),
    "weight": (Layerwise(method="weight", eta=0.05), Race(most=20_000, every=25)),
}
"""Settings of each method; they are the same for every size, since the estimate is normalised."""


def size(
    data: Data,
    *,
    widths: Sequence[int] = (8, 16, 32, 64, 128, 256),
    methods: Sequence[Method] = ("backprop", "node", "weight"),
    replicas: int = 4,
    seed: int = 0,
    device: str = "cpu",
) -> Study:
    """Counts iterations to 80 % test accuracy of networks with two hidden layers, for each width and method.

    Args:
        data: samples.
        widths: hidden widths.
        methods: what to train by.
        replicas: networks for each point, trained at once.
        seed: root seed.
        device: where to compute.
    """
    data = data.to(device)
    found: dict[str, list[float | None]] = {method: [] for method in methods}
    counts: list[int] = []
    for width in widths:
        network = digits_network(data, width)
        counts.append(network.count)
        for method in methods:
            how, race = SETTINGS[method]
            race = replace(race, replicas=replicas, seed=seed)
            found[method].append(mean(iterations(network, how, data, race)))
    rows: list[tuple[Cell, ...]] = [
        (width, counts[k], *(rounded(values[k]) for values in found.values())) for k, width in enumerate(widths)
    ]
    measured = {method: curve(method, counts, values) for method, values in found.items()}
    slopes = ", ".join(f"{method} {slope(line.x, line.y):+.2f}" for method, line in measured.items())
    parameters = tuple(w.parameters for w in WIDTHS)
    published = (
        curve("backprop, Oripov 2025", parameters, [w.backprop_80 for w in WIDTHS], "published"),
        curve("node, Oripov 2025", parameters, [w.node_80 for w in WIDTHS], "published"),
        curve("weight, Oripov 2025", parameters, [w.weight_80 for w in WIDTHS], "published"),
    )
    reported = ", ".join(f"{line.name.split(',')[0]} {slope(line.x[1:], line.y[1:]):+.2f}" for line in published)
    return Study(
        name="size",
        title="Iterations to 80 % test accuracy against the number of parameters (two hidden layers, batch 100)",
        table=Table(f"Iterations, mean of {replicas} networks", ("hidden width", "parameters", *found), tuple(rows)),
        published=(sizes(),),
        x=Axis(label="parameters", log=True),
        y=Axis(label="iterations to 80 %", log=True),
        series=(*measured.values(), *published),
        notes=(
            f"log-log slopes against parameters: {slopes}",
            f"the paper's, without its smallest network: {reported}",
        ),
    )
