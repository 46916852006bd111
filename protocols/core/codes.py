"""Perturbation codes: which parameter moves how, slot by slot.

A pattern has one number a parameter; its mean square over time is 1, so that all codes are compared at equal power. The
perturbation is the pattern times the amplitude. Patterns are functions of (seed, stream, slot), and every replica has
its own.

Reference: McCaughan et al. 2023, APL Machine Learning 1, 026118 (time, code, Walsh and frequency multiplexing).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor

from protocols.core.draws import generator, signs


class Code(Protocol):
    """A family of perturbation patterns."""

    @property
    def dc_free(self) -> bool:
        """Whether patterns add up to 0 over a period, so that a constant offset of the cost drops out."""
        ...

    def patterns(
        self, count: int, slots: range, replicas: int, seed: int, stream: str, *, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The patterns of ``count`` parameters, [slots, replicas, count]."""
        ...

    def period(self, count: int) -> int | None:
        """Slots after which the patterns are complete; None when they never are."""
        ...

    def spread(self, count: int, slots: int) -> float:
        """The rms length of the unbiased estimate after some slots, relative to the gradient's length."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomCode:
    """Independent random signs, drawn anew in every slot (CDMA)."""

    kind: Literal["random"] = "random"

    @property
    def dc_free(self) -> bool:
        """See ``Code``."""
        return False

    def patterns(
        self, count: int, slots: range, replicas: int, seed: int, stream: str, *, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """See ``Code``."""
        return torch.stack([signs((replicas, count), generator(seed, stream, slot), dtype) for slot in slots])

    def period(self, count: int) -> None:
        """See ``Code``."""
        return

    def spread(self, count: int, slots: int) -> float:
        """See ``Code``: sqrt(1 + (P - 1) / T)."""
        return math.sqrt(1.0 + (count - 1) / slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialCode:
    """One parameter at a time, one-sided, in a random order that is kept (TDMA).

    With as many slots as parameters it is the forward finite difference.
    """

    kind: Literal["sequential"] = "sequential"

    @property
    def dc_free(self) -> bool:
        """See ``Code``."""
        return False

    def patterns(
        self, count: int, slots: range, replicas: int, seed: int, stream: str, *, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """See ``Code``."""
        turn = _orders(count, count, replicas, seed, stream)[:, [slot % count for slot in slots]].T
        return math.sqrt(count) * torch.nn.functional.one_hot(turn, count).to(dtype)

    def period(self, count: int) -> int:
        """See ``Code``."""
        return count

    def spread(self, count: int, slots: int) -> float:
        """See ``Code``: ``rest`` parameters have had their turn once more than the others."""
        turns, rest = divmod(slots, count)
        return math.sqrt(count * (rest * (turns + 1) ** 2 + (count - rest) * turns**2)) / slots


@dataclass(frozen=True, slots=True, kw_only=True)
class WalshCode:
    """Rows of a Hadamard matrix without the constant row, shuffled; every other period has the opposite sign.

    Each parameter has a sign of its own. Without it all parameters would move the same way in the first slot of a
    period, and what their gradients have in common would dominate short integration times.

    Over one period the estimate is exact up to the curvature of the cost, with and without a baseline; over two the
    even orders of the curvature cancel.
    """

    kind: Literal["walsh"] = "walsh"

    @property
    def dc_free(self) -> bool:
        """See ``Code``."""
        return True

    def patterns(
        self, count: int, slots: range, replicas: int, seed: int, stream: str, *, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """See ``Code``. Entry (i, k) of the Hadamard matrix is (-1) to the number of ones in i & k."""
        size = self.period(count)
        rows = 1 + _orders(size - 1, count, replicas, seed, stream)
        when = torch.tensor(list(slots))
        ones = rows & (when % size).view(-1, 1, 1)
        for shift in (16, 8, 4, 2, 1):
            ones = ones ^ (ones >> shift)
        flips = (when // size % 2).view(-1, 1, 1) + _flips(count, replicas, seed, stream)
        return 1 - 2 * ((ones + flips) & 1).to(dtype)

    def period(self, count: int) -> int:
        """See ``Code``: the smallest power of two above the number of parameters."""
        return 1 << count.bit_length()

    def spread(self, count: int, slots: int) -> float:
        """See ``Code``: rows are orthogonal but for the incomplete period, by Parseval's theorem."""
        size = self.period(count)
        rest = slots % size
        return math.sqrt(1.0 + (count - 1) * rest * (size - rest) / ((size - 1) * slots**2))


