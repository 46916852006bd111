"""How often should the parameters be updated?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from protocols.core.layerwise import Layerwise
from protocols.studies.published import TAU_THETA, taus
from protocols.studies.study import Axis, Cell, Study, Table, curve, rounded, slope
from protocols.studies.training import Data, Race, digits_network, iterations, mean

TAUS = (1, 10, 100, 1000)
ETA, LARGEST = 0.05, 0.5
"""Learning rate at tau_theta = 1, and the largest one; above it the paper's runs diverge."""


def tau(
    data: Data,
    *,
    taus_theta: Sequence[int] = TAUS,
    width: int = 32,
    most: int = 200_000,
    replicas: int = 4,
    seed: int = 0,
    device: str = "cpu",
) -> Study:
    """Counts iterations to 80 % of weight perturbation against tau_theta, with two choices of the learning rate.

    Args:
        data: samples.
        taus_theta: iterations between updates.
        width: width of the two hidden layers.
        most: iterations after which to give up.
        replicas: networks for each point.
        seed: root seed.
        device: where to compute.
    """
    data = data.to(device)
    network = digits_network(data, width)
    rates = [min(ETA * math.sqrt(slots), LARGEST) for slots in taus_theta]

    def needed(eta: float, slots: int) -> float | None:
        race = Race(most=most, every=max(25, slots), replicas=replicas, seed=seed)
        return mean(iterations(network, Layerwise(method="weight", eta=eta, tau_theta=slots), data, race))

    fixed = [needed(ETA, slots) for slots in taus_theta]
    scaled = [
        before if eta == ETA else needed(eta, slots)
        for slots, eta, before in zip(taus_theta, rates, fixed, strict=True)
    ]
    rows: list[tuple[Cell, ...]] = [
        (slots, rounded(fixed[k]), round(rates[k], 3), rounded(scaled[k])) for k, slots in enumerate(taus_theta)
    ]
    one, other = curve(f"eta {ETA}", taus_theta, fixed), curve("eta with sqrt tau_theta", taus_theta, scaled)
    paper = curve("Oripov 2025", [x for x, _ in TAU_THETA], [y for _, y in TAU_THETA], "published")
    columns = ("tau_theta", f"iterations, eta {ETA}", "larger eta", "iterations, larger eta")
    return Study(
        name="tau",
        title=f"Iterations to 80 % of weight perturbation against tau_theta ({network.count:,} parameters)",
        table=Table(f"Iterations, mean of {replicas} networks", columns, tuple(rows)),
        published=(taus(),),
        x=Axis(label="tau_theta, iterations between updates", log=True),
        y=Axis(label="iterations to 80 %", log=True),
        series=(one, other, paper),
        notes=(
            f"log-log slopes: {slope(one.x, one.y):.2f} at one learning rate, {slope(other.x, other.y):.2f} when it "
            f"grows with the square root of tau_theta up to {LARGEST:g}; in the paper {slope(paper.x, paper.y):.2f}",
        ),
    )
