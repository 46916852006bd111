"""The one door for configuration: YAML in, validated dataclasses out, every problem with its place.

``plain`` and ``yaml_events`` tell what is refused as text, ``schema`` how plain data become the values of a schema.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from hil.errors import ConfigError
from hil.lab import yaml_text
from hil.lab.overrides import override
from hil.lab.plain import MAX_PATH, Plain, Tree, error_of, printable, shown
from hil.lab.schema import Walk, options

T = TypeVar("T")

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """A validated configuration and where it came from.

    Args:
        value: the instance of the schema.
        where: dotted path of each given key -> ``file:line``, or ``--set path=value`` for an overridden one.
        plain: the data as given, overrides included; ``dump`` writes it and it loads again.
    """

    value: T
    where: Mapping[str, str]
    plain: dict[str, Plain]


def load(
    path: str | Path,
    schema: type[T],
    overrides: Sequence[str] = (),
    include: Callable[[Tree, Path], Tree] | None = None,
) -> Loaded[T]:
    """Loads a YAML file into a schema.

    Args:
        path: the file.
        schema: a dataclass, or a union of dataclasses with a ``kind`` each.
        overrides: texts such as ``network.layers=[64, 10]``, applied in their order.
        include: puts what the file names into it, before it is checked.

    Raises:
        ConfigError: with all problems found.
    """
    tree = yaml_text.read_file(path)
    return _validated(tree if include is None else include(tree, Path(path)), schema, overrides)


def parse(text: str, schema: type[T], name: str = "<text>", overrides: Sequence[str] = ()) -> Loaded[T]:
    """Loads YAML text into a schema; ``name`` stands for the file in messages."""
    return _validated(yaml_text.read_text(text, name), schema, overrides)


def from_mapping(
    mapping: Mapping[str, object], schema: type[T], name: str = "<mapping>", overrides: Sequence[str] = ()
) -> Loaded[T]:
    """Loads plain data, such as a parsed request, into a schema; ``name`` stands for the file in messages."""
    return _validated(yaml_text.read_plain(mapping, name), schema, overrides)


def dump(plain: Mapping[str, Plain]) -> str:
    """Writes plain data as YAML that loads back identically."""
    return yaml_text.dump(dict(plain))


def json_schema(schema: Any) -> dict[str, Any]:
    """Describes a schema as JSON Schema, for completion in editors; without defaults, which hold SI numbers."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    class Generate(GenerateJsonSchema):
        def enum_schema(self, schema: Any) -> dict[str, Any]:
            return {"enum": [option for option, _ in options(schema["cls"])]}

        def default_schema(self, schema: Any) -> dict[str, Any]:
            return self.generate_inner(schema["schema"])

    described = TypeAdapter[Any](schema).json_schema(schema_generator=Generate)
    for part in (described, *described.get("$defs", {}).values()):
        if "properties" in part:
            part["additionalProperties"] = False
    return described


def find(path: str | Path, beside: Path | None = None) -> Path:
    """Finds a configuration file: as given, then beside another file, then in ``./config``, then in ``$HIL_CONFIG``."""
    folders = [Path()]
    if beside is not None:
        folders.append(beside.parent)
    folders.append(Path("config"))
    if os.environ.get("HIL_CONFIG"):
        folders.append(Path(os.environ["HIL_CONFIG"]))
    tried = list(dict.fromkeys(folder / path for folder in folders))
    for candidate in tried:
        if os.path.isfile(candidate):
            return candidate
    places = ", ".join(printable(str(candidate), MAX_PATH) for candidate in tried)
    raise ConfigError.at(printable(str(path), MAX_PATH), "", f"no such file; looked for {places}")


def run_name(text: str, what: str = "run name") -> str:
    """Gives a name back if it can be the name of a folder or file anywhere; ``what`` says in messages what it names."""
    problem = name_problem(text)
    if problem:
        raise ConfigError.at(what, "", problem)
    return text


def name_problem(text: str) -> str:
    """Why a text cannot be the name of a folder or file anywhere; empty when it can."""
    if _RUN_NAME.fullmatch(text):
        return ""
    return f"{shown(text)} cannot be used; write up to 64 letters, digits, '.', '_' or '-', a letter or digit first"


def inside(root: Path, name: str) -> Path:
    """Resolves a name below a folder; refuses whatever leads out of it, be it ``..`` or a symbolic link."""
    try:
        top, path = root.resolve(), (root / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError.at(printable(name), "", f"is not a usable path ({printable(str(error))})") from None
    if ".." in re.split(r"[/\\]", name) or path == top or not path.is_relative_to(top):
        raise ConfigError.at(printable(name), "", f"leads out of {root}; give a name inside that folder")
    return path


def _validated(tree: Tree, schema: type[T], overrides: Sequence[str]) -> Loaded[T]:
    tree = override(tree, overrides)
    walk = Walk(tree.places)
    value = walk.build(schema, tree.value, "")
    if walk.problems:
        raise error_of(walk.problems)
    where = {path: place.in_file for path, place in tree.places.items() if path}
    return Loaded(value, where, cast(dict[str, Plain], tree.value))
