"""YAML as plain data with places: a strict reading of YAML 1.2, and the writer that matches it.

Text is read from parser events, one at a time, so that hostile nesting costs no recursion and nothing is ever made
from a tag. What could surprise a reader of the file is refused: aliases, tags, merge keys, duplicate keys, ``010``,
numbers that are not finite, hidden characters. ``on`` and ``2024-01-01`` are text, ``1e-3`` is a number.
"""

from __future__ import annotations

import copy
import math
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import yaml

from hil.errors import ConfigError, ConfigProblem

Plain = str | int | float | bool | None | list["Plain"] | dict[str, "Plain"]

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 20_000
MAX_KEY = 100
MAX_NUMBER = 64
MAX_PATH = 1024
MAX_PROBLEMS = 100
_TOO_MANY = f"more than {MAX_VALUES} values are too many for a configuration"
_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels"
_TOO_LARGE = f"is larger than {MAX_BYTES >> 20} MiB, too large for a configuration"

_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULLS = {"", "~", "null", "Null", "NULL"}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# Control characters, line and direction marks, half characters: who reads the file does not see them.
_HIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")


class Place(NamedTuple):
    """Where a value comes from; ``line`` and ``column`` count from 1 and are 0 for a source without lines."""

    name: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name

    @property
    def in_file(self) -> str:
        """The place without its column, as records and messages about limits quote it."""
        return f"{self.name}:{self.line}" if self.line else self.name


@dataclass(frozen=True, slots=True)
class Tree:
    """Plain data, and the place of each value by its dotted path ("" for the whole)."""

    value: Plain
    places: dict[str, Place]


