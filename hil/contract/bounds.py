"""Bounds that the fields of a configuration must keep, whoever made it.

The messages begin with the name of the field, so that a configuration file's reader can tell its line. NaN passes:
files cannot hold it, and the guard refuses boards whose limits are NaN.
"""

from __future__ import annotations


def above_zero(part: object, *names: str) -> None:
    """Refuses numbers that are not above 0; fields that are None are left out.

    Raises:
        ValueError: a field is 0 or below.
    """
    for name in names:
        value = getattr(part, name)
        if value is not None and value <= 0:
            raise ValueError(f"{name} must be above 0, got {value:g}")


def not_negative(part: object, *names: str) -> None:
    """Refuses numbers below 0; fields that are None are left out.

    Raises:
        ValueError: a field is below 0.
    """
    for name in names:
        value = getattr(part, name)
        if value is not None and value < 0:
            raise ValueError(f"{name} must be at least 0, got {value:g}")


def at_least_one(part: object, *names: str) -> None:
    """Refuses counts below 1; fields that are None are left out.

    Raises:
        ValueError: a field is below 1.
    """
    for name in names:
        value = getattr(part, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
