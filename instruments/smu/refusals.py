"""What one source-measure unit behind a switch matrix cannot do, said before anything of a list is sent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from hil.contract import Bias, Blocks, BoardSpec, Op, Pulse, ReadCells, Sense, Shape, Wait, lacking
from hil.errors import InvalidOperation, LimitExceeded, Unsupported, UsageError
from instruments.smu.channels import SmuMatrixConfig
from instruments.smu.roles import MOST_AVERAGES

_ABLE = ("ReadCells", "Pulse", "Wait")


def refuse_spec(spec: BoardSpec, config: SmuMatrixConfig) -> None:
    """Refuses the spec of a board that cannot be made of these instruments.

    Raises:
        UsageError: it cannot.
    """
    name = spec.identity.name
    foreign = [op for op in spec.abilities.ops if op not in _ABLE]
    floats = spec.writing.biases == (Bias.FLOAT,)
    problems = {
        "its array must be passive, since there is one source only": spec.geometry.selector == "passive",
        f"its abilities.ops must be some of {', '.join(_ABLE)}": not foreign,
        "its writing.compliance must be 'source'": spec.writing.compliance == "source",
        "its writing.biases must be [float], since unselected lines are open (or the driver's discrete true)": (
            floats or config.discrete
        ),
    }
    wrong = [text for text, is_so in problems.items() if not is_so]
    if wrong:
        raise UsageError(f"the spec of board {name} is none of a source-measure unit with a switch matrix: {wrong[0]}")
    try:
        config.fits(spec)
    except ValueError as error:
        raise UsageError(f"the wiring of board {name} does not fit its spec: {error}") from None


def refuse(ops: Sequence[Op], spec: BoardSpec, shortest: float) -> None:
    """Refuses a list of operations that cannot be carried out as it is.

    Args:
        ops: the list.
        spec: what the board is.
        shortest: s, the shortest pulse the source can make.

    Raises:
        Unsupported: the board can never do this.
        InvalidOperation: an operation is not well formed.
        LimitExceeded: a pulse is shorter than the source can make it.
    """
    for op in ops:
        name, board = type(op).__name__, spec.identity.name
        reason = lacking(op, spec)
        if reason:
            raise Unsupported(name, board, reason)
        match op:
            case ReadCells():
                _on_chip(name, op.blocks, spec)
                _sense(name, op.sense, spec)
            case Pulse():
                _on_chip(name, op.blocks, spec)
                _bias(name, op.unselected, spec)
                for shape in (op.up, op.down):
                    _shape(name, shape, spec, shortest)
            case Wait():
                if not 0 <= op.seconds < math.inf:
                    raise InvalidOperation(name, f"seconds must be finite and at least 0, got {op.seconds}")
            case _:
                raise Unsupported(name, board, "this driver carries out ReadCells, Pulse and Wait")


def compliance(name: str, amps: float | None, spec: BoardSpec) -> float:
    """The compliance current of an operation, or the spec's highest where it names none, A.

    Raises:
        InvalidOperation: neither names one, or it is no current.
    """
    amps = spec.writing.compliance_high if amps is None else amps
    if amps is None or not 0 < amps < math.inf:
        raise InvalidOperation(name, f"the source needs a compliance current above 0 A, got {amps}")
    return amps


def _on_chip(name: str, blocks: Blocks, spec: BoardSpec) -> None:
    kernels, rows, cols = spec.cells
    for k, r, c in zip(blocks.kernel, blocks.row, blocks.col, strict=True):
        if not (0 <= k < kernels and 0 <= r <= rows - blocks.n_rows and 0 <= c <= cols - blocks.n_cols):
            raise InvalidOperation(name, f"a block at kernel {k}, row {r}, column {c} is not on the chip")


def _sense(name: str, sense: Sense, spec: BoardSpec) -> None:
    _bias(name, sense.unselected, spec)
    if sense.gate is not None:
        raise Unsupported(name, spec.identity.name, "it has no gates")
    if sense.volts is None or not math.isfinite(sense.volts):
        raise InvalidOperation(name, f"a cell is read at a finite voltage, got {sense.volts}")
    if not 1 <= sense.averages <= MOST_AVERAGES:
        raise InvalidOperation(name, f"averages must be from 1 to {MOST_AVERAGES}, got {sense.averages}")
    compliance(name, sense.amps, spec)


def _shape(name: str, shape: Shape, spec: BoardSpec, shortest: float) -> None:
    if shape.gate is not None:
        raise Unsupported(name, spec.identity.name, "it has no gates")
    volts = torch.as_tensor(shape.volts, dtype=torch.float64)
    if not bool((volts.isfinite() & (volts >= 0)).all()):
        raise InvalidOperation(name, "a pulse amplitude is a finite magnitude; the count gives the direction")
    if not shape.seconds < math.inf:
        raise InvalidOperation(name, f"the pulse width must be finite, got {shape.seconds}")
    if not shape.seconds >= shortest * (1 - 1e-9):
        raise LimitExceeded("pulse width", shape.seconds, shortest, "s", name)
    compliance(name, shape.amps, spec)


def _bias(name: str, bias: Bias | None, spec: BoardSpec) -> None:
    if bias is not None and bias not in spec.writing.biases:
        raise Unsupported(name, spec.identity.name, f"its unselected lines cannot do '{bias.value}'")
