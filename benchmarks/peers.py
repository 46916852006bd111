"""The same work on other simulators, where they can be imported; none is ever a dependency.

Each function gives pieces of work by name, nothing where the peer is missing, and a line on why where it fails.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

Work = Callable[[], object]
PEERS = {"aihwkit": "aihwkit", "badcrossbar": "badcrossbar", "CrossSim": "simulator", "XBTorch": "xbtorch"}
STORED_CELLS = {"constant_step": 3.0e7, "soft_bounds": 2.8e7}
"""aihwkit 1.2.0, device updates a second, from 128 x 128 on; stored, not of this run."""
STORED_PRODUCT = {512: 3.9, 25: 23.0}
"""aihwkit 1.2.0, default input and output chain at batch 1024 over the bare product, one thread; stored."""
STORED_BATCH_MS = {128: 19.3, 512: 274.0, 1024: 1120.0}
"""aihwkit 1.2.0, constant step, 32 vectors, ms; stored."""
STORED_STEP = "XBTorch 1.0.0, analytical device, one step of an MLP 784-256-128-10 at batch 1: 4.5 to 8 ms (stored)"
"""It has neither trains of pulses nor wires: nothing here is the same work."""


@contextmanager
def _beside_this_folder() -> Iterator[None]:
    """CrossSim's package is called ``simulator``, as a benchmark here is: this folder steps aside for the import."""
    here, before = Path(__file__).resolve().parent, list(sys.path)
    sys.path[:] = [folder for folder in before if Path(folder or ".").resolve() != here]
    try:
        yield
    finally:
        sys.path[:] = before


def absent() -> list[str]:
    """The names of peers that cannot be imported."""
    with _beside_this_folder():
        return [name for name, module in PEERS.items() if importlib.util.find_spec(module) is None]


def aihwkit_updates(size: int) -> dict[str, Work]:
    """A rank-1 update with 31 slots, for each kind of device."""
    if "aihwkit" in absent():
        return {}
    try:
        configs = importlib.import_module("aihwkit.simulator.configs")
        tiles = importlib.import_module("aihwkit.simulator.tiles.analog")
        x, d = (2 * torch.rand(1, size) - 1 for _ in range(2))
        works: dict[str, Work] = {}
        for kind, device in (("constant_step", "ConstantStepDevice"), ("soft_bounds", "SoftBoundsDevice")):
            config = configs.SingleRPUConfig(device=getattr(configs, device)(dw_min=0.001))
            config.update.desired_bl = 31
            config.update.update_management = config.update.update_bl_management = False
            tile = tiles.AnalogTile(size, size, config)
            tile.set_learning_rate(0.01)
            works[f"aihwkit {kind}"] = partial(tile.update, x, d)
            works[f"aihwkit {kind}"]()
    except Exception as error:
        print(f"aihwkit fails: {type(error).__name__}: {str(error)[:100]!r}")
        return {}
    return works


def crosssim_products(size: int) -> dict[str, Work]:
    """A product at batch 1024 with CrossSim's default, ideal parameters."""
    if "CrossSim" in absent():
        return {}
    try:
        with _beside_this_folder():
            package = importlib.import_module("simulator")
        core = package.AnalogCore((2 * torch.rand(size, size) - 1).numpy(), package.CrossSimParameters())
        vectors = (2 * torch.rand(size, 1024) - 1).numpy()
        work: Work = partial(core.matmul, vectors)
        work()
    except Exception as error:
        print(f"CrossSim fails: {type(error).__name__}: {str(error)[:100]!r}")
        return {}
    return {"CrossSim, ideal": work}


def badcrossbar_reads(size: int) -> dict[str, Work]:
    """One vector on one crossbar with resistive lines."""
    if "badcrossbar" in absent():
        return {}
    try:
        compute = importlib.import_module("badcrossbar").compute
        ohms = (1.0 / (1e-5 + 9e-5 * torch.rand(size, size))).double().numpy()
        work: Work = partial(compute, torch.rand(size, 1).double().numpy(), ohms, 2.0)
        work()
    except Exception as error:
        print(f"badcrossbar fails: {type(error).__name__}: {str(error)[:100]!r}")
        return {}
    return {"badcrossbar": work}
