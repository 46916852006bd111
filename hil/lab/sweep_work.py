"""The work list of a sweep: one SQLite file with a row for each run, what state it is in, and what it came to.

Only the process of ``hil sweep`` writes to it. A row changes in one transaction, so that a sweep that was killed at any
moment goes on from what had been finished.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from hil.errors import CheckpointError, StorageError
from hil.lab.plain import printable
from hil.lab.transaction import transaction

State = Literal["waiting", "running", "done", "failed"]
Point = tuple[int, int, Mapping[str, Any], str]
"""Combination, seed, overrides and name of the folder of a run that is to be done."""

_VERSION = 2
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE point (
    id INTEGER PRIMARY KEY, combination INTEGER NOT NULL, seed INTEGER NOT NULL, overrides TEXT NOT NULL,
    folder TEXT NOT NULL UNIQUE, state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    deaths INTEGER NOT NULL DEFAULT 0,
    status TEXT, exit_code INTEGER, steps INTEGER, test_accuracy REAL, software_accuracy REAL, reads INTEGER,
    pulses INTEGER, half_selects INTEGER, lab_seconds REAL, joules REAL, seconds REAL, error TEXT,
    numbers TEXT,
    UNIQUE (combination, seed));
"""
RESULTS = (
    "status", "exit_code", "steps", "test_accuracy", "software_accuracy", "reads", "pulses", "half_selects",
    "lab_seconds", "joules", "seconds", "error",
)  # fmt: skip
"""What a finished run left; ``seconds`` is wall time, s."""
_COLUMNS = ("id", "combination", "seed", "overrides", "folder", "state", "deaths", *RESULTS, "numbers")
_LONGEST_ERROR = 2000
_PATIENCE = 30.0
"""s to wait for somebody who reads the file with another program."""


def by_combination(rows: Sequence[Row]) -> list[tuple[int, list[Row]]]:
    """The runs of each combination, in the order of the combinations."""
    grouped: dict[int, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.combination, []).append(row)
    return sorted(grouped.items())


def point(combination: int, seed: int, overrides: Mapping[str, Any]) -> Point:
    """A run that is to be done; combinations are counted from 0 on."""
    return combination, seed, overrides, f"{combination + 1:05d}-s{seed}"


@dataclass(frozen=True, slots=True)
class Row:
    """One run of a sweep.

    Args:
        id: its number, from 1 on.
        combination: which combination of the grid, from 0 on.
        seed: its seed.
        overrides: the settings of the combination.
        folder: name of its folder.
        state: what is to be done with it.
        deaths: how many processes have died over it.
        result: what it came to, by the names of ``RESULTS``; None where there is nothing.
        numbers: further numbers that it gave, by their names.
    """

    id: int
    combination: int
    seed: int
    overrides: Mapping[str, Any]
    folder: str
    state: State
    deaths: int
    result: Mapping[str, Any]
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])

    def number(self, name: str) -> float | None:
        """One number of the run, be it a result of every run or one of its own; None where there is none."""
        value = self.result[name] if name in RESULTS else self.numbers.get(name)
        return float(value) if isinstance(value, int | float) else None


