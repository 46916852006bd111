"""Configuration that is replaced from the command line, written out again and described for editors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_schema import SGD, Limits, Run, refused

from hil.errors import ConfigError
from hil.lab import config


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
