"""The door for configuration: hostile text, files and mappings are refused with their place, and quickly."""

from __future__ import annotations

import os
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_schema import Run, refused

from hil.errors import ConfigError
from hil.lab import config

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
    start = process_time()
    problem = refused(text)[0]
    assert process_time() - start < 2
    assert problem.startswith(f"run.yaml:{message}")


def test_many_problems_are_cut() -> None:
    problems = refused("extra: [" + ".nan," * 1000 + "]")
    assert (len(problems), problems[-1]) == (101, "run.yaml:1:509: and 900 more problems")


@pytest.mark.parametrize("share", [0.2, pytest.param(1.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("part", "count", "before", "after"),
    [("[", 100_000, "", ""), ("x ", 500_000, "a: ", ""), ("1", 10**6, "volts: ", "!"), ("a: 'x\n", 99, "", ""),
     ("a: 1\n", 200_000, "", "")],
    ids=["brackets", "words", "digits", "quotes", "keys"],
)  # fmt: skip
def test_hostile_text_is_refused_quickly(part: str, count: int, before: str, after: str, share: float) -> None:
    """As large as a file may be, or a fifth of it in half the time."""
    text = before + part * int(share * count) + after
    start = process_time()
    refused(text)
    assert process_time() - start < (2 if share == 1.0 else 1)


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
