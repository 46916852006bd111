"""The record of a run: one SQLite file that survives a crash at any moment.

Two kinds of transaction. An *intent* is one row for each list of operations, committed before the list is sent. A
*step* holds outcomes, totals and events of one step together. An intent without an outcome says that its list may have
been applied.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hil.contract import Blocks, Outcome
from hil.errors import CheckpointError, StorageError
from hil.lab.checks import Checked
from hil.lab.ledger import Ledger
from hil.protocol import StepRecord

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS intent (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, kinds TEXT NOT NULL, blocks TEXT NOT NULL,
    peak_volts REAL NOT NULL, pulses INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outcome (
    intent INTEGER PRIMARY KEY, seconds REAL NOT NULL, events INTEGER NOT NULL, applied INTEGER NOT NULL,
    flagged INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS step (
    step INTEGER PRIMARY KEY, loss REAL NOT NULL, correct REAL NOT NULL, lists INTEGER NOT NULL,
    reads INTEGER NOT NULL, writes INTEGER NOT NULL, pulses INTEGER NOT NULL, lab_seconds REAL NOT NULL,
    flagged INTEGER NOT NULL, numbers TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS evaluation (
    step INTEGER NOT NULL, name TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (step, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
"""
SETUP_STEP = -1
"""Lists before the first step belong to the set-up: programming and the first evaluation."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """One row of the step table."""

    step: int
    loss: float
    correct: float
    lists: int
    reads: int
    writes: int
    pulses: int
    lab_seconds: float
    flagged: int
    numbers: Mapping[str, float]


class Record:
    """Writes and reads a run's ``run.db``.

    Args:
        path: the file; made when missing.
        full_sync: wait for the disk at every commit (synchronous FULL); slower, safe against power loss.

    Attributes:
        step: the step that lists belong to; set by the runner.
    """

    def __init__(self, path: Path, *, full_sync: bool = False) -> None:
        self.path = path
        self.step = SETUP_STEP
        self._outcomes: list[tuple[int, float, int, int, int]] = []
        self._events: list[tuple[int, float, str, str]] = []
        self._known: dict[Blocks, int] = {}
        with self._storage():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._db.executescript(
                    f"PRAGMA journal_mode=WAL; PRAGMA synchronous={'FULL' if full_sync else 'NORMAL'};" + _TABLES
                )
                last = self._db.execute("SELECT coalesce(max(id), 0) FROM intent").fetchone()[0]
            except sqlite3.DatabaseError as error:
                self._db.close()
                if isinstance(error, sqlite3.OperationalError):
                    raise
                raise CheckpointError(str(path), f"this is not a run record ({error})") from error
        self._number = int(last)

    # -- writing ---------------------------------------------------------------------------------------------------

    def intent(self, checked: Sequence[Checked]) -> int:
        """Commits a list before it is sent; see ``Audit``."""
        kinds = ",".join(type(c.op).__name__ for c in checked)
        with self._storage():
            blocks = ",".join(str(self._blocks_id(getattr(c.op, "blocks", None))) for c in checked)
            peak = max((c.peak for c in checked), default=0.0)
            pulses = sum(int(c.counts.sum()) for c in checked if c.counts is not None)
            self._number += 1
            row = (self._number, self.step, kinds, blocks, peak, pulses)
            self._db.execute("INSERT INTO intent VALUES (?, ?, ?, ?, ?, ?)", row)
        return self._number

    def outcome(self, number: int, outcomes: Sequence[Outcome]) -> None:
        """Keeps what came of a list until the step is committed; see ``Audit``."""
        seconds, events, applied, flagged = 0.0, 0, 0, 0
        for o in outcomes:
            seconds += o.seconds
            events += o.events
            applied += 0 if o.applied is None else int(o.applied.sum())
            flagged += 0 if o.flags is None else int(o.flags.count_nonzero())
        self._outcomes.append((number, seconds, events, applied, flagged))

    def commit_step(self, record: StepRecord, ledger: Ledger, evaluation: Mapping[str, float]) -> None:
        """Commits a step with all that belongs to it."""
        totals = ledger.as_dict()
        row = (
            record.step, record.loss, record.correct, totals["lists"], totals["reads"], totals["writes"],
            totals["pulses"], totals["lab_seconds"], totals["flagged"], json.dumps(dict(record.numbers), sort_keys=True),
        )  # fmt: skip
        with self._transaction():
            self._flush()
            self._db.execute("INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            self._evaluation(record.step, evaluation)

    def commit_setup(self, evaluation: Mapping[str, float]) -> None:
        """Commits what came before the first step, or after the last."""
        with self._transaction():
            self._flush()
            self._evaluation(self.step, evaluation)

    def event(self, kind: str, text: str, at: float) -> None:
        """Notes something that happened, at a wall time; it is stored with the next commit."""
        self._events.append((self.step, at, kind, printable(text)))

    def note(self, key: str, value: str) -> None:
        """Stores one fact about the run."""
        with self._storage():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def drop_after(self, step: int) -> None:
        """Forgets everything that belongs to steps from ``step`` on, in one transaction; for resuming a simulator."""
        self._outcomes.clear()
        with self._transaction():
            self._db.execute("DELETE FROM outcome WHERE intent IN (SELECT id FROM intent WHERE step >= ?)", (step,))
            for table in ("intent", "step", "evaluation"):
                self._db.execute(f"DELETE FROM {table} WHERE step >= ?", (step,))  # noqa: S608
        with self._storage():
            self._number = int(self._db.execute("SELECT coalesce(max(id), 0) FROM intent").fetchone()[0])

    def sync(self) -> None:
        """Waits until everything committed so far is on the disk."""
        wal = self.path.with_name(self.path.name + "-wal")
        with self._storage():
            if wal.exists():
                file = os.open(wal, os.O_RDONLY)
                try:
                    os.fsync(file)
                finally:
                    os.close(file)

    def close(self) -> None:
        """Stores what is left and closes the file."""
        try:
            with self._transaction():
                self._flush()
        finally:
            self._db.close()

    # -- reading ---------------------------------------------------------------------------------------------------

    def steps(self) -> list[StepRow]:
        """All steps in order."""
        rows = self._db.execute("SELECT * FROM step ORDER BY step").fetchall()
        return [StepRow(*row[:9], json.loads(row[9])) for row in rows]

    def evaluations(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of one kind of evaluation, in order."""
        return self._db.execute("SELECT step, value FROM evaluation WHERE name = ? ORDER BY step", (name,)).fetchall()

    def events(self) -> list[tuple[int, float, str, str]]:
        """(step, wall time, kind, text) of all events, in order."""
        return self._db.execute("SELECT step, at, kind, text FROM event ORDER BY id").fetchall()

    def in_doubt(self) -> list[tuple[int, int, str, int]]:
        """(number, step, kinds, pulses) of lists that were to be sent and have no outcome."""
        return self._db.execute(
            "SELECT id, step, kinds, pulses FROM intent WHERE id NOT IN (SELECT intent FROM outcome) ORDER BY id"
        ).fetchall()

    def meta(self, key: str) -> str | None:
        """One fact about the run."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    # -- inside ----------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._db.executemany("INSERT INTO outcome VALUES (?, ?, ?, ?, ?)", self._outcomes)
        self._db.executemany("INSERT INTO event (step, at, kind, text) VALUES (?, ?, ?, ?)", self._events)
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
    def _transaction(self) -> Iterator[None]:
        with self._storage():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise StorageError(str(self.path), str(error)) from error


def printable(text: str) -> str:
    """Foreign text with control characters escaped and its length cut, fit for a log line."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:2000])
    return shown if len(text) <= 2000 else shown + " ..."
