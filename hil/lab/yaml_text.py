"""YAML as plain data with places, from files, text and requests, and the writer that matches it."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import yaml

from hil.errors import ConfigError
from hil.lab.plain import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_PATH,
    MAX_VALUES,
    TOO_DEEP,
    TOO_LARGE,
    TOO_MANY,
    Place,
    Plain,
    Tree,
    checked_float,
    checked_int,
    checked_key,
    checked_text,
    end_of,
    join,
    printable,
    scalar,
    shown,
)
from hil.lab.yaml_events import Reader


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
        raise ConfigError.at(name, "", TOO_LARGE)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = end_of(data[: error.start].decode("utf-8"), name)
        problem = f"the byte 0x{data[error.start]:02x} is not valid UTF-8; save the file as UTF-8"
        raise ConfigError.at(str(place), "", problem) from None
    return read_text(text, name)


def read_text(text: str, name: str) -> Tree:
    """Reads YAML text whose top level is a mapping."""
    reader = Reader(name)
    reader.read(text.removeprefix("\ufeff"))
    if not isinstance(reader.value, dict):
        place = reader.places.get("", Place(name, 1, 1))
        raise ConfigError.at(str(place), "", f"expected 'key: value' lines, got {shown(reader.value)}")
    return Tree(reader.value, reader.places | {"": Place(name, 1, 1)})


def read_value(text: str, name: str, path: str, depth: int) -> Tree:
    """Reads one YAML value, such as ``3`` or ``[64, 10]``, that stands at a path of a larger tree."""
    reader = Reader(name, path, depth, has_lines=False)
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
            raise ConfigError.at(name, printable(path), TOO_MANY)
        if value is None or isinstance(value, bool):
            return value
        try:
            if isinstance(value, str):
                return checked_text(str(value))
            if isinstance(value, int):
                return checked_int(int(value))
            if isinstance(value, float):
                return checked_float(float(value), str(value))
            if not isinstance(value, Mapping | list | tuple):
                raise ValueError(f"{type(value).__name__} is not plain data; use text, numbers, lists and mappings")
            if depth >= MAX_DEPTH:
                raise ValueError(TOO_DEEP)
            if isinstance(value, Mapping):
                items = {checked_key(key): item for key, item in cast(Mapping[object, object], value).items()}
                return {key: plain(item, join(path, key), depth + 1) for key, item in items.items()}
        except ValueError as error:
            raise ConfigError.at(name, printable(path), str(error)) from None
        return [plain(item, join(path, index), depth + 1) for index, item in enumerate(cast(Sequence[object], value))]

    return Tree(plain(value, "", 0), places)


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
