"""No room drags another in: each is imported in a process without any of ours, and ``sys.modules`` is looked at.

import-linter reads import statements; it cannot see what an ``__init__`` or a lazy attribute loads.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GROUND = [f"hil.{path.stem}" for path in sorted((ROOT / "hil").glob("*.py")) if not path.stem.startswith("__")]
HEAVY = {"torch", "numpy", "scipy", "sklearn", "matplotlib", "pyvisa", "serial", "pydantic", "typer"}


def modules_of(room: str) -> list[str]:
    """All modules of a room, by name."""
    paths = sorted((ROOT / room.replace(".", "/")).rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


def loaded_by(names: list[str]) -> set[str]:
    """What is in ``sys.modules`` of a fresh process that has imported modules."""
    imports = "; ".join(f"import {name}" for name in names)
    code = f"import json, sys; {imports}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=50
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


EACH_IN_A_FORK = """
import json, os, sys
import torch, scipy.linalg
before = list(sys.modules)
found = {}
for room, names in json.loads(sys.argv[1]).items():
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        for name in names:
            __import__(name)
        with os.fdopen(writing, "w") as out:
            json.dump(list(sys.modules), out)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as what:
        found[room] = what.read()
    os.waitpid(child, 0)
print(json.dumps([before, {room: json.loads(text) for room, text in found.items()}]))
"""
"""Imports what others wrote once, since that takes a second; then each room in a copy of that process."""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """What is in ``sys.modules`` of a process that has imported all of a room, and the packages of others."""
    rooms = {room: modules_of(room) for room in FORBIDDEN if room != "ground floor"}
    rooms["ground floor"] = [*GROUND, *modules_of("hil.contract")]
    assert all(rooms.values())
    done = subprocess.run(
        [sys.executable, "-c", EACH_IN_A_FORK, json.dumps(rooms)], cwd=ROOT, capture_output=True, text=True,
        check=False, timeout=50,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, found = json.loads(done.stdout.splitlines()[-1])
    assert inside(set(before), {"yaml", "hil", "sim_backend", "instruments", "protocols"}) == []
    assert all(set(rooms[room]) <= set(names) for room, names in found.items())
    return {room: set(names) for room, names in found.items()}


def inside(loaded: set[str], rooms: set[str]) -> list[str]:
    return sorted(name for name in loaded if any(name == room or name.startswith(f"{room}.") for room in rooms))


ABOVE_THE_CONTRACT = {
    f"hil.{name}" for name in ("layers", "lowering", "matrix", "network", "program", "slicing", "twin", "usual")
}
FORBIDDEN = {
    "ground floor": {"hil.lab", "sim_backend", "instruments", "protocols"},
    "sim_backend": {"hil.lab", "instruments", "protocols", *ABOVE_THE_CONTRACT},
    "instruments": {"hil.lab", "sim_backend", "protocols", *ABOVE_THE_CONTRACT},
    "protocols": {"hil.lab", "sim_backend", "instruments"},
}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_loads_no_forbidden_room(loaded, room):
    assert inside(loaded[room], {"yaml", *FORBIDDEN[room]}) == []


@pytest.mark.parametrize("module", ["hil", "hil.lab", "hil.lab.config", "hil.errors", "hil.units", "hil.lab.cli"])
def test_what_help_needs_loads_nothing_heavy(module):
    if not (ROOT / f"{module.replace('.', '/')}.py").exists() and "." in module and module != "hil.lab":
        pytest.skip("not built yet")
    heavy = HEAVY - ({"pydantic", "typer"} if module == "hil.lab.cli" else set())
    assert inside(loaded_by([module]), heavy) == []


def test_the_verbs_of_hil_are_known_without_loading_them():
    import hil

    assert set(hil.__all__) == {"deploy", "open_board", "run"}
    assert hil.deploy.__module__ == "hil.deployment"
    with pytest.raises(AttributeError, match="no attribute 'fly'"):
        _ = hil.fly