@dataclass(frozen=True, slots=True, kw_only=True)
class SinusoidalCode:
    """A tone a parameter, evenly spaced in frequency, in random order and with random phases (FDMA).

    Args:
        low: lowest frequency, cycles a slot.
        high: highest frequency, cycles a slot; below 0.5.
    """

    kind: Literal["sinusoidal"] = "sinusoidal"
    low: float = 0.05
    high: float = 0.45

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < 0.5:
            raise ValueError(f"low and high must satisfy 0 < low < high < 0.5, got {self.low} and {self.high}")

    @property
    def dc_free(self) -> bool:
        """See ``Code``."""
        return True

    def patterns(
        self, count: int, slots: range, replicas: int, seed: int, stream: str, *, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """See ``Code``."""
        tones, phases = _tones(count, replicas, (self.low, self.high), seed, stream)
        when = torch.tensor(list(slots), dtype=torch.float64).view(-1, 1, 1)
        turns = torch.remainder(tones * when + phases, 1.0)  # float64: a float32 phase would drift over long runs
        return (math.sqrt(2.0) * torch.sin(2.0 * math.pi * turns)).to(dtype)

    def period(self, count: int) -> int:
        """See ``Code``: the time after which the tones can be told apart."""
        return math.ceil(max(count - 1, 1) / (self.high - self.low))

    def spread(self, count: int, slots: int) -> float:
        """See ``Code``: that of random signs for short times, then what the overlap of neighbouring tones leaves."""
        overlap = (count - 1) / (self.high - self.low) / slots  # resolution over the distance of two tones
        return math.sqrt(max(1.0, min(1.0 + (count - 1) / slots, (1.0 + overlap) / 2)))


CodeConfig = RandomCode | SequentialCode | WalshCode | SinusoidalCode
"""The codes a run file can name."""


def pattern(code: Code, count: int, slot: int, seed: int, stream: str, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The pattern of one slot of a single replica, [count]."""
    return code.patterns(count, range(slot, slot + 1), 1, seed, stream, dtype=dtype)[0, 0]


@lru_cache(maxsize=64)
def _orders(among: int, count: int, replicas: int, seed: int, stream: str) -> Tensor:
    """``count`` different numbers below ``among`` in an order of each replica's own, int64 [replicas, count]."""
    source = generator(seed, f"{stream}/order", 0)
    return torch.rand(replicas, among, generator=source).argsort(1)[:, :count]


@lru_cache(maxsize=64)
def _flips(count: int, replicas: int, seed: int, stream: str) -> Tensor:
    """0 or 1 for each parameter, int64 [replicas, count]."""
    return torch.randint(0, 2, (replicas, count), generator=generator(seed, f"{stream}/flips", 0))


@lru_cache(maxsize=64)
def _tones(count: int, replicas: int, band: tuple[float, float], seed: int, stream: str) -> tuple[Tensor, Tensor]:
    """Frequencies in cycles a slot and phases in turns, float64 [replicas, count]."""
    tones = torch.linspace(*band, count, dtype=torch.float64) if count > 1 else torch.tensor([sum(band) / 2])
    phases = torch.rand(replicas, count, generator=generator(seed, f"{stream}/phases", 0), dtype=torch.float64)
    return tones.to(torch.float64)[_orders(count, count, replicas, seed, stream)], phases
