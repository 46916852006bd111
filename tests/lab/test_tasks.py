"""Data sets: fixed splits, batches that depend on seed and number only, every sample once an epoch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.lab.tasks import Digits, Samples, Xor
from hil.lab.tasks.samples import split
from hil.protocol import Batch


def test_the_digits_are_all_there() -> None:
    samples = Digits().load(0)
    assert samples.train.x.shape == (1438, 64) and samples.test.x.shape == (359, 64)
    assert samples.classes == 10 and samples.cost == "cross_entropy"
    x = torch.cat([samples.train.x, samples.test.x])
    assert float(x.min()) == -1.0 and float(x.max()) == 1.0
    y = torch.cat([samples.train.y, samples.test.y])
    assert torch.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # from scikit-learn's page


def test_the_split_does_not_depend_on_the_seed_of_the_run() -> None:
    a, b = Digits().load(0), Digits().load(1)
    assert torch.equal(a.test.x, b.test.x) and torch.equal(a.train.y, b.train.y)
    assert not torch.equal(a.batch(0).x, b.batch(0).x)
    other = Digits(split_seed=1).load(0)
    assert not torch.equal(a.test.x, other.test.x)


def test_xor_is_exclusive_or() -> None:
    samples = Xor().load(0)
    for x, y in zip(samples.train.x, samples.train.y, strict=True):
        assert float(y) == float((x[0] > 0) != (x[1] > 0))
    assert torch.equal(samples.batch(17).x, samples.train.x)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(count=st.integers(2, 60), share=st.floats(0.05, 0.9), seed=st.integers(0, 99))
def test_a_split_loses_nothing_and_keeps_labels_with_samples(count: int, share: float, seed: int) -> None:
    x = torch.arange(count).float()[:, None]
    train, test = split(x, torch.arange(count), share, seed)
    assert test.x.shape[0] == round(share * count)
    for part in (train, test):
        assert torch.equal(part.x[:, 0].long(), part.y)
    assert torch.cat([train.y, test.y]).sort().values.tolist() == list(range(count))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(count=st.integers(1, 40), size=st.integers(1, 45), seed=st.integers(0, 99), epoch=st.integers(0, 5))
def test_an_epoch_shows_each_sample_at_most_once(count: int, size: int, seed: int, epoch: int) -> None:
    whole = Batch(torch.arange(count).float()[:, None] / count, torch.arange(count))
    samples = Samples(whole, whole, count, "cross_entropy", size, seed)
    per_epoch = max(count // size, 1)
    numbers = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    seen = torch.cat([samples.batch(number).y for number in numbers]).tolist()
    assert len(seen) == len(set(seen)) == (count if size >= count else per_epoch * size)
    fresh = Samples(whole, whole, count, "cross_entropy", size, seed)
    for number in reversed(numbers):  # the order in which batches are asked for does not matter
        assert torch.equal(fresh.batch(number).y, samples.batch(number).y)


def test_epochs_are_shuffled_anew() -> None:
    samples = Digits(batch=1438 // 2).load(3)
    assert not torch.equal(samples.batch(0).y, samples.batch(2).y)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"test": 0.0}, {"test": 1.0}, {"split_seed": -1}])
def test_wrong_settings_of_digits(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Digits(**wrong)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("batch", [0, 5])
def test_wrong_settings_of_xor(batch: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 4"):
        Xor(batch=batch)


@pytest.mark.parametrize("wrong", [1.001, -1.001, float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["train", "test"])
def test_inputs_above_the_read_voltage_are_refused(part: str, wrong: float) -> None:
    fine = Batch(torch.tensor([[-1.0, 1.0]]), torch.tensor([0]))
    parts = {"train": fine, "test": fine, part: Batch(torch.tensor([[0.0, wrong]]), torch.tensor([0]))}
    with pytest.raises(ValueError, match=f"{part} inputs must lie between -1 and 1"):
        Samples(parts["train"], parts["test"], 2, "cross_entropy", 1, 0)
