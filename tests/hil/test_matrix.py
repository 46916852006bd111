"""A placed matrix multiplies like the dense one, whatever its size and the driven side."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.contract import Shape, Side
from hil.contract.cost import coincidences
from hil.mapping import usual_mapping
from hil.matrix import PlacedMatrix, placed_pairs
from hil.placement import place, tiling

pure = settings(deadline=None, derandomize=True, max_examples=25)
sizes = st.tuples(st.integers(1, 13), st.integers(1, 17))
drives = st.sampled_from(list(Side))


def placed(spec, n_out: int, n_in: int, dtype=torch.float64) -> PlacedMatrix:
    tiles = tiling(n_out, n_in, spec)
    (blocks,) = place([("W", tiles)], spec)
    return placed_pairs(tiles, blocks, usual_mapping(spec, w_max=2.0, x_max=1.5), dtype)


def loaded(spec_of, quiet_board, size, drive):
    """A board with a random chip, a matrix on it, and the dense matrix its cells make."""
    board = quiet_board(spec_of(drive=drive, kernels=24))
    matrix = placed(board.spec, *size)
    g = torch.stack(
        [board.chip.state["g"][k, r : r + matrix.blocks.n_rows, c : c + matrix.blocks.n_cols]
         for k, r, c in zip(matrix.blocks.kernel, matrix.blocks.row, matrix.blocks.col, strict=True)]
    )  # fmt: skip
    return board, matrix, matrix.weights(g)


def inputs(batch: int, n: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand((batch, n), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


@pure
@given(sizes, drives, st.integers(1, 5))
def test_a_forward_read_is_the_dense_product(spec_of, quiet_board, size, drive, batch):
    board, matrix, dense = loaded(spec_of, quiet_board, size, drive)
    x = inputs(batch, size[1])
    (got,) = board.execute([matrix.read(x)])
    torch.testing.assert_close(matrix.collect(got.value), x @ dense.T, rtol=1e-9, atol=1e-9)


@pure
@given(sizes, drives)
def test_a_transposed_read_is_the_transposed_product(spec_of, quiet_board, size, drive):
    board, matrix, dense = loaded(spec_of, quiet_board, size, drive)
    d = inputs(4, size[0]) * torch.tensor([[1e-6], [1.0], [0.0], [300.0]], dtype=torch.float64)
    read, scale = matrix.read_transposed(d, 0.2)
    assert float(read.volts.abs().amax()) <= 0.2
    (got,) = board.execute([read])
    torch.testing.assert_close(matrix.collect_transposed(got.value, scale), d @ dense, rtol=1e-9, atol=1e-12)


@pure
@given(sizes, drives)
def test_spread_weights_and_polarity_agree(spec_of, size, drive):
    spec = spec_of(drive=drive, kernels=24)
    matrix = placed(spec, *size)
    mapping = usual_mapping(spec, w_max=2.0, x_max=1.5)
    dense = 2 * inputs(*size)
    plus, minus, _ = mapping.pair(dense)
    siemens = torch.where(matrix.polarity > 0, matrix.spread(plus), matrix.spread(minus))
    assert siemens.shape == matrix.blocks.shape == matrix.polarity.shape
    torch.testing.assert_close(matrix.weights(siemens), dense, rtol=1e-9, atol=1e-9)
    assert int((matrix.polarity == 1).sum()) == int((matrix.polarity == -1).sum()) == size[0] * size[1]
    marks = matrix.spread(torch.arange(1.0, size[0] * size[1] + 1).view(size))
    assert torch.equal(marks == 0, matrix.polarity == 0)
    assert torch.equal(marks.unique()[int((marks == 0).any()) :], torch.arange(1.0, size[0] * size[1] + 1))


@pure
@given(sizes, drives)
def test_a_cell_that_rises_moves_its_weight_by_its_polarity(spec_of, size, drive):
    spec = spec_of(drive=drive, kernels=24)
    matrix = placed(spec, *size)
    one_each = matrix.weights(matrix.polarity.double())
    scale = usual_mapping(spec, w_max=2.0, x_max=1.5).scale
    torch.testing.assert_close(one_each * scale, torch.full(size, 2.0, dtype=torch.float64))


def test_tiles_with_the_same_inputs_share_a_feed(spec_of):
    matrix = placed(spec_of(kernels=24), 9, 15)  # 3 x 3 tiles
    read = matrix.read(inputs(2, 15))
    assert read.feed == (0, 1, 2) * 3 and read.volts.shape == (3, 2, 5)
    alone = placed(spec_of(kernels=24), 3, 15)
    assert alone.read(inputs(2, 15)).feed is None


def test_replicas_and_unequal_gains_are_values_of_the_tensors(spec_of, quiet_board):
    """Two copies of a matrix, weighted 0.75 and 0.25: forward and transposed products are those of their mean."""
    board = quiet_board(spec_of(kernels=2))
    one = placed(board.spec, 3, 5)
    blocks = replace(one.blocks, kernel=(0, 1), row=(0, 0), col=(0, 0))
    gain = torch.cat([0.75 * one.gain, 0.25 * one.gain])
    index = {"in_index": one.in_index.repeat(2, 1), "out_index": one.out_index.repeat(2, 1)}
    both = replace(one, blocks=blocks, gain=gain, volts_per_input=one.volts_per_input.repeat(2, 1), **index)
    g = board.chip.state["g"]
    dense = 0.75 * one.weights(g[:1]) + 0.25 * one.weights(g[1:])
    torch.testing.assert_close(both.weights(g), dense)
    x, d = inputs(3, 5), inputs(3, 3)
    read, scale = both.read_transposed(d, 0.2)
    forward, back = board.execute([both.read(x), read])
    assert both.read(x).feed == (0, 0)
    torch.testing.assert_close(both.collect(forward.value), x @ dense.T)
    torch.testing.assert_close(both.collect_transposed(back.value, scale), d @ dense)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_of_the_weights_is_kept(spec_of, dtype):
    matrix = placed(spec_of(), 2, 5, dtype)
    assert matrix.read(inputs(1, 5).to(dtype)).volts.dtype == dtype
    assert matrix.weights(torch.ones(matrix.blocks.shape, dtype=dtype)).dtype == dtype


@pure
@given(sizes, drives, st.booleans(), st.integers(1, 4))
def test_an_outer_operation_pulses_every_weight_by_its_coincidences(spec_of, quiet_board, size, drive, both, slots):
    """Also where an input's volts are turned: a positive product raises the weight, on either cell of its pair."""
    _, matrix, _ = loaded(spec_of, quiet_board, size, drive)
    turned = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(matrix.in_index.shape[1])[: matrix.in_index.shape[1]]
    matrix = replace(matrix, volts_per_input=matrix.volts_per_input * turned)
    fires = [(inputs(slots, n, seed) > 0).to(torch.int8) for seed, n in enumerate(size)]
    signs = [inputs(1, n, 7 + seed).sign().to(torch.int8) for seed, n in enumerate(size)]
    out_bits, in_bits = (f * s for f, s in zip(fires, signs, strict=True))
    counts = coincidences(matrix.outer(out_bits, in_bits, Shape(1.0, 1e-6), Shape(1.2, 1e-6), both=both))
    wanted = matrix.spread((out_bits.T.long() @ in_bits.long()).double())
    raising = counts * matrix.polarity * matrix.oriented(matrix.volts_per_input.sign()[:, None, :].expand_as(
        matrix.oriented(matrix.polarity)
    ))  # fmt: skip
    moved = matrix.polarity != 0 if both else matrix.polarity > 0
    torch.testing.assert_close(raising.double(), torch.where(moved, wanted, 0.0))
