"""Placing and encoding the copies of a 784-100-10 network on large simulated chips with stuck cells.

``python benchmarks/ensemble.py --alpha 8``
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from time import perf_counter

import torch

from hil.contract import Side
from hil.mapping import PairMapping
from protocols.core.draws import generator
from protocols.core.ensemble.combine import least_squares, mean_of_best, weight_errors
from protocols.core.ensemble.encode import coordinate_descent, mao, nominal, reduced_error, simple
from protocols.core.ensemble.faults import Faults, drawn_faults
from protocols.core.ensemble.place import Wanted, place_copies
from protocols.core.ensemble.placed import combined_matrix
from protocols.core.ensemble.tiles import cut, devices

CHIPS = [(2304, 25, 25), (600, 64, 64), (256, 128, 128)]
WIDTHS = [784, 100, 10]
RATE = 0.1
MAPPING = PairMapping(siemens_low=133e-6, siemens_high=233e-6, volts=0.3, reference="low")
ENCODERS = {"simple": simple, "rme": reduced_error, "lea-2": coordinate_descent, "mao": mao}


def networks() -> dict[str, list[torch.Tensor]]:
    """Random weights of both kinds: ternary ones have two target conductances, real ones many."""
    source = generator(0, "weights", 0)
    real = [2 * torch.rand(o, i, generator=source) - 1 for i, o in pairwise(WIDTHS)]
    return {"ternary": [(1.4 * w).round().clamp(-1, 1) for w in real], "real": real}


def measure(name: str, weights: list[torch.Tensor], chip: Faults, alpha: int) -> None:
    kernels, rows, cols = chip.stuck.shape
    layers = [
        Wanted(f"layer{n}", cut(f"layer{n}", w.shape[0], w.shape[1], (rows, cols), Side.COLS), nominal(w, MAPPING))
        for n, w in enumerate(weights, 1)
    ]
    seconds: dict[str, float] = {}
    copies = []
    for placing in ("random", "greedy"):
        began = perf_counter()
        copies = place_copies(layers, alpha, chip, placing=placing, source=generator(0, placing, 0))
        seconds[placing] = perf_counter() - began
    cells = []
    for kind, encode in ENCODERS.items():
        began = perf_counter()
        cells = [encode(w, placed.faults(chip), MAPPING) for w, placed in zip(weights, copies, strict=True)]
        seconds[kind] = perf_counter() - began
    for kind, chosen in {
        "mean of best": lambda c, w: mean_of_best(weight_errors(c, w, MAPPING), max(1, alpha // 2)),
        "least squares": lambda c, w: least_squares(c, w, MAPPING),
    }.items():
        began = perf_counter()
        for w, placed, made in zip(weights, copies, cells, strict=True):
            combined_matrix(placed, chosen(made, w), MAPPING)
        seconds[kind] = perf_counter() - began
    used = devices([layer.tiles for layer in layers], alpha)
    print(f"{name}, {kernels} kernels of {rows} x {cols}, alpha {alpha}: {used:,} of {chip.stuck.numel():,} cells")
    print("   " + "  ".join(f"{kind} {value:.3f} s" for kind, value in seconds.items()))
    slowest = max(seconds[kind] for kind in ENCODERS)
    print(f"   greedy placement and the slowest encoder together: {seconds['greedy'] + slowest:.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alpha", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for shape in CHIPS:
        chip = drawn_faults(shape, RATE, (133e-6, 233e-6), generator(0, "faults", 0))
        for name, weights in networks().items():
            measure(name, weights, chip, asked.alpha)


if __name__ == "__main__":
    main()
