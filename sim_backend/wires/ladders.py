"""Lines as ladders: the tridiagonal systems of all lines of an array, factorised at once.

A line whose neighbours are held is a resistor ladder, with the matrix T = diag(G) + path Laplacian + ties to the
source. All lines of all tiles are one long tridiagonal matrix with gaps, so that one call of LAPACK (pttrf, pttrs:
Anderson et al., LAPACK Users' Guide, 1999) serves them all. Without segments the nodes of a line are one node.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_lapack_funcs

from sim_backend.wires.circuit import Line

Array = NDArray[np.float64]
_pttrf, _pttrs, _tbtrs = get_lapack_funcs(("pttrf", "pttrs", "tbtrs"), dtype=np.float64)


class Ladders:
    """The inverse of T for every line; the source sits before the first node.

    Args:
        g: conductances of the cells, S, [T, lines, nodes].
        line: its resistances.
    """

    def __init__(self, g: Array, line: Line) -> None:
        self._g, self._line = g, line
        self.merged = line.segment == 0 or g.shape[-1] == 1
        self.held = self.merged and line.near == 0
        if self.merged:
            self._sums = g.sum(-1, keepdims=True) + line.ties
            return
        segment = 1.0 / line.segment
        t = g + 2.0 * segment
        t[..., 0] += 1.0 / line.near - segment
        t[..., -1] += 1.0 / line.far - segment
        off = np.full(g.shape, -segment)
        off[..., -1] = 0.0
        self._d, self._e, _ = _pttrf(t.reshape(-1), off.reshape(-1)[:-1], overwrite_d=1, overwrite_e=1)

    def inverse(self, x: Array) -> Array:
        """T^-1 x for x [B, T, lines, nodes]; without segments broadcastable to it. ``x`` may be overwritten."""
        if self.held:
            return np.zeros((*x.shape[:-1], 1))
        if self.merged:
            return x.sum(-1, keepdims=True) / self._sums
        vectors = np.ascontiguousarray(x).reshape(x.shape[0], -1)
        return _pttrs(self._d, self._e, vectors.T, overwrite_b=1)[0].T.reshape(x.shape)

    @cached_property
    def reach(self) -> Array:
        """Node voltages for 1 V at the source, neighbours held at 0 V: [T, lines, nodes]."""
        if self.held:
            return np.ones_like(self._g)
        if self.merged:
            return np.broadcast_to(self._line.ties / self._sums, self._g.shape)
        pushed = np.zeros((1, *self._g.shape))
        pushed[..., 0] = 1.0 / self._line.near
        pushed[..., -1] += 1.0 / self._line.far
        return self.inverse(pushed)[0]

    def generators(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
        """Vectors a, b [T, lines, nodes] with T^-1[j, k] = a_j b_k for j >= k (a semiseparable matrix).

        Where the products on a long line leave the range of floats, the third value is not None: it holds c with
        T^-1[j, k] = a_j exp(c_j - c_k), and b is 1.
        """
        ones = np.ones_like(self._g)
        if self.merged:
            return np.broadcast_to(0.0 if self.held else 1.0 / self._sums, self._g.shape), ones, None
        ratio = np.concatenate((np.zeros(1), -self._e))
        bands = np.stack((-ratio * ratio, np.ones_like(ratio)))
        tau = _tbtrs(bands, 1.0 / self._d[:, None], uplo="U", diag="U")[0].reshape(self._g.shape)
        ratio = ratio.reshape(self._g.shape)
        ratio[..., 0] = 1.0
        product = np.cumprod(ratio, axis=-1)
        if product.min() > 1e-100:
            return tau * product, 1.0 / product, None
        return tau, ones, np.cumsum(np.log(ratio), axis=-1)
