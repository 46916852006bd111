"""Combinations of copies, and the matrices that carry them."""

import pytest
import torch

from hil.contract import Side
from hil.errors import UsageError
from hil.mapping import PairMapping
from protocols.core.draws import generator
from protocols.core.ensemble import encode
from protocols.core.ensemble.combine import (
    effective_weights,
    least_squares,
    mean_of_all,
    mean_of_best,
    single,
    weight_errors,
)
from protocols.core.ensemble.faults import drawn_faults
from protocols.core.ensemble.place import Wanted, place_copies
from protocols.core.ensemble.placed import combined_matrix
from protocols.core.ensemble.tiles import cut, padding_mask

MAPPING = PairMapping(siemens_low=1.0, siemens_high=3.0, w_max=2.0, x_max=0.5, volts=0.3, reference="low")


def cells_of(weights, copies=4, rate=0.3):
    faults = drawn_faults((2, copies, *weights.shape), rate, (1.0, 3.0, 5.0), generator(0, "faults", 0), torch.float64)
    return encode.simple(weights, faults, MAPPING)


def some_weights(rows, cols):
    return 4 * torch.rand(rows, cols, generator=generator(0, "weights", 0), dtype=torch.float64) - 2


def test_the_best_rows_are_those_of_least_error_and_earlier_copies_win_ties():
    errors = torch.tensor([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0]])[..., None]
    kept = mean_of_best(errors, 2)
    assert kept.shape == (2, 3, 2, 1)
    assert torch.equal(kept[0, :, :, 0], torch.tensor([[0.0, 0.5], [0.5, 0.5], [0.5, 0.0]]))
    assert torch.equal(kept[0], kept[1])
    assert torch.equal(mean_of_best(errors, 3), mean_of_all(3, 2))
    apart = mean_of_best(torch.stack([errors, -errors]), 1)
    assert apart[0, 1, 0] == 1 and apart[1, 0, 0] == 1 and float(apart.sum()) == 4


@pytest.mark.parametrize("beta", [0, 5])
def test_beta_lies_within_the_copies(beta):
    with pytest.raises(UsageError, match=f"beta {beta} must lie in 1 to alpha .4."):
        mean_of_best(torch.zeros(4, 3, 1), beta)


def test_judging_pieces_of_a_row_never_raises_the_error_of_the_best_copy():
    weights = some_weights(6, 50)
    cells = cells_of(weights)
    totals = []
    for pieces in (1, 2, 4, 7):
        chosen = mean_of_best(weight_errors(cells, weights, MAPPING, pieces), 1)
        totals.append((effective_weights(cells, chosen, MAPPING) - weights).abs().sum(1))
    assert all(bool((finer <= totals[0] + 1e-9).all()) for finer in totals[1:])
    assert float(totals[2].sum()) < 0.9 * float(totals[0].sum())


def test_least_squares_solves_the_ridge_problem():
    """Against a solver of the stacked system, row by row."""
    weights, ridge = some_weights(5, 9), 0.3
    cells = cells_of(weights)
    found = least_squares(cells, weights, MAPPING, ridge=ridge)
    w_k = MAPPING.weights(cells[0], cells[1]) / 2.0
    for row in range(5):
        left = torch.cat([w_k[:, row].T, ridge**0.5 * torch.eye(4, dtype=torch.float64)])
        right = torch.cat([weights[row] / 2.0, torch.full((4,), ridge**0.5 / 4, dtype=torch.float64)])
        expected = torch.linalg.lstsq(left, right[:, None]).solution[:, 0]
        torch.testing.assert_close(found[0, :, row, 0], expected)
    assert torch.equal(found[0], found[1])
    far = least_squares(cells, weights, MAPPING, ridge=1e9)
    torch.testing.assert_close(far, mean_of_all(4, 5, dtype=torch.float64), rtol=0, atol=1e-6)
    with pytest.raises(UsageError, match="ridge 0"):
        least_squares(cells, weights, MAPPING, ridge=0.0)


def test_one_copy_alone_is_that_copy():
    weights = some_weights(3, 4)
    cells = cells_of(weights)
    alone = effective_weights(cells, single(2, 4, 3), MAPPING)
    torch.testing.assert_close(alone, MAPPING.weights(cells[0, 2], cells[1, 2]))


def placed(weights, drive, alpha=3):
    kernel = (6, 4) if drive is Side.COLS else (4, 6)
    tiles = cut("a", *weights.shape, kernel, drive)
    chip = drawn_faults((60, *kernel), 1.0, tuple(range(1, 9)), generator(1, "chip", 0), torch.float64)
    layer = Wanted("a", tiles, encode.nominal(weights, MAPPING))
    (copies,) = place_copies([layer], alpha, chip, placing="random", source=generator(0, "p", 0))
    return copies, chip.siemens


def tiles_on(chip, blocks):
    spots = zip(blocks.kernel, blocks.row, blocks.col, strict=True)
    return torch.stack([chip[k, r : r + blocks.n_rows, c : c + blocks.n_cols] for k, r, c in spots])


COMBINATIONS = {
    "all": lambda c, w, pieces: mean_of_all(3, len(w), pieces, dtype=torch.float64),
    "best": lambda c, w, pieces: mean_of_best(weight_errors(c, w, MAPPING, pieces), 2),
    "least squares": lambda c, w, pieces: least_squares(c, w, MAPPING, pieces=pieces),
}


@pytest.mark.parametrize("drive", [Side.COLS, Side.ROWS])
@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("whole", [True, False])
def test_a_matrix_on_a_chip_multiplies_with_the_effective_weights(drive, combination, whole):
    weights = some_weights(11, 9)
    copies, chip = placed(weights, drive)
    cells = copies.of_chip(chip)
    coefficients = COMBINATIONS[combination](cells, weights, 1 if whole else copies.tiles.in_tiles)
    expected = 1.5 * effective_weights(cells, coefficients, MAPPING)
    matrix = combined_matrix(copies, coefficients, MAPPING, gain=1.5)
    siemens = tiles_on(chip, matrix.blocks)
    torch.testing.assert_close(matrix.weights(siemens), expected)

    x = torch.rand(5, 9, dtype=torch.float64) * 0.5
    read = matrix.read(x)
    volts = read.volts if read.feed is None else read.volts[list(read.feed)]
    amps = volts @ matrix.oriented(siemens).transpose(1, 2)  # [T, batch, sensed]
    torch.testing.assert_close(matrix.collect(amps), x @ expected.T)


@pytest.mark.parametrize("drive", [Side.COLS, Side.ROWS])
def test_lines_that_do_not_count_are_padding(drive):
    weights = some_weights(11, 9)
    copies, chip = placed(weights, drive)
    every = combined_matrix(copies, mean_of_all(3, 11), MAPPING)
    used = padding_mask(copies.tiles).repeat(6, 1, 1)
    half = len(every.blocks) // 2
    assert torch.equal(every.polarity != 0, used)
    assert bool((every.polarity[:half] >= 0).all()) and bool((every.polarity[half:] <= 0).all())
    one = combined_matrix(copies, mean_of_best(weight_errors(copies.of_chip(chip), weights, MAPPING), 1), MAPPING)
    assert int((one.polarity != 0).sum()) * 3 == int(used.sum())
    with pytest.raises(ValueError, match="11 outputs in 3 pieces"):
        combined_matrix(copies, mean_of_all(3, 11, 2), MAPPING)
