"""Quantities with units are read exactly, written readably, and refused with a text that says what to write."""

from __future__ import annotations

import math
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.units import duration, engineering, parse

UNITS = st.sampled_from(["V", "A", "S", "s", "ohm", "B/s", "J", "Hz"])


@pytest.mark.parametrize(
    ("text", "unit", "si"),
    [
        ("0.3 V", "V", 0.3),
        ("300mV", "V", 0.3),
        (" -1.5e3 mV ", "V", -1.5),
        ("+.5 V", "V", 0.5),
        ("1. V", "V", 1.0),
        ("100 uA", "A", 1e-4),
        ("100 µA", "A", 1e-4),  # micro sign
        ("100 μA", "A", 1e-4),  # Greek mu
        ("85\u00a0µA", "A", 85e-6),
        ("3 fS", "S", 3e-15),
        ("10 ns", "s", 1e-8),
        ("5 ms", "s", 5e-3),
        ("2 min", "s", 120.0),
        ("1.5 h", "s", 5400.0),
        ("4.7 kohm", "ohm", 4700.0),
        ("4.7 kΩ", "ohm", 4700.0),  # Greek omega
        ("4.7 k\u2126", "ohm", 4700.0),  # ohm sign
        ("1 MB/s", "B/s", 1e6),
        ("2 GHz", "Hz", 2e9),
        ("5 %", "", 0.05),
        ("5", "", 5.0),
        ("0 V", "V", 0.0),
    ],
)
def test_parse_reads_si_units(text: str, unit: str, si: float) -> None:
    assert parse(text, unit) == si


@pytest.mark.parametrize(
    ("text", "unit", "says"),
    [
        ("0.3", "V", "has no unit; write a number and its unit, like 0.3 V"),
        ("300", "V", "has no unit"),
        ("0.3 A", "V", "has the unit 'A', expected V"),
        ("0.3 v", "V", "has the unit 'v'"),
        ("3 min", "V", "has the unit 'min'"),
        ("3 xV", "V", "has the unit 'xV'"),
        ("1 banana", "", "has the unit 'banana'"),
        ("V", "V", "is not a quantity"),
        ("", "V", "is not a quantity"),
        ("nan V", "V", "is not a quantity"),
        ("inf V", "V", "is not a quantity"),
        ("0x10 V", "V", "has the unit 'x10 V'"),
        ("٣ V", "V", "is not a quantity"),
        ("1e999 V", "V", "is not finite"),
        ("1e" + "9" * 40 + " V", "V", "is not finite"),
        ("1 V\n2 V", "V", "is not a quantity"),
    ],
)
def test_parse_refuses(text: str, unit: str, says: str) -> None:
    with pytest.raises(ValueError, match="write|finite") as caught:
        parse(text, unit)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["1" * 10**6 + "!", "1 x" + " " * 10**6 + "y\n", "1" * 10**6 + "x\ny"])
def test_parse_is_quick_on_hostile_text(text: str) -> None:
    start = perf_counter()
    with pytest.raises(ValueError, match="is not a quantity"):
        parse(text, "V")
    assert perf_counter() - start < 1


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.floats(-1e300, 1e300), UNITS)
def test_engineering_reads_back_to_four_digits(value: float, unit: str) -> None:
    assert math.isclose(parse(engineering(value, unit), unit), value, rel_tol=6e-4, abs_tol=1e-320)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), UNITS)
def test_a_full_number_with_its_unit_reads_back_exactly(value: float, unit: str) -> None:
    assert parse(f"{value!r} {unit}", unit) == value


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0003, "A", "300 µA"),
        (0.5, "V", "500 mV"),
        (1.0, "V", "1 V"),
        (0.99996, "V", "1 V"),
        (-0.3, "V", "-300 mV"),
        (0.0, "V", "0 V"),
        (12345.0, "ohm", "12.35 kohm"),
        (1e-18, "S", "0.001 fS"),
        (3e12, "Hz", "3000 GHz"),
        (7.0, "", "7"),
        (math.inf, "V", "inf V"),
    ],
)
def test_engineering_writes_at_most_four_digits(value: float, unit: str, text: str) -> None:
    assert engineering(value, unit) == text


@pytest.mark.parametrize(("seconds", "text"), [(75.2, "75.2 s"), (750, "12.5 min"), (130000, "36.1 h"), (0, "0.0 s")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
