"""What an ArC ONE cannot do, said before anything of a list is sent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hil.contract import Bias, Blocks, BoardSpec, Op, Pulse, Read, ReadCells, Sense, Shape, Side, Wait, lacking
from hil.errors import InvalidOperation, LimitExceeded, Unsupported, UsageError
from instruments.arcone.config import ArcOneConfig
from instruments.arcone.tokens import LEAST_SECONDS, MOST_LINES, MOST_VOLTS, SNEAK_PATHS

CLASSIC_VOLTS = 0.5
"""V, the only read voltage of the classic read mode."""


def refuse_spec(spec: BoardSpec) -> None:
    """Refuses the spec of a board that this driver cannot drive.

    Raises:
        UsageError: it does not describe an ArC ONE.
    """
    kernels, rows, cols = spec.cells
    name, known = spec.identity.name, ", ".join(sorted(bias.value for bias in SNEAK_PATHS))
    problems = {
        f"it has one array of up to {MOST_LINES} x {MOST_LINES} cells": kernels == 1 and max(rows, cols) <= MOST_LINES,
        "its array is passive": spec.geometry.selector == "passive",
        "only its rows (word lines) are driven in a read": spec.reading.sides == (Side.ROWS,),
        f"its biases are some of {known}": bool(spec.writing.biases) and set(spec.writing.biases) <= set(SNEAK_PATHS),
        "its reading.input_levels is 2": "Read" not in spec.abilities.ops or spec.reading.input_levels == 2,
    }
    wrong = [text for text, is_so in problems.items() if not is_so]
    if wrong:
        raise UsageError(f"the spec of board {name} is none of an ArC ONE: {wrong[0]}")


def refuse(op: Op, spec: BoardSpec, config: ArcOneConfig) -> None:
    """Refuses an operation that the board cannot carry out as it is.

    Raises:
        Unsupported: it can never do this.
        InvalidOperation: the operation is not well formed.
        LimitExceeded: a voltage or width is beyond the board.
    """
    name = type(op).__name__
    reason = lacking(op, spec)
    if reason:
        raise Unsupported(name, spec.identity.name, reason)
    match op:
        case ReadCells():
            _on_chip(name, op.blocks, spec)
            _sense(name, op.sense, op.drive, spec)
            if op.sense.volts is None or op.sense.volts == 0:
                raise InvalidOperation(name, "a resistance needs a read voltage other than 0 V")
            _read_volts(name, op.sense.volts, spec, config)
        case Read():
            _on_chip(name, op.blocks, spec)
            _sense(name, op.sense, op.drive, spec)
            for volts in common_volts(op.volts, spec.identity.name).unique().tolist():
                if volts != 0:
                    _read_volts(name, volts, spec, config)
        case Pulse():
            _on_chip(name, op.blocks, spec)
            _bias(name, op.unselected, spec)
            for shape in (op.up, op.down):
                _shape(name, shape, spec)
        case Wait():
            if not 0 <= op.seconds < math.inf:
                raise InvalidOperation(name, f"seconds must be finite and at least 0, got {op.seconds}")
        case _:
            raise Unsupported(name, spec.identity.name, "the ArC ONE has no job for it that this driver uses")


def common_volts(volts: Tensor, board: str) -> Tensor:
    """The one voltage of each vector, [feeds, batch] V; 0 for a vector that drives nothing.

    Raises:
        Unsupported: a vector has entries that are neither 0 nor one common voltage.
    """
    if volts.numel() == 0:
        return volts.new_zeros(volts.shape[:2])
    low, high = volts.amin(-1), volts.amax(-1)
    common = torch.where(high > 0, high, low)
    if not bool(((volts == 0) | (volts == common.unsqueeze(-1))).all()):
        reason = "its inputs are binary: each entry of a vector is 0 V or one common voltage; send bit planes"
        raise Unsupported("Read", board, reason)
    return common


def _on_chip(name: str, blocks: Blocks, spec: BoardSpec) -> None:
    kernels, rows, cols = spec.cells
    for k, r, c in zip(blocks.kernel, blocks.row, blocks.col, strict=True):
        if not (0 <= k < kernels and 0 <= r <= rows - blocks.n_rows and 0 <= c <= cols - blocks.n_cols):
            raise InvalidOperation(
                name, f"a block at kernel {k}, row {r}, column {c} is not on the {rows} x {cols} array"
            )


def _sense(name: str, sense: Sense, drive: Side, spec: BoardSpec) -> None:
    board = spec.identity.name
    if drive not in spec.reading.sides:
        raise Unsupported(name, board, f"it cannot drive its {drive.value} in a read")
    if sense.gate is not None or sense.amps is not None:
        raise Unsupported(name, board, "it has neither gates nor a compliance current")
    if sense.averages < 1:
        raise InvalidOperation(name, f"averages must be at least 1, got {sense.averages}")
    _bias(name, sense.unselected, spec)


def _bias(name: str, bias: Bias | None, spec: BoardSpec) -> None:
    if bias is not None and bias not in spec.writing.biases:
        raise Unsupported(name, spec.identity.name, f"its unselected lines cannot do '{bias.value}'")


def _read_volts(name: str, volts: float, spec: BoardSpec, config: ArcOneConfig) -> None:
    _volts(name, volts)
    if config.read_mode == "classic" and not math.isclose(volts, CLASSIC_VOLTS, rel_tol=1e-6):
        raise Unsupported(f"{name} at {volts:g} V", spec.identity.name, "its classic read mode has 0.5 V only")


def _shape(name: str, shape: Shape, spec: BoardSpec) -> None:
    if shape.gate is not None or shape.amps is not None:
        raise Unsupported(name, spec.identity.name, "it has neither gates nor a compliance current")
    volts = torch.as_tensor(shape.volts, dtype=torch.float64)
    for value in (float(volts.amin()), float(volts.amax())) if volts.numel() else ():
        _volts(name, value)
        if value < 0:
            raise InvalidOperation(name, f"a pulse amplitude is a magnitude, got {value} V; the count gives the sign")
    if not LEAST_SECONDS <= shape.seconds < math.inf:
        raise LimitExceeded("pulse width", shape.seconds, LEAST_SECONDS, "s", name)


def _volts(name: str, volts: float) -> None:
    if not math.isfinite(volts):
        raise InvalidOperation(name, f"a voltage is not finite: {volts}")
    if abs(volts) > MOST_VOLTS:
        raise LimitExceeded("voltage", abs(volts), MOST_VOLTS, "V", name)
