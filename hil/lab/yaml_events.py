"""Builds plain data from YAML parser events, one at a time.

Hostile nesting therefore costs no recursion, and nothing is ever made from a tag. What could surprise a reader of the
file is refused: aliases, tags, merge keys, duplicate keys, hidden characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import yaml

from hil.errors import ConfigProblem
from hil.lab.plain import (
    HIDDEN,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_KEY,
    MAX_VALUES,
    TOO_DEEP,
    TOO_LARGE,
    TOO_MANY,
    Place,
    Plain,
    checked_key,
    checked_text,
    end_of,
    error_of,
    join,
    not_allowed,
    printable,
    scalar,
)


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not been read; ``key`` is the key that waits for its value."""

    path: str
    items: dict[str, Plain] | list[Plain]
    key: str | None = None


@dataclass(slots=True)
class Reader:
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
        hidden = HIDDEN.search(text)
        if len(text) > MAX_BYTES:
            self._stop(Place(self.name), "", TOO_LARGE)
        if hidden is not None:
            place = end_of(text[: hidden.start()], self.name) if self.has_lines else Place(self.name)
            self._stop(place, "", not_allowed(hidden[0]))
        place = self._place(None)
        try:
            for event in cast(Iterator[yaml.Event], yaml.parse(text, Loader=yaml.SafeLoader)):  # pyright: ignore
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
            self._stop(place, path, TOO_MANY)
        value: Plain = None
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, place, path)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self._open) + self.depth >= MAX_DEPTH:
                self._stop(place, path, TOO_DEEP)
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
            return scalar(event.value) if event.style is None else checked_text(event.value)
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