def read_file(path: str | Path) -> Tree:
    """Reads a YAML file whose top level is a mapping; anything but a regular file of text is refused."""
    name = printable(str(path), MAX_PATH)
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError.at(name, "", "is not a regular file")
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError.at(name, "", "no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigError.at(name, "", f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(data) > MAX_BYTES:
        raise ConfigError.at(name, "", _TOO_LARGE)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = _end_of(data[: error.start].decode("utf-8"), name)
        problem = f"the byte 0x{data[error.start]:02x} is not valid UTF-8; save the file as UTF-8"
        raise ConfigError.at(str(place), "", problem) from None
    return read_text(text, name)


def read_text(text: str, name: str) -> Tree:
    """Reads YAML text whose top level is a mapping."""
    reader = _Reader(name)
    reader.read(text.removeprefix("\ufeff"))
    if not isinstance(reader.value, dict):
        place = reader.places.get("", Place(name, 1, 1))
        raise ConfigError.at(str(place), "", f"expected 'key: value' lines, got {shown(reader.value)}")
    return Tree(reader.value, reader.places | {"": Place(name, 1, 1)})


def read_value(text: str, name: str, path: str, depth: int) -> Tree:
    """Reads one YAML value, such as ``3`` or ``[64, 10]``, that stands at a path of a larger tree."""
    reader = _Reader(name, path, depth, has_lines=False)
    reader.read(text)
    if not reader.places:
        raise ConfigError.at(name, path, "has no value; write null to clear it")
    return Tree(reader.value, reader.places)


def read_plain(value: object, name: str) -> Tree:
    """Copies plain data, such as a parsed request, into a tree under the same rules as text."""
    places: dict[str, Place] = {}

    def plain(value: object, path: str, depth: int) -> Plain:
        places[path] = Place(name)
        if len(places) > MAX_VALUES:
            raise ConfigError.at(name, printable(path), _TOO_MANY)
        if value is None or isinstance(value, bool):
            return value
        try:
            if isinstance(value, str):
                return _checked_text(str(value))
            if isinstance(value, int):
                return _checked_int(int(value))
            if isinstance(value, float):
                return _checked_float(float(value), str(value))
            if not isinstance(value, Mapping | list | tuple):
                raise ValueError(f"{type(value).__name__} is not plain data; use text, numbers, lists and mappings")
            if depth >= MAX_DEPTH:
                raise ValueError(_TOO_DEEP)
            if isinstance(value, Mapping):
                items = {checked_key(key): item for key, item in cast(Mapping[object, object], value).items()}
                return {key: plain(item, join(path, key), depth + 1) for key, item in items.items()}
        except ValueError as error:
            raise ConfigError.at(name, printable(path), str(error)) from None
        return [plain(item, join(path, index), depth + 1) for index, item in enumerate(cast(Sequence[object], value))]

    return Tree(plain(value, "", 0), places)


def override(tree: Tree, texts: Sequence[str]) -> Tree:
    """Replaces values by texts such as ``network.layers=[64, 10]``, each written as in the file."""
    if not texts:
        return tree
    tree = Tree(copy.deepcopy(tree.value), dict(tree.places))
    problems: list[ConfigProblem] = []
    for text in texts:
        try:
            _override(tree, text)
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise error_of(problems)
    return tree


def _override(tree: Tree, text: str) -> None:
    name = f"--set {printable(text)}"
    path, equals, value_text = text.partition("=")
    path = path.strip()
    keys = path.split(".")
    if not equals:
        raise ConfigError.at(name, "", "has no value; write it as key.path=value")
    try:
        for key in keys:
            checked_key(key)
        if len(keys) > MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
    except ValueError as error:
        raise ConfigError.at(name, printable(path), str(error)) from None
    new = read_value(value_text, name, path, len(keys))
    node: Any = tree.value
    here, slot = "", ""
    for index, key in enumerate(keys):
        slot = _slot(node, key, here, name)
        if index < len(keys) - 1:
            here = join(here, key)
            if node[slot] is None:
                node[slot] = {}
                tree.places[here] = Place(name)
            node = node[slot]
    node[slot] = new.value
    for old in [old for old in tree.places if f"{old}.".startswith(f"{path}.")]:
        del tree.places[old]
    tree.places.update(new.places)


def _slot(node: Any, key: str, here: str, name: str) -> Any:
    if isinstance(node, dict):
        cast(dict[str, Plain], node).setdefault(key, None)
        return key
    if not isinstance(node, list):
        raise ConfigError.at(name, here, f"is {shown(node)}, there are no keys below it")
    count = len(cast(list[Plain], node))
    if key not in {str(index) for index in range(count)}:
        raise ConfigError.at(name, here, f"has {count} items, counted from 0; there is no item {printable(key)}")
    return int(key)


def dump(value: Plain) -> str:
    """Writes plain data as YAML that reads back identically."""
    return yaml.dump(read_plain(value, "<data>").value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Quotes what this module, not YAML 1.1, would read as something else than text."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def text(self, data: str) -> yaml.ScalarNode:
        try:
            style = None if scalar(data) == data else "'"
        except ValueError:
            style = "'"
        return yaml.ScalarNode("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.text)


def scalar(text: str) -> str | int | float | bool | None:
    """Reads an unquoted scalar by the core rules of YAML 1.2.

    Raises:
        ValueError: a number that is ambiguous, too long or not finite.
    """
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number")
    is_int = _INT.fullmatch(text) is not None
    if not is_int and not _FLOAT.fullmatch(text):
        return text
    if len(text) > MAX_NUMBER:
        raise ValueError(f"a number of {len(text)} characters is too long")
    if not is_int:
        return _checked_float(float(text), text)
    digits = text.lstrip("+-")
    if digits[0] == "0" and digits.isdigit() and len(digits) > 1:
        raise ValueError(f"{text} is ambiguous; write {int(text)} for the number or '{text}' in quotes for text")
    return _checked_int(int(text, 0))


def printable(text: str, most: int = 120) -> str:
    """Makes foreign text fit to be printed: cut, with its control characters escaped."""
    text = text if len(text) <= most else text[:most] + "..."
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def shown(value: Plain) -> str:
    """Names a value as the reader of the file knows it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return str({None: "nothing", True: "true", False: "false"}[value])
    return f'"{printable(value, 60)}"' if isinstance(value, str) else str(value)


def error_of(problems: Sequence[ConfigProblem]) -> ConfigError:
    """Makes the error that lists the problems found; a hostile file does not get more than a hundred lines."""
    if len(problems) > MAX_PROBLEMS:
        more = f"and {len(problems) - MAX_PROBLEMS} more problems"
        problems = [*problems[:MAX_PROBLEMS], ConfigProblem(problems[MAX_PROBLEMS].where, "", more)]
    return ConfigError(problems)


def join(path: str, key: str | int) -> str:
    """Writes the dotted path of a key or list index below a path."""
    return f"{path}.{key}" if path else str(key)


def checked_key(key: object) -> str:
    """Gives the key back, if it is text of a sensible length."""
    if not isinstance(key, str):
        raise ValueError(f"the key {shown(cast(Plain, key))} is not text; put it in quotes")
    if not key or len(key) > MAX_KEY:
        raise ValueError(f"a key has 1 to {MAX_KEY} characters")
    return _checked_text(key)


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not been read; ``key`` is the key that waits for its value."""

    path: str
    items: dict[str, Plain] | list[Plain]
    key: str | None = None


@dataclass(slots=True)
class _Reader:
    """Builds plain data from the events of one document; collects problems and stops only where it must."""

    name: str
    path: str = ""
    depth: int = 0
    has_lines: bool = True
    value: Plain = None
    places: dict[str, Place] = field(default_factory=dict[str, Place])
    problems: list[ConfigProblem] = field(default_factory=list[ConfigProblem])
    _open: list[_Open] = field(default_factory=list[_Open])
    _documents: int = 0
    _values: int = 0

    def read(self, text: str) -> None:
        """Reads the whole text, or raises all that is wrong with it."""
        hidden = _HIDDEN.search(text)
        if len(text) > MAX_BYTES:
            self._stop(Place(self.name), "", _TOO_LARGE)
        if hidden is not None:
            place = _end_of(text[: hidden.start()], self.name) if self.has_lines else Place(self.name)
            self._stop(place, "", _not_allowed(hidden[0]))
        place = self._place(None)
        try:
            for event in yaml.parse(text, Loader=yaml.SafeLoader):
                place = self._place(event.start_mark)
                self._take(event, place)
        except yaml.MarkedYAMLError as error:
            place = self._place(error.problem_mark or error.context_mark)
            tabs = "; indent with spaces, not tabs" if "'\\t'" in str(error.problem) else ""
            problem = printable(f"{error.context or 'error'}: {error.problem}", 300)
            self._wrong(place, self.path, f"is not valid YAML ({problem}){tabs}")
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            self._wrong(place, self.path, f"is not valid YAML near here ({printable(str(error))})")
        if self.problems:
            raise error_of(self.problems)

    def _take(self, event: yaml.Event, place: Place) -> None:
        parent = self._open[-1] if self._open else None
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop(place, "", "a second document (---) starts here; a file holds one")
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
        elif not isinstance(event, yaml.NodeEvent):
            return
        elif parent is not None and isinstance(parent.items, dict) and parent.key is None:
            self._take_key(event, parent, parent.items, place)
        else:
            self._take_value(event, parent, place)

    def _take_key(self, event: yaml.NodeEvent, parent: _Open, items: dict[str, Plain], place: Place) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            self._stop(place, parent.path, "a key must be plain text, not an alias, a list or a mapping")
        path = join(parent.path, event.value[:MAX_KEY])
        self._check_marks(event, event.tag, place, path)
        try:
            if event.style is None and event.value == "<<":
                raise ValueError("merge keys (<<) are not allowed; write the keys out")
            checked_key(scalar(event.value) if event.style is None else event.value)
        except ValueError as error:
            self._wrong(place, path, str(error))
        if event.value in items:
            self._wrong(place, path, f"is given twice, first at {self.places[path].in_file}")
        parent.key = event.value[:MAX_KEY]
        self.places.setdefault(path, place)

    def _take_value(self, event: yaml.NodeEvent, parent: _Open | None, place: Place) -> None:
        if parent is None:
            path = self.path
        elif isinstance(parent.items, list):
            path = join(parent.path, len(parent.items))
        else:
            path = join(parent.path, parent.key or "")
        self.places.setdefault(path, place)
        self._values += 1
        if self._values > MAX_VALUES:
            self._stop(place, path, _TOO_MANY)
        value: Plain = None
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, place, path)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self._open) + self.depth >= MAX_DEPTH:
                self._stop(place, path, _TOO_DEEP)
            self._check_marks(event, event.tag, place, path)
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._open.append(_Open(path, value))
        else:
            self._wrong(place, path, f"aliases (*{event.anchor}) are not allowed; write the value out")
        if parent is None:
            self.value = value
        elif isinstance(parent.items, list):
            parent.items.append(value)
        elif parent.key is not None:
            parent.items[parent.key] = value
            parent.key = None

    def _scalar(self, event: yaml.ScalarEvent, place: Place, path: str) -> Plain:
        self._check_marks(event, event.tag, place, path)
        try:
            return scalar(event.value) if event.style is None else _checked_text(event.value)
        except ValueError as error:
            self._wrong(place, path, str(error))
            return None

    def _check_marks(self, event: yaml.NodeEvent, tag: str | None, place: Place, path: str) -> None:
        if event.anchor is not None:
            self._wrong(place, path, f"anchors (&{event.anchor}) are not allowed; write the value out where it is used")
        if tag is not None:
            self._wrong(place, path, f"tags ({printable(tag)}) are not allowed; write a plain value")

    def _place(self, mark: Any) -> Place:
        if not self.has_lines:
            return Place(self.name)
        return Place(self.name, 1, 1) if mark is None else Place(self.name, mark.line + 1, mark.column + 1)

    def _wrong(self, place: Place, path: str, problem: str) -> None:
        self.problems.append(ConfigProblem(str(place), printable(path), problem))

    def _stop(self, place: Place, path: str, problem: str) -> NoReturn:
        self._wrong(place, path, problem)
        raise error_of(self.problems)


def _checked_text(text: str) -> str:
    hidden = _HIDDEN.search(text)
    if hidden is not None:
        raise ValueError(_not_allowed(hidden[0]))
    return text


def _checked_int(value: int) -> int:
    if abs(value) >= 10**18:
        raise ValueError("a whole number of more than 18 digits is too long; put it in quotes if it is a name")
    return value


def _checked_float(value: float, text: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _not_allowed(char: str) -> str:
    return f"the character U+{ord(char):04X} is not allowed; remove it"


def _end_of(before: str, name: str) -> Place:
    lines = re.split("\r\n|\r|\n", before)
    return Place(name, len(lines), len(lines[-1]) + 1)
