"""Networks for deployment: what comes out is exactly what was trained, replicas stand alone, tasks are kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hil.errors import UsageError
from hil.lab.tasks import Digits, Samples, TwoYinYang, YinYang
from hil.network import own_head
from hil.protocol import Batch
from protocols.core.precision import Levels, Real, Ternary
from protocols.software.fitting import fitted
from protocols.software.stack import fisher, new_stack
from protocols.software.training import ElasticWeights, Metaplasticity, SoftwareTraining, Trained

SHORT = SoftwareTraining(seeds=3, epochs=4, batch=20, eta=0.03)


def points(count: int = 200) -> Batch:
    x = 2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) - 1
    return Batch(x, (x[:, 0] > x[:, 1]).long())


def share(samples: Samples, model: nn.Sequential) -> float:
    with torch.no_grad():
        return float(samples.correct(model(samples.test.x), samples.test.y).double().mean())


def linears(model: nn.Sequential) -> list[nn.Linear]:
    return [module for module in model if isinstance(module, nn.Linear)]


@pytest.mark.parametrize(("precision", "most"), [(Ternary(), 3), (Levels(count=5), 5)], ids=str)
def test_weights_lie_on_the_levels_of_their_layer(precision: Ternary, most: int) -> None:
    trained = SoftwareTraining(precision=precision, seeds=2, epochs=2, eta=0.03).train([3, 8, 2], [points()])
    for model in trained.models:
        assert [type(module) for module in model] == [nn.Linear, nn.Tanh, nn.Linear]
        for linear in linears(model):
            levels = (linear.weight / linear.weight.abs().max()).unique()
            assert len(levels) <= most
            half = (most - 1) / 2
            torch.testing.assert_close(levels * half, (levels * half).round())


def test_the_model_computes_what_the_stack_was_trained_for() -> None:
    stack = new_stack([3, 8, 8, 2], Ternary(), 2.0, 4, 5)
    stack.biases = [torch.randn(b.shape, generator=torch.Generator().manual_seed(2)) for b in stack.biases]
    x = points().x
    for replica in range(4):
        torch.testing.assert_close(stack.model(replica)(x), stack.products(x)[1][-1][replica])


def test_training_learns_repeats_and_chooses_on_training_samples() -> None:
    samples = points()
    a, b = (SHORT.train([3, 8, 2], [samples], seed=1) for _ in range(2))
    assert float(a.accuracy.max()) > 0.9 and a.best == int(a.accuracy[:, 0].argmax())
    assert a.model is a.models[a.best]
    for one, other in zip(a.models, b.models, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    for model, accuracy in zip(a.models, a.accuracy, strict=True):
        with torch.no_grad():
            right = float((model(samples.x).argmax(1) == samples.y).double().mean())
        assert right == pytest.approx(float(accuracy), abs=0.006)  # a sample at the border may fall either way


def test_a_network_does_not_depend_on_those_beside_it() -> None:
    alone, among = (new_stack([3, 8, 2], Ternary(), 2.0, seeds, 7) for seeds in (1, 4))
    for one, other in zip(alone.parameters, among.parameters, strict=True):
        assert torch.equal(one[0], other[0])
    assert not torch.equal(among.hidden[0][0], among.hidden[0][1])
    one, many = (
        SoftwareTraining(precision=Real(), epochs=2, seeds=seeds).train([3, 8, 2], [points()]) for seeds in (1, 3)
    )
    for p, q in zip(one.models[0].parameters(), many.models[0].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def in_turn(consolidation: Metaplasticity | ElasticWeights | None, count: int = 2) -> Trained:
    """Two tasks that need different weights, learned one after the other."""
    x = points().x
    tasks = [Batch(x, (x[:, 0] > x[:, 1]).long()), Batch(x, (x[:, 2] + x[:, 1] > 0).long() + 2)]
    how = SoftwareTraining(seeds=3, epochs=8, batch=20, eta=0.1, consolidation=consolidation)
    return how.train([3, 4, 4], tasks[:count], heads=2)


@pytest.mark.parametrize(("m", "stay"), [(0.0, False), (1000.0, True)])
def test_firm_weights_of_an_old_task_stay(m: float, stay: bool) -> None:
    how = Metaplasticity(m=m, hold_biases=True)
    before, after = in_turn(how, 1), in_turn(how)
    lost: list[Tensor] = []
    for a, b in zip(before.models, after.models, strict=True):
        for one, other in zip(linears(a), linears(b), strict=True):
            assert torch.equal(one.bias, other.bias)
            lost.append(((one.weight != 0) & (one.weight.sign() != other.weight.sign())).double().mean())
    assert (float(torch.stack(lost).max()) == 0.0) is stay


def test_strong_elastic_weights_hold_the_first_task() -> None:
    free, held = (float(in_turn(how).accuracy[:, 0].mean()) for how in (None, ElasticWeights()))
    assert held > free + 0.05


def test_fisher_information_by_single_gradients() -> None:
    stack, x = new_stack([3, 4, 6], Real(), 2.0, 2, 3), points(5).x
    y, heads = torch.tensor([0, 1, 3, 5, 4]), 2
    found = fisher(stack, x, heads, y)
    expected = [torch.zeros_like(p) for p in stack.parameters]
    for sample in range(5):
        leaves = [p.clone().requires_grad_(True) for p in stack.parameters]
        out = stack.with_parameters(leaves).products(x[sample : sample + 1])[1][-1]
        logits: Tensor = own_head(out, y[sample : sample + 1], heads)[0].log_softmax(-1)[:, 0]
        for number in range(3):
            gradients = torch.autograd.grad(logits[:, number].sum(), leaves, retain_graph=True)
            for total, gradient in zip(expected, gradients, strict=True):
                chance = logits[:, number].detach().exp()
                total.add_(chance.view(-1, *[1] * (gradient.dim() - 1)) * gradient.square() / 5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_noise_in_training_is_drawn_by_step() -> None:
    plain, noisy, again = (
        SoftwareTraining(seeds=2, epochs=1, eta=0.03, noise=noise).train([3, 4, 2], [points(100)])
        for noise in (0.0, 0.3, 0.3)
    )
    weights = [torch.stack([linears(m)[0].bias for m in t.models]) for t in (plain, noisy, again)]
    assert torch.equal(weights[1], weights[2]) and not torch.equal(weights[0], weights[1])


def test_fitted_is_a_copy_with_the_same_biases() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    before = [p.clone() for p in model.parameters()]
    found = fitted(model, Ternary())
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    for old, new in zip(linears(model), linears(found), strict=True):
        assert torch.equal(old.bias, new.bias) and len(new.weight.abs().unique()) <= 2


@pytest.mark.parametrize(
    ("widths", "tasks", "heads", "problem"),
    [
        ([3], [points()], 1, "widths of at least one layer"),
        ([3, 2], [], 1, "at least one task"),
        ([3, 2], [points()], 3, "3 heads do not divide 2 outputs"),
        ([4, 2], [points()], 1, "task 1: expected samples of 4 inputs"),
        ([3, 2], [Batch(torch.zeros(2, 3), torch.zeros(2, 1))], 1, "a class number for each sample"),
        ([3, 2], [points(), Batch(torch.zeros(2, 3), torch.tensor([0, 2]))], 1, "task 2: expected classes from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(widths: list[int], tasks: list[Batch], heads: int, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        SHORT.train(widths, tasks, heads=heads)


@pytest.mark.parametrize(
    "wrong", [{"seeds": 0}, {"epochs": 0}, {"batch": 0}, {"eta": 0.0}, {"slope": -1.0}, {"noise": -0.1}]
)
def test_wrong_settings_name_themselves(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must"):
        SoftwareTraining(**wrong)  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_yinyang_ternary_reaches_the_level_of_the_recipe() -> None:
    samples = YinYang().load(0)
    trained = SoftwareTraining().train([4, 12, 12, 3], [samples.train])
    assert share(samples, trained.model) > 0.91  # the prototype's best of 6; here .966


@pytest.mark.slow
def test_digits_ternary_is_nearly_as_good_as_real() -> None:
    samples = Digits().load(0)
    ternary, real = (
        SoftwareTraining(precision=p, seeds=3, eta=0.02).train([64, 32, 10], [samples.train])
        for p in (Ternary(), Real())
    )
    assert share(samples, ternary.model) > 0.95  # here .97
    assert share(samples, ternary.model) > share(samples, real.model) - 0.02


@pytest.mark.slow
def test_two_tasks_metaplastic_and_elastic() -> None:
    samples = TwoYinYang(train_samples=2500).load(0)
    tasks = [samples.of_task(task).train for task in (0, 1)]

    def means(consolidation: Metaplasticity | ElasticWeights | None) -> tuple[float, float]:
        how = SoftwareTraining(consolidation=consolidation)
        trained = how.train([4, 12, 12, 6], tasks, heads=2)
        return float(trained.accuracy[:, 0].mean()), share(samples, trained.model)

    forgetful, published, held, elastic = (
        means(how) for how in (None, Metaplasticity(), Metaplasticity(hold_biases=True), ElasticWeights())
    )
    assert 0.66 < published[1] < 0.90  # the prototype: 70 to 74; here .79
    assert forgetful[0] < 0.70 and held[0] > forgetful[0] + 0.06  # here .59 and .70
    assert elastic[0] > held[0] + 0.10 and elastic[1] > 0.83  # here .91 and .89


def test_the_cost_of_training_is_within_the_head() -> None:
    from protocols.software.training import _cost

    out = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 4, 2])
    parts = [
        F.cross_entropy(out[:, n, 3 * (c // 3) :][:, :3], torch.tensor([c % 3] * 2)) for n, c in enumerate(y.tolist())
    ]
    torch.testing.assert_close(_cost(out, y, 2), 2 * torch.stack(parts).mean())
