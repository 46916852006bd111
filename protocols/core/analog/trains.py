"""Pulse trains: how firing probabilities become pulses, and how pulses of a batch add up.

Three ways: bits that all weights of a line share (``StochasticTrain``; an ``Outer`` operation carries them), counts
drawn for every weight by itself (``MeanCount``), and counts without draws (``Deterministic``); the latter two have no
bits and go to the chip as ``Pulse``.

References: Gokmen and Vlasov 2016, Front. Neurosci. 10, 333; names of the trains as in aihwkit (StochasticCompressed,
MeanCount, DeterministicImplicit).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from protocols.core.analog.coincidence import Scales

MOST_EXACT = 1 << 24
"""Counts up to this are exact in float32."""


class Bits(NamedTuple):
    """What each line does in each slot: -1, 0 or 1; a line keeps one sign over all slots of a sample.

    Args:
        out_bits: int8 [..., slots, n_out].
        in_bits: int8 [..., slots, n_in].
    """

    out_bits: Tensor
    in_bits: Tensor


class Added(NamedTuple):
    """Pulses of a whole batch, int32 [..., n_out, n_in]; neither is below 0.

    Args:
        ups: pulses that raise the weight.
        downs: pulses that lower it.
    """

    ups: Tensor
    downs: Tensor


class Train(Protocol):
    """Makes pulses of firing probabilities. Draws come from ``source``; equal sources give equal pulses."""

    def bits(self, scales: Scales, source: torch.Generator) -> Bits | None:
        """The bits of every line; None where a train has none and only its counts can be sent."""
        ...

    def counts(self, scales: Scales, source: torch.Generator) -> Tensor:
        """Signed pulses of every weight and sample, int32 [..., n_out, n_in]; positive raises the weight."""
        ...

    def added(self, scales: Scales, source: torch.Generator) -> Added:
        """The pulses of all samples [..., batch] together."""
        ...


class StochasticTrain:
    """Random bits: every line fires or not in each slot, and all weights of a line share its bits.

    Counts have mean BL p_x p_d and variance BL q (1 - q) with q = p_x p_d, and are correlated along lines.
    """

    def bits(self, scales: Scales, source: torch.Generator) -> Bits:
        """See ``Train``. Slots of samples with a shorter train than the longest stay 0."""
        slots = scales.slots
        used = torch.arange(slots) < scales.bl[..., None]  # [..., slots]
        return Bits(_fired(scales.p_d, used, source), _fired(scales.p_x, used, source))

    def counts(self, scales: Scales, source: torch.Generator) -> Tensor:
        """See ``Train``."""
        return counts_of_bits(self.bits(scales, source))

    def added(self, scales: Scales, source: torch.Generator) -> Added:
        """See ``Train``."""
        return added_bits(self.bits(scales, source))


class MeanCount:
    """Random counts, drawn for every weight by itself: the same mean and variance without correlations."""

    def bits(self, scales: Scales, source: torch.Generator) -> None:
        """See ``Train``."""
        return None

    def counts(self, scales: Scales, source: torch.Generator) -> Tensor:
        """See ``Train``."""
        q = _outer(scales)
        slots = scales.bl[..., None, None].to(q.dtype).expand(q.shape).contiguous()
        drawn = torch.binomial(slots, q.abs(), generator=source)
        return (drawn * q.sign()).to(torch.int32)

    def added(self, scales: Scales, source: torch.Generator) -> Added:
        """See ``Train``."""
        return added_counts(self.counts(scales, source))


class Deterministic:
    """The nearest whole number to each mean count; halves go to the even number."""

    def bits(self, scales: Scales, source: torch.Generator) -> None:
        """See ``Train``."""
        return None

    def counts(self, scales: Scales, source: torch.Generator) -> Tensor:
        """See ``Train``; nothing is drawn."""
        return (_outer(scales) * scales.bl[..., None, None]).round().to(torch.int32)

    def added(self, scales: Scales, source: torch.Generator) -> Added:
        """See ``Train``."""
        return added_counts(self.counts(scales, source))


def counts_of_bits(bits: Bits) -> Tensor:
    """Signed coincidences of every weight and sample, int32 [..., n_out, n_in]; exact."""
    return (bits.out_bits.transpose(-1, -2).float() @ bits.in_bits.float()).to(torch.int32)


def added_bits(bits: Bits) -> Added:
    """The coincidences of all samples [..., batch] together; exact.

    Raises:
        ValueError: a batch has so many slots that counts may not be exact.
    """
    outs, ins = (side.flatten(-3, -2).float() for side in bits)  # [..., batch * slots, lines]
    if outs.shape[-2] > MOST_EXACT:
        raise ValueError(f"a batch of {outs.shape[-2]} slots is above {MOST_EXACT}; add it up in parts")
    net = outs.transpose(-1, -2) @ ins
    total = outs.abs_().transpose(-1, -2) @ ins.abs_()
    ups = net.add_(total).mul_(0.5)
    return Added(ups.to(torch.int32), total.sub_(ups).to(torch.int32))


def added_counts(counts: Tensor) -> Added:
    """The pulses of all samples together, of signed counts [..., batch, n_out, n_in]."""
    ups = counts.clamp(min=0).sum(-3, dtype=torch.int32)
    return Added(ups, ups - counts.sum(-3, dtype=torch.int32))


def _fired(p: Tensor, used: Tensor, source: torch.Generator) -> Tensor:
    """Bits of lines with signed probabilities [..., lines], int8 [..., slots, lines]."""
    draws = torch.rand(*used.shape, p.shape[-1], generator=source)  # below 1 always, so p = 1 always fires
    fires = draws < p.abs().float()[..., None, :] * used[..., None]
    return fires.to(torch.int8) * p.sign().to(torch.int8)[..., None, :]


def _outer(scales: Scales) -> Tensor:
    """Signed probability of a coincidence at every weight, float64 [..., n_out, n_in]."""
    return scales.p_d[..., :, None] * scales.p_x[..., None, :]
