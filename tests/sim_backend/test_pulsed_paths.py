"""The two paths of a pulsed update: the same in every bit without noise, in law with it; threads do not matter."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hil.contract import Blocks, Outer, Pulse, Shape
from hil.contract.indexing import cell_index
from sim_backend.board import SimBoard
from sim_backend.config import SimulatorConfig
from sim_backend.faults import Faults
from sim_backend.laws.binary import Binary
from sim_backend.laws.constant_step import ConstantStep
from sim_backend.laws.exp_step import ExpStep
from sim_backend.laws.linear_step import LinearStep
from sim_backend.laws.one_sided import OneSided
from sim_backend.laws.pcm import Pcm
from sim_backend.laws.soft_bounds import SoftBounds
from sim_backend.laws.soft_bounds_reference import SoftBoundsReference
from sim_backend.pulsed.cells import is_dense
from sim_backend.pulsed.place import copied, place_of, put, taken
from sim_backend.pulsed.push import CellsOf, Push

UP, DOWN = Shape(1.0, 1e-6, 3.0), Shape(1.2, 1e-6, 3.0)
USUAL: dict[str, Any] = {"low": 10e-6, "high": 210e-6, "volts_up": 1.0, "volts_down": 1.2, "seconds": 1e-6}
SPREAD: dict[str, Any] = {**USUAL, "start_dtod": 0.2, "high_dtod": 0.1}
QUIET = (
    ConstantStep(**SPREAD, step_dtod=0.3),
    SoftBounds(**SPREAD, step_dtod=0.3),
    SoftBoundsReference(**SPREAD, reference_dtod=0.1),
    LinearStep(**SPREAD, slope_up=0.3, slope_down=0.2),
    ExpStep(**SPREAD),
    OneSided(**SPREAD, slope=0.5, reset_std=0.0),
    Pcm(**SPREAD, programming_noise=0.0, reset_std=0.0),
    Binary(**SPREAD),
)
INNER = Blocks((0, 2, 3), (1, 0, 2), (0, 1, 1), 4, 4)
"""Blocks that do not lie in one run, on a tiny board of 4 kernels of 6 x 5 cells."""


def board_of(spec, law, seed=3, **config) -> SimBoard:
    return SimBoard(spec, SimulatorConfig(law=law, gate_threshold=0.4, **config), seed=seed)


def counts_of(blocks: Blocks, share: float, seed: int = 1) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    hit = torch.rand(blocks.shape, generator=source) < share
    return (hit * torch.randint(1, 5, blocks.shape, generator=source)).int() * (
        2 * torch.randint(0, 2, blocks.shape, generator=source).int() - 1
    )


def pulsed(
    board: SimBoard, blocks: Blocks, counts: torch.Tensor, *, dense: bool, up=UP, down=DOWN, limits=(None, None)
):
    """Pulses on one path, and everything that they may change afterwards."""
    chip, source = board.chip, torch.Generator().manual_seed(9)
    cells = CellsOf(blocks.shape, chip.state["g"].dtype, float(chip.law.bounds(chip.params)[1].max()))
    push = Push.of(chip.law, (up, down), limits, cells)
    result = chip._pulsed.pulse(place_of(blocks, *chip.shape[1:]), counts.reshape(-1), push, source, dense=dense)
    return result, board.snapshot()


def equal(one: tuple, other: tuple) -> bool:
    return one[0] == other[0] and all(torch.equal(one[1][name], other[1][name]) for name in one[1])


@pytest.mark.parametrize("where", ["run", "scattered"])
@pytest.mark.parametrize("law", QUIET, ids=lambda law: law.kind)
def test_both_paths_give_the_same_bits_without_noise(law, where, spec_of, whole):
    faults = Faults(fraction=0.2, short=1.0, value=1.0)
    spec = spec_of()
    blocks = whole(spec) if where == "run" else INNER
    counts = counts_of(blocks, 0.4)
    dense, active = (pulsed(board_of(spec, law, faults=faults), blocks, counts, dense=way) for way in (True, False))
    assert equal(dense, active) and dense[0][0] > 10


@pytest.mark.parametrize("blocks", [None, INNER], ids=["run", "scattered"])
@pytest.mark.parametrize("write_std", [0.0, 3.0])
def test_both_paths_give_the_same_bits_with_noise_where_all_cells_are_hit(blocks, write_std, spec_of, whole):
    spec, law = spec_of(), ConstantStep(**SPREAD, step_std=0.3, write_std=write_std)
    blocks = blocks or whole(spec)
    counts = counts_of(blocks, 1.1)
    dense, active = (pulsed(board_of(spec, law), blocks, counts, dense=way) for way in (True, False))
    assert equal(dense, active)


@pytest.mark.parametrize("law", [ConstantStep(**USUAL, step_std=0.5), SoftBounds(**USUAL, step_std=0.5)], ids=str)
def test_both_paths_agree_in_law_with_noise(law, spec_of, whole):
    spec = spec_of(kernels=600)
    counts = counts_of(whole(spec), 0.5).sign()
    g = [pulsed(board_of(spec, law), whole(spec), counts, dense=way)[1]["chip.g"] for way in (True, False)]
    for sign in (1, -1):
        dense, active = (1e6 * (each[counts == sign] - 110e-6).double() for each in g)
        error = float(dense.std()) * math.sqrt(2 / dense.numel())
        assert float(dense.mean()) == pytest.approx(float(active.mean()), abs=4 * error)
        assert float(dense.std()) == pytest.approx(float(active.std()), rel=0.04)
    assert all(bool((each[counts == 0] == g[0][counts == 0][0]).all()) for each in g)


@pytest.mark.parametrize("dense", [True, False])
def test_cells_that_are_stuck_or_not_hit_keep_what_they_are(dense, spec_of, whole):
    """Also the dense path leaves alone: what a cell remembers, and cells that aging took out of their window."""
    spec = spec_of()
    board = board_of(spec, ConstantStep(**SPREAD, step_std=0.3, write_std=3.0), faults=Faults(fraction=0.3, short=1.0))
    board.execute([Pulse(whole(spec), torch.tensor(1), UP, DOWN)])
    board.chip.state["g"][:, 0] = 3e-6
    before, counts = board.snapshot(), counts_of(whole(spec), 0.5)
    (told, stayed), after = pulsed(board, whole(spec), counts, dense=dense)
    moved = (counts != 0) & ~before["chip.stuck"]
    for name in ("chip.g", "law.offset"):
        assert torch.equal(before[name][~moved], after[name][~moved]), name
        assert bool((before[name][moved] != after[name][moved]).any()), name
    assert told == int(moved.sum())
    assert stayed == int((before["chip.g"] == after["chip.g"])[moved].sum())
    assert torch.equal(after["chip.pulses"], before["chip.pulses"] + counts.abs())


@pytest.mark.parametrize("dense", [True, False])
def test_amplitudes_and_limits_of_each_cell_reach_it_on_both_paths(dense, spec_of):
    """One cell at a time gives the reference."""
    spec, counts = spec_of(), counts_of(INNER, 0.7)
    volts = torch.linspace(0.5, 1.4, 16, dtype=torch.float64).view(4, 4)
    amps = torch.linspace(0.0, 1.6e-4, 4, dtype=torch.float64).view(4, 1)
    law = SoftBounds(**SPREAD, threshold=0.6)
    _, got = pulsed(
        board_of(spec, law, dtype="float64"), INNER, counts, dense=dense, up=Shape(volts, 1e-6), limits=(amps, 1e-4)
    )
    alone = board_of(spec, law, dtype="float64")
    for t, r, c in (counts != 0).nonzero().tolist():
        cell = Blocks((INNER.kernel[t],), (INNER.row[t] + r,), (INNER.col[t] + c,), 1, 1)
        one = Shape(float(volts[r, c]), 1e-6)
        pulsed(alone, cell, counts[t, r, c], dense=False, up=one, limits=(float(amps[r, 0]), 1e-4))
    torch.testing.assert_close(got["chip.g"], alone.chip.state["g"], rtol=1e-12, atol=0.0)
    assert torch.equal(got["chip.pulses"], alone.chip.state["pulses"])


def test_no_current_no_push_and_very_strong_pulses_stay_finite(spec_of, whole):
    spec = spec_of()
    board = board_of(spec, SoftBounds(**SPREAD, volts_per_decade=0.01))
    before = board.chip.state["g"].clone()
    pulsed(board, whole(spec), counts_of(whole(spec), 0.6), dense=True, limits=(0.0, 0.0))
    assert torch.equal(board.chip.state["g"], before)
    counts = torch.ones(4, 6, 5, dtype=torch.int32)
    counts[:, 0] = 0
    pulsed(board, whole(spec), counts, dense=True, up=Shape(2.0, 1e-6))  # worth 1e100 usual pulses
    g = board.chip.state["g"]
    torch.testing.assert_close(g[:, 1:], board.chip.params["high"][:, 1:], rtol=1e-6, atol=0.0)
    assert torch.equal(g[:, 0], before[:, 0])


def test_the_path_is_chosen_by_the_number_of_cells_that_are_hit():
    run, scattered = (
        place_of(Blocks((0,), (0,), (0,), 10, 10), 10, 10),
        place_of(Blocks((0,), (0,), (0,), 10, 10), 20, 20),
    )
    chosen = []
    for hit in (2, 50, 70, 95):
        counts = torch.zeros(100, dtype=torch.int32)
        counts[:hit] = -3
        chosen.append((is_dense(run, counts), is_dense(scattered, counts)))
    assert chosen == [(False, False), (False, False), (True, False), (True, True)]


@pytest.mark.parametrize(
    ("blocks", "first"),
    [
        (Blocks((0, 1, 2, 3), (0,) * 4, (0,) * 4, 6, 5), 0),
        (Blocks((1, 2), (0, 0), (0, 0), 6, 5), 30),
        (Blocks((2,), (1,), (0,), 4, 5), 65),  # whole rows of one kernel
        (Blocks((2,), (3,), (1,), 1, 3), 76),  # part of one row
        (Blocks((0, 0), (0, 3), (0, 0), 3, 5), 0),  # two halves of one kernel
        (Blocks((0, 2), (0, 0), (0, 0), 6, 5), None),
        (Blocks((1, 0), (0, 0), (0, 0), 6, 5), None),  # in another order
        (Blocks((0,), (0,), (0,), 6, 4), None),
        (INNER, None),
    ],
)
def test_blocks_that_lie_in_one_run_are_worked_on_in_place(blocks, first):
    place = place_of(blocks, 6, 5)
    index = cell_index(blocks, 6, 5).view(-1)
    assert place.first == first and place.cells == index.numel()
    values, some = torch.arange(120.0), torch.tensor([0, 2])
    for part in (slice(0, place.cells), slice(1, 3), some):
        where = place.on_chip(part)
        assert torch.equal(taken(values, where), values[index[part]])
        assert torch.equal(copied(values, where), values[index[part]])
        new = values.clone()
        put(new, where, -taken(values, where))
        expected = values.clone()
        expected[index[part]] *= -1
        assert torch.equal(new, expected)
    seen = taken(values, place.on_chip(slice(0, 2)))
    seen += 1000
    assert bool((values >= 1000).any()) == (first is not None)


def test_conductances_that_were_read_do_not_change_with_later_pulses(spec_of, whole):
    board = board_of(spec_of(), ConstantStep(**USUAL))
    before = board.chip.tiles(whole(board.spec))
    kept = before.clone()
    board.execute([Pulse(whole(board.spec), torch.tensor(3), UP, DOWN)])
    assert torch.equal(before, kept) and not torch.equal(board.chip.tiles(whole(board.spec)), kept)


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_results_belong_to_seed_and_op_number_and_not_to_threads(share, spec_of, whole):
    """More than one piece of work; draws of an operation do not depend on what other operations drew."""
    spec = spec_of(kernels=1, rows=256, cols=257)
    law = SoftBounds(**SPREAD, step_std=0.3)
    bits = (torch.rand(1, 9, 256) < 0.8).to(torch.int8), (torch.rand(1, 9, 257) < 0.8).to(torch.int8)
    blocks = whole(spec)
    sparse = Pulse(blocks, counts_of(blocks, share), UP, DOWN)
    ops = [sparse, Outer(blocks, *bits, UP, DOWN)]
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            board = board_of(spec, law)
            board.execute(ops)
            found.append(board.snapshot())
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    one, other = (
        board_of(spec, ConstantStep(**USUAL, step_std=0.3)),
        board_of(spec, ConstantStep(**USUAL, step_std=0.3)),
    )
    other.execute([Pulse(Blocks((0,), (0,), (0,), 1, 1), torch.tensor(1), UP, DOWN)])
    one.execute([Pulse(blocks, torch.tensor(0), UP, DOWN)])  # another first operation, the same second one
    steps = []
    for board in (one, other):
        before = board.chip.state["g"].clone()
        board.execute([sparse])
        steps.append(board.chip.state["g"] - before)
    torch.testing.assert_close(steps[0], steps[1], rtol=0.0, atol=1e-10)
