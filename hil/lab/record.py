"""The record of a run: one SQLite file that survives a crash at any moment.

Two kinds of transaction. An *intent* is one row for each list of operations, committed before the list is sent. A
*step* holds outcomes, totals and events of one step together. An intent without an outcome says that its list may have
been applied.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.contract import Blocks, Outcome
from hil.errors import CheckpointError, StorageError
from hil.lab.checks import Checked
from hil.lab.ledger import Ledger
from hil.lab.plain import printable
from hil.lab.transaction import transaction
from hil.protocol import StepRecord

_VERSION = 2
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE intent (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, ops INTEGER NOT NULL, kinds TEXT NOT NULL, blocks TEXT NOT NULL,
    peak_volts REAL NOT NULL, pulses INTEGER NOT NULL);
CREATE TABLE outcome (
    intent INTEGER PRIMARY KEY, ops INTEGER NOT NULL, seconds REAL NOT NULL, events INTEGER NOT NULL,
    applied INTEGER NOT NULL, joules REAL);
CREATE TABLE step (
    step INTEGER PRIMARY KEY, loss REAL, correct REAL, lists INTEGER NOT NULL, reads INTEGER NOT NULL,
    writes INTEGER NOT NULL, pulses INTEGER NOT NULL, lab_seconds REAL NOT NULL, flagged INTEGER NOT NULL,
    half_selects INTEGER NOT NULL, joules REAL NOT NULL, numbers TEXT NOT NULL);
CREATE TABLE evaluation (step INTEGER NOT NULL, name TEXT NOT NULL, value REAL, PRIMARY KEY (step, name)) WITHOUT ROWID;
CREATE TABLE event (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
"""
_LAYOUT = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
_WAL_PAGES = 4096
"""Pages of the write-ahead log before SQLite folds it back in the middle of a list; ``sync`` does so at checkpoints."""

