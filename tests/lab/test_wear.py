"""The counters of a chip: exact, charged before sending, undone only for a list that was refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.contract import Blocks, BoardSpec
from hil.errors import CheckpointError, LimitExceeded, StorageError
from hil.lab.wear import Wear

TWO = Blocks((0, 1), (1, 0), (0, 2), 2, 3)


@pytest.fixture(scope="session")
def spec(spec_of: Callable[..., BoardSpec]) -> BoardSpec:
    made = spec_of(limits={"pulses_per_run": 50, "pulses_per_life": 80, "forming": "once"})
    return replace(made, where={f"limits.{name}": f"b.yaml:{name}" for name in ("pulses_per_run", "pulses_per_life")})


def counts(*shape: int, low: int = 0, high: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def test_counts_go_to_the_cells_of_their_blocks(spec: BoardSpec) -> None:
    wear, given_counts = Wear(spec), counts(2, 2, 3)
    wear.charge(TWO, given_counts)
    expected = torch.zeros(spec.cells, dtype=torch.int64)
    expected[0, 1:3, 0:3] = given_counts[0]
    expected[1, 0:2, 2:5] = given_counts[1]
    assert torch.equal(wear.run, expected) and torch.equal(wear.life, expected)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.lists(st.integers(0, 9), min_size=4, max_size=4), st.booleans()), max_size=12))
def test_only_what_was_rolled_back_is_undone(lists: list[tuple[list[int], bool]]) -> None:
    spec = _tiny()
    wear, block, kept = Wear(spec), Blocks((0,), (0,), (0,), 2, 2), torch.zeros(4, dtype=torch.int64)
    for numbers, refused in lists:
        wear.begin()
        wear.charge(block, torch.tensor(numbers).view(1, 2, 2))
        wear.charge(block, torch.ones(1, 1, 1, dtype=torch.int64).expand(1, 2, 2))
        if refused:
            wear.roll_back()
            wear.roll_back()  # a second time does nothing
        else:
            kept += torch.tensor(numbers) + 1
    assert torch.equal(wear.run.view(-1), kept) and torch.equal(wear.life.view(-1), kept)


def _tiny() -> BoardSpec:
    class Tiny:
        cells = (1, 2, 2)

        class limits:
            pulses_per_run, pulses_per_life, forming = 10**6, 10**6, "once"

    return Tiny()  # type: ignore[return-value]


def test_a_charge_is_copied(spec: BoardSpec) -> None:
    wear, given_counts = Wear(spec), counts(2, 2, 3, low=1)
    wear.begin()
    wear.charge(TWO, given_counts)
    given_counts.zero_()
    wear.roll_back()
    assert not wear.run.any()


@pytest.mark.parametrize(("life", "name", "limit"), [(0, "pulses_per_run", 50), (70, "pulses_per_life", 80)])
def test_a_budget_is_met_exactly_and_not_passed(spec: BoardSpec, life: int, name: str, limit: int) -> None:
    wear = Wear(spec, torch.full(spec.cells, life))
    one = torch.zeros(2, 2, 3, dtype=torch.int64)
    one[1, 0, 2] = limit - life
    wear.charge(TWO, one)
    before = wear.snapshot()
    with pytest.raises(LimitExceeded) as caught:
        wear.charge(TWO, (one > 0).long())
    error = caught.value
    assert (error.value, error.limit, error.source) == (limit + 1, limit, f"b.yaml:{name}")
    assert error.where == "kernel 1, row 0, column 4"
    assert all(torch.equal(before[name], now) for name, now in wear.snapshot().items())


def test_a_cell_is_formed_once_and_a_roll_back_forgets_only_new_formings(spec: BoardSpec) -> None:
    wear, one = Wear(spec), Blocks((2,), (1,), (1,), 1, 2)
    first = torch.tensor([[[True, False]]])
    wear.begin()
    wear.form(one, first)
    wear.begin()
    wear.form(one, ~first)
    wear.roll_back()
    assert wear.formed.nonzero().tolist() == [[2, 1, 1]]
    with pytest.raises(LimitExceeded, match="forming of cells formed before 1 above 0"):
        wear.form(one, torch.tensor([[[True]]]))
    assert wear.formed.nonzero().tolist() == [[2, 1, 1]]
    free = Wear(replace(spec, limits=replace(spec.limits, forming="free")), formed=wear.formed)
    free.begin()
    free.form(one, torch.tensor([[[True]]]))
    free.roll_back()
    assert torch.equal(free.formed, wear.formed)


class Keeper:
    """A chip file that notes what it is told."""

    def __init__(self, margin: int = 10) -> None:
        self.margin, self.calls, self.settled = margin, 0, False

    def reserve(self, life: torch.Tensor, formed: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.life, self.formed = life + self.margin, formed.clone()
        return self.life.clone()

    def settle(self, life: torch.Tensor, formed: torch.Tensor) -> None:
        self.settled = True
        self.life, self.formed = life.clone(), formed.clone()


def kept(spec: BoardSpec, keeper: Keeper) -> Wear:
    return Wear(spec, reserve=keeper.reserve, settle=keeper.settle)


def test_the_file_is_asked_only_when_it_would_fall_behind(spec: BoardSpec) -> None:
    keeper = Keeper()
    wear = kept(spec, keeper)
    asked = []
    for _ in range(13):
        wear.begin()
        wear.charge(TWO, torch.ones(2, 2, 3, dtype=torch.int64))
        wear.keep_ahead()
        assert bool((keeper.life >= wear.life).all())
        asked.append(keeper.calls)
    assert asked == [1] * 11 + [2] * 2
    wear.begin()
    wear.keep_ahead()
    assert keeper.calls == 2


@pytest.mark.parametrize("before", ["nothing", "pulses", "a close"])
def test_forming_is_stored_before_it_is_done(spec: BoardSpec, before: str) -> None:
    keeper = Keeper()
    wear = kept(spec, keeper)
    one = torch.ones(2, 2, 3, dtype=torch.int64)
    if before != "nothing":
        wear.charge(TWO, one)
        wear.keep_ahead()
    if before == "a close":
        wear.close()
        keeper.calls = 0
    wear._reserved += 100  # the counts alone would not ask the file
    asked = keeper.calls
    wear.begin()
    wear.form(TWO, torch.ones(1, 1, 1, dtype=torch.bool))
    wear.charge(TWO, one)
    wear.keep_ahead()
    assert keeper.calls == asked + 1 and torch.equal(keeper.formed, wear.formed) and int(wear.formed.sum()) == 12


def test_a_close_stores_the_exact_numbers_and_later_pulses_are_reserved_anew(spec: BoardSpec) -> None:
    keeper = Keeper()
    wear = kept(spec, keeper)
    for done in (1, 2):
        wear.begin()
        wear.charge(TWO, torch.ones(2, 2, 3, dtype=torch.int64))
        wear.keep_ahead()
        assert keeper.calls == done
        wear.close()
        assert keeper.settled and torch.equal(keeper.life, wear.life)
    Wear(spec).close()


def test_a_file_that_fails_is_heard(spec: BoardSpec) -> None:
    def full(life: torch.Tensor, formed: torch.Tensor) -> torch.Tensor:
        raise StorageError("a.db", "disk full")

    wear = Wear(spec, reserve=full)
    wear.charge(TWO, torch.ones(2, 2, 3, dtype=torch.int64))
    for _ in range(2):  # it is asked again, not taken as done
        with pytest.raises(StorageError):
            wear.keep_ahead()


def test_what_comes_in_and_goes_out_is_a_copy(spec: BoardSpec) -> None:
    life, formed = torch.ones(spec.cells, dtype=torch.int64), torch.ones(spec.cells, dtype=torch.bool)
    wear = Wear(spec, life, formed)
    saved = wear.snapshot()
    life += 1
    formed.zero_()
    wear.charge(TWO, torch.ones(2, 2, 3, dtype=torch.int64))
    assert int(saved["wear.life"].max()) == 1 and bool(wear.formed.all()) and int(wear.life.max()) == 2
    wear.restore(saved)
    wear.charge(TWO, torch.ones(2, 2, 3, dtype=torch.int64))
    assert int(saved["wear.run"].max()) == 0
    wear.restore(saved)
    wear.roll_back()
    assert not wear.run.any()


@pytest.mark.parametrize(
    "broken",
    [
        {"wear.run": None}, {"wear.life": torch.zeros(1, 2, 3, dtype=torch.int64)},
        {"wear.formed": torch.zeros(4, 6, 5)},
        {"wear.run": torch.full((4, 6, 5), -1)}, {"wear.life": torch.zeros(4, 6, 5)},
    ],
)  # fmt: skip
def test_a_broken_snapshot_is_refused_whole(spec: BoardSpec, broken: dict[str, Any]) -> None:
    wear = Wear(spec)
    good = {name: torch.ones_like(value) for name, value in wear.snapshot().items()}
    saved = {name: value for name, value in (good | broken).items() if value is not None}
    with pytest.raises(CheckpointError, match="missing or does not fit"):
        wear.restore(saved)
    assert not any(bool(value.any()) for value in wear.snapshot().values())
