import pytest
import torch

from protocols.core.noisy_quadratic import Problem, descent, residual, tiles
from protocols.core.residual_learning import (
    Residual,
    SoftBounds,
    asymmetric_part,
    moved,
    regression_slope,
    slope_of_descent,
    symmetric_part,
)
from protocols.core.symmetric_point import Tracking

NOISE = torch.tensor([0.3], dtype=torch.float64)


def slope(learnt):
    return float(regression_slope(learnt.weights, learnt.target).mean())


def test_soft_bounds_answer_with_one_and_a_pull_to_their_symmetry_point():
    w = torch.tensor([-0.5, 0.1, 0.8], dtype=torch.float64)
    device = SoftBounds(2.0, 0.1)
    assert symmetric_part(device, w).tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close(asymmetric_part(device, w), (w - 0.1) / 2.0)
    step = torch.tensor(1e-3, dtype=torch.float64)
    change = moved(device, moved(device, w, step), -step) - w
    torch.testing.assert_close(change, -2 * step * (w - 0.1) / 2.0, rtol=0.0, atol=2e-6)  # pulled to the symmetry point


def test_whole_pulses_are_single_pulses_in_a_row():
    w, device = torch.tensor([0.2, -0.4], dtype=torch.float64), SoftBounds()
    one = w
    for _ in range(3):
        one = device.pulsed(one, torch.tensor([1.0, -1.0], dtype=torch.float64), 0.1)
    torch.testing.assert_close(device.pulsed(w, torch.tensor([3.0, -3.0], dtype=torch.float64), 0.1), one)


@pytest.mark.slow
def test_residual_learning_takes_the_bias_away_that_plain_descent_has():
    """Facts (beyond.md A3): slopes 0.80 (theory 0.807), 0.97 and 0.99 of descent, Tiki-Taka and residual learning.

    Means over snapshots and six copies scatter by about 0.005.
    """
    problem = Problem(steps=6000, settled=2000, replicas=6)
    plain = slope(descent(problem, NOISE, SoftBounds(), 0.05))
    tiki_taka = slope(residual(problem, NOISE, Residual(gamma=0.0))[0])
    both = slope(residual(problem, NOISE, Residual(), main_only=False)[0])  # what the product sees
    assert plain == pytest.approx(slope_of_descent(0.3, 1.0), abs=0.02)
    assert both > 0.98
    assert both > tiki_taka > plain + 0.1


@pytest.mark.slow
def test_a_tracked_symmetry_point_serves_as_well_as_a_known_one():
    """Facts (beyond.md A6): a zero reference is about twice as bad; without chopper Q swallows the signal."""
    problem = Problem(steps=12000, settled=8000, replicas=2, weights=150)
    source = torch.Generator().manual_seed(1)
    offset = (0.3 * torch.randn(2, 150, generator=source, dtype=torch.float64)).clamp(-0.8, 0.8)
    static, known = (
        float(residual(problem, NOISE, Residual(), offset=offset, reference=r)[0].error.mean()) for r in (0.0, offset)
    )
    tracked, q = residual(problem, NOISE, Residual(), offset=offset, tracking=Tracking())
    assert static > 1.6 * known
    assert float(tracked.error.mean()) < 1.3 * known
    assert float((q - offset).std()) < 0.1
    without = residual(problem, NOISE, Residual(), tracking=Tracking(period=None))[0]
    assert float(without.error.mean()) > 2 * known


@pytest.mark.slow
def test_two_tiles_halve_the_error_of_few_states():
    """Facts (beyond.md A3): 0.40 to 0.19 at 10 states; the gain ends at three to four tiles."""
    problem = Problem(steps=3000, settled=0, weights=400, replicas=2)
    found = tiles(problem, 0.1, (10,), 4, alpha=0.05, gamma=0.3).mean(-1)[:, 0].tolist()
    assert found[1] < 0.65 * found[0]
    assert found[2] < found[1]
    assert found[3] > 0.6 * found[2]
