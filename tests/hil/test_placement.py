"""Cutting layers into tiles and finding room for them."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.contract import Side
from hil.errors import PlacementError
from hil.placement import free_windows, place, tiling

pure = settings(deadline=None, derandomize=True, max_examples=40)
drives = st.sampled_from(list(Side))


@pure
@given(st.integers(1, 40), st.integers(1, 40), drives)
def test_tiles_hold_the_layer_and_no_fewer_equal_tiles_do(spec_of, n_out, n_in, drive):
    spec = spec_of(drive=drive)
    tiles = tiling(n_out, n_in, spec)
    n_rows, n_cols = tiles.block
    assert n_rows <= spec.geometry.rows and n_cols <= spec.geometry.cols
    assert tiles.outs * tiles.out_tiles >= n_out and tiles.ins * tiles.in_tiles >= n_in
    assert tiles.outs * (tiles.out_tiles - 1) < n_out and tiles.ins * (tiles.in_tiles - 1) < n_in
    most = spec.geometry.lines(drive.other) // 2
    assert (tiles.out_tiles - 1) * most < n_out and (tiles.in_tiles - 1) * spec.geometry.lines(drive) < n_in
    assert (n_rows, n_cols) == ((2 * tiles.outs, tiles.ins) if drive is Side.COLS else (tiles.ins, 2 * tiles.outs))


@pytest.mark.parametrize(("n_out", "n_in"), [(0, 3), (3, 0)])
def test_an_empty_layer_has_no_place(spec_of, n_out, n_in):
    with pytest.raises(PlacementError):
        tiling(n_out, n_in, spec_of())


def test_a_board_with_one_sensed_line_cannot_hold_pairs(spec_of):
    with pytest.raises(PlacementError, match="sensed lines"):
        tiling(1, 1, spec_of(rows=1))


@pure
@given(st.integers(0, 2**31), st.integers(1, 7), st.integers(1, 7), st.floats(0.0, 0.4))
def test_free_windows_are_those_of_brute_force(seed, n_rows, n_cols, share):
    source = torch.Generator().manual_seed(seed)
    free = torch.rand((3, 5, 6), generator=source) >= share
    got = free_windows(free, n_rows, n_cols)
    rows, cols = max(5 - n_rows + 1, 0), max(6 - n_cols + 1, 0)
    assert got.shape == (3, rows, cols)
    for k, r, c in itertools.product(range(3), range(rows), range(cols)):
        assert bool(got[k, r, c]) == bool(free[k, r : r + n_rows, c : c + n_cols].all())


@pure
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 8)), min_size=1, max_size=3), st.integers(0, 2**31), drives)
def test_blocks_avoid_each_other_and_what_must_be_avoided(spec_of, sizes, seed, drive):
    spec = spec_of(drive=drive, kernels=8)
    avoid = torch.rand(spec.cells, generator=torch.Generator().manual_seed(seed)) < 0.03
    tilings = [(f"layer{i}", tiling(n_out, n_in, spec)) for i, (n_out, n_in) in enumerate(sizes)]
    try:
        placed = place(tilings, spec, avoid)
    except PlacementError as error:
        assert error.free < error.needed
        return
    taken = avoid.to(torch.int32)
    for (_, tiles), blocks in zip(tilings, placed, strict=True):
        assert (len(blocks), blocks.n_rows, blocks.n_cols) == (len(tiles), *tiles.block)
        for k, r, c in zip(blocks.kernel, blocks.row, blocks.col, strict=True):
            taken[k, r : r + blocks.n_rows, c : c + blocks.n_cols] += 1
    assert int(taken.max()) <= 1


def test_a_full_chip_says_what_is_needed_and_free(spec_of):
    spec = spec_of()  # 4 kernels of 6 x 5
    with pytest.raises(PlacementError) as caught:
        place([("first", tiling(3, 10, spec)), ("second", tiling(6, 10, spec))], spec)
    error = caught.value
    assert (error.layer, error.needed, error.free, error.what) == ("second", 4, 2, "blocks of 6 x 5")
    assert "second needs 4 blocks of 6 x 5 and the chip has 2 free" in str(error)


def test_small_layers_share_a_kernel(spec_of):
    spec = spec_of()
    a, b = place([("a", tiling(1, 5, spec)), ("b", tiling(2, 5, spec))], spec)
    assert a.kernel == b.kernel == (0,) and (a.row, b.row) == ((0,), (2,))
