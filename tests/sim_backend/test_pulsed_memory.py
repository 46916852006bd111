"""What a large tile takes: at most 64 bytes a cell with all its state, parameters, and what is kept between calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from hil.contract import Outer, Pulse, ReadCells, Sense, Shape, Side
from sim_backend.aging.pcm import PcmDrift
from sim_backend.board import SimBoard
from sim_backend.config import SimulatorConfig
from sim_backend.laws.constant_step import ConstantStep
from sim_backend.laws.soft_bounds import SoftBounds
from sim_backend.laws.soft_bounds_reference import SoftBoundsReference

USUAL: dict[str, Any] = {"low": 10e-6, "high": 210e-6, "volts_up": 1.0, "volts_down": 1.2, "seconds": 1e-6}
UP, DOWN = Shape(1.0, 1e-6, 3.0), Shape(1.2, 1e-6, 3.0)
SIDE = 1024


def tensors(part: Any, seen: set[int]) -> Iterator[Tensor]:
    """Every tensor that an object of the simulator holds, however deep."""
    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, Tensor):
        yield part
        return
    if isinstance(part, dict):
        inner = [*part.values()]
    elif isinstance(part, list | tuple | set):
        inner = [*part]
    elif type(part).__module__.startswith("sim_backend"):
        slots = [name for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ())]
        inner = [
            *getattr(part, "__dict__", {}).values(),
            *(getattr(part, name) for name in slots if hasattr(part, name)),
        ]
    else:
        return
    for each in inner:
        yield from tensors(each, seen)


def bytes_held(board: SimBoard) -> int:
    """Bytes behind all tensors of a board; memory that tensors share counts once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors(board, set())}
    return sum(storages.values())


@pytest.mark.parametrize(
    ("law", "aging"),
    [
        (ConstantStep(**USUAL, step_std=0.3, write_std=1.0), PcmDrift()),
        (SoftBounds(**USUAL, step_std=0.3, step_dtod=0.1, write_std=1.0), PcmDrift()),
        (SoftBoundsReference(**USUAL, step_std=0.3, reference_dtod=0.1, write_std=1.0), None),
    ],
    ids=["constant step", "soft bounds", "reference"],
)
def test_a_tile_of_a_million_cells_takes_at_most_64_bytes_a_cell(law, aging, spec_of, whole):
    spec = spec_of(kernels=1, rows=SIDE, cols=SIDE)
    board = SimBoard(spec, SimulatorConfig(law=law, aging=aging), seed=1)
    blocks = whole(spec)
    bits = torch.ones(1, 2, SIDE, dtype=torch.int8)
    few = torch.zeros(1, SIDE, SIDE, dtype=torch.int8)
    few[0, 3, :9] = 1
    board.execute([ReadCells(blocks, Sense(0.2), Side.COLS), Outer(blocks, bits, bits, UP, DOWN)])
    board.execute([Pulse(blocks, few, UP, DOWN), ReadCells(blocks, Sense(0.2), Side.COLS)])
    held = bytes_held(board)
    assert held / SIDE**2 <= 64
    assert held / SIDE**2 >= 4 * (2 + len(board.chip.params))  # conductance, pulses and parameters are in it
