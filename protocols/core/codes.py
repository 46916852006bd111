"""Perturbation codes: which parameter moves how, slot by slot.

A pattern has one number a parameter; its mean square over time is 1, so that all codes are compared at equal power. The
perturbation is the pattern times the amplitude. Patterns are functions of (seed, stream, slot).

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

    def pattern(self, count: int, slot: int, seed: int, stream: str) -> Tensor:
        """The pattern of ``count`` parameters in one slot, float32 [count]."""
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

    def pattern(self, count: int, slot: int, seed: int, stream: str) -> Tensor:
        """See ``Code``."""
        return signs((count,), generator(seed, stream, slot))

    def period(self, count: int) -> int | None:
        """See ``Code``."""
        return None

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

    def pattern(self, count: int, slot: int, seed: int, stream: str) -> Tensor:
        """See ``Code``."""
        pattern = torch.zeros(count)
        pattern[_order(count, count, seed, stream)[slot % count]] = math.sqrt(count)
        return pattern

    def period(self, count: int) -> int | None:
        """See ``Code``."""
        return count

    def spread(self, count: int, slots: int) -> float:
        """See ``Code``."""
        return math.sqrt(max(count / slots, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class WalshCode:
    """Rows of a Hadamard matrix without the constant row, shuffled; every other period has the opposite sign.

    Over one period the estimate is exact up to the curvature of the cost, with and without a baseline; over two the
    even orders of the curvature cancel.
    """

    kind: Literal["walsh"] = "walsh"

    @property
    def dc_free(self) -> bool:
        """See ``Code``."""
        return True

    def pattern(self, count: int, slot: int, seed: int, stream: str) -> Tensor:
        """See ``Code``. Entry (i, k) of the Hadamard matrix is (-1) to the number of ones in i & k."""
        size = self._size(count)
        rows = 1 + _order(size - 1, count, seed, stream)
        period, column = divmod(slot, size)
        ones = rows & column
        for shift in (16, 8, 4, 2, 1):
            ones = ones ^ (ones >> shift)
        flip = -1.0 if period % 2 else 1.0
        return flip * (1.0 - 2.0 * (ones & 1).to(torch.float32))

    def period(self, count: int) -> int | None:
        """See ``Code``: the smallest power of two above the number of parameters."""
        return self._size(count)

    def spread(self, count: int, slots: int) -> float:
        """See ``Code``."""
        return math.sqrt(max(self._size(count) / slots, 1.0))

    @staticmethod
    def _size(count: int) -> int:
        return 1 << count.bit_length()


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
            raise ValueError(f"frequencies must satisfy 0 < low < high < 0.5, got {self.low} and {self.high}")

    @property
    def dc_free(self) -> bool:
        """See ``Code``."""
        return True

    def pattern(self, count: int, slot: int, seed: int, stream: str) -> Tensor:
        """See ``Code``."""
        tones, phases = _tones(count, self.low, self.high, seed, stream)
        turns = torch.remainder(tones * slot + phases, 1.0)  # float64: a float32 phase would drift over long runs
        return (math.sqrt(2.0) * torch.sin(2.0 * math.pi * turns)).to(torch.float32)

    def period(self, count: int) -> int | None:
        """See ``Code``: the time after which the tones can be told apart."""
        return math.ceil(max(count - 1, 1) / (self.high - self.low))

    def spread(self, count: int, slots: int) -> float:
        """See ``Code``: that of random signs until the tones can be told apart."""
        apart = self.period(count)
        return 1.0 if apart is not None and slots >= apart else math.sqrt(1.0 + (count - 1) / slots)


CodeConfig = RandomCode | SequentialCode | WalshCode | SinusoidalCode
"""The codes a run file can name."""


@lru_cache(maxsize=64)
def _order(among: int, count: int, seed: int, stream: str) -> Tensor:
    """``count`` different numbers below ``among`` in an order that belongs to the stream."""
    return torch.randperm(among, generator=generator(seed, f"{stream}/order", 0))[:count]


@lru_cache(maxsize=64)
def _tones(count: int, low: float, high: float, seed: int, stream: str) -> tuple[Tensor, Tensor]:
    """Frequencies in cycles a slot and phases in turns of the tones of a stream, float64."""
    source = generator(seed, f"{stream}/tones", 0)
    tones = torch.linspace(low, high, count, dtype=torch.float64) if count > 1 else torch.tensor([(low + high) / 2])
    order = torch.randperm(count, generator=source)
    return tones[order].to(torch.float64), torch.rand(count, generator=source, dtype=torch.float64)
