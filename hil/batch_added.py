"""Batch-added counts: the coincidences of several updates, added up and applied as two pulse operations.

A named approximation, never what an ``Outer`` does by itself: who wants it adds the updates of a batch with
``batch_added`` and hands over the two operations instead of one ``Outer`` an update. All pulses up come first, then all
pulses down; a simulated board then does the work of two updates instead of one an update.

Away from the bounds constant-step cells end up exactly as if updated one by one: counts add, and with them the
variances of the pulse noise (in law; the random numbers are others). Cells whose step depends on their state do not
forget the order of pulses. With soft bounds, and pulls a up and b down, one pulse up followed by one down ends lower
than the same two in turn by a b (high - low), and later pulses shrink that. So u pulses up and v down, whatever their
order was, end lower than they would by 0 to

    u v a b (high - low)

on average (derived from the recursion of soft bounds). With 1000 states (a = b = 0.002), u = v = 10, that is 0.04 % of
the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from hil.contract import Outer, Pulse, same
from hil.contract.cost import coincidences


def batch_added(updates: Sequence[Outer]) -> tuple[Pulse, Pulse]:
    """All pulses up of several updates of the same cells, and all their pulses down.

    Args:
        updates: at least one; blocks, bias and pulse shapes are those of the first.

    Returns:
        Pulses up and pulses down; every cell gets as many of either as in the single updates.

    Raises:
        ValueError: there is no update, or they differ in more than their bits.
    """
    if not updates:
        raise ValueError("there is no update to add up")
    first = updates[0]
    for update in updates:
        if not same(replace(update, row_bits=first.row_bits, col_bits=first.col_bits), first):
            raise ValueError("updates that are added up must share blocks, pulse shapes and bias")
    rows = torch.cat([update.row_bits for update in updates], 1)
    cols = torch.cat([update.col_bits for update in updates], 1)
    net = coincidences(replace(first, row_bits=rows, col_bits=cols))
    total = coincidences(replace(first, row_bits=rows.abs(), col_bits=cols.abs()))
    ups = total.add(net).bitwise_right_shift_(1)
    up = Pulse(first.blocks, ups, first.up, first.down, unselected=first.unselected)
    return up, replace(up, counts=ups - total)
