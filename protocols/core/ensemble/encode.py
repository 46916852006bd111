"""Which conductances the copies of a layer are written to, given the cells that are stuck.

All encoders take weights ``[rows, cols]``, faults and give targets ``[2, copies, rows, cols]`` in S; what stuck cells
are given as target is their stuck conductance, so that targets are what writing without error makes of them.

Sources: simple and reduced mapping error (RME) are Yousuf et al. 2025 in the reconstruction of facts/lea.md 1.2 and
1.3; coordinate descent (LEA-2) and MAO (mapping algorithm with inner fault tolerance) follow the rules of XBTorch
1.0.0 (facts/lea.md, end), without its loop over weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hil.errors import UsageError
from hil.mapping import PairMapping
from protocols.core.ensemble.faults import Faults

Encoder = Callable[[Tensor, Faults, PairMapping], Tensor]

_DECIMALS = 9
"""Errors, in weights of one full pair, that agree to so many decimals are ties; the lower conductance wins."""


def ternary(weights: Tensor, w_max: float = 1.0, tolerance: float = 1e-3) -> Tensor:
    """-w_max, 0 or w_max by the sign of weights; those within the tolerance of 0 count as 0."""
    return torch.where(weights.abs() <= tolerance, 0.0, weights.sign() * w_max)


def nominal(weights: Tensor, mapping: PairMapping) -> Tensor:
    """The conductances of weights on healthy cells: ``[2, rows, cols]`` S.

    Raises:
        UsageError: a weight lies outside +-w_max.
    """
    plus, minus, clipped = mapping.pair(weights)
    if clipped:
        raise UsageError(
            f"{clipped} weights lie outside +-{mapping.w_max:g}, up to {float(weights.abs().max()):g}; "
            "raise w_max or scale the layer"
        )
    return torch.stack([plus, minus])


def simple(weights: Tensor, faults: Faults, mapping: PairMapping) -> Tensor:
    """Nominal conductances on all healthy cells; for ternary weights also the targets of LEA-1."""
    return faults.realised(nominal(weights, mapping)[:, None])


def reduced_error(
    weights: Tensor,
    faults: Faults,
    mapping: PairMapping,
    *,
    states: Tensor | None = None,
    partner: tuple[float, float] | None = None,
) -> Tensor:
    """RME: where one cell of a pair is stuck, its healthy partner makes the best of the weight, copy by copy.

    Args:
        weights: ``[rows, cols]``.
        faults: ``[2, copies, rows, cols]``.
        mapping: weights and conductances.
        states: conductances that a partner may take, S ascending; None for any within ``partner``.
        partner: lowest and highest conductance of a partner, S; None for the mapping's window. A wider safe range
            corrects faults outside the window (facts/lea.md 2.3, law 4).

    Raises:
        UsageError: both ``states`` and ``partner`` are given, or the range does not rise.
    """
    low, high = partner or (mapping.siemens_low, mapping.siemens_high)
    if (states is not None and partner is not None) or low >= high:
        raise UsageError(f"a partner takes states or a range that rises, not both (range {low:g} to {high:g} S)")
    plain = simple(weights, faults, mapping)
    wanted = weights * mapping.scale
    stuck_plus, stuck_minus = faults.stuck
    best = torch.stack([faults.siemens[1] + wanted, faults.siemens[0] - wanted])
    best = best.clamp(low, high) if states is None else _nearest(best, states, mapping)
    alone = torch.stack([stuck_minus & ~stuck_plus, stuck_plus & ~stuck_minus])
    return torch.where(alone, best.to(plain.dtype), plain)


def coordinate_descent(
    weights: Tensor, faults: Faults, mapping: PairMapping, *, states: Tensor | None = None, sweeps: int = 1
) -> Tensor:
    """LEA-2: cell by cell, copy after copy, the state that makes the mean of all copies fit best.

    Healthy cells start at the top (G+) and the bottom (G-) of the window. In each copy a pair with a healthy cell
    first takes the best G+ and then the best G-, all other copies as they are; all copies contribute to the mean.

    Args:
        weights: ``[rows, cols]``.
        faults: ``[2, copies, rows, cols]``.
        mapping: weights and conductances.
        states: conductances that a cell may take, S ascending; None for the two ends of the window.
        sweeps: passes over the copies; the reference makes one.
    """
    states = window_states(mapping, 2) if states is None else states.double()
    copies = faults.stuck.shape[1]
    wanted = nominal_difference(weights, mapping) * copies
    return _descend(wanted, faults, mapping, states, sweeps)


def mao(
    weights: Tensor, faults: Faults, mapping: PairMapping, *, states: Tensor | None = None, sweeps: int = 1
) -> Tensor:
    """MAO: as ``coordinate_descent``, for the sum of the copies instead of their mean; combine with ``summed``.

    The best conductance follows in closed form, G+ = w scale + sum G- - sum of the other G+, and is rounded to the
    nearest state; the arguments are those of ``coordinate_descent``.
    """
    states = window_states(mapping, 2) if states is None else states.double()
    return _descend(nominal_difference(weights, mapping), faults, mapping, states, sweeps)


def window_states(mapping: PairMapping, count: int) -> Tensor:
    """Evenly spaced conductances over the window, S float64 ascending."""
    return torch.linspace(mapping.siemens_low, mapping.siemens_high, count, dtype=torch.float64)


def nominal_difference(weights: Tensor, mapping: PairMapping) -> Tensor:
    """G+ - G- of weights, S float64.

    Raises:
        UsageError: a weight lies outside +-w_max.
    """
    nominal(weights, mapping)  # refuses what does not fit
    return weights.double() * mapping.scale


def _descend(wanted: Tensor, faults: Faults, mapping: PairMapping, states: Tensor, sweeps: int) -> Tensor:
    """Fits the difference of the sums of G+ and G- to ``wanted``, one cell at a time.

    The error of a cell's candidates is the distance to its closed-form optimum, so that the state nearest to it is the
    one of least error.
    """
    start = torch.tensor([mapping.siemens_high, mapping.siemens_low], dtype=torch.float64)
    cells = faults.realised(start[:, None, None, None]).double()
    cells = torch.where(faults.stuck, cells, start[:, None, None, None])
    total = cells.sum(1)
    for _ in range(sweeps):
        for copy in range(cells.shape[1]):
            for polarity in range(2):
                rest = total[polarity] - cells[polarity, copy]
                best = (wanted if polarity == 0 else -wanted) + total[1 - polarity] - rest
                chosen = torch.where(
                    faults.stuck[polarity, copy], cells[polarity, copy], _nearest(best, states, mapping)
                )
                cells[polarity, copy] = chosen
                total[polarity] = rest + chosen
    return cells.to(faults.siemens.dtype)


def _nearest(values: Tensor, states: Tensor, mapping: PairMapping) -> Tensor:
    """The nearest state of each value, S float64; of two equally near ones the lower."""
    window = mapping.siemens_high - mapping.siemens_low
    error = ((values.double() - states.double().view(-1, *[1] * values.ndim)) / window).abs_()
    return states.double()[error.round(decimals=_DECIMALS).argmin(0)]
