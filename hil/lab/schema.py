"""Walks a schema and plain data side by side, and builds the values that the schema describes.

A schema is a plain frozen dataclass that lives beside the code it configures. Its tree is walked here, so that an
unknown key, a missing key or a wrong ``kind`` gives one located message; pydantic judges the single values. A union of
dataclasses is told apart by their field ``kind: Literal["..."]``; an enum is given by value or by name in lower case.
What spans several fields is checked by ``__post_init__``: the text of its ``ValueError`` is shown at the mapping, or at
the field whose name the text begins with.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from hil.errors import ConfigProblem, HilError
from hil.lab.plain import Place, Plain, join, printable, shown
from hil.units import Unit

_WORDS: dict[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path", type(None): "nothing",
}  # fmt: skip
_UNIONS = (Union, types.UnionType)
_LISTS = (list, tuple, Sequence)
_MAPPINGS = (dict, Mapping)
MOST_HINTS = 20


@dataclass(slots=True)
class Walk:
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
        return self._option(bare, value, path) if _hasoptions(bare) else self._single(kind, value, path)

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
            trial = Walk(self.places)
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
        choices = options(kind)
        for option, result in choices:
            if type(option) is type(value) and option == value:
                return result
        hint = self._hint(value, [option for option, _ in choices if isinstance(option, str)])
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
    is_single = not (origin in {*_UNIONS, *_LISTS, *_MAPPINGS} or dataclasses.is_dataclass(bare) or _hasoptions(bare))
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


def _hasoptions(bare: Any) -> bool:
    return get_origin(bare) is Literal or (isinstance(bare, type) and issubclass(bare, Enum))


def options(kind: Any) -> list[tuple[Any, Any]]:
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
    if _hasoptions(bare):
        names = list(dict.fromkeys(_name(result) for _, result in options(bare)))
        return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    if bare in _WORDS:
        return _WORDS[bare]
    return "a mapping" if _fits(bare, {}) else "a list" if _fits(bare, []) else str(getattr(bare, "__name__", bare))
