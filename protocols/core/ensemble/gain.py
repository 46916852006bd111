"""The factor that makes up for the shrinking of a layer: stuck cells pull E[W_eff] to (1 - p) W.

Reference: facts/lea.md 1.4. A gain multiplies the coefficients of a combination; 1 is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from hil.errors import UsageError


def inverse_share(rate: float) -> float:
    """1 / (1 - p), for random placement and faults of equal distribution on G+ and G-.

    Not for greedy placement: few faults remain under the chosen blocks (facts/lea.md 2.5).

    Raises:
        UsageError: the rate is not within 0 to below 1.
    """
    if not 0 <= rate < 1:
        raise UsageError(f"a share of stuck cells of {rate:g} has no gain; it must lie in 0 to below 1")
    return 1.0 / (1.0 - rate)


def inverse_slope(weights: Tensor, effective: Tensor) -> float:
    """<W, W> / <W, W_eff>: the inverse of the slope of what was read back over what was wanted.

    Raises:
        UsageError: the slope is not above 0, so that no gain helps.
    """
    wanted = weights.double()
    square, product = float((wanted * wanted).sum()), float((wanted * effective.double()).sum())
    if square <= 0 or product <= 0:
        raise UsageError(
            f"no gain fits: <W, W> is {square:g} and <W, W_eff> is {product:g}; look at the placement of the layer"
        )
    return square / product


def searched(gains: Iterable[float], score: Callable[[float], float]) -> float:
    """The gain of highest score; of equally good ones the first.

    Args:
        gains: candidates.
        score: for example the accuracy on training data.

    Raises:
        UsageError: there is no candidate.
    """
    candidates = list(gains)
    if not candidates:
        raise UsageError("a search for the gain needs at least one candidate")
    return max(candidates, key=score)
