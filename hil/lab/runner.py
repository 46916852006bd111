"""The runner: takes a run from its first operation to a safe board, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from hil.contract import Backend, SafeReport
from hil.errors import Aborted, BoardFault, CheckpointError, HilError
from hil.lab import checkpoint as checkpoints
from hil.lab.advice import Advice
from hil.lab.checkpoint import Checkpoint
from hil.lab.guard import Guard
from hil.lab.job import Job, Observer, RunResult
from hil.lab.ledger import Ledger
from hil.lab.linkuse import LinkUse, LinkWatch
from hil.lab.readback import carry_wear, distance, read_network, restore
from hil.lab.record import SETUP_STEP, Record, StepRow
from hil.lab.states import Machine, RunState
from hil.lab.stop import StopToken
from hil.lowering import Lowering
from hil.network import Network
from hil.protocol import State
from hil.units import engineering

PAUSE_POLL = 0.05
UNOPENED = "no board was opened, nothing was sent"


@dataclass(slots=True)
class Desk:
    """Where a run happens.

    Args:
        folder: the run's folder.
        record: its record.
        stop: its stop token.
        observer: who watches.
    """

    folder: Path
    record: Record
    stop: StopToken
    observer: Observer


class Runner:
    """Conducts one run.

    Args:
        desk: where it happens.
        open_job: opens the board and puts the network on it; called once, inside the runner's protection. It is
            handed a function to call with the guard of the opened board, so that a failure half way still ends safe.
        resume: the checkpoint to go on from; None for a fresh run.
    """

    def __init__(
        self, desk: Desk, open_job: Callable[[Callable[[Guard], None]], Job], resume: Checkpoint | None = None
    ) -> None:
        self.desk = desk
        self.machine = Machine(self._moved)
        self._open_job, self._resume = open_job, resume
        self._advice = Advice(self._remark)
        self._guard: Guard | None = None
        self._done = 0
        self._accuracy: float | None = None
        self._seconds = 0.0
        self._session_steps = 0
        self._link: LinkUse | None = None

    def conduct(self) -> RunResult:
        """Runs to the end and gives the result; errors of the kind ``HilError`` become part of it.

        Errors of any other kind come out again, after the board was made safe; a note on them says how safe it is.
        """
        try:
            status, error = self._attempt()
        except BaseException as foreign:
            self._event("error", f"{type(foreign).__name__}: {foreign}")
            report, _ = self._end()
            foreign.add_note(self._safe_text(report))
            raise
        if error is not None:
            self._event("error", str(error))
        report, trouble = self._end()
        return self._result(status, error, report, trouble)

    def _attempt(self) -> tuple[str, HilError | None]:
        try:
            self.machine.to(RunState.RUNNING)
            finished = self._train(self._open_job(self._opened))
            self.machine.to(RunState.STOPPING)
        except Aborted as caught:
            return "aborted", caught
        except HilError as caught:
            return "failed", caught
        return ("done" if finished else "stopped"), None

    # -- training --------------------------------------------------------------------------------------------------

    def _train(self, job: Job) -> bool:
        """Does the remaining steps; False when the operator stopped it before the last."""
        state = self._begin(job)
        self.desk.observer.begin(job, state.step)
        watch = LinkWatch(job.guard.board)
        saved = state.step
        while state.step < job.steps and not self._stopping():
            state = self._one_step(job, state)
            if state.step % job.checkpoint_every == 0 or state.step == job.steps:
                self._save(job, state)
                saved = state.step
        if saved != state.step:
            self._save(job, state)
        self._tell_lowering(job.network.backend)
        self._tell_readings(job.network)
        self._link = watch.use(self._session_steps)
        if self._link is not None:
            self._event("link", str(self._link))
        return state.step >= job.steps

    def _one_step(self, job: Job, state: State) -> State:
        record = self.desk.record
        record.step = state.step
        started = time.perf_counter()
        batch = job.samples.batch(job.protocol.batch_of(state.step))
        state, done = job.protocol.step(state, job.network, batch)
        self._seconds += time.perf_counter() - started
        self._session_steps += 1
        evaluation: Mapping[str, float] = {}
        if state.step % job.evaluate_every == 0 or state.step == job.steps:
            evaluation = self._evaluate(job)
        self._advice.look(done)
        started = time.perf_counter()
        record.commit_step(done, job.guard.ledger, evaluation)
        self._seconds += time.perf_counter() - started
        self._done = state.step
        self.desk.observer.step(done, job.guard.ledger, evaluation)
        return state

    def _begin(self, job: Job) -> State:
        """The state to start from: fresh with a first checkpoint, or that of the checkpoint."""
        if self._resume is None:
            for name, programmed in job.network.reports.items():
                self._event("program", f"{name}: {programmed}")
            state = job.protocol.init(job.network, job.seed)
            self.desk.record.commit_setup(self._evaluate(job))
            self._save(job, state)
            return state
        state = restore(self.desk.folder, job, self._resume)
        if job.guard.restorable:
            self.desk.record.drop_after(state.step)
        done = self.desk.record.count_steps()
        if done < state.step or (job.guard.restorable and done != state.step):
            path = str(self.desk.record.path)
            raise CheckpointError(path, f"the checkpoint was written after {state.step} steps and only {done} are here")
        self.desk.record.step = max(done - 1, SETUP_STEP)
        if not job.guard.restorable:
            self._meet_chip(job, self._resume)
            state.step = done  # no row is dropped: what was done to a chip stays done
        self._done = state.step
        last = self.desk.record.evaluations("test_accuracy")
        self._accuracy = last[-1][1] if last else None
        return state

    @torch.no_grad()
    def _evaluate(self, job: Job) -> dict[str, float]:
        """Accuracy and cost on the test samples, measured on the chip."""
        test = job.samples.test
        out = job.network(test.x)
        accuracy = float(job.network.correct(out, test.y).double().mean())
        self._accuracy = accuracy
        return {"test_accuracy": accuracy, "test_loss": float(job.network.loss(out, test.y).mean())}

    def _save(self, job: Job, state: State) -> None:
        self.desk.record.sync()
        if job.guard.restorable:
            board = job.guard.snapshot()
        else:
            board = read_network(job.network) | job.guard.wear.snapshot()
        facts = {**job.facts, "ledger": job.guard.ledger.as_dict()}
        checkpoints.write(self.desk.folder, Checkpoint(state, job.network.snapshot(), board, facts))

    def _meet_chip(self, job: Job, saved: Checkpoint) -> None:
        """Goes on from a chip as it is: totals and wear are those of the last step, and its distance is shown."""
        last = self.desk.record.last_step()
        if last is not None:
            job.guard.ledger = _totals(last)
        carry_wear(job.guard.wear, saved.board)
        for name, siemens in distance(saved.board, read_network(job.network)).items():
            self._remark(f"{name}: cells are {engineering(siemens, 'S')} (rms) from the checkpoint")

    def _tell_doubt(self, simulated: bool) -> None:
        """Tells once of writing lists that were to be sent when the run was cut off, and have no outcome."""
        record = self.desk.record
        told = int(record.meta("doubt_told") or 0)
        doubt = [row for row in record.in_doubt() if row[0] > told and row[3] > 0]
        if not doubt:
            return
        record.note("doubt_told", str(doubt[-1][0]))
        lists = f"{len(doubt)} lists of operations" if len(doubt) > 1 else "one list of operations"
        _, step, kinds, pulses = doubt[0]
        back = "; the simulator goes back to the checkpoint" if simulated else ""
        self._remark(
            f"{lists} may have been applied at the cut-off (first: {kinds}, {pulses} pulses, step {step}){back}"
        )

    def _tell_lowering(self, backend: Backend) -> None:
        """Notes what the board could not do by itself, and what that did to half-selected cells."""
        if not isinstance(backend, Lowering) or not backend.notes:
            return
        text = "; ".join(f"{what} ({times:,} times)" for what, times in sorted(backend.notes.items()))
        if backend.half_selects:
            text += f"; lowered writes half-selected cells {backend.half_selects:,} times"
        self._event("lowering", text)

    def _tell_readings(self, network: Network) -> None:
        """Notes what the management of reads had to do."""
        for reading in {id(layer.reading): layer.reading for layer in network.layers}.values():
            if text := reading.told():
                self._event("reading", text)

    def _stopping(self) -> bool:
        """Whether to end before the next step; waits here while the run is paused."""
        stop = self.desk.stop
        stop.check()
        if stop.pause_wanted:
            self.machine.to(RunState.PAUSING)
            self.machine.to(RunState.PAUSED)
            while stop.pause_wanted and not stop.stop_wanted:
                stop.check()
                time.sleep(PAUSE_POLL)
            if not stop.stop_wanted:
                self.machine.to(RunState.RUNNING)
        return stop.stop_wanted

    # -- ending ----------------------------------------------------------------------------------------------------

    def _opened(self, guard: Guard) -> None:
        self._guard = guard
        self._tell_doubt(guard.restorable)
        if self._resume is None and guard.restorable:
            self.desk.record.drop_after(SETUP_STEP)  # a set-up that was cut off is done anew

    def _end(self) -> tuple[SafeReport | None, HilError | None]:
        """Makes the board safe and closes everything; never raises, gives the first trouble instead."""
        if self.machine.state is not RunState.STOPPING:
            self.machine.to(RunState.ABORTING)
        report, trouble = None, None
        if self._guard is not None:
            report, trouble = _safe(self._guard)
        self.machine.to(RunState.SAFE if report is None or report.confirmed else RunState.FAULT)
        try:
            self.desk.record.close()
        except HilError as error:
            trouble = trouble or error
        with suppress(Exception):  # whoever watches cannot change how a run ended
            self.desk.observer.end()
        return report, trouble

    def _moved(self, old: RunState, new: RunState) -> None:
        self._event("state", f"{old.value} -> {new.value}")

    def _remark(self, text: str) -> None:
        self._event("remark", text)
        self.desk.observer.say(text)

    def _event(self, kind: str, text: str) -> None:
        self.desk.record.event(kind, text, time.time())

    @staticmethod
    def _safe_text(report: SafeReport | None) -> str:
        return UNOPENED if report is None else str(report)

    def _result(
        self, status: str, error: HilError | None, report: SafeReport | None, trouble: HilError | None
    ) -> RunResult:
        ledger = self._guard.ledger if self._guard else Ledger()
        safe, problems = self._safe_text(report), [problem for problem in (error, trouble) if problem]
        code = problems[0].exit_code if problems else 4 if status == "stopped" else 0
        texts = [text for problem in problems for text in (str(problem), *getattr(problem, "__notes__", ()))]
        if report is not None and not report.confirmed:
            code, texts = BoardFault.exit_code, [*texts, safe]
        return RunResult(
            status="failed" if texts and status == "done" else status,
            exit_code=code,
            run_dir=self.desk.folder,
            steps=self._done,
            test_accuracy=self._accuracy,
            software_accuracy=None,
            reads=ledger.reads,
            pulses=ledger.pulses,
            lab_seconds=ledger.lab_seconds,
            half_selects=ledger.half_selects,
            joules=ledger.joules or None,
            iterations_per_second=self._session_steps / self._seconds if self._seconds > 0 else 0.0,
            safe=safe,
            error="; ".join(texts) or None,
            link_fraction=None if self._link is None else self._link.fraction,
            link=None if self._link is None else str(self._link),
        )


def _safe(board: Backend) -> tuple[SafeReport, HilError | None]:
    """Makes a board safe, and closes it whatever came of that."""
    trouble: HilError | None = None
    report = SafeReport({"board": "unreadable"}, confirmed=False)
    try:
        report = board.make_safe()
    except Exception as error:
        trouble = _as_fault(board, "the safe command failed", error)
    try:
        board.close()
    except Exception as error:
        trouble = trouble or _as_fault(board, "it could not be closed", error)
    return report, trouble


def _as_fault(board: Backend, what: str, error: Exception) -> HilError:
    if isinstance(error, HilError):
        return error
    return BoardFault(board.spec.identity.name, f"{what} ({type(error).__name__}: {error})")


def _totals(row: StepRow) -> Ledger:
    names = ("lists", "reads", "writes", "pulses", "lab_seconds", "flagged", "half_selects", "joules")
    return Ledger(**{name: getattr(row, name) for name in names})
