"""Replaces single values of a configuration from the command line: ``--set network.layers=[64, 10]``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

from hil.errors import ConfigError, ConfigProblem
from hil.lab.plain import MAX_DEPTH, TOO_DEEP, Place, Plain, Tree, checked_key, error_of, join, printable, shown
from hil.lab.yaml_text import read_value


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
            raise ValueError(TOO_DEEP)
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
