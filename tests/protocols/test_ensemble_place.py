"""Placement of copies: tiles, costs, no overlap, clear errors."""

import pytest
import torch

from hil.contract import Side
from hil.errors import PlacementError, UsageError
from protocols.core.draws import generator
from protocols.core.ensemble.faults import Faults, drawn_faults
from protocols.core.ensemble.place import Wanted, costs_by_fault, place_copies, position_costs
from protocols.core.ensemble.tiles import cut, devices, padding_mask

LOW, HIGH = 133e-6, 233e-6
sides = pytest.mark.parametrize("drive", [Side.COLS, Side.ROWS])


def wanted(name, n_out, n_in, kernel, drive=Side.COLS, levels=(LOW, HIGH)):
    picks = torch.randint(len(levels), (2, n_out, n_in), generator=generator(3, name, 0))
    return Wanted(name, cut(name, n_out, n_in, kernel, drive), torch.tensor(levels)[picks])


def chip(shape, rate=0.2, values=(LOW, HIGH), seed=0):
    return drawn_faults(shape, rate, values, generator(seed, "chip", 0))


@sides
def test_tiles_cover_a_layer_and_join_again(drive):
    tiles = cut("a", 7, 12, (5, 3) if drive is Side.COLS else (3, 5), drive)
    assert (tiles.out_tiles, tiles.in_tiles, tiles.outs, tiles.ins) == (2, 4, 4, 3)
    assert tiles.block == ((4, 3) if drive is Side.COLS else (3, 4))
    layer = torch.arange(2 * 3 * 84.0).view(2, 3, 7, 12)
    split = tiles.split(layer, -1.0)
    assert split.shape == (2, 3, 8, *tiles.block)
    assert torch.equal(tiles.joined(split), layer)
    assert int(padding_mask(tiles).sum()) == 84 and int((split == -1).sum()) == 6 * (8 * 12 - 84)
    assert devices([tiles], 3) == 2 * 3 * 8 * 12


@sides
@pytest.mark.parametrize("placing", ["random", "greedy"])
def test_copies_do_not_overlap_and_hold_what_the_chip_holds(placing, drive):
    faults = chip((24, 9, 8))
    avoid = torch.rand(24, 9, 8, generator=generator(1, "avoid", 0)) < 0.01
    layers = [wanted("a", 5, 3, (9, 8), drive), wanted("b", 10, 11, (9, 8), drive)]
    placed = place_copies(layers, 2, faults, placing=placing, source=generator(0, "p", 0), avoid=avoid)
    used = torch.zeros(24, 9, 8, dtype=torch.int64)
    for copies in placed:
        blocks = copies.blocks
        assert len(blocks) == 2 * 2 * len(copies.tiles)
        for k, r, c in zip(blocks.kernel, blocks.row, blocks.col, strict=True):
            assert r + blocks.n_rows <= 9 and c + blocks.n_cols <= 8
            used[k, r : r + blocks.n_rows, c : c + blocks.n_cols] += 1
    assert int(used.max()) == 1 and not bool((avoid & (used > 0)).any())
    first = placed[0]
    address = torch.arange(24 * 9 * 8).view(24, 9, 8)
    layer = first.of_chip(address)
    k, r, c = first.blocks.kernel[3], first.blocks.row[3], first.blocks.col[3]  # G-, copy 1
    expected = address[k, r + 4, c + 2] if drive is Side.COLS else address[k, r + 2, c + 4]
    assert layer.shape == (2, 2, 5, 3) and layer[1, 1, 4, 2] == expected
    assert torch.equal(first.layer(first.cells(layer.float())), layer.float())
    assert torch.equal(first.faults(faults).stuck, first.of_chip(faults.stuck))


def literal_cost(target, faults, k, r, c):
    total = 0.0
    for i in range(target.shape[0]):
        for j in range(target.shape[1]):
            if faults.stuck[k, r + i, c + j]:
                total += abs(float(faults.siemens[k, r + i, c + j]) - float(target[i, j]))
    return total


MANY = tuple(float(v) for v in torch.linspace(LOW, HIGH, 40))


