"""Characterises a board: prices the plan, measures, fits, and writes the files that the simulator loads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from hil.contract import Backend, BoardSpec
from hil.errors import Aborted, HilError, LimitBreached, LimitExceeded, UsageError
from hil.lab import config, tables
from hil.lab.boardfile import BoardFile, simulator_of
from hil.lab.build import guard_of, open_board
from hil.lab.characterization import Fits, fitted
from hil.lab.characterization_files import About, write_files
from hil.lab.config import Loaded
from hil.lab.dryrun import DryBoard, open_dry
from hil.lab.guard import Guard
from hil.lab.opening import dtype_of, read_board
from hil.lab.signals import signals
from hil.lab.stop import StopToken
from hil.lab.threads import one_thread
from hil.lab.wear import Wear
from hil.lowering import Lowering
from hil.units import duration, engineering
from protocols.characterise.plan import Plan
from protocols.characterise.sequence import Findings, measure
from sim_backend.faults import Faults

ROOT = Path("runs")
_DONE, _STOPPED, _ABORTED, _FAILED = "done", "stopped", "aborted", "failed"


@dataclass(frozen=True, slots=True)
class Price:
    """What a plan costs on a board where no cell is broken, found by carrying it out on a simulator of it.

    Args:
        parts: name, lab seconds, read events and pulses over all cells of each measurement, in their order.
        pulses_per_cell: most pulses of one cell.
    """

    parts: Sequence[tuple[str, float, int, int]]
    pulses_per_cell: int

    @property
    def seconds(self) -> float:
        """Lab time of the whole plan, s."""
        return sum(seconds for _, seconds, _, _ in self.parts)

    def lines(self, spec: BoardSpec) -> list[str]:
        """What is said before anything is sent."""
        limits, writing = spec.limits, spec.writing
        parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds, _, _ in self.parts)
        pulses = sum(part[3] for part in self.parts)
        peak = engineering(max(writing.up_volts, writing.down_volts), "V")
        return [
            f"plan: {duration(self.seconds)} of lab time: {parts}",
            f"plan: reads at up to {engineering(limits.read_cell_volts, 'V')}; {pulses:,} pulses of up to {peak}, at "
            f"most {self.pulses_per_cell:,} on a cell (a run may give {limits.pulses_per_run:,})",
        ]


@dataclass(frozen=True, slots=True)
class Characterized:
    """What characterising a board came to.

    Args:
        folder: where the files are.
        status: ``done``, ``stopped``, ``aborted`` or ``failed``.
        safe: what the board's outputs were left in.
        exit_code: what the command ends with.
        error: why it ended early.
        fits: what was found.
        files: names of the files in the folder.
        ledger: what it cost.
    """

    folder: Path
    status: str
    safe: str
    exit_code: int
    error: str | None
    fits: Fits
    files: Sequence[str]
    ledger: Mapping[str, float | int]

    def lines(self) -> list[str]:
        """What a technician sees."""
        said = [*self.fits.lines_of_text()]
        if self.error:
            said.append(f"{self.status}: {self.error}")
        said += [f"left out: {name}: {why}" for name, why in self.fits.findings.left_out.items()]
        said += [f"board: {self.safe}", f"files: {self.folder}: {', '.join(self.files)}"]
        if "board.yaml" in self.files:
            said.append(f"simulate this board with  hil run ... --set board={self.folder / 'board.yaml'}")
        return said

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "status": self.status, "folder": str(self.folder), "safe": self.safe, "error": self.error,
            "files": list(self.files), "ledger": dict(self.ledger), "results": self.fits.plain(),
        }  # fmt: skip


def characterize(
    board: str | Path | Mapping[str, Any],
    *,
    plan: str | Path | None = None,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
    stop: StopToken | None = None,
    dry: bool = False,
) -> Characterized | Price:
    """Characterises a board and writes a folder.

    Args:
        board: path of a board file, its content, or the URL of a board.
        plan: a plan file; None for the usual plan.
        out: folder to make; None for a new one under ``runs``.
        overrides: ``key.path=value`` settings that take the place of the plan's.
        seed: seed of a simulated board whose file names none.
        say: told what is going on.
        stop: a stop token, to end it from another thread.
        dry: price the plan, and send nothing.

    Raises:
        ConfigError: board file or plan cannot be used.
        LimitExceeded: the plan would pass a limit of the board; nothing was sent.
        UsageError: the plan needs more pulses than it allows itself, or the folder is there already.
    """
    stop = stop or StopToken()
    loaded, settings = read_board(board), read_plan(plan, overrides)
    price = priced(loaded.value, settings.value)
    spec = loaded.value.spec
    for line in price.lines(spec):
        say(line)
    if price.pulses_per_cell > settings.value.most_pulses:
        raise UsageError(
            f"the plan gives a cell {price.pulses_per_cell:,} pulses, above its most_pulses of "
            f"{settings.value.most_pulses:,}; nothing was sent. Set fewer pulses, or most_pulses higher"
        )
    if dry:
        return price
    task = _Task(loaded, settings, price, seed, "" if isinstance(board, Mapping) else str(board))
    folder = tables.new_folder(out or _free(spec.identity.name))
    with signals(stop, say):
        return task.conducted(folder, say, stop)


def read_plan(plan: str | Path | None, overrides: Sequence[str]) -> Loaded[Plan]:
    """Reads a plan file; None gives the usual plan."""
    if plan is None:
        return config.from_mapping({}, Plan, "the usual plan", overrides)
    return config.load(config.find(plan), Plan, overrides)


def priced(board: BoardFile, plan: Plan) -> Price:
    """Carries a plan out on a simulator of the board, behind the same guard.

    Raises:
        LimitExceeded: it would pass a limit of the board.
    """
    spec = replace(board.spec, reading=replace(board.spec.reading, input_levels=None))
    physics = replace(simulator_of(board), faults=Faults())
    guard = Guard(open_dry(DryBoard(spec=spec, simulator=physics), spec, 0), Wear(spec))
    parts: list[tuple[str, float, int, int]] = []
    name, before = "", replace(guard.ledger)
    for upcoming, _ in measure(Lowering(guard), plan):
        now = replace(guard.ledger)
        if name:
            parts.append(
                (name, now.lab_seconds - before.lab_seconds, now.reads - before.reads, now.pulses - before.pulses)
            )
        name, before = upcoming, now
    return Price(parts, int(guard.wear.run.max()))


@dataclass(frozen=True, slots=True)
class _Task:
    """A board and a plan that may be carried out on it."""

    board: Loaded[BoardFile]
    plan: Loaded[Plan]
    price: Price
    seed: int
    address: str

    def conducted(self, folder: Path, say: Callable[[str], None], stop: StopToken) -> Characterized:
        """Opens the board, measures, makes it safe, and writes what was found, whole or in part."""
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        backend = open_board(self.address or self.board.plain, seed=self.seed, stop=stop)
        guard = guard_of(backend)
        try:
            _within_life(guard, self.price)
            findings, status, error = self._measured(backend, say, stop)
        finally:
            try:
                safe = str(backend.make_safe())
            finally:
                backend.close()
        with one_thread():
            fits = fitted(findings, backend.spec, say)
        name = self.board.value.spec.identity.name
        command, ledger = f"hil characterize {self.address or name}", guard.ledger.as_dict()
        about = About(self.board, self.plan.plain, dtype_of(self.board.value), began, command, ledger)
        files = write_files(folder, fits, about, status)
        code = error.exit_code if error is not None else 0 if status == _DONE else Aborted.exit_code
        told = None if error is None else str(error)
        return Characterized(folder, status, safe, code, told, fits, files, ledger)

    def _measured(
        self, backend: Backend, say: Callable[[str], None], stop: StopToken
    ) -> tuple[Findings, str, HilError | None]:
        """Measures as far as nothing goes wrong and nobody ends it."""
        expected = {name: (seconds, reads, pulses) for name, seconds, reads, pulses in self.price.parts}
        findings = Findings()
        try:
            for name, so_far in measure(backend, self.plan.value):
                findings = so_far
                if not name:
                    break
                if stop.stop_wanted:
                    return findings, _STOPPED, None
                seconds, reads, pulses = expected.get(name, (0.0, 0, 0))
                wear = f", {pulses:,} pulses" if pulses else ""
                say(f"{name}: {duration(seconds)} of lab time, {reads:,} read events{wear}")
        except Aborted as error:
            return findings, _ABORTED, error
        except HilError as error:
            if findings.scan is None and isinstance(error, LimitBreached):
                say("a smaller scan_share looks at such cells with less current")
            return findings, _FAILED, error
        return findings, _DONE, None


def _free(name: str) -> Path:
    """A folder that is not there yet, named after the board and the time."""
    stem = f"characterize-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return next(path for number in count() if not (path := ROOT / (f"{stem}-{number}" if number else stem)).exists())


def _within_life(guard: Guard, price: Price) -> None:
    """Refuses a plan that would pass the life of a cell."""
    limit, most = guard.spec.limits.pulses_per_life, int(guard.wear.life.max()) + price.pulses_per_cell
    if most > limit:
        source = guard.spec.source("limits.pulses_per_life")
        raise LimitExceeded("pulses per life", most, limit, "", "the whole plan", source)
