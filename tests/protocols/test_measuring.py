"""What the measuring remembers: only what is finite, and only of batches of the same size."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from hil.network import Fan
from protocols.measuring import Measuring
from protocols.parts import Batch, Key

NAN = float("nan")


class Costs:
    """A network whose costs are known; ``rows`` are those of the baseline, if one is wanted, and of one branch."""

    def __init__(self):
        self.rows = {}
        self.asked = []

    def measure(self, how, memory, *, baseline, branch, new=False, step=0):
        def fan(x, branches, baseline):
            self.asked.append(baseline)
            rows = ([base] if baseline else []) + [moved]
            return Fan(torch.tensor(rows, dtype=torch.float64).unsqueeze(-1), {})

        base, moved = baseline, branch
        network = SimpleNamespace(
            fan=fan, loss=lambda out, y: out.squeeze(-1), correct=lambda out, y: torch.ones(out.shape[0])
        )
        batch = Batch(torch.zeros(len(branch), 1), torch.zeros(len(branch)))
        return how.measure(network, batch, [{}], Key(0, step, step, new, new), memory).changes[0].tolist()


@pytest.fixture
def costs():
    return Costs()


def test_a_baseline_that_is_not_finite_is_not_kept(costs):
    how, memory = Measuring(baseline="once"), {}
    assert costs.measure(how, memory, baseline=[1.0, NAN], branch=[1.5, 2.0], new=True) == [0.5, 0.0]
    assert memory == {}
    assert costs.measure(how, memory, baseline=[1.0, 1.0], branch=[1.5, 2.0]) == [0.5, 1.0]
    assert costs.measure(how, memory, baseline=[9.0, 9.0], branch=[1.25, 3.0]) == [0.25, 2.0]
    assert costs.asked == [True, True, False]


def test_a_kept_baseline_of_another_batch_size_is_measured_again(costs):
    how, memory = Measuring(baseline="once"), {}
    costs.measure(how, memory, baseline=[1.0], branch=[1.0], new=True)
    assert costs.measure(how, memory, baseline=[1.0, 2.0], branch=[1.0, 4.0]) == [0.0, 2.0]


def test_the_high_pass_recovers_from_a_cost_that_is_not_finite(costs):
    """c[n] = alpha (c[n-1] + C[n] - C[n-1]) with alpha 0.5, begun anew after what was lost."""
    how, memory = Measuring(baseline="high_pass", tau_hp=1.0), {}
    series = enumerate((3.0, 5.0, NAN, 6.0, 8.0))
    found = [costs.measure(how, memory, baseline=[], branch=[c], new=n == 0)[0] for n, c in series]
    assert found == [0.0, 1.0, 0.0, 0.0, 1.0]
    assert all(bool(value.isfinite().all()) for value in memory.values())


def test_a_new_batch_is_no_change(costs):
    how, memory = Measuring(baseline="high_pass", tau_hp=1.0), {}
    found = [
        costs.measure(how, memory, baseline=[], branch=[c], new=new)[0]
        for c, new in ((3.0, True), (5.0, False), (100.0, True), (104.0, False))
    ]
    assert found == [0.0, 1.0, 0.5, 2.25]


def test_study_noise_is_drawn_for_every_cost_and_step(costs):
    how = Measuring(cost_noise=0.1)
    seen = [costs.measure(how, {}, baseline=[0.0] * 50, branch=[0.0] * 50, step=step) for step in range(40)]
    assert float(torch.tensor(seen).std()) == pytest.approx(0.1 * 2**0.5, rel=0.05)
    assert seen[3] == costs.measure(how, {}, baseline=[0.0] * 50, branch=[0.0] * 50, step=3)