@pytest.mark.parametrize(
    ("levels", "values"), [((LOW, HIGH), (0.0, 3e-4)), ((LOW, HIGH), MANY), (MANY, (0.0, LOW, 3e-4))]
)
@pytest.mark.parametrize("shape", [(4, 6), (7, 7)])
def test_costs_are_the_harm_of_stuck_cells_at_every_position(levels, values, shape):
    faults, layer = chip((3, 7, 7), values=values), wanted("a", *shape, (7, 7), levels=levels)
    costs = position_costs(layer, faults)
    assert costs.shape == (2, 3, 8 - shape[0], 8 - shape[1])
    for s in range(2):
        expected = [
            [
                [literal_cost(layer.targets[s], faults, k, r, c) for c in range(8 - shape[1])]
                for r in range(8 - shape[0])
            ]
            for k in range(3)
        ]
        torch.testing.assert_close(costs[s], torch.tensor(expected), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("levels", [(0.0, HIGH), MANY])
def test_padding_cells_cost_nothing(levels):
    faults, layer = chip((3, 7, 7), rate=1.0, values=(LOW, 3e-4)), wanted("a", 7, 5, (4, 5), levels=levels)
    costs = position_costs(layer, faults)  # two tiles of 4 x 5 each; the last row of the second is padding
    for s in range(2):
        used = layer.targets[s, 4:]
        expected = [[[literal_cost(used, faults, k, r, c) for c in range(3)] for r in range(4)] for k in range(3)]
        torch.testing.assert_close(costs[2 * s + 1], torch.tensor(expected), rtol=1e-5, atol=1e-9)


def test_costs_on_a_grid_are_never_too_low_and_off_by_half_a_step_a_cell_at_most():
    faults = chip((3, 7, 7), values=tuple(float(v) for v in torch.linspace(0, 3e-4, 100)))
    layer = wanted("a", 7, 7, (7, 7), levels=MANY)
    used = torch.ones(2, 7, 7, dtype=torch.bool)
    costs = costs_by_fault(layer.targets, used, faults)[:, :, 0, 0]
    harm = (faults.siemens - layer.targets[:, None]).abs() * faults.stuck
    excess, stuck = costs - harm.sum((-2, -1)), faults.stuck.sum((-2, -1))
    assert float(excess.min()) > -1e-9 and bool((excess < stuck * 3e-4 / 16 / 2).all())


def test_a_chip_without_faults_costs_nothing_anywhere():
    layer = wanted("a", 3, 3, (7, 7), levels=MANY)
    costs = position_costs(layer, chip((2, 7, 7), rate=0.0))
    assert costs.shape == (2, 2, 5, 5) and not bool(costs.any())


def test_greedy_takes_the_cheapest_position_that_is_left():
    faults, layer = chip((4, 8, 8), rate=0.3), wanted("a", 4, 3, (8, 8))
    (copies,) = place_copies([layer], 3, faults, placing="greedy", source=generator(0, "p", 0))
    free = torch.ones(4, 8, 8, dtype=torch.bool)
    blocks = copies.blocks
    for copy in range(3):
        for side in range(2):
            open_costs = [
                literal_cost(layer.targets[side], faults, k, r, c)
                for k in range(4)
                for r in range(5)
                for c in range(6)
                if bool(free[k, r : r + 4, c : c + 3].all())
            ]
            at = side * 3 + copy
            k, r, c = blocks.kernel[at], blocks.row[at], blocks.col[at]
            taken = literal_cost(layer.targets[side], faults, k, r, c)
            assert taken == pytest.approx(min(open_costs), abs=1e-9)
            free[k, r : r + 4, c : c + 3] = False


def test_greedy_finds_the_one_clean_corner():
    stuck = torch.ones(3, 9, 9, dtype=torch.bool)
    stuck[1, 2:6, 3:8] = False
    faults = Faults(stuck, torch.zeros(3, 9, 9))
    layer = wanted("a", 4, 5, (9, 9))
    (copies,) = place_copies([layer], 1, faults, placing="greedy", source=generator(0, "p", 0))
    assert (copies.blocks.kernel[0], copies.blocks.row[0], copies.blocks.col[0]) == (1, 2, 3)


@pytest.mark.parametrize("placing", ["random", "greedy"])
def test_chance_reaches_every_position_alike_and_follows_the_seed(placing):
    """Of 18 positions each gets 100 of 1800 draws; 9.7 is one standard deviation, five are allowed."""
    faults, layer = chip((2, 5, 6), rate=0.0), wanted("a", 3, 4, (5, 6))
    counts = torch.zeros(2, 3, 3)
    for seed in range(1800):
        (copies,) = place_copies([layer], 1, faults, placing=placing, source=generator(seed, "p", 0))
        counts[copies.blocks.kernel[0], copies.blocks.row[0], copies.blocks.col[0]] += 1
    assert float((counts - 100).abs().max()) < 5 * (100 * 17 / 18) ** 0.5
    again = [place_copies([layer], 1, faults, placing=placing, source=generator(7, "p", 0))[0] for _ in range(2)]
    assert again[0].blocks == again[1].blocks


def test_a_full_chip_tells_what_is_needed_and_what_fitted():
    faults = chip((2, 6, 6))
    with pytest.raises(PlacementError, match="layer a needs 16 blocks of 3 x 6 cells for 4 copies.*4 free"):
        place_copies([wanted("a", 6, 6, (3, 6))], 4, faults, placing="greedy", source=generator(0, "p", 0))
    with pytest.raises(PlacementError, match="layer b needs 2 blocks of 7 x 7 cells for 1 copies.*0 free"):
        place_copies([wanted("b", 7, 7, (9, 9))], 1, faults, placing="greedy", source=generator(0, "p", 0))
    with pytest.raises(PlacementError, match="layer c"):
        cut("c", 0, 4, (9, 9), Side.COLS)
    with pytest.raises(UsageError, match="alpha 0"):
        place_copies([wanted("a", 2, 2, (6, 6))], 0, faults, placing="random", source=generator(0, "p", 0))
