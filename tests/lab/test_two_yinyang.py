"""Two tasks in one network: turned geometry, samples judged within their own head, tasks one after the other."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hil.lab.tasks import Samples, TwoYinYang, YinYang
from hil.lab.tasks.yinyang import yinyang_classes
from hil.network import Network, own_head
from hil.protocol import Batch


@pytest.mark.parametrize("degrees", [45.0, 90.0, 200.0])
def test_the_second_task_is_the_first_turned(degrees: float) -> None:
    samples = TwoYinYang(degrees=degrees, train_samples=600).load(0)
    second = samples.of_task(1).train
    back = math.radians(-degrees)
    turn = torch.tensor([[math.cos(back), math.sin(back)], [-math.sin(back), math.cos(back)]], dtype=torch.float64)
    points = second.x[:, :2].double() @ turn
    assert yinyang_classes(points.numpy()).tolist() == (second.y - 3).tolist()
    assert yinyang_classes(second.x[:, :2].double().numpy()).tolist() != (second.y - 3).tolist()
    assert torch.equal(second.x[:, :2], -second.x[:, 2:])


def test_half_a_turn_swaps_yin_and_yang() -> None:
    second = TwoYinYang(degrees=180.0, train_samples=300).load(0).of_task(1).train
    classes = torch.as_tensor(yinyang_classes(second.x[:, :2].double().numpy()))
    assert torch.equal(classes, torch.tensor([1, 0, 2])[second.y - 3])


def test_sizes_classes_and_parts_of_tasks() -> None:
    samples = TwoYinYang(train_samples=60, test_samples=30).load(3)
    assert samples.classes == 6 and samples.heads == 2 and samples.size == 50
    assert samples.train.x.shape == (120, 4) and samples.test.x.shape == (60, 4)
    assert torch.bincount(samples.train.y).tolist() == [20] * 6
    parts = [samples.of_task(task) for task in (0, 1)]
    assert torch.equal(torch.cat([part.train.x for part in parts]), samples.train.x)
    assert [part.test.y.unique().tolist() for part in parts] == [[0, 1, 2], [3, 4, 5]]
    assert all(part.classes == 6 and part.heads == 2 for part in parts)
    assert not torch.equal(samples.train.x[:30], samples.test.x[:30])
    assert not torch.equal(parts[0].train.x, parts[1].train.x)


def test_the_first_task_has_the_geometry_of_the_single_one() -> None:
    first = TwoYinYang(train_samples=300).load(0).of_task(0).train
    assert yinyang_classes(first.x[:, :2].double().numpy()).tolist() == first.y.tolist()


def test_a_task_without_heads_is_one_task() -> None:
    samples = YinYang(train_samples=3, test_samples=3).load(0)
    assert samples.heads == 1 and samples.of_task(0) is samples
    with pytest.raises(ValueError, match="task must lie between 0 and 0, got 1"):
        samples.of_task(1)


def test_a_sample_is_judged_within_its_own_head() -> None:
    samples = TwoYinYang(train_samples=3, test_samples=3).load(0)
    out = torch.tensor([[0.0, 1.0, 0.5, 9.0, 9.0, 9.0], [9.0, 9.0, 9.0, 0.0, 0.2, 0.1]])
    assert samples.correct(out, torch.tensor([1, 4])).tolist() == [True, True]
    assert samples.correct(out, torch.tensor([0, 5])).tolist() == [False, False]
    assert samples.correct(out, torch.tensor([4, 1])).tolist() == [False, False]  # the other head's outputs are equal


def test_own_head_by_hand_and_with_leading_axes() -> None:
    out, y = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 5, 2, 3])
    found, classes = own_head(out, y, 2)
    assert classes.tolist() == [0, 2, 2, 0] and found.shape == (5, 4, 3)
    for sample, head in enumerate((0, 1, 0, 1)):
        assert torch.equal(found[:, sample], out[:, sample, 3 * head : 3 * head + 3])
    same, labels = own_head(out, y, 1)
    assert same is out and labels is y


def test_the_cost_of_a_network_is_within_the_head() -> None:
    network = Network([], [], "cross_entropy")
    out, y = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([4, 0, 2])
    flat = network.loss(out, y)
    network.heads = 2
    expected = [
        -out[:, n, 3 * (c // 3) : 3 * (c // 3) + 3].double().log_softmax(-1)[:, c % 3] for n, c in enumerate(y.tolist())
    ]
    torch.testing.assert_close(network.loss(out, y), torch.stack(expected, 1))
    assert bool((network.loss(out, y) < flat).all())  # fewer rivals
    assert network.correct(torch.eye(6)[[1, 4]], torch.tensor([1, 4])).tolist() == [True, True]


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"train_samples": 0}, {"test_samples": 0}, {"data_seed": -1}])
def test_wrong_settings_name_themselves(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be at least"):
        TwoYinYang(**wrong)


@pytest.mark.parametrize("degrees", [0.0, 360.0, -45.0, math.nan])
def test_no_turn_is_no_second_task(degrees: float) -> None:
    with pytest.raises(ValueError, match="degrees must lie between 0 and 360"):
        TwoYinYang(degrees=degrees)


def test_heads_must_divide_the_outputs() -> None:
    part = Batch(torch.zeros(2, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="heads must divide the 3 outputs, got 2"):
        Samples(part, part, 3, "cross_entropy", 1, 0, heads=2)
    with pytest.raises(ValueError, match="several heads need class numbers"):
        Samples(part, part, 4, "mse", 1, 0, heads=2)


def test_ordinary_tasks_judge_all_outputs() -> None:
    samples = YinYang(train_samples=3, test_samples=3).load(0)
    assert samples.correct(torch.eye(3), torch.tensor([0, 1, 0])).tolist() == [True, True, False]
