"""What a run left in its folder, and a board that fails on the way."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hil.contract import Pulse
from hil.lab.record import Record, StepRow

Content = Callable[..., dict[str, Any]]
Watch = Callable[..., Any]
NOT_SAFE = "SAFE NOT CONFIRMED: switch off by hand"


def rows(folder: Path) -> list[StepRow]:
    record = Record(folder / "run.db")
    try:
        return record.steps()
    finally:
        record.close()


def events(folder: Path, kind: str) -> list[str]:
    record = Record(folder / "run.db")
    try:
        return [text for _, _, found, text in record.events() if found == kind]
    finally:
        record.close()


def count(folder: Path, table: str) -> int:
    db = sqlite3.connect(folder / "run.db")
    try:
        return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    finally:
        db.close()


def fail_at(bench: Any, number: int, error: BaseException) -> None:
    """The board fails once: instead of carrying out the first writing list from ``number`` on."""

    def before(this: int) -> None:
        if this >= number and any(isinstance(op, Pulse) for op in bench.sent):
            bench.before = lambda number: None
            raise error

    bench.before = before
