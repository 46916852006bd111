"""Single cells of a law under pulses: what the tests of the laws share."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

USUAL: dict[str, Any] = {"low": 0.0, "high": 1.0, "volts_up": 1.0, "volts_down": 1.2, "seconds": 1e-6}
"""The usual cells: a window of 1 S, so that weights and conductances are the same numbers."""


def cells(law: Any, start: float | Tensor | None, n: int = 16_384, seed: int = 0, dtype=torch.float64):
    """n cells at ``start`` (None: fresh), their parameters and a generator."""
    source = torch.Generator().manual_seed(seed)
    params = {name: values.reshape(-1) for name, values in law.build((1, 1, n), source, dtype).items()}
    if start is None:
        return law.initial(params, source), params, source
    return torch.as_tensor(start, dtype=dtype).expand(n).clone(), params, source


def pulsed(law: Any, start: float | Tensor | None, doses, seed: int = 0, n: int = 16_384, ceiling=None) -> Tensor:
    """Conductances after a list of doses, one pulse call each."""
    g, params, source = cells(law, start, n, seed)
    top = None if ceiling is None else torch.full_like(g, ceiling)
    for dose in doses:
        g = law.pulse(g, params, torch.full_like(g, dose), top, source)
    return g


def close_statistics(a: Tensor, mean: float, std: float, of: int | None = None, rounding: float = 1e-12) -> None:
    """The mean within 4 standard errors, the standard deviation within 3 %.

    Args:
        a: the sample.
        mean: expected; an exact number, or that of another sample.
        std: expected.
        of: size of the other sample; None when the expectation is exact.
        rounding: allowed whatever the statistics say.
    """
    error = std * math.sqrt(1 / a.numel() + (0 if of is None else 1 / of))
    assert float(a.mean()) == pytest.approx(mean, abs=4 * error + rounding)
    assert float(a.std()) == pytest.approx(std, rel=0.03, abs=rounding)
