"""The one door for configuration: YAML in, validated dataclasses out, every problem with its place.

A schema is a plain frozen dataclass that lives beside the code it configures. Its tree is walked here, so that an
unknown key, a missing key or a wrong ``kind`` gives one located message; pydantic judges the single values. A union of
dataclasses is told apart by their field ``kind: Literal["..."]``; an enum is given by value or by name in lower case.
What spans several fields is checked by ``__post_init__``: the text of its ``ValueError`` is shown at the mapping, or at
the field whose name the text begins with. ``yaml_text`` tells what is refused before that.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from hil.errors import ConfigError, ConfigProblem, HilError
from hil.lab import yaml_text
from hil.lab.yaml_text import MAX_PATH, Place, Plain, Tree, join, printable, shown
from hil.units import Unit

T = TypeVar("T")

_WORDS: dict[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path", type(None): "nothing",
}  # fmt: skip
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_UNIONS = (Union, types.UnionType)
_LISTS = (list, tuple, Sequence)
_MAPPINGS = (dict, Mapping)
MOST_HINTS = 20


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


def load(path: str | Path, schema: type[T], overrides: Sequence[str] = ()) -> Loaded[T]:
    """Loads a YAML file into a schema.

    Args:
        path: the file.
        schema: a dataclass, or a union of dataclasses with a ``kind`` each.
        overrides: texts such as ``network.layers=[64, 10]``, applied in their order.

    Raises:
        ConfigError: with all problems found.
    """
    return _validated(yaml_text.read_file(path), schema, overrides)


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
            return {"enum": [option for option, _ in _options(schema["cls"])]}

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


def run_name(text: str) -> str:
    """Gives a run name back if it can be the name of a folder anywhere."""
    if _RUN_NAME.fullmatch(text):
        return text
    problem = f"{shown(text)} cannot be used; write up to 64 letters, digits, '.', '_' or '-', a letter or digit first"
    raise ConfigError.at("run name", "", problem)


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
    tree = yaml_text.override(tree, overrides)
    walk = _Walk(tree.places)
    value = walk.build(schema, tree.value, "")
    if walk.problems:
        raise yaml_text.error_of(walk.problems)
    where = {path: place.in_file for path, place in tree.places.items() if path}
    return Loaded(value, where, cast(dict[str, Plain], tree.value))


@dataclass(slots=True)
class _Walk:
    """Walks a schema and plain data side by side; collects the problems and builds the values."""

    places: Mapping[str, Place]
    problems: list[ConfigProblem] = field(default_factory=list[ConfigProblem])

    def build(self, kind: Any, value: Any, path: str) -> Any:
        """Gives what a type makes of plain data; after a problem the result is of no use."""
        bare = _bare(kind)
        origin = get_origin(bare) or bare
        if origin in _UNIONS:
            return self._choose(get_args(bare), value, path)
        if not _fits(bare, value):
            return self._wrong(path, f"expected {_words(kind)}, got {shown(value)}")
        if dataclasses.is_dataclass(bare):
            return self._record(bare, value, path)
        if origin in _LISTS:
            return self._items(origin, get_args(bare), value, path)
        if origin in _MAPPINGS:
            inner = get_args(bare)[1] if get_args(bare) else Any
            return {key: self.build(inner, item, join(path, key)) for key, item in value.items()}
        return self._option(bare, value, path) if _has_options(bare) else self._single(kind, value, path)

    def _record(self, schema: Any, value: dict[str, Plain], path: str) -> Any:
        before = len(self.problems)
        fields = {item.name: item for item in dataclasses.fields(schema) if item.init}
        for key in value:
            if key not in fields:
                hint = self._hint(key, fields)
                names = "" if hint else f"; the keys here are {', '.join(fields)}"
                self._wrong(join(path, key), f"unknown key{names}", hint)
        given: dict[str, Any] = {}
        for name, item in fields.items():
            kind = _hints(schema)[name]
            if name in value:
                given[name] = self.build(kind, value[name], join(path, name))
            elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
                self._wrong(join(path, name), f"is missing, expected {_words(kind)}", at=path)
        if len(self.problems) > before:
            return None
        try:
            return schema(**given)
        except (ValueError, ArithmeticError, HilError) as error:
            first = re.match(r"\w+", str(error))
            about = join(path, first[0]) if first is not None and first[0] in fields else path
            return self._wrong(about, printable(str(error), 500), at=about if about in self.places else path)

    def _choose(self, kinds: Sequence[Any], value: Any, path: str) -> Any:
        """Builds the member of a union that the data are meant for."""
        if value is None and type(None) in kinds:
            return value
        kinds = [kind for kind in kinds if kind is not type(None)]
        fitting = [kind for kind in kinds if _fits(_bare(kind), value)] if len(kinds) > 1 else kinds
        if len(fitting) == 1:
            return self.build(fitting[0], value, path)
        if fitting and all(dataclasses.is_dataclass(_bare(kind)) for kind in fitting):
            return self._choose_kind([_bare(kind) for kind in fitting], value, path)
        for kind in fitting:
            trial = _Walk(self.places)
            built = trial.build(kind, value, path)
            if not trial.problems:
                return built
        return self._wrong(path, f"expected {_words(*kinds)}, got {shown(value)}")

    def _choose_kind(self, schemas: Sequence[Any], value: Any, path: str) -> Any:
        by_kind = {name: schema for schema in schemas for name in get_args(_hints(schema).get("kind"))}
        if len(by_kind) < len(schemas):
            names = ", ".join(schema.__name__ for schema in schemas)
            raise TypeError(f"each of {names} needs a field kind: Literal[...] of its own to be told apart")
        kind, names = value.get("kind"), ", ".join(map(str, by_kind))
        if "kind" not in value:
            return self._wrong(join(path, "kind"), f"is missing, expected one of {names}", at=path)
        if not isinstance(kind, str) or kind not in by_kind:
            problem = f"expected one of {names}, got {shown(kind)}"
            return self._wrong(join(path, "kind"), problem, self._hint(kind, by_kind))
        return self.build(by_kind[kind], value, path)

    def _option(self, kind: Any, value: Plain, path: str) -> Any:
        options = _options(kind)
        for option, result in options:
            if type(option) is type(value) and option == value:
                return result
        hint = self._hint(value, [option for option, _ in options if isinstance(option, str)])
        return self._wrong(path, f"expected {_words(kind)}, got {shown(value)}", hint)

    def _items(self, origin: Any, kinds: Sequence[Any], value: list[Plain], path: str) -> Any:
        if origin is not tuple or not kinds or kinds[-1] is Ellipsis:
            kinds = [kinds[0] if kinds else Any] * len(value)
        if len(kinds) != len(value):
            return self._wrong(path, f"expected {len(kinds)} items, got {len(value)}")
        pairs = enumerate(zip(kinds, value, strict=True))
        built = [self.build(kind, item, join(path, index)) for index, (kind, item) in pairs]
        return built if origin is list else tuple(built)

    def _single(self, kind: Any, value: Plain, path: str) -> Any:
        """Lets pydantic judge a value; its strict JSON mode takes no text for a number and no number for a bool."""
        from pydantic import ValidationError

        try:
            return _adapter(kind).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                about = ".".join([path, *map(str, detail["loc"])]).lstrip(".")
                problem = f"{detail['msg'].removeprefix('Input ')}, got {shown(detail['input'])}"
                if detail["type"].endswith("_type") and not detail["loc"]:
                    problem = f"expected {_words(kind)}, got {shown(value)}"
                elif detail["type"] == "value_error":
                    problem = str(detail.get("ctx", {}).get("error"))
                self._wrong(about, printable(problem, 500), at=about if about in self.places else path)

    def _hint(self, value: Any, options: Iterable[str]) -> str | None:
        """Finds the option that the user may have meant; stops looking when nearly everything is wrong."""
        if not isinstance(value, str) or len(self.problems) > MOST_HINTS:
            return None
        by_lower = {option.lower(): option for option in options}
        close = difflib.get_close_matches(value[:100].lower(), by_lower, 1)
        return by_lower[close[0]] if close else None

    def _wrong(self, path: str, problem: str, hint: str | None = None, at: str | None = None) -> None:
        place = self.places.get(path if at is None else at, self.places[""])
        self.problems.append(ConfigProblem(str(place), printable(path), problem, hint))


@cache
def _hints(schema: Any) -> dict[str, Any]:
    return get_type_hints(schema, include_extras=True)


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter[Any](kind)


def _bare(kind: Any) -> Any:
    """Takes the notes off an annotated type; only single values may carry notes that restrict them."""
    if get_origin(kind) is not Annotated:
        return kind
    bare, *notes = get_args(kind)
    origin = get_origin(bare) or bare
    is_single = not (origin in {*_UNIONS, *_LISTS, *_MAPPINGS} or dataclasses.is_dataclass(bare) or _has_options(bare))
    if is_single or all(isinstance(note, str) or getattr(note, "discriminator", None) for note in notes):
        return bare
    raise TypeError(f"{kind}: only single values may be annotated; check the rest in __post_init__")


def _fits(bare: Any, value: Plain) -> bool:
    """Says whether data have the outline of a type: mapping, list or single value."""
    origin = get_origin(bare) or bare
    if bare in (Any, object) or origin in _UNIONS:
        return True
    if dataclasses.is_dataclass(bare) or origin in _MAPPINGS:
        return isinstance(value, dict)
    if origin in _LISTS or origin in (set, frozenset):
        return isinstance(value, list)
    return not isinstance(value, dict | list)


def _has_options(bare: Any) -> bool:
    return get_origin(bare) is Literal or (isinstance(bare, type) and issubclass(bare, Enum))


def _options(kind: Any) -> list[tuple[Any, Any]]:
    """Lists what may be written for a literal or enum, with what it stands for."""
    if get_origin(kind) is Literal:
        return [(option, option) for option in get_args(kind)]
    members = cast(Iterable[Enum], kind)
    return [(given, member) for member in members for given in dict.fromkeys([member.value, member.name.lower()])]


def _name(option: Any) -> str:
    """Shows an option as it is best written."""
    if not isinstance(option, Enum):
        return shown(option) if option is None or isinstance(option, bool) else str(option)
    return option.value if isinstance(option.value, str) else option.name.lower()


def _words(*kinds: Any) -> str:
    """Names types as the reader of a file knows them."""
    return " or ".join(dict.fromkeys(_word(kind) for kind in kinds))


def _word(kind: Any) -> str:
    units = [note for note in getattr(kind, "__metadata__", ()) if isinstance(note, Unit)]
    bare = _bare(kind)
    if units:
        return f"a quantity like 0.3 {units[0].symbol}"
    if get_origin(bare) in _UNIONS:
        return _words(*get_args(bare))
    if _has_options(bare):
        names = list(dict.fromkeys(_name(result) for _, result in _options(bare)))
        return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    if bare in _WORDS:
        return _WORDS[bare]
    return "a mapping" if _fits(bare, {}) else "a list" if _fits(bare, []) else str(getattr(bare, "__name__", bare))
