"""Small tables of measurements: how their columns are brought to -1 ... 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def full_range(columns: Any) -> Tensor:
    """Maps each column to -1 ... 1, so that each drives the full read voltage and none more.

    The ranges are those of the whole table, test samples included: scaled by the training samples alone, a test sample
    could lie outside, where the board must not be driven, and clipping would change the data. Standardising the columns
    before would make no difference, because it is undone by this map.

    Args:
        columns: [samples, n_in], in any unit; no column is constant.

    Returns:
        float32 [samples, n_in].
    """
    values = np.asarray(columns, dtype=np.float64)
    low, high = values.min(0), values.max(0)
    return torch.as_tensor(2.0 * ((values - low) / (high - low)) - 1.0).float()
