"""The factorised lines against dense inverses."""

import numpy as np
import pytest

from sim_backend.wires.circuit import Line
from sim_backend.wires.elimination import inverse
from sim_backend.wires.ladders import Ladders


def dense(g, line):
    """T of one line."""
    n = len(g)
    t = np.diag(g)
    for j in range(n - 1):
        t[j : j + 2, j : j + 2] += np.array([[1, -1], [-1, 1]]) / line.segment
    t[0, 0] += 1 / line.near
    t[-1, -1] += 1 / line.far
    return t


@pytest.mark.parametrize("nodes", [2, 3, 9])
@pytest.mark.parametrize("line", [Line(2.0, 3.0), Line(2.0, 50.0, 20.0)])
def test_inverse_reach_and_generators(nodes, line):
    rng = np.random.default_rng(nodes)
    g, x = rng.uniform(1e-3, 1e-1, (2, 4, nodes)), rng.normal(size=(3, 2, 4, nodes))
    ladders = Ladders(g, line)
    found, (a, b, logs) = ladders.inverse(x.copy()), ladders.generators()
    assert logs is None
    for t, i in np.ndindex(2, 4):
        whole = np.linalg.inv(dense(g[t, i], line))
        np.testing.assert_allclose(found[:, t, i], x[:, t, i] @ whole, rtol=1e-12)
        source = np.zeros(nodes)
        source[0] = 1 / line.near
        source[-1] += 1 / line.far
        np.testing.assert_allclose(ladders.reach[t, i], whole @ source, rtol=1e-12)
        np.testing.assert_allclose(np.tril(np.outer(a[t, i], b[t, i])), np.tril(whole), rtol=1e-11)


def test_generators_of_a_line_that_underflows():
    g, line = np.full((1, 2, 60), 10.0), Line(1e3, 1e3)
    a, _, logs = Ladders(g, line).generators()
    assert logs is not None
    whole = np.linalg.inv(dense(g[0, 0], line))
    for j, k in ((0, 0), (5, 2), (20, 1)):
        assert a[0, 0, j] * np.exp(logs[0, 0, j] - logs[0, 0, k]) == pytest.approx(whole[j, k], rel=1e-9)


def test_merged_lines_are_one_node():
    g = np.array([[[1.0, 2.0, 3.0]]])
    ladders = Ladders(g, Line(0.0, 0.5))  # a tie of 2 S
    np.testing.assert_allclose(ladders.reach[0, 0], 2.0 / 8.0)
    np.testing.assert_allclose(ladders.inverse(np.array([[[[1.0, 3.0, 4.0]]]]))[0, 0, 0], 1.0)
    held = Ladders(g, Line(0.0, 0.0))
    assert held.held and not held.inverse(np.ones((1, 1, 1, 3))).any() and (held.reach == 1.0).all()


@pytest.mark.parametrize("n", [1, 5, 64, 65, 131])
def test_inverse_reads_the_lower_triangle_only(n):
    import torch

    generator = torch.Generator().manual_seed(n)
    half = torch.rand(2, n, n, dtype=torch.float64, generator=generator)
    whole = half @ half.mT + n * torch.eye(n, dtype=torch.float64)
    spoilt = whole.tril() + torch.full_like(whole, torch.nan).triu(1).nan_to_num(1e9)
    torch.testing.assert_close(inverse(spoilt), torch.linalg.inv(whole), rtol=1e-11, atol=1e-13)
