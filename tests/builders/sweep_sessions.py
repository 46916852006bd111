"""What tests of sweeps share: who watches, and what a run came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hil.lab.sweep_work import Row

RESULT: dict[str, Any] = {
    "status": "done", "exit_code": 0, "steps": 20, "test_accuracy": 0.5, "software_accuracy": 0.9, "reads": 7,
    "pulses": 100, "half_selects": 0, "lab_seconds": 2.0, "joules": None, "seconds": 0.1, "error": None,
}  # fmt: skip


class Watched:
    """Keeps what a sweep tells; ``on_end`` is called after each run."""

    def __init__(self, on_end: Callable[[Row], None] = lambda row: None) -> None:
        self.rows: list[int] = []
        self.said: list[str] = []
        self._on_end = on_end

    def begin(self, total: int, ended: int) -> None:
        self.said.append(f"{total} {ended}")

    def ended(self, row: Row, result: Mapping[str, Any]) -> None:
        self.rows.append(row.id)
        self._on_end(row)

    def say(self, text: str) -> None:
        self.said.append(text)

    def end(self) -> None:
        self.said.append("end")
