"""The door for configuration: what is read, and what is said where about a wrong value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field
from run_schema import SGD, Drive, Level, Limits, Mode, Momentum, Run, refused

from hil.lab import config


def test_a_whole_file_becomes_one_value_with_places(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "# a run\n"
        "seed: 3\n"
        "rate: 1e-3\n"
        "note: 2024-01-01\n"
        "drive: columns\n"
        "limits: {read: 0.3 V, amps: 100 uA, steps: [1 V, 20 mV]}\n"
        "transforms:\n"
        "  - kind: sgd\n"
        "    eta: 1\n"
        "  - {kind: momentum, beta: .5}\n"
        "update: {kind: sgd}\n"
        "tagged: {kind: momentum, beta: 0.9}\n"
        "layers: [64, 10]\n"
        "shape: [3, 4]\n"
        "named: {a: {low: 0.5}}\n"
        "folder: a/b\n"
        "volts: 300 mV\n"
        "chips: [1, 2, 2]\n"
        "board: {read: 1 V}\n"
        "extra: {on: [yes, null]}\n"
    )
    loaded = config.load(path, Run)
    assert loaded.value == Run(
        seed=3,
        rate=0.001,
        note="2024-01-01",
        drive=Drive.COLUMNS,
        limits=Limits(read=0.3, amps=1e-4, steps=(1.0, 0.02)),
        transforms=(SGD(eta=1.0), Momentum(beta=0.5)),
        update=SGD(),
        tagged=Momentum(beta=0.9),
        layers=[64, 10],
        shape=(3, 4),
        named={"a": Limits(low=0.5)},
        folder=Path("a/b"),
        volts=0.3,
        chips=frozenset({1, 2}),
        board=Limits(read=1.0),
        extra={"on": ["yes", None]},
    )
    assert loaded.where["seed"] == f"{path}:2"
    assert loaded.where["limits.read"] == f"{path}:6"
    assert loaded.where["transforms.0.eta"] == f"{path}:9"
    assert loaded.where["transforms.1"] == f"{path}:10"
    assert type(loaded.value.transforms[0].eta) is float  # type: ignore[union-attr]
    again = config.parse(config.dump(loaded.plain), Run)
    assert (again.value, again.plain) == (loaded.value, loaded.plain)
    assert config.from_mapping(loaded.plain, Run).value == loaded.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), (".5", 0.5), ("1.", 1.0), ("-1.5E+3", -1500.0), ("1e3", 1000.0), ("08.5", 8.5),
        ("0", 0), ("-7", -7), ("+7", 7), ("0x1F", 31), ("0o17", 15), ("123456789012345678", 123456789012345678),
        ("true", True), ("True", True), ("FALSE", False), ("~", None), ("null", None), ("", None),
        ("on", "on"), ("yes", "yes"), ("off", "off"), ("no", "no"), ("tRue", "tRue"), ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"), ("1_000", "1_000"), ("inf", "inf"), ("nan", "nan"), ("1e", "1e"), (".", "."),
        ("0.3 V", "0.3 V"), ("'010'", "010"), ('"1e-3"', "1e-3"), ("=", "="), ("'<<'", "<<"), ("0b1", "0b1"),
        ('"\\u00b5"', "µ"), ("[1, [a]]", [1, ["a"]]), ("{on: 1}", {"on": 1}), ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    read = config.parse(f"seed: 1\nextra: {text}", Run).value.extra
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("drive", "rows", Drive.ROWS), ("drive", "2", Drive.COLUMNS), ("mode", "fast mode", Mode.FAST),
        ("mode", "fast", Mode.FAST), ("level", "low", Level.LOW), ("level", "1", Level.LOW), ("size", "3", 3),
        ("board", "daffodil", "daffodil"), ("volts", "auto", "auto"), ("limits", "null", None),
    ],
)  # fmt: skip
def test_options(key: str, text: str, value: object) -> None:
    assert getattr(config.parse(f"seed: 1\n{key}: {text}", Run).value, key) == value


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbfseed: 1\r\nrate: 2\r\n")
    assert config.load(path, Run).where["rate"] == f"{path}:2"


def test_the_top_level_may_be_a_union() -> None:
    schema: Any = SGD | Momentum
    assert config.parse("kind: sgd", schema).value == SGD()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sed: 3", "2:1: sed: unknown key (did you mean 'seed'?)"),
        ("zzz: 3", "2:1: zzz: unknown key; the keys here are seed, rate"),
        ("limits: {reed: 1 V}", "2:10: limits.reed: unknown key (did you mean 'read'?)"),
        ("shape: [1, ten]", '2:12: shape.1: expected a whole number, got "ten"'),
        ("shape: [1, 2, 3]", "2:1: shape: expected 2 items, got 3"),
        ("layers: 3", "2:1: layers: expected a list, got 3"),
        ("layers: [1e3]", "2:10: layers.0: expected a whole number, got 1000.0"),
        ("layers: [true]", "2:10: layers.0: expected a whole number, got true"),
        ('rate: "0.5"', '2:1: rate: expected a number, got "0.5"'),
        ("rate: true", "2:1: rate: expected a number, got true"),
        ("rate: [1]", "2:1: rate: expected a number, got a list"),
        ("rate: null", "2:1: rate: expected a number, got nothing"),
        ("armed: on", '2:1: armed: expected true or false, got "on"'),
        ("armed: 1", "2:1: armed: expected true or false, got 1"),
        ("note: 5", "2:1: note: expected text, got 5"),
        ("drive: row", "2:1: drive: expected one of rows, columns, got \"row\" (did you mean 'rows'?)"),
        ("drive: true", "2:1: drive: expected one of rows, columns, got true"),
        ("mode: slow", '2:1: mode: expected fast mode, got "slow"'),
        ("size: Small", "2:1: size: expected one of small, large, 3, got \"Small\" (did you mean 'small'?)"),
        ("limits: {read: 300}", "2:10: limits.read: 300 has no unit; write a number and its unit, like 0.3 V"),
        ("limits: {amps: 1 V}", "2:10: limits.amps: '1 V' has the unit 'V', expected A"),
        ("limits: {steps: [1 V, 2]}", "2:23: limits.steps.1: 2 has no unit"),
        ("limits: {read: {}}", "2:10: limits.read: expected a quantity like 0.3 V, got a mapping"),
        ("limits: {low: 2}", "2:1: limits: the low end is above the high end"),
        ("named: {a: {low: 2}}", "2:9: named.a: the low end is above the high end"),
        ("update: {kind: momentum, beta: 2}", "2:26: update.beta: beta must lie between 0 and 1, got 2.0"),
        ("update: {kind: momentum}", "2:1: update.beta: is missing, expected a number"),
        (
            "update: {kind: sgdd}",
            "2:10: update.kind: expected one of sgd, momentum, got \"sgdd\" (did you mean 'sgd'?)",
        ),
        ("update: {kind: [sgd]}", "2:10: update.kind: expected one of sgd, momentum, got a list"),
        ("update: {eta: 1}", "2:1: update.kind: is missing, expected one of sgd, momentum"),
        ("update: sgd", '2:1: update: expected a mapping, got "sgd"'),
        ("tagged: {kind: sgdd}", "2:10: tagged.kind: expected one of sgd, momentum"),
        ("transforms: [{kind: sgd}, {kind: x}]", "2:28: transforms.1.kind: expected one of sgd, momentum"),
        ("transforms: [{beta: 1}]", "2:14: transforms.0.kind: is missing"),
        ("batch: 0", "2:1: batch: should be greater than 0, got 0"),
        ("chips: [1, x]", '2:12: chips.1: should be a valid integer, got "x"'),
        ("folder: 3", "2:1: folder: expected a path, got 3"),
        ("volts: 3 A", '2:1: volts: expected auto or a quantity like 0.3 V, got "3 A"'),
        ("board: {read: 1 A}", "2:9: board.read: '1 A' has the unit 'A'"),
    ],
)
def test_a_wrong_value_gives_one_located_message(line: str, message: str) -> None:
    (problem,) = refused(f"seed: 1\n{line}\n")
    assert problem.startswith(f"run.yaml:{message}")


def test_all_problems_are_listed_with_their_places() -> None:
    assert refused("rate: x\nlimits:\n  read: 1\n  steps: 2\ntransforms:\n- kind: momentum\n  beta: x\n") == [
        "run.yaml:1:1: seed: is missing, expected a whole number",
        'run.yaml:1:1: rate: expected a number, got "x"',
        "run.yaml:3:3: limits.read: 1 has no unit; write a number and its unit, like 0.3 V",
        "run.yaml:4:3: limits.steps: expected a list, got 2",
        'run.yaml:7:3: transforms.0.beta: expected a number, got "x"',
    ]


def test_a_schema_that_cannot_be_told_apart_is_a_fault_of_the_program() -> None:
    @dataclass
    class A:
        x: int = 1

    @dataclass
    class B:
        x: int = 1

    with pytest.raises(TypeError, match="A, B needs a field kind"):
        config.parse("x: 1", A | B)  # type: ignore[arg-type]
    bounded: Any = Annotated[dict[str, int], Field(min_length=1)]
    with pytest.raises(TypeError, match="only single values may be annotated"):
        config.parse("x: 1", bounded)
