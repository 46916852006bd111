"""What a run would cost: its first steps on a simulator behind the same guard, scaled to the whole run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hil.contract import Linked, Traffic
from hil.lab.boardfile import WireBoardFile
from hil.lab.build import Plan, build_job
from hil.lab.dryrun import dry
from hil.lab.guard import Guard
from hil.lab.stop import StopToken
from hil.units import duration, engineering
from protocols.perturbation import NodePerturbation, WeightPerturbation
from protocols.preflight import Preflight, preflight

STEPS = 20


@dataclass(frozen=True, slots=True)
class Forecast:
    """The price of a run.

    Args:
        board: name of the board.
        steps: steps of the run.
        lists_per_step: frames that one step needs.
        reads: read events.
        pulses: pulses over all cells.
        pulses_per_cell: most pulses of one cell.
        pulses_allowed: the budget of a cell.
        lab_seconds: lab time on the board, s.
        setup_seconds: part of it before the first step, s.
        abort_seconds: longest time until an abort takes effect, s.
        half_selects: half-selected cell events that pulses cause on a passive array.
        joules: energy in the array, J, where the simulator counts it; 0 where it does not.
        loss_first: mean cost of the first step.
        loss_last: mean cost of the last step tried.
        link: what goes over the link, and what bounds the run; None for a board without one.
        preflight: what a look at the perturbation found; None for sources that do not perturb.
    """

    board: str
    steps: int
    lists_per_step: float
    reads: int
    pulses: int
    pulses_per_cell: int
    pulses_allowed: int
    lab_seconds: float
    setup_seconds: float
    abort_seconds: float
    half_selects: int
    joules: float
    loss_first: float
    loss_last: float
    preflight: Preflight | None = None
    link: Traffic | None = None

    @property
    def within_budget(self) -> bool:
        """Whether no cell would pass its budget of pulses."""
        return self.pulses_per_cell <= self.pulses_allowed

    def lines(self) -> list[str]:
        """The forecast for people."""
        budget = "within" if self.within_budget else "ABOVE"
        return [
            f"board           {self.board}",
            f"steps           {self.steps:,} at {self.lists_per_step:.1f} lists of operations each",
            f"read events     {self.reads:,}",
            f"pulses          {self.pulses:,} at the rate of the first {STEPS} steps; later ones usually write less",
            f"pulses a cell   {self.pulses_per_cell:,} at most, {budget} the budget of {self.pulses_allowed:,}",
            *([f"half-selects    {self.half_selects:,} of cells beside a pulse"] if self.half_selects else ()),
            *([f"energy          {engineering(self.joules, 'J')} in the array"] if self.joules else ()),
            f"lab time        {duration(self.lab_seconds)}, of which {duration(self.setup_seconds)} set-up",
            f"abort           takes effect within {duration(self.abort_seconds)}",
            *(self._link_lines(self.link) if self.link else ()),
            f"cost            {self.loss_first:.3f} at the first step, {self.loss_last:.3f} after {STEPS} steps",
            *(self.preflight.lines() if self.preflight else ()),
        ]

    def _link_lines(self, link: Traffic) -> list[str]:
        parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in link.bounds.items())
        frames, each = link.messages / self.steps, link.bytes / self.steps
        unknown = "" if link.round_trip else " (round trip not known: give spec.timing.round_trip)"
        return [
            f"link            {frames:.1f} frames and {each:,.0f} bytes a step",
            f"bound by        {link.bound_by}: {parts}{unknown}",
        ]


def forecast(plan: Plan) -> Forecast:
    """Tries the first steps of a run and scales what they took.

    Raises:
        HilError: the run cannot begin; the same error the run itself would end with.
    """
    guards: list[Guard] = []
    job = build_job(replace(plan, board=dry(plan.board)), StopToken(), None, guards.append)
    try:
        job.network(job.samples.test.x)
        setup, worn = _totals(job.guard), job.guard.wear.run.clone()
        state = job.protocol.init(job.network, job.seed)
        losses: list[float] = []
        tried = min(STEPS, job.steps)
        for _ in range(tried):
            state, record = job.protocol.step(state, job.network, job.samples.batch(job.protocol.batch_of(state.step)))
            losses.append(record.loss)
        stepped = _totals(job.guard)
        job.network(job.samples.test.x)
        looked = _totals(job.guard)
        source, first = plan.run.value.protocol.source, job.samples.batch(0)
        perturbs = isinstance(source, NodePerturbation | WeightPerturbation)
        look = preflight(job.network, source, first, job.seed) if perturbs else None
    finally:
        for guard in guards:
            guard.close()
    looks = -(-job.steps // job.evaluate_every)
    scale = job.steps / tried

    def whole(name: str) -> float:
        return setup[name] + scale * (stepped[name] - setup[name]) + looks * (looked[name] - stepped[name])

    spec = job.guard.spec
    per_cell = (worn + (job.guard.wear.run - worn).double() * scale).max()
    return Forecast(
        board=spec.identity.name,
        steps=job.steps,
        lists_per_step=(stepped["lists"] - setup["lists"]) / tried,
        reads=round(whole("reads")),
        pulses=round(whole("pulses")),
        pulses_per_cell=int(per_cell),
        pulses_allowed=spec.limits.pulses_per_run,
        lab_seconds=whole("lab_seconds"),
        setup_seconds=setup["lab_seconds"],
        half_selects=round(whole("half_selects")),
        joules=whole("joules"),
        abort_seconds=0.05 if spec.abilities.safe_preempts else spec.timing.slice,
        loss_first=losses[0],
        loss_last=losses[-1],
        preflight=look,
        link=_link(plan, whole),
    )


def _totals(guard: Guard) -> dict[str, float | int]:
    board = guard.board
    over_link = {"messages": 0, "bytes": 0, "board_seconds": 0.0}
    if isinstance(board, Linked):
        traffic = board.traffic()
        over_link = {name: getattr(traffic, name) for name in over_link}
    return {**guard.ledger.as_dict(), **over_link}


def _link(plan: Plan, whole: Callable[[str], float]) -> Traffic | None:
    """What goes over the link of a board that takes frames; a round trip is measured only where an address is named."""
    board = plan.board.value
    if not isinstance(board, WireBoardFile):
        return None
    from hil.lab.drivers import round_trip
    from instruments.links.url import bytes_per_second, parse

    named = "://" in plan.run.value.board
    timing = board.spec.timing
    rate = timing.bytes_per_second or bytes_per_second(parse(board.url))
    once = round_trip(board.url) if named else timing.round_trip
    return Traffic(round(whole("messages")), round(whole("bytes")), whole("board_seconds"), once, rate, True)
