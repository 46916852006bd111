import pytest
import torch

from protocols.core.eigenupdate import Mode, memory, start, update

MODES: tuple[Mode, ...] = ("streaming", "incremental", "buffered", "lagged")


def batch(count, seed=0, n_in=12, n_out=7):
    """Vectors whose sum of outer products has singular values that fall off, as gradients of a network have."""
    source = torch.Generator().manual_seed(seed)
    weight = 0.6 ** torch.arange(n_in, dtype=torch.float64)
    x = torch.randn(count, n_in, generator=source, dtype=torch.float64) * weight
    return x, x[:, :n_out] + 0.3 * torch.randn(count, n_out, generator=source, dtype=torch.float64) * weight[:n_out]


def best(gradient, rank):
    u, s, v = torch.linalg.svd(gradient)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


def cosine(a, b):
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_one_sample_gives_its_outer_product(mode):
    x, d = batch(1)
    x_new, d_new, _ = update(x, d, start(7, 12, dtype=torch.float64), mode)
    torch.testing.assert_close(d_new.mT @ x_new, d.T @ x, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("mode", "rank"), [("buffered", 1), ("buffered", 3), ("incremental", 3)])
def test_two_passes_and_merging_come_near_the_best_of_their_rank(mode, rank):
    """Facts (rpu.md 7): the buffered power step has a cosine of 0.99 or more to the best rank k."""
    state, found = start(7, 12, rank, dtype=torch.float64), []
    for number in range(4):
        x, d = batch(32, number)
        x_new, d_new, state = update(x, d, state, mode)
        found.append(cosine(d_new.mT @ x_new, best(d.T @ x, rank)))
    assert min(found[1:]) > 0.97


def test_streaming_points_downhill_in_every_batch():
    state = start(7, 12, dtype=torch.float64)
    for number in range(20):
        x, d = batch(32, number)
        x_new, d_new, state = update(x, d, state, "streaming")
        assert cosine(d_new.mT @ x_new, d.T @ x) > 0


@pytest.mark.parametrize("mode", MODES)
def test_the_size_is_that_of_this_batch(mode):
    """Errors ten times as large make the update ten times as large, whatever the batch before was."""
    x, d = batch(32)
    _, _, state = update(x, d, start(7, 12, dtype=torch.float64), mode)
    made = []
    for scale in (1.0, 10.0):
        x_new, d_new, _ = update(*(t * s for t, s in zip(batch(32, 1), (1.0, scale), strict=True)), state, mode)
        made.append(d_new.mT @ x_new)
    torch.testing.assert_close(made[1], 10 * made[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_a_silent_batch_changes_nothing_and_breaks_nothing(mode):
    x, d = batch(8)
    _, _, state = update(x, d, start(7, 12, dtype=torch.float64), mode)
    x_new, d_new, after = update(torch.zeros_like(x), torch.zeros_like(d), state, mode)
    assert not bool((d_new.mT @ x_new).any())
    assert all(bool(tensor.isfinite().all()) for tensor in after.values())
    x_new, d_new, _ = update(x, d, after, mode)
    assert float((d_new.mT @ x_new).norm()) > 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="rank must be from 1 to 7"):
        start(7, 12, 8)
    x, d = batch(4)
    with pytest.raises(ValueError, match="do not fit"):
        update(d, x, start(7, 12, dtype=torch.float64), "buffered")
    with pytest.raises(ValueError, match="streaming gives rank 1"):
        update(x, d, start(7, 12, 2, dtype=torch.float64), "streaming")


def test_memory_is_that_of_the_vectors():
    """Facts (beyond.md B1): rank 1 of 784 x 256 keeps 193 times fewer numbers than the matrix."""
    kept = memory(256, 784, 1, 256, "streaming")
    assert kept.dense / kept.factors == pytest.approx(193, abs=0.5)
    assert kept.batch / kept.dense == pytest.approx(1.33, abs=0.01)
