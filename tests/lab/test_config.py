"""The door for configuration: what is read, what is refused and where, and that hostile input gives nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from hil.errors import ConfigError
from hil.lab import config
from hil.units import Amps, Volts


class Drive(Enum):
    ROWS = auto()
    COLUMNS = auto()


class Mode(Enum):
    FAST = "fast mode"


class Level(IntEnum):
    LOW = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SGD:
    kind: Literal["sgd"] = "sgd"
    eta: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Momentum:
    kind: Literal["momentum"] = "momentum"
    beta: float

    def __post_init__(self) -> None:
        if not 0 < self.beta < 1:
            raise ValueError(f"beta must lie between 0 and 1, got {self.beta}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    read: Volts = 0.3
    amps: Amps | None = None
    steps: tuple[Volts, ...] = ()
    low: float = 0
    high: float = 1

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("the low end is above the high end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    seed: int
    rate: float = 0.1
    note: str = ""
    armed: bool = False
    drive: Drive = Drive.ROWS
    mode: Mode = Mode.FAST
    level: Level = Level.LOW
    size: Literal["small", "large", 3] = "small"
    limits: Limits | None = None
    transforms: tuple[SGD | Momentum, ...] = ()
    update: SGD | Momentum | None = None
    tagged: Annotated[SGD | Momentum, Field(discriminator="kind")] = SGD()
    layers: list[int] = field(default_factory=list[int])
    shape: tuple[int, int] = (1, 1)
    named: dict[str, Limits] = field(default_factory=dict[str, Limits])
    folder: Path | None = None
    batch: Annotated[int, Field(gt=0)] = 1
    volts: Literal["auto"] | Volts = "auto"
    chips: frozenset[int] = frozenset()
    board: str | Limits = ""
    extra: Any = None


def refused(text: str, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, Run, "run.yaml", overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


# What is read


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


# What is wrong with the values


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


# Hostile text

BILLION = "a: &a [x, x]\nb: &b [*a, *a]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: expected 'key: value' lines, got nothing"),
        ("# only a comment\n", "1:1: expected 'key: value' lines, got nothing"),
        ("---\n", "2:1: expected 'key: value' lines, got nothing"),
        ("- 1\n- 2\n", "1:1: expected 'key: value' lines, got a list"),
        ("hello", "1:1: expected 'key: value' lines, got \"hello\""),
        ("seed: 1\nrate: 2\nseed: 3\n", "3:1: seed: is given twice, first at run.yaml:1"),
        ("extra: {a: 1, 'a': 2}", "1:15: extra.a: is given twice, first at run.yaml:1"),
        (BILLION, "1:4: a: anchors (&a) are not allowed; write the value out where it is used"),
        ("extra: *a", "1:8: extra: aliases (*a) are not allowed; write the value out"),
        ("*a : 1", "1:1: a key must be plain text, not an alias, a list or a mapping"),
        ("extra:\n  <<: {a: 1}\n", "2:3: extra.<<: merge keys (<<) are not allowed; write the keys out"),
        (
            "extra: !!python/object/apply:os.system [ls]",
            "1:8: extra: tags (tag:yaml.org,2002:python/object/apply:os.sys",
        ),
        ("extra: !foo bar", "1:8: extra: tags (!foo) are not allowed; write a plain value"),
        ("!!str seed: 1", "1:1: seed: tags (tag:yaml.org,2002:str) are not allowed"),
        ("extra: " + "[" * 500, "1:39: extra.0.0."),
        ("extra: " + "[" * 33 + "]" * 33, "1:39: extra.0.0."),
        ("- " * 500, "1:65: 0.0."),
        ("\n".join(" " * i + "k:" for i in range(40)), "33:33: k.k."),
        ("seed: 1\n---\nseed: 2\n", "2:1: a second document (---) starts here; a file holds one"),
        ("rate: .inf", "1:7: rate: .inf is not a finite number"),
        ("rate: -.INF", "1:7: rate: -.INF is not a finite number"),
        ("rate: .nan", "1:7: rate: .nan is not a finite number"),
        ("rate: 1e999", "1:7: rate: 1e999 is not a finite number"),
        ("seed: 010", "1:7: seed: 010 is ambiguous; write 10 for the number or '010' in quotes for text"),
        ("seed: " + "9" * 19, "1:7: seed: a whole number of more than 18 digits is too long"),
        ("seed: 0x" + "f" * 20, "1:7: seed: a whole number of more than 18 digits is too long"),
        ("seed: " + "9" * 10_000, "1:7: seed: a number of 10000 characters is too long"),
        ("rate: 0." + "9" * 10_000, "1:7: rate: a number of 10002 characters is too long"),
        ("1: x", "1:1: 1: the key 1 is not text; put it in quotes"),
        ("true: x", "1:1: true: the key true is not text"),
        ("~: x", "1:1: ~: the key nothing is not text"),
        ("? [a]\n: x", "1:3: a key must be plain text"),
        ("'': x", "1:1: a key has 1 to 100 characters"),
        ("k" * 101 + ": x", f"1:1: {'k' * 100}: a key has 1 to 100 characters"),
        ("note: a\x00b", "1:8: the character U+0000 is not allowed; remove it"),
        ("seed: 1\nnote: \x1b[31m", "2:7: the character U+001B is not allowed"),
        ("note: a\u202eb", "1:8: the character U+202E is not allowed"),
        ("note: \ud800", "1:7: the character U+D800 is not allowed"),
        ('note: "\\0"', "1:7: note: the character U+0000 is not allowed"),
        ('note: "\\e[31m"', "1:7: note: the character U+001B is not allowed"),
        ('note: "\\ud800"', "1:7: note: the character U+D800 is not allowed"),
        ('note: "\\UFFFFFFFF"', "1:1: is not valid YAML near here"),
        (
            "seed:\n\t- 1",
            "2:1: is not valid YAML (while scanning for the next token: found character '\\t' that cannot",
        ),
        ("seed: [1", "1:9: is not valid YAML (while parsing a flow sequence"),
        ("seed: 1: 2", "1:8: is not valid YAML (error: mapping values are not allowed here)"),
        ("%YAML 9.0\n---\nseed: 1", "1:1: is not valid YAML"),
        ("extra: [" + "1," * 20_000 + "]", "1:40005: extra.19998: more than 20000 values are too many"),
        ("#" * (1 << 20) + "\n", " is larger than 1 MiB, too large for a configuration"),
    ],
)
def test_hostile_text_is_refused_with_its_place(text: str, message: str) -> None:
    start = perf_counter()
    problem = refused(text)[0]
    assert perf_counter() - start < 2
    assert problem.startswith(f"run.yaml:{message}")


def test_many_problems_are_cut() -> None:
    problems = refused("extra: [" + ".nan," * 1000 + "]")
    assert (len(problems), problems[-1]) == (101, "run.yaml:1:509: and 900 more problems")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "a: " + "x " * 500_000, "volts: " + "1" * 10**6 + "!", "a: 'x\n" * 99, "a: 1\n" * 200_000]
)
def test_hostile_text_is_refused_quickly(text: str) -> None:
    start = perf_counter()
    refused(text)
    assert perf_counter() - start < 2


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.text(st.sampled_from("ab:-[]{}?,&*!|>'\"%@#\\ \t\n\r\0é\u2028019._~<=exU"), max_size=40) | st.text(max_size=40)
)
def test_any_text_gives_a_value_or_a_config_error(text: str) -> None:
    for attempt in (lambda: config.parse(text, Run, "t", [f"seed={text}", text]), lambda: config.parse(text, Run)):
        try:
            attempt()
        except ConfigError as error:
            assert str(error)


# Hostile files


def test_files_that_are_no_regular_small_text_files_are_refused(tmp_path: Path) -> None:
    fifo, huge, latin = tmp_path / "fifo", tmp_path / "huge.yaml", tmp_path / "latin.yaml"
    os.mkfifo(fifo)
    with huge.open("wb") as file:
        file.truncate(1 << 33)
    latin.write_bytes(b"seed: 1\nnote: caf\xe9\n")
    for path, problem in {
        "/dev/zero": "/dev/zero: is not a regular file",
        str(fifo): f"{fifo}: is not a regular file",
        str(tmp_path): f"{tmp_path}: is not a regular file",
        str(huge): f"{huge}: is larger than 1 MiB, too large for a configuration",
        str(latin): f"{latin}:2:10: the byte 0xe9 is not valid UTF-8; save the file as UTF-8",
        "no/such.yaml": "no/such.yaml: no such file",
        "nul\0.yaml": "nul\\x00.yaml: cannot be read (embedded null byte)",
        "x" * 5000: "x" * 1024 + "...: cannot be read (File name too long)",
    }.items():
        with pytest.raises(ConfigError) as caught:
            config.load(path, Run)
        assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ({"seed": float("nan")}, "job: seed: nan is not a finite number"),
        ({"seed": 10**18}, "job: seed: a whole number of more than 18 digits"),
        ({"extra": [{1: 2}]}, "job: extra.0: the key 1 is not text"),
        ({"extra": {1, 2}}, "job: extra: set is not plain data"),
        ({"extra": "\x1b"}, "job: extra: the character U+001B is not allowed"),
        ({"sed": 1, "seed": 1}, "job: sed: unknown key (did you mean 'seed'?)"),
        ([1], "job: expected a mapping, got a list"),
    ],
)
def test_mappings_pass_the_same_door(mapping: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.from_mapping(mapping, Run, "job")
    assert str(caught.value).startswith(problem)


def test_a_mapping_that_holds_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["extra"] = loop
    wide: Any = 1
    for _ in range(20):
        wide = [wide] * 10
    for mapping in (loop, {"extra": wide}):
        with pytest.raises(ConfigError, match="nested deeper than 32|too many"):
            config.from_mapping(mapping, Run)


# Overrides


def test_overrides_replace_and_create() -> None:
    loaded = config.parse(
        "seed: 1\ntransforms: [{kind: sgd, eta: 1}]\nlimits: {steps: [1 V, 2 V]}\n",
        Run,
        "run.yaml",
        [
            "seed=3",
            "seed=4",
            "transforms.0.eta=1e-2",
            "limits.steps=[3 V]",
            "named.a.low=.5",
            "note='010'",
            "layers=[64,32]",
        ],
    )
    assert loaded.value == Run(
        seed=4,
        transforms=(SGD(eta=0.01),),
        limits=Limits(steps=(3.0,)),
        named={"a": Limits(low=0.5)},
        note="010",
        layers=[64, 32],
    )
    assert loaded.where["seed"] == "--set seed=4"
    assert loaded.where["limits"] == "run.yaml:3"
    assert loaded.where["limits.steps.0"] == "--set limits.steps=[3 V]"
    assert "limits.steps.1" not in loaded.where
    assert loaded.where["named.a"] == "--set named.a.low=.5"
    assert config.parse(config.dump(loaded.plain), Run).value == loaded.value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede=3", "sede: unknown key (did you mean 'seed'?)"),
        ("limit.low=3", "limit: unknown key (did you mean 'limits'?)"),
        ("limits.lowe=3", "limits.lowe: unknown key (did you mean 'low'?)"),
        ("seed=ten", 'seed: expected a whole number, got "ten"'),
        ("seed", "has no value; write it as key.path=value"),
        ("seed=", "seed: has no value; write null to clear it"),
        ("=3", "a key has 1 to 100 characters"),
        ("limits..low=3", "limits..low: a key has 1 to 100 characters"),
        ("seed.x=3", "seed: is 1, there are no keys below it"),
        ("transforms.1.eta=3", "transforms: has 1 items, counted from 0; there is no item 1"),
        ("transforms.-1.eta=3", "transforms: has 1 items, counted from 0; there is no item -1"),
        ("transforms.0.kind=sdg", "transforms.0.kind: expected one of sgd, momentum"),
        ("layers=[1", "layers: is not valid YAML"),
        ("extra=&a 1", "extra: anchors (&a) are not allowed"),
        ("extra=" + "[" * 500, "extra.0.0."),
        ("extra." * 40 + "x=1", "extra.extra."),
        ("rate=.nan", "rate: .nan is not a finite number"),
        ("a.b=1", "a: unknown key"),
        ("note=\x1b[31m", "the character U+001B is not allowed"),
    ],
)
def test_a_wrong_override_is_located_at_itself(text: str, message: str) -> None:
    (problem,) = refused("seed: 1\ntransforms: [{kind: sgd}]", (text,))
    shown = text.replace("\x1b", "\\x1b")
    assert problem.startswith(f"--set {shown if len(shown) <= 120 else shown[:120] + '...'}: {message}")


# Writing


PLAIN_TEXT = st.text(max_size=12) | st.sampled_from(
    [
        "1e-3",
        "010",
        ".nan",
        "on",
        "yes",
        "1:30",
        "~",
        "",
        "null",
        "<<",
        "0x10",
        "0o7",
        ".5",
        "1.",
        "2024-01-01",
        " a: b ",
    ]
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 10**18, 10**18 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | PLAIN_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN_TEXT, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(derandomize=True, max_examples=200, deadline=None)
@given(PLAIN)
def test_what_is_written_reads_back_identically(value: Any) -> None:
    try:
        text = config.dump({"seed": 1, "extra": value})
    except ConfigError:
        return  # hidden characters and empty keys are refused when written, as they are when read
    loaded = config.parse(text, Run)
    assert json.dumps(loaded.plain) == json.dumps({"seed": 1, "extra": value})
    assert json.dumps(loaded.value.extra) == json.dumps(value)


def test_shared_values_are_written_out() -> None:
    layer: list[Any] = [1e-05, 1e16, "1e-3"]
    assert config.dump({"a": layer, "b": layer}) == "".join(f"{key}:\n- 1.0e-05\n- 1.0e+16\n- '1e-3'\n" for key in "ab")
    with pytest.raises(ConfigError, match="not a finite number"):
        config.dump({"a": float("inf")})


def test_json_schema_is_strict_and_knows_units_and_enums() -> None:
    schema = config.json_schema(Run)
    limits = schema["$defs"]["Limits"]
    pattern = r"^[+-]?[0-9.]+([eE][+-]?[0-9]+)? ?\S?(V)$"
    assert schema["additionalProperties"] is False
    assert limits["additionalProperties"] is False
    assert limits["properties"]["read"] == {"title": "Read", "type": "string", "pattern": pattern}
    assert schema["$defs"]["Drive"]["enum"] == [1, "rows", 2, "columns"]
    assert schema["required"] == ["seed"]
    json.dumps(schema)


# Files and folders


def test_find_looks_in_four_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, beside, lab = tmp_path / "here", tmp_path / "runs", tmp_path / "lab"
    files = [here / "a.yaml", beside / "b.yaml", here / "config" / "c.yaml", lab / "d.yaml"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HIL_CONFIG", str(lab))
    found = [config.find(file.name, beside / "run.yaml") for file in files]
    assert [path.resolve() for path in found] == files
    assert config.find(files[3]) == files[3]
    (beside / "a.yaml").touch()
    assert config.find("a.yaml", beside / "run.yaml") == Path("a.yaml")
    tried = ["e.yaml", str(beside / "e.yaml"), "config/e.yaml", str(lab / "e.yaml")]
    for name in ("e.yaml", "nul\0", "x" * 5000, "", "config"):
        with pytest.raises(ConfigError) as caught:
            config.find(name, beside / "run.yaml")
        assert name != "e.yaml" or str(caught.value) == f"e.yaml: no such file; looked for {', '.join(tried)}"


@pytest.mark.parametrize("name", ["a", "2024-01-01_run.1", "A" * 64])
def test_run_names(name: str) -> None:
    assert config.run_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "-rf", ".hidden", "a/b", "a\\b", "a b", "a\n", "é", "A" * 65, "a\0"])
def test_hostile_run_names(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used; write up to 64 letters"):
        config.run_name(name)


def test_inside_keeps_paths_in_their_folder(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    (root / "real").mkdir(parents=True)
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "alias").symlink_to(root / "real")
    assert config.inside(root, "real/x.png") == root / "real" / "x.png"
    assert config.inside(root, "alias/x.png") == root / "real" / "x.png"
    hostile = ["..", "../runs/real", "real/../real", "real\\..\\x", "/etc/passwd", "out/x", "loop/x", "", ".", "a\0b"]
    for name in hostile:
        with pytest.raises(ConfigError, match="leads out of|not a usable path"):
            config.inside(root, name)


def test_importing_the_door_does_not_import_pydantic() -> None:
    code = "import sys, hil.lab.config; sys.exit('pydantic' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