LONGEST_TEXT = 2000
SETUP_STEP = -1
"""Lists before the first step belong to the set-up: programming and the first evaluation."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """One row of the step table; ``loss`` and ``correct`` are NaN where they were not a number."""

    step: int
    loss: float
    correct: float
    lists: int
    reads: int
    writes: int
    pulses: int
    lab_seconds: float
    flagged: int
    half_selects: int
    joules: float
    numbers: Mapping[str, float]


class Record:
    """Writes and reads a run's ``run.db``. Opening an existing one to read it changes nothing.

    Args:
        path: the file; made when missing.
        full_sync: wait for the disk at every commit (synchronous FULL); slower, safe against power loss.

    Attributes:
        step: the step that lists belong to; set by the runner.

    Raises:
        CheckpointError: the file is something else, or was altered.
        StorageError: it cannot be opened or made.
    """

    def __init__(self, path: Path, *, full_sync: bool = False) -> None:
        self.path = path
        self.step = SETUP_STEP
        self._outcomes: list[tuple[int, int, float, int, int, float | None]] = []
        self._events: list[tuple[int, float, str, str]] = []
        self._known: dict[Blocks, int] = {}
        with self._storage():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with self._storage():
                self._db.execute("PRAGMA trusted_schema=OFF")
                self._make_or_check()
                self._db.execute(f"PRAGMA synchronous={'FULL' if full_sync else 'NORMAL'}")
                self._db.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
            self._number = self._last_number()
        except BaseException:
            self._db.close()
            raise

    # -- writing ---------------------------------------------------------------------------------------------------

    def intent(self, checked: Sequence[Checked]) -> int:
        """Commits a list before it is sent; see ``Audit``."""
        kinds = ",".join([type(c.op).__name__ for c in checked])
        with self._storage():
            blocks = ",".join([str(self._blocks_id(getattr(c.op, "blocks", None))) for c in checked])
            peak = max((c.peak for c in checked), default=0.0)
            pulses = sum(int(c.counts.sum()) for c in checked if c.counts is not None)
            row = (self._number + 1, self.step, len(checked), kinds, blocks, peak, pulses)
            self._db.execute("INSERT INTO intent VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            self._number += 1
        return self._number

    def outcome(self, number: int, outcomes: Sequence[Outcome]) -> None:
        """Keeps what came of a list until the step is committed; see ``Audit``."""
        seconds, events, applied = 0.0, 0, 0
        joules: float | None = None
        for o in outcomes:
            seconds += o.seconds
            events += o.events
            applied += 0 if o.applied is None else int(o.applied.sum())
            joules = joules if o.joules is None else (joules or 0.0) + o.joules
        self._outcomes.append((number, len(outcomes), seconds, events, applied, joules))

    def commit_step(self, record: StepRecord, ledger: Ledger, evaluation: Mapping[str, float]) -> None:
        """Commits a step with all that belongs to it."""
        totals, numbers = ledger.as_dict(), json.dumps(dict(record.numbers), sort_keys=True)
        names = ("lists", "reads", "writes", "pulses", "lab_seconds", "flagged", "half_selects", "joules")
        row = (record.step, record.loss, record.correct, *(totals[name] for name in names), numbers)
        with self._transaction():
            self._flush()
            self._db.execute("INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            self._evaluation(record.step, evaluation)
        self._forget()

    def commit_setup(self, evaluation: Mapping[str, float]) -> None:
        """Commits what came before the first step, or after the last."""
        with self._transaction():
            self._flush()
            self._evaluation(self.step, evaluation)
        self._forget()

    def event(self, kind: str, text: str, at: float) -> None:
        """Notes something that happened, at a wall time; it is stored with the next commit."""
        self._events.append((self.step, at, kind, printable(text, LONGEST_TEXT)))

    def note(self, key: str, value: str) -> None:
        """Stores one fact about the run."""
        with self._storage():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def drop_after(self, step: int) -> None:
        """Forgets everything that belongs to steps from ``step`` on, in one transaction; for resuming a simulator."""
        self._outcomes.clear()
        with self._transaction():
            self._db.execute("DELETE FROM outcome WHERE intent IN (SELECT id FROM intent WHERE step >= ?)", (step,))
            self._db.execute("DELETE FROM intent WHERE step >= ?", (step,))
            self._db.execute("DELETE FROM step WHERE step >= ?", (step,))
            self._db.execute("DELETE FROM evaluation WHERE step >= ?", (step,))
        self._number = self._last_number()

    def sync(self) -> None:
        """Waits until everything committed so far is on the disk, and folds the write-ahead log back."""
        wal = self.path.with_name(self.path.name + "-wal")
        with self._storage():
            if wal.exists():
                file = os.open(wal, os.O_RDONLY)
                try:
                    os.fsync(file)
                finally:
                    os.close(file)
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Stores what is left and closes the file."""
        try:
            if self._outcomes or self._events:
                with self._transaction():
                    self._flush()
                self._forget()
        finally:
            with self._storage():
                self._db.close()

    # -- reading ---------------------------------------------------------------------------------------------------

    def steps(self) -> list[StepRow]:
        """All steps in order."""
        return [self._step_row(row) for row in self._rows("SELECT * FROM step ORDER BY step")]

    def last_step(self) -> StepRow | None:
        """The last step, with the totals up to it."""
        rows = self._rows("SELECT * FROM step ORDER BY step DESC LIMIT 1")
        return self._step_row(rows[0]) if rows else None

    def count_steps(self) -> int:
        """The number of steps.

        Raises:
            CheckpointError: a step is missing in between.
        """
        ((count, last),) = self._rows("SELECT count(*), max(step) FROM step WHERE step >= 0")
        if count and last != count - 1:
            raise CheckpointError(str(self.path), f"steps are missing: the last is {last} and there are {count}")
        return int(count)

    def evaluations(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of one kind of evaluation, in order."""
        rows = self._rows("SELECT step, value FROM evaluation WHERE name = ? ORDER BY step", name)
        return [(int(step), self._number_of(value)) for step, value in rows]

    def events(self) -> list[tuple[int, float, str, str]]:
        """(step, wall time, kind, text) of all events, in order."""
        rows = self._rows("SELECT step, at, kind, text FROM event ORDER BY id")
        return [(int(step), self._number_of(at), str(kind), str(text)) for step, at, kind, text in rows]

    def in_doubt(self) -> list[tuple[int, int, str, int]]:
        """(number, step, kinds, pulses) of lists that were to be sent and have no outcome, or not a whole one."""
        return self._rows(
            "SELECT id, step, kinds, pulses FROM intent LEFT JOIN outcome ON intent.id = outcome.intent "
            "WHERE outcome.ops IS NULL OR outcome.ops < intent.ops ORDER BY id"
        )

    def meta(self, key: str) -> str | None:
        """One fact about the run."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    # -- inside ----------------------------------------------------------------------------------------------------

    def _make_or_check(self) -> None:
        """Makes the tables in one transaction, or compares those that are there with what they should be."""
        found = self._db.execute(_LAYOUT).fetchall()
        if not found:
            self._db.execute("PRAGMA journal_mode=WAL")
            try:
                self._db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={_VERSION}; COMMIT;")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            return
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if 0 < version < _VERSION:
            problem = (
                f"this run record has version {version}, of an earlier Crossbar-HIL; this one reads version {_VERSION}"
            )
            raise CheckpointError(str(self.path), f"{problem}: begin a new run, or use the release that wrote it")
        if version != _VERSION or found != _layout():
            problem = f"this is not a run record of version {_VERSION}: its tables are other ones"
            raise CheckpointError(str(self.path), problem)

    def _last_number(self) -> int:
        return int(self._rows("SELECT coalesce(max(id), 0) FROM intent")[0][0])

    def _rows(self, question: str, *values: object) -> list[Any]:
        with self._storage():
            return self._db.execute(question, values).fetchall()

    def _step_row(self, row: Sequence[Any]) -> StepRow:
        step, loss, correct, *totals, numbers = row
        with self._sound():
            lists, reads, writes, pulses, lab_seconds, flagged, half_selects, joules = (
                float(total) for total in totals
            )
            named = {str(name): float(value) for name, value in json.loads(numbers).items()}
            return StepRow(
                int(step), self._number_of(loss), self._number_of(correct), int(lists), int(reads), int(writes),
                int(pulses), lab_seconds, int(flagged), int(half_selects), joules, named,
            )  # fmt: skip

    def _number_of(self, value: Any) -> float:
        """A number of the file; SQLite keeps NaN as NULL."""
        with self._sound():
            return float("nan") if value is None else float(value)

    def _flush(self) -> None:
        self._db.executemany("INSERT INTO outcome VALUES (?, ?, ?, ?, ?, ?)", self._outcomes)
        self._db.executemany("INSERT INTO event (step, at, kind, text) VALUES (?, ?, ?, ?)", self._events)

    def _forget(self) -> None:
        """After a commit: what was stored need not be stored again."""
        self._outcomes.clear()
        self._events.clear()

    def _evaluation(self, step: int, values: Mapping[str, float]) -> None:
        rows = [(step, name, value) for name, value in values.items()]
        self._db.executemany("INSERT OR REPLACE INTO evaluation VALUES (?, ?, ?)", rows)

    def _blocks_id(self, blocks: Blocks | None) -> int:
        if blocks is None:
            return 0
        known = self._known.get(blocks)
        if known is None:
            places = [f"{k}:{r}:{c}" for k, r, c in zip(blocks.kernel, blocks.row, blocks.col, strict=True)]
            text = f"{blocks.n_rows}x{blocks.n_cols} at {' '.join(places)}"
            self._db.execute("INSERT OR IGNORE INTO blocks (text) VALUES (?)", (text,))
            known = int(self._db.execute("SELECT id FROM blocks WHERE text = ?", (text,)).fetchone()[0])
            self._known[blocks] = known
        return known

    @contextmanager
    def _transaction(self) -> Generator[None]:
        with self._storage(), transaction(self._db):
            yield

    @contextmanager
    def _storage(self) -> Generator[None]:
        """A disk that fails and a file that is damaged, told apart."""
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise StorageError(str(self.path), str(error)) from error
        except sqlite3.IntegrityError as error:
            raise CheckpointError(str(self.path), f"a row is there twice or incomplete ({error})") from error
        except sqlite3.DatabaseError as error:
            raise CheckpointError(str(self.path), f"this is not a run record, or it is damaged ({error})") from error

    @contextmanager
    def _sound(self) -> Generator[None]:
        """A row whose values are not what they should be."""
        try:
            yield
        except (TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            raise CheckpointError(str(self.path), f"a row holds something else than numbers ({error})") from error


def _layout() -> list[Any]:
    """The tables as SQLite describes them."""
    fresh = sqlite3.connect(":memory:")
    try:
        fresh.executescript(_TABLES)
        return fresh.execute(_LAYOUT).fetchall()
    finally:
        fresh.close()
