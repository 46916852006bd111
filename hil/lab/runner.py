"""The runner: takes a run from its first operation to a safe board, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hil.contract import Backend, SafeReport
from hil.errors import Aborted, CheckpointError, CheckpointMismatch, HilError, StorageError
from hil.lab import checkpoint as checkpoints
from hil.lab.checkpoint import Checkpoint
from hil.lab.job import Job, Observer, RunResult
from hil.lab.ledger import Ledger
from hil.lab.readback import distance, read_network
from hil.lab.record import Record
from hil.lab.signals import signals
from hil.lab.states import Machine, RunState
from hil.lab.stop import StopToken
from hil.protocol import State
from hil.units import engineering

PAUSE_POLL = 0.05


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
            handed a function to call with the opened board, so that a failure half way still ends safe.
        resume: the checkpoint to go on from; None for a fresh run.
    """

    def __init__(
        self, desk: Desk, open_job: Callable[[Callable[[Backend], None]], Job], resume: Checkpoint | None = None
    ) -> None:
        self.desk = desk
        self.machine = Machine(self._moved)
        self._open_job, self._resume = open_job, resume
        self._board: Backend | None = None
        self._job: Job | None = None
        self._done = 0
        self._accuracy: float | None = None
        self._seconds = 0.0
        self._session_steps = 0

    def conduct(self) -> RunResult:
        """Runs to the end and gives the result; errors of the kind ``HilError`` become part of it."""
        error: HilError | None = None
        status = "done"
        with signals(self.desk.stop, self.desk.observer.say):
            try:
                self.machine.to(RunState.RUNNING)
                self._job = self._open_job(self._opened)
                finished = self._train(self._job)
                status = "done" if finished else "stopped"
                self.machine.to(RunState.STOPPING)
            except Aborted as caught:
                error, status = caught, "aborted"
            except HilError as caught:
                error, status = caught, "failed"
            finally:
                self.desk.observer.end()
                safe, trouble = self._make_safe()
        return self._result(status, error or trouble, safe)

    # -- training --------------------------------------------------------------------------------------------------

    def _train(self, job: Job) -> bool:
        """Does the remaining steps; False when the operator stopped it before the last."""
        state = self._begin(job)
        self.desk.observer.begin(job, state.step)
        saved, started = state.step, time.perf_counter()
        try:
            while state.step < job.steps and not self._stopping():
                state = self._one_step(job, state)
                if state.step % job.checkpoint_every == 0 or state.step == job.steps:
                    self._save(job, state)
                    saved = state.step
            if saved != state.step:
                self._save(job, state)
        finally:
            self._seconds += time.perf_counter() - started
        return state.step >= job.steps

    def _one_step(self, job: Job, state: State) -> State:
        record = self.desk.record
        record.step = state.step
        batch = job.samples.batch(job.protocol.batch_of(state.step))
        state, done = job.protocol.step(state, job.network, batch)
        evaluation: Mapping[str, float] = {}
        if state.step % job.evaluate_every == 0 or state.step == job.steps:
            evaluation = self._evaluate(job)
        record.commit_step(done, job.guard.ledger, evaluation)
        self._done = state.step
        self._session_steps += 1
        self.desk.observer.step(done, job.guard.ledger, evaluation)
        return state

    def _begin(self, job: Job) -> State:
        """The state to start from: fresh with a first checkpoint, or that of the checkpoint."""
        if self._resume is None:
            state = job.protocol.init(job.network, job.seed)
            self.desk.record.commit_setup(self._evaluate(job))
            self._save(job, state)
            return state
        state = restore(self.desk.folder, job, self._resume)
        if job.guard.restorable:
            self.desk.record.drop_after(state.step)
        rows = [row.step for row in self.desk.record.steps()]
        if not job.guard.restorable:
            self._meet_chip(job, self._resume)
            state.step = len(rows)  # no row is dropped: what was done to a chip stays done
        if rows != list(range(state.step)):
            raise CheckpointError(
                str(self.desk.record.path), f"it should hold steps 0 to {state.step - 1} and holds {len(rows)} steps"
            )
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
        board = job.guard.snapshot() if job.guard.restorable else read_network(job.network)
        facts = {**job.facts, "ledger": job.guard.ledger.as_dict()}
        checkpoints.write(self.desk.folder, Checkpoint(state, job.network.state_dict(), board, facts))

    def _meet_chip(self, job: Job, saved: Checkpoint) -> None:
        """Shows how far the cells are from where the checkpoint left them."""
        for name, siemens in distance(saved.board, read_network(job.network)).items():
            self.desk.observer.say(f"{name}: cells are {engineering(siemens, 'S')} (rms) from the checkpoint")

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

    def _opened(self, board: Backend) -> None:
        self._board = board

    def _make_safe(self) -> tuple[str, HilError | None]:
        """Makes the board safe and closes everything; never raises, gives the first trouble instead."""
        trouble: HilError | None = None
        if self.machine.state is not RunState.STOPPING:
            self.machine.to(RunState.ABORTING)
        report = SafeReport({}, confirmed=True)
        if self._board is not None:
            try:
                report = self._board.make_safe()
                self._board.close()
            except Exception as error:
                report = SafeReport({"board": "unreadable"}, confirmed=False)
                trouble = error if isinstance(error, HilError) else None
        self.machine.to(RunState.SAFE if report.confirmed else RunState.FAULT)
        try:
            self.desk.record.close()
        except StorageError as error:
            trouble = trouble or error
        return str(report), trouble

    def _moved(self, old: RunState, new: RunState) -> None:
        self.desk.record.event("state", f"{old.value} -> {new.value}", time.time())

    def _result(self, status: str, error: HilError | None, safe: str) -> RunResult:
        ledger = self._job.guard.ledger if self._job else Ledger()
        code = error.exit_code if error else 4 if status == "stopped" else 0
        return RunResult(
            status="failed" if error and status == "done" else status,
            exit_code=code,
            run_dir=self.desk.folder,
            steps=self._done,
            test_accuracy=self._accuracy,
            software_accuracy=None,
            reads=ledger.reads,
            pulses=ledger.pulses,
            lab_seconds=ledger.lab_seconds,
            iterations_per_second=self._session_steps / self._seconds if self._seconds > 0 else 0.0,
            safe=safe,
            error=str(error) if error else None,
        )


