"""A weight matrix on a chip: which cells it is made of and how currents become outputs.

Everything that differs between plain pairs, replicas, kept rows and residual tiles is a value of the index and gain
tensors below. There is no flag and no subclass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from hil.contract import Blocks, Outer, Read, Sense, Shape, Side
from hil.mapping import PairMapping
from hil.placement import Tiling


@dataclass(frozen=True, eq=False)
class PlacedMatrix:
    """A matrix [n_out, n_in] in T blocks. Index -1 is a padding line: driven at 0 V, dropped when sensed.

    Args:
        blocks: the cells.
        drive: the driven side.
        n_out: outputs.
        n_in: inputs.
        in_index: int64 [T, driven], the input of each driven line.
        volts_per_input: [T, driven] V, what an input of 1 drives its line with.
        out_index: int64 [T, sensed], the output that each sensed line adds to.
        gain: [T, sensed], output per A; negative on the minus line of a pair.
    """

    blocks: Blocks
    drive: Side
    n_out: int
    n_in: int
    in_index: Tensor
    volts_per_input: Tensor
    out_index: Tensor
    gain: Tensor

    @cached_property
    def _feed(self) -> tuple[Tensor, tuple[int, ...] | None, Tensor]:
        """The distinct rows of ``in_index``, which of them each tile takes, and their volts per input."""
        distinct: list[int] = []
        feed: list[int] = []
        for tile in range(len(self.blocks)):
            found = next((i for i, first in enumerate(distinct) if self._same_inputs(first, tile)), len(distinct))
            if found == len(distinct):
                distinct.append(tile)
            feed.append(found)
        all_differ = len(distinct) == len(self.blocks)
        return self.in_index[distinct], None if all_differ else tuple(feed), self.volts_per_input[distinct]

    def _same_inputs(self, a: int, b: int) -> bool:
        """Whether two tiles are driven alike."""
        return torch.equal(self.in_index[a], self.in_index[b]) and torch.equal(
            self.volts_per_input[a], self.volts_per_input[b]
        )

    @cached_property
    def _sensed(self) -> tuple[Tensor, Tensor]:
        """Output index and gain of all sensed lines, flat; padding goes to one more output that is dropped."""
        index = torch.where(self.out_index < 0, self.n_out, self.out_index).reshape(-1)
        gain = torch.where(self.out_index < 0, 0.0, self.gain).reshape(-1, 1)
        return index, gain

    @cached_property
    def _weight_of_cell(self) -> Tensor:
        """Flat index into the weight matrix of each cell [T, sensed, driven]; padding points one past the end."""
        cell = self.out_index[:, :, None] * self.n_in + self.in_index[:, None, :]
        padding = (self.out_index[:, :, None] < 0) | (self.in_index[:, None, :] < 0)
        return torch.where(padding, self.n_out * self.n_in, cell)

    def read(self, x: Tensor, sense: Sense | None = None) -> Read:
        """The operation that multiplies inputs [batch, n_in] with the matrix."""
        index, feed, volts = self._feed
        lines = pad(x, (0, 1)).T[index]  # [feeds, driven, batch]; -1 takes the zero
        return Read(self.blocks, (lines * volts[:, :, None]).transpose(1, 2), self.drive, sense or Sense(), feed)

    def collect(self, amps: Tensor) -> Tensor:
        """Outputs [batch, n_out] of currents [T, batch, sensed]."""
        index, gain = self._sensed
        batch = amps.shape[1]
        lines = amps.transpose(1, 2).reshape(-1, batch)
        y = torch.zeros(self.n_out + 1, batch, dtype=amps.dtype).index_add_(0, index, lines * gain)
        return y[: self.n_out].T

    def read_transposed(self, d: Tensor, volts: float, sense: Sense | None = None) -> tuple[Read, Tensor]:
        """The operation that multiplies errors [batch, n_out] with the transposed matrix.

        Both lines of a pair are driven, +d on one and -d on the other, so that one read gives W^T d; lines with less
        gain than others are driven with less. Each sample is scaled to the full read voltage.

        Args:
            d: [batch, n_out].
            volts: the full read voltage, V.
            sense: how to measure.

        Returns:
            The read, and the scale [batch, 1] that ``collect_transposed`` takes out again.
        """
        full = d.abs().amax(1, keepdim=True).clamp(min=torch.finfo(d.dtype).tiny)
        lines = pad(d / full * volts, (0, 1)).T[self.out_index]  # [T, sensed, batch]
        driven = lines * (self.gain / self.gain.abs().amax())[:, :, None]
        return Read(self.blocks, driven.transpose(1, 2), self.drive.other, sense or Sense()), full / volts

    def collect_transposed(self, amps: Tensor, scale: Tensor) -> Tensor:
        """W^T d [batch, n_in] from currents [T, batch, driven] of a transposed read."""
        gain = self.gain.abs().amax() * self.volts_per_input
        index = torch.where(self.in_index < 0, self.n_in, self.in_index).reshape(-1)
        lines = (amps.transpose(1, 2) * gain[:, :, None]).reshape(-1, amps.shape[1])
        x = torch.zeros(self.n_in + 1, amps.shape[1], dtype=amps.dtype).index_add_(0, index, lines)
        return x[: self.n_in].T * scale

    def weights(self, siemens: Tensor) -> Tensor:
        """The matrix [n_out, n_in] that cells of ``siemens`` [T, R, C] make."""
        product = self.oriented(siemens) * self.gain[:, :, None] * self.volts_per_input[:, None, :]
        flat = torch.zeros(self.n_out * self.n_in + 1, dtype=siemens.dtype)
        flat.index_add_(0, self._weight_of_cell.reshape(-1), product.reshape(-1))
        return flat[:-1].view(self.n_out, self.n_in)

    def spread(self, dense: Tensor) -> Tensor:
        """Gives every cell the number of its weight: [T, R, C] from [n_out, n_in]; padding gets 0."""
        return self.oriented(pad(dense.reshape(-1), (0, 1))[self._weight_of_cell])

    @cached_property
    def polarity(self) -> Tensor:
        """+1 for cells that raise their weight, -1 for those that lower it, 0 for padding: int8 [T, R, C]."""
        used = self._weight_of_cell < self.n_out * self.n_in
        return self.oriented((used * self.gain.sign()[:, :, None]).to(torch.int8)).contiguous()

    def outer(self, out_bits: Tensor, in_bits: Tensor, up: Shape, down: Shape, *, both: bool = True) -> Outer:
        """The operation that pulses each weight once for every slot in which its output and its input fire.

        The sign of an input's volts and of an output's gain turns the pulse, so that a positive product raises the
        weight whatever cells it is made of.

        Args:
            out_bits: int8 [slots, n_out]: -1, 0 or 1; an output keeps one sign over all slots.
            in_bits: int8 [slots, n_in], likewise.
            up: the pulse that raises a conductance.
            down: the pulse that lowers it.
            both: pulse both cells of a pair, in opposite directions; else the plus cells alone.
        """
        sign = self.gain.sign() if both else self.gain.sign().clamp(min=0)
        sensed = self._fired(out_bits, self.out_index, sign)
        driven = self._fired(in_bits, self.in_index, self.volts_per_input.sign())
        rows, cols = (sensed, driven) if self.drive is Side.COLS else (driven, sensed)
        return Outer(self.blocks, rows, cols, up, down)

    @staticmethod
    def _fired(bits: Tensor, index: Tensor, sign: Tensor) -> Tensor:
        """Bits of lines, int8 [T, slots, lines], of bits of inputs or outputs [slots, n]; padding lines never fire."""
        lines = pad(bits, (0, 1))[:, index]  # [slots, T, lines]; -1 takes the zero
        return (lines * sign.to(bits.dtype)).transpose(0, 1).contiguous()

    def oriented(self, cells: Tensor) -> Tensor:
        """Turns [T, sensed, driven] into [T, R, C], or back."""
        return cells if self.drive is Side.COLS else cells.transpose(1, 2)


def placed_pairs(tiles: Tiling, blocks: Blocks, mapping: PairMapping, dtype: torch.dtype) -> PlacedMatrix:
    """A matrix of plain pairs: even sensed lines plus, odd lines minus."""
    count = len(tiles)
    outs = torch.arange(tiles.out_tiles * tiles.outs).view(tiles.out_tiles, tiles.outs)
    ins = torch.arange(tiles.in_tiles * tiles.ins).view(tiles.in_tiles, tiles.ins)
    outs = torch.where(outs < tiles.n_out, outs, -1).repeat_interleave(tiles.in_tiles, 0)
    ins = torch.where(ins < tiles.n_in, ins, -1).repeat(tiles.out_tiles, 1)
    gain = mapping.gain * torch.tensor([1.0, -1.0], dtype=dtype).repeat(tiles.outs)
    return PlacedMatrix(
        blocks=blocks,
        drive=tiles.drive,
        n_out=tiles.n_out,
        n_in=tiles.n_in,
        in_index=ins,
        volts_per_input=torch.full(ins.shape, mapping.volts_per_input, dtype=dtype),
        out_index=outs.repeat_interleave(2, 1),
        gain=gain.expand(count, -1).contiguous(),
    )
