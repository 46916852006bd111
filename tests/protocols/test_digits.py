"""Node against weight perturbation on the digits, through the pure core."""

from __future__ import annotations

import pytest

from hil.lab.tasks import Digits
from protocols.core.layerwise import Layerwise
from protocols.core.mlp import Mlp
from protocols.studies.training import Data, Race, iterations


@pytest.mark.slow
def test_node_perturbation_needs_a_quarter_of_the_iterations():
    """Facts 8, 64-32-10: node at eta 0.1, weight at eta 0.05; a mean ratio above 4 to the same 90 %."""
    samples = Digits().load(0)
    data = Data(samples.train.x, samples.train.y, samples.test.x, samples.test.y)
    network = Mlp(widths=(64, 32, 10), hidden="tanh", output="identity", cost="cross_entropy")
    node = iterations(
        network, Layerwise(method="node", eta=0.1), data, Race(target=0.9, most=3_000, every=25, replicas=3)
    )
    weight = iterations(
        network, Layerwise(method="weight", eta=0.05), data, Race(target=0.9, most=20_000, every=100, replicas=3)
    )
    assert None not in node and None not in weight, (node, weight)
    assert sum(weight) > 4 * sum(node)
    assert max(node) <= 1_500
