"""On a board, what needs the lowest voltage comes first."""

from __future__ import annotations

from typing import Any

NO_VOLTS = ("says_who_it_is", "empty_list", "closed_backend")
READS_ONLY = ("product_is_the_sum", "safe_does_not_touch")


def volts_rank(name: str) -> int:
    """0 for tests that put nothing on a line, 1 for those that only read, 2 for those that write."""
    if any(part in name for part in NO_VOLTS):
        return 0
    return 1 if any(part in name for part in READS_ONLY) else 2


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Orders the tests on a board by the volts they need; a stable sort, so that all else stays as it is."""
    if config.getoption("--board") is not None:
        items.sort(key=lambda item: volts_rank(item.name))
