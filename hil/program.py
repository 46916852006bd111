"""Write-verify: bringing cells to target conductances, with a report for every cell.

A cell counts as done only when a second, averaged read confirms it. Cells that do not follow their pulses are given up
as stuck, so that a broken cell does not eat the chip's endurance.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import torch
from torch import Tensor

from hil.contract import Backend, Blocks, BoardSpec, Flag, Kind, Pulse, Ramp, ReadCells, Shape, Stop
from hil.contract.bounds import above_zero, at_least_one
from hil.errors import LimitExceeded, ProgramFailed
from hil.units import Amps, Siemens, Volts, engineering
from hil.usual import usual_pulse, usual_sense


class CellState(IntEnum):
    """How programming ended for a cell."""

    LEFT = 0
    HIT = 1
    MISSED = 2
    STUCK = 3
    ABORTED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ByPulses:
    """Programs by usual pulses and reads in turn.

    Args:
        window: half width of the window around the target.
        rounds: most rounds of pulses.
        averages: conversions of a verifying read.
        confirm: conversions of the second, confirming read.
        most: most pulses a cell gets in one round.
        damping: share of the estimated number of pulses that is sent.
        give_up: rounds without movement after which a cell counts as stuck.
        allowed: share of cells that may end outside their window.
    """

    kind: Literal["pulses"] = "pulses"
    window: Siemens
    rounds: int = 30
    averages: int = 2
    confirm: int = 8
    most: int = 20
    damping: float = 0.7
    give_up: int = 6
    allowed: float = 0.25

    def __post_init__(self) -> None:
        above_zero(self, "window", "damping")
        at_least_one(self, "rounds", "averages", "confirm", "most", "give_up")
        _share("allowed", self.allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByRamps:
    """Programs by gate ramps (SET) and amplitude ramps (RESET) with the abort rules learned in labs.

    Args:
        window: half width of the window around the target.
        rounds: most SET and RESET rounds.
        averages: conversions of a verifying read.
        confirm: conversions of the second, confirming read.
        set_volts: amplitude of the SET pulses.
        gate_low: first gate voltage of a SET ramp.
        gate_high: last gate voltage of a SET ramp.
        gate_step: step of a SET ramp.
        reset_low: first amplitude of a RESET ramp.
        reset_high: last amplitude of a RESET ramp.
        reset_step: step of a RESET ramp.
        jump: rise of the current in one step that ends a RESET ramp at once (8 uA: Daffodil's control library).
        give_up: rounds in which a cell goes through a whole ramp without moving, after which it counts as stuck.
        allowed: share of cells that may end outside their window.
    """

    kind: Literal["ramps"] = "ramps"
    window: Siemens
    rounds: int = 3
    averages: int = 2
    confirm: int = 8
    set_volts: Volts
    gate_low: Volts
    gate_high: Volts
    gate_step: Volts
    reset_low: Volts
    reset_high: Volts
    reset_step: Volts
    jump: Amps = 8e-6
    give_up: int = 2
    allowed: float = 0.25

    def __post_init__(self) -> None:
        above_zero(self, "window", "gate_step", "reset_step", "jump")
        at_least_one(self, "rounds", "averages", "confirm", "give_up")
        _share("allowed", self.allowed)
        for low, high in (("gate_low", "gate_high"), ("reset_low", "reset_high")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} {getattr(self, low):g} V lies above {high} {getattr(self, high):g} V")


Method = ByPulses | ByRamps


@dataclass(frozen=True, slots=True, eq=False)
class ProgramReport:
    """What programming came to, cell by cell.

    Args:
        target: [T, R, C] S.
        siemens: [T, R, C] S, as last read.
        state: uint8 [T, R, C], a ``CellState``.
        pulses: int64 [T, R, C].
        rounds: rounds that were needed.
        clipped: weights outside the mapping's range that were mapped to its end.
    """

    target: Tensor
    siemens: Tensor
    state: Tensor
    pulses: Tensor
    rounds: int
    clipped: int = 0

    def count(self, state: CellState) -> int:
        """The number of cells that ended in a state."""
        return int((self.state == int(state)).sum())

    def __str__(self) -> str:
        wanted = int((self.state != int(CellState.LEFT)).sum())
        parts = ", ".join(f"{self.count(s)} {s.name.lower()}" for s in CellState if s is not CellState.LEFT)
        clipped = f", {self.clipped} weights clipped" if self.clipped else ""
        return f"{wanted} cells: {parts}; {int(self.pulses.sum())} pulses in {self.rounds} rounds{clipped}"


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
        ProgramFailed: more cells ended outside their window than ``method.allowed``.
    """
    wanted = torch.ones(blocks.shape, dtype=torch.bool) if mask is None else mask
    _allowed(backend.spec, blocks, target, wanted)
    work = _Work(backend, blocks, target, wanted, method)
    rounds = work.by_pulses(method) if isinstance(method, ByPulses) else work.by_ramps(method)
    report = ProgramReport(target, work.siemens, work.state, work.pulses, rounds, clipped)
    _judge(name, report, wanted, method.allowed)
    return report


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")


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


def _judge(name: str, report: ProgramReport, wanted: Tensor, allowed: float) -> None:
    bad = wanted & (report.state != int(CellState.HIT))
    failed, cells = int(bad.sum()), int(wanted.sum())
    if cells and failed > allowed * cells:
        miss = torch.where(bad, (report.siemens - report.target).abs(), -1.0)
        t, r, c = (int(i) for i in torch.unravel_index(miss.argmax(), miss.shape))
        seen = engineering(float(report.siemens[t, r, c]), "S")
        wish = engineering(float(report.target[t, r, c]), "S")
        raise ProgramFailed(name, failed, cells, allowed, f"block {t}, row {r}, column {c}: {seen} instead of {wish}")


class _Work:
    """The state of one programming job."""

    def __init__(self, backend: Backend, blocks: Blocks, target: Tensor, wanted: Tensor, method: Method) -> None:
        self.backend, self.blocks, self.target, self.method = backend, blocks, target, method
        self.spec = backend.spec
        self.active = wanted.clone()
        self.siemens = torch.zeros(blocks.shape, dtype=target.dtype)
        self.state = torch.where(wanted, int(CellState.MISSED), int(CellState.LEFT)).to(torch.uint8)
        self.pulses = torch.zeros(blocks.shape, dtype=torch.int64)
        self.volts = self.spec.limits.read_cell_volts

    def read(self, cells: Tensor, averages: int) -> None:
        """Reads cells into ``siemens``."""
        op = ReadCells(self.blocks, usual_sense(self.spec, self.volts, averages), self.spec.geometry.drive, cells)
        (outcome,) = self.backend.execute([op])
        assert outcome.value is not None
        self.siemens = torch.where(cells, (outcome.value.abs() / self.volts).to(self.siemens.dtype), self.siemens)

    def verify(self) -> None:
        """Reads the active cells and retires those that are inside their window twice."""
        self.read(self.active, self.method.averages)
        inside = self.active & ((self.siemens - self.target).abs() <= self.method.window)
        if bool(inside.any()):
            self.read(inside, self.method.confirm)
            self.retire(inside & ((self.siemens - self.target).abs() <= self.method.window), CellState.HIT)

    def retire(self, cells: Tensor, state: CellState) -> None:
        self.state = torch.where(cells, int(state), self.state).to(torch.uint8)
        self.active = self.active & ~cells

    def shape(self, up: bool) -> Shape:
        return usual_pulse(self.backend, up)

    def by_pulses(self, how: ByPulses) -> int:
        """Pulses and reads in turn, as many pulses as the remaining error asks for."""
        still = torch.zeros(self.blocks.shape, dtype=torch.int32)
        self.verify()
        for done in range(how.rounds):
            if not bool(self.active.any()):
                return done
            error = torch.where(self.active, self.target - self.siemens, 0.0)
            counts = (error * (how.damping / self.spec.writing.step)).abs().ceil_().clamp_(max=how.most)
            counts = (counts * error.sign()).to(torch.int32)
            self.backend.execute([Pulse(self.blocks, counts, self.shape(up=True), self.shape(up=False))])
            self.pulses += counts.abs()
            before = self.siemens
            self.verify()
            moved = (self.siemens - before) * error.sign() > 0.1 * counts.abs() * self.spec.writing.step
            still = torch.where(moved, 0, still + 1)
            self.retire(self.active & (still >= how.give_up), CellState.STUCK)
        return how.rounds

    def by_ramps(self, how: ByRamps) -> int:
        """SET ramps for cells below their window, RESET ramps for cells above it."""
        still = torch.zeros(self.blocks.shape, dtype=torch.int32)
        self.verify()
        for done in range(how.rounds):
            if not bool(self.active.any()):
                return done
            before, low = self.siemens, self.siemens < self.target
            spent = self.ramp(self.active & low, _set_ramp(how), Kind.SET, how)
            spent |= self.ramp(self.active & ~low, _reset_ramp(how), Kind.RESET, how)
            self.verify()
            moved = (self.siemens - before).abs() > how.window / 2
            still += self.active & spent & ~moved
            self.retire(self.active & (still >= how.give_up), CellState.STUCK)
        return how.rounds

    def ramp(self, cells: Tensor, points: Tensor, kind: Kind, how: ByRamps) -> Tensor:
        """Runs one ramp on cells; gives those that went through all points without stopping."""
        if not bool(cells.any()):
            return torch.zeros_like(cells)
        up = kind is Kind.SET
        usual = self.shape(up)
        shape = Shape(how.set_volts if up else 0.0, usual.seconds, usual.gate, usual.amps)
        half = how.window / 2
        low, high = (self.target - half) * self.volts, (self.target + half) * self.volts
        stop = Stop(low, high, self.spec.limits.cell_amps, jump=float("inf") if up else how.jump)
        sign = (cells * (1 if up else -1)).to(torch.int8)
        sense = usual_sense(self.spec, self.volts, how.averages)
        op = Ramp(self.blocks, sign, kind, shape, "gate" if up else "volts", points, 0, sense, stop, back=up)
        (outcome,) = self.backend.execute([op])
        assert outcome.applied is not None and outcome.flags is not None
        self.pulses += outcome.applied
        self.retire(cells & ((outcome.flags & int(Flag.ABORTED)) != 0), CellState.ABORTED)
        return cells & ((outcome.flags & int(Flag.EXHAUSTED)) != 0)


def _set_ramp(how: ByRamps) -> Tensor:
    return torch.arange(how.gate_low, how.gate_high + how.gate_step / 2, how.gate_step, dtype=torch.float64)


def _reset_ramp(how: ByRamps) -> Tensor:
    return torch.arange(how.reset_low, how.reset_high + how.reset_step / 2, how.reset_step, dtype=torch.float64)
