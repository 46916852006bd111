"""Names of the cross-points of a switch matrix, and which of them reach a cell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hil.contract import BoardSpec
from hil.contract.bounds import above_zero, not_negative
from hil.units import Seconds

_CHANNEL = re.compile(r"[1-6][A-H](0[1-9]|[1-9][0-9])")


def channel(name: str) -> str:
    """Gives the name of a cross-point back: slot, matrix row, two digits of the matrix column, like ``1A05``.

    Raises:
        ValueError: it is no such name.
    """
    if not isinstance(name, str) or _CHANNEL.fullmatch(name) is None:
        raise ValueError(f"{ascii(name)[:40]} is not a channel; write slot, row and two-digit column, like 1A05")
    return name


def matrix_row(name: str) -> str:
    """The matrix row of a channel, ``A``; the backplane joins it over all slots."""
    return name[1]


def line_of(name: str) -> str:
    """The matrix column of a channel with its slot, ``1-05``: where a line of the chip is wired to."""
    return f"{name[0]}-{name[2:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmuMatrixConfig:
    """How a source-measure unit and a switch matrix are wired to a chip, and their settings.

    Args:
        rows: the channel that joins the source's high terminal to a row, [kernels][rows], e.g. ``1A01``.
        cols: the channel that joins the source's low terminal to a column, [kernels][cols], e.g. ``1B07``.
        settle: what the relays need to come to rest.
        level_settle: what the source needs after a change of its read voltage.
        shortest_pulse: the shortest pulse the host can time.
        width_tolerance: part of a pulse's width that it may last longer before it is a fault.
        plc: power-line cycles of one conversion.
        source_serial: serial number of the source-measure unit; empty for any.
        matrix_serial: serial number of the switch matrix; empty for any.
        discrete: no two cells share a line that matters (separate devices), so that unselected lines do nothing; else
            they float, and on a passive array a read sees sneak paths.
    """

    rows: tuple[tuple[str, ...], ...]
    cols: tuple[tuple[str, ...], ...]
    settle: Seconds = 0.015
    level_settle: Seconds = 0.0
    shortest_pulse: Seconds = 0.01
    width_tolerance: float = 0.5
    plc: float = 1.0
    source_serial: str = ""
    matrix_serial: str = ""
    discrete: bool = False

    def __post_init__(self) -> None:
        not_negative(self, "settle", "level_settle")
        above_zero(self, "shortest_pulse", "width_tolerance", "plc")
        for name in ("rows", "cols"):
            _check_channels(name, getattr(self, name))
        shared = {matrix_row(c) for k in self.rows for c in k} & {matrix_row(c) for k in self.cols for c in k}
        if shared:
            raise ValueError(f"cols must not use matrix row {min(shared)} of rows; it would join both terminals")
        both = {line_of(c) for k in self.rows for c in k} & {line_of(c) for k in self.cols for c in k}
        if both:
            raise ValueError(f"cols must not use matrix column {min(both)} of rows; each line has its own")

    def path(self, kernel: int, row: int, col: int) -> tuple[str, str]:
        """The two channels that put a cell between the terminals of the source."""
        return self.rows[kernel][row], self.cols[kernel][col]

    def forbidden(self) -> tuple[str, ...]:
        """Channels that would join a line to the wrong terminal; the matrix is told to refuse them."""
        high = {matrix_row(c) for kernel in self.rows for c in kernel}
        low = {matrix_row(c) for kernel in self.cols for c in kernel}
        wrong = {c[0] + row + c[2:] for kernel in self.rows for c in kernel for row in low}
        wrong |= {c[0] + row + c[2:] for kernel in self.cols for c in kernel for row in high}
        return tuple(sorted(wrong))

    def fits(self, spec: BoardSpec) -> None:
        """Checks that there are channels for exactly the lines of a board.

        Raises:
            ValueError: there are more or fewer.
        """
        kernels, rows, cols = spec.cells
        for name, lines in (("rows", rows), ("cols", cols)):
            counts = [len(kernel) for kernel in getattr(self, name)]
            if counts != [lines] * kernels:
                raise ValueError(f"{name} must name {lines} channels for each of {kernels} kernels, got {counts}")


def _check_channels(name: str, kernels: Sequence[Sequence[str]]) -> None:
    if not kernels:
        raise ValueError(f"{name} must name the channels of at least one kernel")
    for kernel in kernels:
        for each in kernel:
            try:
                channel(each)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if len(set(kernel)) != len(kernel):
            raise ValueError(f"{name} names a channel twice in one kernel")
