"""Figures without a display and without global state, as PNG pictures."""

from __future__ import annotations

import io
from typing import Any


def canvas(width: float, height: float) -> Any:
    """A figure of a size in inches that needs no display and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any) -> bytes:
    """A figure as a PNG picture."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)
    return data.getvalue()


def mosaic(cells: Any, gap: int = 1) -> Any:
    """Kernels [K, R, C] side by side, 8 a row, with gaps of NaN."""
    import numpy as np

    kernels, rows, cols = cells.shape
    across = min(kernels, 8)
    down = -(-kernels // across)
    page = np.full((down * (rows + gap) - gap, across * (cols + gap) - gap), np.nan)
    for k in range(kernels):
        r, c = divmod(k, across)
        page[r * (rows + gap) : r * (rows + gap) + rows, c * (cols + gap) : c * (cols + gap) + cols] = cells[k]
    return page
