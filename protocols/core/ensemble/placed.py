"""A combination of copies as a matrix on a chip."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from hil.mapping import PairMapping
from hil.matrix import PlacedMatrix
from protocols.core.ensemble.tiles import Copies, Tiles


def combined_matrix(copies: Copies, coefficients: Tensor, mapping: PairMapping, *, gain: float = 1.0) -> PlacedMatrix:
    """The matrix whose outputs are a combination of the rows of copies.

    Lines of coefficient 0 are padding: sensed with their block and dropped. The polarity of a line follows the sign of
    its gain, so cells are programmed under ``mean_of_all`` and read under any combination.

    Args:
        copies: where they sit.
        coefficients: ``[2, copies, rows, pieces]``; its dtype is the matrix's. One piece, or one for each tile along
            the inputs.
        mapping: weights and conductances.
        gain: factor of all outputs, see ``gain``.

    Raises:
        ValueError: the coefficients are not those of the layer.
    """
    tiles, dtype = copies.tiles, coefficients.dtype
    counted = _lines(coefficients, tiles)
    polarity = torch.tensor([1.0, -1.0], dtype=dtype).view(2, 1, 1, 1)
    outs = torch.arange(tiles.out_tiles * tiles.outs).view(tiles.out_tiles, tiles.outs)
    outs = torch.where(outs < tiles.n_out, outs, -1).repeat_interleave(tiles.in_tiles, 0)
    ins = torch.arange(tiles.in_tiles * tiles.ins).view(tiles.in_tiles, tiles.ins)
    ins = torch.where(ins < tiles.n_in, ins, -1).repeat(2 * copies.alpha * tiles.out_tiles, 1)
    return PlacedMatrix(
        blocks=copies.blocks,
        drive=tiles.drive,
        n_out=tiles.n_out,
        n_in=tiles.n_in,
        in_index=ins,
        volts_per_input=torch.full(ins.shape, mapping.volts_per_input, dtype=dtype),
        out_index=torch.where(counted == 0, -1, outs).flatten(0, 2),
        gain=(counted * polarity * (gain * mapping.gain)).flatten(0, 2),
    )


def _lines(coefficients: Tensor, tiles: Tiles) -> Tensor:
    """Coefficients of sensed lines ``[2, copies, tiles, outs]``; lines beyond the last output get 0.

    Raises:
        ValueError: the coefficients are not those of the layer.
    """
    if coefficients.shape[-1] not in (1, tiles.in_tiles) or coefficients.shape[2] != tiles.n_out:
        raise ValueError(
            f"coefficients {tuple(coefficients.shape)} do not fit {tiles.n_out} outputs in {tiles.in_tiles} pieces"
        )
    every = coefficients.expand(*coefficients.shape[:-1], tiles.in_tiles)
    spare = tiles.out_tiles * tiles.outs - tiles.n_out
    full = pad(every, (0, 0, 0, spare)).reshape(*every.shape[:2], tiles.out_tiles, tiles.outs, tiles.in_tiles)
    return full.transpose(-1, -2).flatten(2, 3)
