"""How fast the device laws are: one signed update of all cells, beside bare torch operations of the same size.

Run it with ``python benchmarks/laws.py``. One thread, float32, CPU time, the best of interleaved repeats. About 2.5
pulses a cell, as in the workload on which aihwkit 1.2.0 does 3e7 (constant step) and 2.8e7 (soft bounds) cells a
second; ratios to these figures hold only on a like machine, those to the bare operations hold anywhere.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from sim_backend.laws.binary import Binary
from sim_backend.laws.constant_step import ConstantStep
from sim_backend.laws.exp_step import ExpStep
from sim_backend.laws.linear_step import LinearStep
from sim_backend.laws.one_sided import OneSided
from sim_backend.laws.pcm import Pcm
from sim_backend.laws.piecewise_step import PiecewiseStep
from sim_backend.laws.pow_step import PowStep
from sim_backend.laws.soft_bounds import SoftBounds
from sim_backend.laws.soft_bounds_reference import SoftBoundsReference

SIZES = (25, 128, 512, 1024)
PEER = {"constant_step": 3.0e7, "soft_bounds": 2.8e7}
USUAL: dict[str, Any] = {"low": 10e-6, "high": 210e-6, "volts_up": 1.0, "volts_down": 1.0, "seconds": 1e-6}
LAWS = (
    ConstantStep(**USUAL, states=1200, step_std=0.3),
    ConstantStep(**USUAL, states=1200, step_std=0.3, write_std=1.0),
    SoftBounds(**USUAL, states=1200, step_std=0.3),
    SoftBoundsReference(**USUAL, states=1200, step_std=0.3),
    LinearStep(**USUAL, states=1200, step_std=0.3, slope_up=0.1, slope_down=0.1),
    ExpStep(**USUAL, states=1200, step_std=0.3),
    PowStep(**USUAL, states=1200, step_std=0.3),
    PiecewiseStep(**USUAL, states=1200, step_std=0.3, nodes_up=(1.0, 0.8, 0.5), nodes_down=(0.5, 0.8, 1.0)),
    OneSided(**USUAL, states=1200, step_std=0.3),
    Pcm(**USUAL),
    Binary(**USUAL),
)


def best(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """CPU seconds of each piece of work: the least of interleaved repeats."""
    times = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for name, work in works.items():
            work()
            begun, calls = time.process_time(), 0
            while calls < 3 or time.process_time() - begun < 0.004:
                work()
                calls += 1
            times[name] = min(times[name], (time.process_time() - begun) / calls)
    return times


def measure(n: int, repeats: int) -> None:
    """Prints the figures of an n x n array."""
    source = torch.Generator().manual_seed(0)
    x, d = (2 * torch.rand(31, n, generator=source) - 1 for _ in range(2))
    dose = torch.round(5.0 * (d[0, :, None] * x[0, None, :]) * 2)
    plain = torch.rand(n, n)
    works: dict[str, Callable[[], object]] = {
        "bare: a + b": lambda: torch.add(plain, dose),
        "bare: one normal a cell": lambda: torch.randn(n, n, generator=source),
    }
    for law in LAWS:
        params = law.build((1, n, n), source, torch.float32)
        params = {name: values.view(n, n) for name, values in params.items()}
        g = law.initial(params, source)

        def work(law: Any = law, g: torch.Tensor = g, params: Any = params) -> object:
            return law.pulse(g, params, dose, None, source)

        works[law.kind + (" + write noise" if law.kind == "constant_step" and law.kept else "")] = work
    times = best(works, repeats)
    for name, seconds in times.items():
        cells = n * n / seconds
        peer = f"{cells / PEER[name]:5.1f} x aihwkit" if name in PEER else ""
        normals = seconds / times["bare: one normal a cell"]
        print(
            f"{n:5} {name:28} {1e9 * seconds / n / n:7.2f} ns/cell {cells:9.2e} cells/s {normals:6.1f} normals {peer}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for n in asked.sizes:
        measure(n, asked.repeats)


if __name__ == "__main__":
    main()