class WorkList:
    """Writes and reads the ``sweep.db`` of a sweep.

    Args:
        path: the file; made when missing.

    Raises:
        CheckpointError: the file is something else, or is damaged.
        StorageError: it cannot be opened or made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_symlink():
            raise CheckpointError(printable(str(path)), "this is a symbolic link; a sweep folder holds its own files")
        with self._storage():
            self._db = sqlite3.connect(path, isolation_level=None, timeout=_PATIENCE)
        try:
            with self._storage():
                self._db.execute("PRAGMA trusted_schema=OFF")
                self._make_or_check()
                self._db.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        with self._storage():
            self._db.close()

    def facts(self) -> dict[str, Any] | None:
        """What the sweep depended on when it was begun; None when it has not been begun."""
        rows = self._rows("SELECT value FROM meta WHERE key = 'facts'")
        if not rows:
            return None
        with self._sound():
            return dict(json.loads(rows[0][0]))

    def begin(self, facts: Mapping[str, Any], points: Sequence[Point]) -> None:
        """Stores what the sweep depends on and the runs known so far, or nothing."""
        with self._storage(), transaction(self._db):
            self._db.execute("INSERT INTO meta VALUES ('facts', ?)", (json.dumps(dict(facts)),))
            self._insert(points)

    def add(self, points: Sequence[Point]) -> list[Row]:
        """Stores further runs, or nothing; gives their rows."""
        before = self._rows("SELECT coalesce(max(id), 0) FROM point")[0][0]
        with self._storage(), transaction(self._db):
            self._insert(points)
        return [row for row in self.rows() if row.id > before]

    def _insert(self, points: Sequence[Point]) -> None:
        rows = [(*row[:2], json.dumps(dict(row[2])), row[3]) for row in points]
        question = "INSERT INTO point (combination, seed, overrides, folder, state) VALUES (?, ?, ?, ?, 'waiting')"
        self._db.executemany(question, rows)

    def reopen(self, *, failed: bool = False) -> None:
        """Makes runs wait again that were running when the last session ended, and failed ones if that is wanted."""
        nothing = ", ".join(f"{name} = NULL" for name in (*RESULTS, "numbers"))
        with self._storage(), transaction(self._db):
            self._db.execute("UPDATE point SET state = 'waiting' WHERE state = 'running'")
            if failed:
                self._db.execute(f"UPDATE point SET state = 'waiting', deaths = 0, {nothing} WHERE state = 'failed'")  # noqa: S608 - our own names

    def started(self, number: int) -> None:
        """Notes that a run was given to a worker."""
        self._set(number, state="running")

    def put_back(self, number: int, *, deaths: int) -> None:
        """Makes a run wait again."""
        self._set(number, state="waiting", deaths=deaths)

    def finished(self, number: int, result: Mapping[str, Any], *, deaths: int) -> None:
        """Stores what a run came to; its state is ``done`` or ``failed``. Numbers that are not finite are left out."""
        values = {name: result.get(name) for name in RESULTS}
        given = result.get("numbers")
        own = dict(cast(Mapping[str, Any], given)) if isinstance(given, Mapping) else {}
        values["numbers"] = json.dumps({str(name): float(value) for name, value in own.items() if _finite(value)})
        if values["error"] is not None:
            values["error"] = printable(str(values["error"]), _LONGEST_ERROR)
        self._set(number, state="done" if values["status"] == "done" else "failed", deaths=deaths, **values)

    def rows(self) -> list[Row]:
        """All runs in order."""
        return [self._row(row) for row in self._rows(f"SELECT {', '.join(_COLUMNS)} FROM point ORDER BY id")]  # noqa: S608 - our own names

    def _row(self, row: Sequence[Any]) -> Row:
        with self._sound():
            number, combination, seed, overrides, folder, state, deaths, *values, numbers = row
            return Row(
                int(number), int(combination), int(seed), dict(json.loads(overrides)), str(folder),
                cast(State, str(state)), int(deaths), dict(zip(RESULTS, values, strict=True)),
                {} if numbers is None else dict(json.loads(numbers)),
            )  # fmt: skip

    def _set(self, number: int, **values: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        with self._storage(), transaction(self._db):
            self._db.execute(f"UPDATE point SET {names} WHERE id = ?", (*values.values(), number))  # noqa: S608 - our own names

    def _make_or_check(self) -> None:
        found = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not found:
            self._db.execute("PRAGMA journal_mode=WAL")
            with transaction(self._db):
                for statement in _TABLES.strip().split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={_VERSION}")
        if self._shape() == (1, _COLUMNS[:-1]):  # of before there were numbers
            with transaction(self._db):
                self._db.execute("ALTER TABLE point ADD COLUMN numbers TEXT")
                self._db.execute(f"PRAGMA user_version={_VERSION}")
        version, columns = self._shape()
        if version > _VERSION:
            problem = f"this is a work list of version {version}, made by a later Crossbar-HIL; go on with that one"
            raise CheckpointError(printable(str(self.path)), f"{problem}, or give another --out")
        if (version, columns) != (_VERSION, _COLUMNS):
            raise CheckpointError(printable(str(self.path)), f"this is not a work list of version {_VERSION}")

    def _shape(self) -> tuple[int, tuple[str, ...]]:
        """Version and columns."""
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        return version, tuple(row[1] for row in self._db.execute("PRAGMA table_info(point)"))

    def _rows(self, question: str) -> list[Any]:
        with self._storage():
            return self._db.execute(question).fetchall()

    @contextmanager
    def _storage(self) -> Generator[None]:
        """A disk that fails and a file that is damaged, told apart."""
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise StorageError(str(self.path), str(error)) from error
        except sqlite3.DatabaseError as error:
            raise CheckpointError(str(self.path), f"this is not a work list, or it is damaged ({error})") from error

    @contextmanager
    def _sound(self) -> Generator[None]:
        """A row whose values are not what they should be."""
        try:
            yield
        except (TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(str(self.path), f"a row holds something else than a run ({error})") from error


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
