"""What tests may ask the inside of a virtual board."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from hil.contract import Backend, restorable
from instruments.virtual.outputs import Outputs


def inspect(
    backend: Backend, outputs: Outputs, counters: Mapping[str, int], what: str, arguments: Mapping[str, Any]
) -> Any:
    """Answers ``Personality.inspect`` for a board whose backend can be saved.

    Raises:
        ValueError: there is no such thing.
    """
    match what:
        case "outputs":
            return outputs.facts()
        case "history":
            last = int(arguments.get("last", 100))
            return [list(change) for change in outputs.history][-last:]
        case "counters":
            return dict(counters)
        case "cells" | "pulses":
            return _state(backend, {"cells": "chip.g", "pulses": "chip.pulses"}[what], arguments)
        case "stick":
            return _stick(backend, arguments)
        case _:
            raise ValueError(f"there is no {what[:40]!r}; there are outputs, history, counters, cells, pulses, stick")


def _state(backend: Backend, name: str, arguments: Mapping[str, Any]) -> Any:
    """One state of all cells, or of one kernel; ``sum`` gives the total."""
    if not restorable(backend):
        raise ValueError("the backend inside cannot be saved")
    state = backend.snapshot()[name]
    if "kernel" in arguments:
        state = state[int(arguments["kernel"])]
    return state.double().sum().item() if arguments.get("sum") else state.tolist()


def _stick(backend: Backend, arguments: Mapping[str, Any]) -> Any:
    """Sticks a cell, a line or a kernel where it is; a missing index means all."""
    if not restorable(backend):
        raise ValueError("the backend inside cannot be saved")
    saved = backend.snapshot()
    place = tuple(int(arguments[n]) if n in arguments else slice(None) for n in ("kernel", "row", "col"))
    saved["chip.stuck"][place] = True
    if "siemens" in arguments:
        saved["chip.g"][place] = float(arguments["siemens"])
    backend.restore(saved)
    return int(torch.count_nonzero(saved["chip.stuck"]))
