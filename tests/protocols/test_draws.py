"""Draws are functions of (seed, stream, step) and of nothing else."""

import torch

from protocols.core.draws import generator, signs


def test_equal_keys_give_equal_draws_whatever_was_drawn_before():
    first = signs((3, 5), generator(7, "node/layer1", 4))
    signs((1000,), generator(7, "node/layer2", 4))
    torch.manual_seed(99)
    torch.testing.assert_close(signs((3, 5), generator(7, "node/layer1", 4)), first, rtol=0, atol=0)


def test_every_part_of_the_key_changes_the_draw():
    keys = [(s, stream, step) for s in range(4) for stream in ("node/layer1", "node/layer2", "w") for step in range(4)]
    draws = {tuple(signs((64,), generator(*key)).tolist()) for key in keys}
    assert len(draws) == len(keys)


def test_the_parts_of_a_key_do_not_run_together():
    assert generator(1, "1/a", 1).initial_seed() != generator(11, "a", 1).initial_seed()
    assert generator(1, "a", 12).initial_seed() != generator(1, "a/1", 2).initial_seed()


def test_a_draw_does_not_touch_the_global_stream():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    signs((100,), generator(0, "a", 0))
    torch.testing.assert_close(torch.rand(4), expected, rtol=0, atol=0)


def test_signs_are_plus_or_minus_one_and_balanced():
    draw = signs((40_000,), generator(0, "a", 0), torch.float64)
    assert draw.dtype is torch.float64
    assert set(draw.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(draw.mean())) < 4 / 40_000**0.5


def test_codes_of_two_streams_and_of_two_steps_are_uncorrelated():
    """Were one key used for all layers, equal-shaped layers would share their code and the estimate would be biased."""
    n = 40_000
    a = signs((n,), generator(0, "node/layer1", 0), torch.float64)
    for other in (generator(0, "node/layer2", 0), generator(0, "node/layer1", 1), generator(1, "node/layer1", 0)):
        assert abs(float((a * signs((n,), other, torch.float64)).mean())) < 4 / n**0.5
