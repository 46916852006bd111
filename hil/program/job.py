"""One programming job: checks the targets, runs the method, judges what came of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from hil.contract import Backend, Blocks, BoardSpec
from hil.errors import LimitExceeded, ProgramFailed
from hil.program.coded import CodedReads
from hil.program.methods import ByPulses, Method
from hil.program.progress import Progress
from hil.program.reading import SingleReads
from hil.program.report import CellState, ProgramReport
from hil.program.rounds import check_ramps, pulse_round, ramp_round
from hil.units import engineering


def program(
    backend: Backend,
    name: str,
    blocks: Blocks,
    target: Tensor,
    method: Method,
    *,
    mask: Tensor | None = None,
    clipped: int = 0,
) -> ProgramReport:
    """Brings cells to target conductances by write-verify.

    Args:
        backend: the board.
        name: what is programmed, for messages.
        blocks: T blocks.
        target: [T, R, C] S.
        method: how.
        mask: bool [T, R, C], cells to program; None for all.
        clipped: weights that the mapping clipped, passed on to the report.

    Raises:
        LimitExceeded: a target lies outside the conductances that the board allows; nothing was sent.
        UsageError: the board cannot do what the method asks for; nothing was sent.
        ProgramFailed: more cells ended outside their window than ``method.allowed``.
    """
    wanted = torch.ones(blocks.shape, dtype=torch.bool) if mask is None else mask
    _allowed(backend.spec, blocks, target, wanted)
    reader = CodedReads(backend, blocks, target.dtype) if method.coded else SingleReads(backend, blocks)
    cells = Progress(backend, blocks, target, wanted, how=method, reader=reader)
    if isinstance(method, ByPulses):
        one_round = partial(pulse_round, cells, method)
    else:
        check_ramps(backend.spec, method)
        one_round = partial(ramp_round, cells, method)
    cells.verify()
    rounds = _written(cells, one_round)
    if method.relaxation is not None:
        written = 0
        while cells.wait_and_look(method.relaxation) and written < method.relaxation.rounds:
            rounds += _written(cells, one_round)
            written += 1
    report = ProgramReport(
        target, cells.siemens, cells.state, cells.pulses, rounds, clipped, cells.first,
        false_hits=cells.false_hits, disturbed=cells.disturbed, relaxed=cells.relaxed,
    )  # fmt: skip
    _judge(name, report, method.allowed)
    return report


def _written(cells: Progress, one_round: Callable[[], None]) -> int:
    """Runs rounds until no cell wants pulses, or their number is used up; gives how many it took."""
    for done in range(cells.how.rounds):
        if not bool(cells.active.any()) and not cells.look_beside(1):
            return done
        one_round()
        cells.look_beside(cells.how.neighbours_every)
    cells.look_beside(1)
    return cells.how.rounds


def _allowed(spec: BoardSpec, blocks: Blocks, target: Tensor, wanted: Tensor) -> None:
    """Refuses targets outside the board's window, up to the rounding of the mapping that made them."""
    exact, limits = target.double(), spec.limits
    rounding = 4 * torch.finfo(target.dtype).eps
    for limit, key, outside in (
        (limits.siemens_low, "siemens_low", exact < limits.siemens_low * (1 - rounding)),
        (limits.siemens_high, "siemens_high", ~(exact <= limits.siemens_high * (1 + rounding))),
    ):
        wrong = outside & wanted
        if bool(wrong.any()):
            t, r, c = (int(i) for i in wrong.nonzero()[0])
            value, source = float(exact[t, r, c]), spec.source(f"limits.{key}")
            raise LimitExceeded("target conductance", value, limit, "S", blocks.cell_name(t, r, c), source)


def _judge(name: str, report: ProgramReport, allowed: float) -> None:
    """Raises when more cells than allowed ended outside their window."""
    bad = report.wanted & (report.state != int(CellState.HIT))
    failed, cells = int(bad.sum()), int(report.wanted.sum())
    if cells and failed > allowed * cells:
        miss = torch.where(bad, report.error.abs(), -1.0)
        t, r, c = (int(i) for i in torch.unravel_index(miss.argmax(), miss.shape))
        seen = engineering(float(report.siemens[t, r, c]), "S")
        wish = engineering(float(report.target[t, r, c]), "S")
        raise ProgramFailed(name, failed, cells, allowed, f"block {t}, row {r}, column {c}: {seen} instead of {wish}")
