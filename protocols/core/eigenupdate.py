"""Streaming batch eigenupdates: a few outer products in place of the gradient of a batch.

The gradient of a batch is a sum of one outer product a sample. These functions give k factor pairs whose outer products
approximate that sum, while k (m + n) numbers are kept instead of m n, or of B (m + n) for the batch. Vectors have
leading replica axes; k comes before the length.

References: Hoskins et al. 2019, Front. Neurosci. 13, 793 (streaming batch eigenupdate, rank 1); Huang et al. 2023, ACM
J. Emerg. Technol. Comput. Syst. 19(2), doi 10.1145/3577214 (rank k by stochastic power iterations); Brand 2006, Linear
Algebra Appl. 415, 20 (truncated decomposition of a sum that grows by one outer product).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from protocols.core.decompositions import qr, svd

Mode = Literal["streaming", "incremental", "buffered", "lagged"]
"""How the factors are found.

``streaming``: rank 1, one pass; each sample is projected on the directions of the samples before it.
``incremental``: rank k, one pass; each sample is added to the decomposition so far, which is cut to k again (ours).
``buffered``: rank k, two passes over a batch that is kept: one power step with bases of this batch.
``lagged``: rank k, one pass with the bases of the last batch. It diverges at small ranks: a basis must move in a batch.
"""
Tensors = dict[str, Tensor]
Factors = tuple[Tensor, Tensor]
"""Inputs x' [..., k, n_in] and errors d' [..., k, n_out]."""


def start(
    n_out: int, n_in: int, rank: int = 1, *, replicas: tuple[int, ...] = (), dtype: torch.dtype = torch.float32
) -> Tensors:
    """The state before the first sample: nothing seen, no directions yet.

    Args:
        n_out: length of the errors.
        n_in: length of the inputs.
        rank: factor pairs, k.
        replicas: leading axes.
        dtype: of the vectors.

    Raises:
        ValueError: the rank is not in 1 ... min(n_out, n_in).
    """
    if not 1 <= rank <= min(n_out, n_in):
        raise ValueError(
            f"rank must be from 1 to {min(n_out, n_in)}, the smaller side of a {n_out} x {n_in} matrix, got {rank}"
        )
    x, d = torch.zeros(*replicas, rank, n_in, dtype=dtype), torch.zeros(*replicas, rank, n_out, dtype=dtype)
    return {"x": x, "d": d, "x_unit": x.clone(), "d_unit": d.clone(), "seen": torch.zeros((), dtype=torch.int64)}


def update(x: Tensor, d: Tensor, state: Mapping[str, Tensor], mode: Mode) -> tuple[Tensor, Tensor, Tensors]:
    """The factors of one batch, and the state for the next.

    Args:
        x: inputs [..., B, n_in].
        d: errors [..., B, n_out].
        state: from ``start`` or the last ``update``; left as it is.
        mode: how they are found.

    Returns:
        x' [..., k, n_in] and d' [..., k, n_out] with sum_k d'_k x'_k^T about sum_j d_j x_j^T; the state.

    Raises:
        ValueError: vectors and state do not fit, or streaming is asked for a rank above 1.
    """
    rank = _check(x, d, state, mode)
    match mode:
        case "buffered":
            return _buffered(x, d, state, rank)
        case "lagged":
            return _lagged(x, d, state, rank)
        case _:
            absorb, finish = (absorb_streaming, finish_streaming) if mode == "streaming" else (merge, finish_merging)
            for j in range(x.shape[-2]):
                state = absorb(x[..., j, :], d[..., j, :], state)
            return finish(state)


# -- rank 1, one sample at a time --------------------------------------------------------------------------------------


def absorb_streaming(x: Tensor, d: Tensor, state: Mapping[str, Tensor]) -> Tensors:
    """Adds one sample, x [..., n_in] and d [..., n_out], to the running vectors of rank 1.

    X is the mean of x (d . d^) and D that of d (x . x^), with the unit directions d^, x^ of D and X before the sample:
    at the first sample those of the last batch, at the very first those of the sample. A direction's sign is free, but
    the two must agree: d^ G x^ above 0, or the update climbs. At the first sample of a batch x^ is turned to that sign.

    Reference: Hoskins et al. 2019 (rank-1 rule of the streaming batch eigenupdate).
    """
    x, d = x.unsqueeze(-2), d.unsqueeze(-2)
    seen = int(state["seen"])
    x_unit, d_unit = _unit(x, state["x_unit"], where_zero=True), _unit(d, state["d_unit"], where_zero=True)
    along_x, along_d = (x * x_unit).sum(-1, keepdim=True), (d * d_unit).sum(-1, keepdim=True)
    if seen == 0:
        along_x = torch.where(along_x * along_d < 0, -along_x, along_x)
    share = 1.0 / (seen + 1)
    new_x = (1.0 - share) * state["x"] + share * x * along_d
    new_d = (1.0 - share) * state["d"] + share * d * along_x
    return {
        "x": new_x, "d": new_d, "x_unit": _unit(new_x, x_unit), "d_unit": _unit(new_d, d_unit),
        "seen": state["seen"] + 1,
    }  # fmt: skip


def finish_streaming(state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensors]:
    """Ends a batch: sigma = B sqrt(|X| |D|) of this batch, shared evenly by the two directions."""
    sigma = state["seen"] * (_length(state["x"]) * _length(state["d"])).sqrt()
    root = sigma.sqrt()
    return root * state["x_unit"], root * state["d_unit"], _emptied(state)


# -- rank k, one sample at a time --------------------------------------------------------------------------------------


def merge(x: Tensor, d: Tensor, state: Mapping[str, Tensor]) -> Tensors:
    """Adds one sample to a decomposition and cuts that to rank k again, by a decomposition of (k + 1) x (k + 1).

    Reference: Brand 2006; keeping the k largest at every step is its truncated form.
    """
    rank = state["x"].shape[-2]
    x_basis, x_core = qr(torch.cat((state["x"], x.unsqueeze(-2)), -2).mT)
    d_basis, d_core = qr(torch.cat((state["d"], d.unsqueeze(-2)), -2).mT)
    left, sigma, right = svd(d_core @ x_core.mT)
    root = sigma[..., :rank].sqrt().unsqueeze(-1)
    new_x, new_d = root * (x_basis @ right.mT[..., :rank]).mT, root * (d_basis @ left[..., :rank]).mT
    return {**state, "x": new_x, "d": new_d, "seen": state["seen"] + 1}


def finish_merging(state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensors]:
    """Ends a batch."""
    return state["x"], state["d"], _emptied(state)


# -- rank k, a batch at a time -----------------------------------------------------------------------------------------


def _buffered(x: Tensor, d: Tensor, state: Mapping[str, Tensor], rank: int) -> tuple[Tensor, Tensor, Tensors]:
    """One power step: U = qr(sum d (x^T V)), B' = sum x (d^T U), G = U B'^T; V = qr(B') for the next batch."""
    v = _basis(state["x_unit"], x, rank)
    u = qr(d.mT @ (x @ v))[0]
    b = x.mT @ (d @ u)
    next_v = torch.where(_some(b), qr(b)[0], v)
    return *_balanced(b.mT, u.mT), _remembered(state, next_v, u)


def _lagged(x: Tensor, d: Tensor, state: Mapping[str, Tensor], rank: int) -> tuple[Tensor, Tensor, Tensors]:
    """One pass with the last batch's bases: A = sum d (x^T V), G = A V^T; both bases of this batch for the next."""
    v, u = _basis(state["x_unit"], x, rank), _basis(state["d_unit"], d, rank)
    a, b = d.mT @ (x @ v), x.mT @ (d @ u)
    next_u = torch.where(_some(a), qr(a)[0], u)
    next_v = torch.where(_some(b), qr(b)[0], v)
    return *_balanced(v.mT, a.mT), _remembered(state, next_v, next_u)


def _basis(unit: Tensor, samples: Tensor, rank: int) -> Tensor:
    """The last batch's orthonormal basis [..., n, k]; before the first batch one that begins with its own samples."""
    if bool(unit.any()):
        return unit.mT
    first = samples[..., :rank, :].mT
    padded = torch.cat((first, first.new_zeros(*first.shape[:-1], rank - first.shape[-1])), -1)
    return qr(padded)[0]


def _balanced(x: Tensor, d: Tensor) -> Factors:
    """The same outer products with both vectors of a pair equally long; a pair without length is 0."""
    long_x, long_d = _length(x), _length(d)
    some = (long_x > 0) & (long_d > 0)
    ratio = torch.where(some, long_d / torch.where(some, long_x, 1.0), 0.0).sqrt()
    return x * ratio, d * torch.where(some, 1.0 / torch.where(some, ratio, 1.0), 0.0)


def _remembered(state: Mapping[str, Tensor], v: Tensor, u: Tensor) -> Tensors:
    return {**state, "x_unit": v.mT.contiguous(), "d_unit": u.mT.contiguous()}


def _emptied(state: Mapping[str, Tensor]) -> Tensors:
    empty = {name: torch.zeros_like(state[name]) for name in ("x", "d", "seen")}
    return {**state, **empty}


def _some(vectors: Tensor) -> Tensor:
    return vectors.abs().amax((-1, -2), keepdim=True) > 0


def _length(vectors: Tensor) -> Tensor:
    return vectors.square().sum(-1, keepdim=True).sqrt()


def _unit(vectors: Tensor, otherwise: Tensor, *, where_zero: bool = False) -> Tensor:
    """Unit vectors; ``otherwise`` where there is no length, or with ``where_zero`` only where that one has none."""
    length = _length(vectors)
    unit = vectors / torch.where(length > 0, length, 1.0)
    keep = _length(otherwise) > 0 if where_zero else length == 0
    return torch.where(keep, otherwise, unit)


def _check(x: Tensor, d: Tensor, state: Mapping[str, Tensor], mode: Mode) -> int:
    rank, n_in, n_out = state["x"].shape[-2], state["x"].shape[-1], state["d"].shape[-1]
    if x.shape[-1] != n_in or d.shape[-1] != n_out or x.shape[:-1] != d.shape[:-1] or x.shape[-2] < 1:
        raise ValueError(
            f"inputs {tuple(x.shape)} and errors {tuple(d.shape)} do not fit a {n_out} x {n_in} matrix: "
            f"expected [..., B, {n_in}] and [..., B, {n_out}] with one B of at least 1"
        )
    if mode == "streaming" and rank != 1:
        raise ValueError(f"streaming gives rank 1, got rank {rank}: choose incremental or buffered")
    return rank


@dataclass(frozen=True, slots=True)
class Memory:
    """Numbers that are kept for the update of one matrix.

    Args:
        factors: k (m + n), the update itself.
        working: all that the mode keeps while a batch goes by.
        dense: m n, the gradient as a matrix.
        batch: B (m + n), the samples.
    """

    factors: int
    working: int
    dense: int
    batch: int


def memory(n_out: int, n_in: int, rank: int, batch: int, mode: Mode) -> Memory:
    """What an update needs; ``dense / factors`` is the saving by the factors alone."""
    lines = n_out + n_in
    working = {
        "streaming": 2 * lines,
        "incremental": (rank + 1) * lines,
        "lagged": 2 * rank * lines,
        "buffered": (batch + rank) * lines,
    }[mode]
    return Memory(rank * lines, working, n_out * n_in, batch * lines)
