"""Puts a named device file into a board file, before either is checked."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

from hil.lab import config, yaml_text
from hil.lab.plain import Tree, join

PARTS = ("law", "aging")


def with_device(tree: Tree, beside: Path) -> Tree:
    """The tree of a board file in which ``simulator.device`` is followed by what the named file holds.

    A board file that has a law of its own keeps it, so that what a run stored loads again without the named file.

    Args:
        tree: the board file.
        beside: the board file's path; the device is looked up beside it, then in the usual places.

    Raises:
        ConfigError: there is no such file, or it cannot be read.
    """
    simulator = _simulator(tree)
    name = simulator.get("device")
    if not isinstance(name, str) or not name or "law" in simulator:
        return tree
    device = yaml_text.read_file(config.find(name, beside))
    if not isinstance(device.value, dict):
        return tree
    tree = Tree(copy.deepcopy(tree.value), dict(tree.places))
    simulator, inside = _simulator(tree), join("simulator", "")
    for part in PARTS:
        if part in device.value and part not in simulator:
            simulator[part] = device.value[part]
            tree.places.update({inside + p: at for p, at in device.places.items() if p.split(".")[0] == part})
    return tree


def _simulator(tree: Tree) -> dict[str, Any]:
    whole = tree.value if isinstance(tree.value, dict) else {}
    simulator = whole.get("simulator")
    return cast(dict[str, Any], simulator) if isinstance(simulator, dict) else {}