def restore(folder: Path, job: Job, saved: Checkpoint) -> State:
    """Puts a checkpoint back into a freshly opened job, after comparing what the run depends on.

    Raises:
        CheckpointMismatch: config, serial, geometry or dtype have changed; the error names the key.
        CheckpointError: the checkpoint does not fit.
    """
    for name, saved_value, now in differences(dict(saved.facts), dict(job.facts)):
        if name.split(".")[0] != "ledger":
            raise CheckpointMismatch(str(folder), name, saved_value, now)
    try:
        job.network.load_state_dict(dict(saved.network))
    except RuntimeError as error:
        raise CheckpointError(str(folder), f"the network does not fit: {error}") from error
    if job.guard.restorable:
        job.guard.restore(saved.board)
    fresh = job.protocol.init(job.network, job.seed)
    if {k: v.shape for k, v in fresh.tensors.items()} != {k: v.shape for k, v in saved.state.tensors.items()}:
        raise CheckpointError(str(folder), "the tensors of the protocol do not fit its configuration")
    try:
        job.guard.ledger = Ledger(**saved.facts["ledger"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(str(folder), "the running totals are missing") from error
    return saved.state


def differences(saved: Any, now: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted keys at which two plain values differ, with both values."""
    if isinstance(saved, dict) and isinstance(now, dict):
        found: list[tuple[str, Any, Any]] = []
        for name in sorted({*saved, *now}, key=str):
            path = f"{key}.{name}" if key else str(name)
            found += differences(saved.get(name), now.get(name), path)
        return found
    return [] if saved == now else [(key, saved, now)]


