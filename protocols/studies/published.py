"""Numbers of Oripov et al. 2025, APL Machine Learning 3, doi 10.1063/5.0258271, computed from the authors' raw data.

The raw data are public (bakhromtjk/mgd_scaling). Networks are convolutional ones of width d on Fashion-MNIST.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.studies.study import Cell, Table

SOURCE = "Oripov et al. 2025, doi 10.1063/5.0258271, raw data"


@dataclass(frozen=True, slots=True)
class Width:
    """A network of Figs. 3 and 4: iterations of weight perturbation, node perturbation and backpropagation.

    Args:
        d: width of the first layer.
        parameters: number of parameters.
        nodes: number of pre-activations.
        weight_15: iterations until the angle to the gradient is 15 degrees, weight perturbation, mean of 10 seeds.
        node_15: the same of node perturbation.
        weight_80: iterations to 80 % test accuracy, weight perturbation.
        node_80: the same of node perturbation.
        backprop_80: the same of backpropagation.
    """

    d: int
    parameters: int
    nodes: int
    weight_15: int
    node_15: int
    weight_80: int
    node_80: int
    backprop_80: int


WIDTHS = (
    Width(1, 520, 2_762, 1_132, 783, 2_473_000, 1_501_000, 396_000),
    Width(2, 1_908, 5_514, 4_310, 2_780, 900_000, 427_000, 74_600),
    Width(4, 7_318, 11_018, 15_390, 7_100, 729_000, 273_000, 32_700),
    Width(8, 28_674, 22_026, 68_010, 17_290, 750_000, 219_000, 18_400),
    Width(16, 113_530, 44_042, 280_650, 39_080, 790_000, 200_000, 10_800),
    Width(32, 451_818, 88_074, 1_116_069, 99_237, 1_030_000, 227_000, 8_200),
    Width(64, 1_802_698, 176_138, 4_715_760, 186_400, 1_289_000, 266_000, 5_900),
)

TAU_THETA = ((1, 87_000), (10, 282_000), (100, 901_000), (1000, 3_446_000), (2000, 5_176_000))
"""Fig. 5: (tau_theta, iterations to 80 %) of weight perturbation with plain descent at d = 24."""


def angles() -> Table:
    """Fig. 3: iterations until the estimate is 15 degrees from the gradient."""
    rows: list[tuple[Cell, ...]] = [(w.d, w.parameters, w.nodes, w.weight_15, w.node_15) for w in WIDTHS]
    columns = ("d", "parameters", "nodes", "weight perturbation, iterations", "node perturbation, iterations")
    return Table(f"Iterations to 15 degrees, Fig. 3 ({SOURCE})", columns, tuple(rows))


def sizes() -> Table:
    """Fig. 4: iterations to 80 % test accuracy on Fashion-MNIST."""
    rows: list[tuple[Cell, ...]] = [(w.d, w.parameters, w.backprop_80, w.node_80, w.weight_80) for w in WIDTHS]
    columns = ("d", "parameters", "backprop", "node perturbation", "weight perturbation")
    return Table(f"Iterations to 80 % on Fashion-MNIST, Fig. 4 ({SOURCE})", columns, tuple(rows))


def taus() -> Table:
    """Fig. 5: iterations to 80 % against the integration time."""
    title = f"Iterations to 80 % on Fashion-MNIST, d = 24, weight perturbation, Fig. 5 ({SOURCE})"
    return Table(title, ("tau_theta", "iterations"), TAU_THETA)
