"""What exact line resistance costs, against scipy's sparse solver on the same circuit and a bare matrix product.

Run it with ``python benchmarks/wires.py``. All figures are CPU time on one thread: the least of several medians,
since other programs on the machine can only add to it. 2 ohm segments, cells of 10 to 100 uS, inputs of +-0.2 V.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import count

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

from hil.contract import Side
from sim_backend.wires import LineResistance, Wires, approximate_matrix, solve, transfer_matrix

SIZES = (32, 64, 128, 256)
GOALS = {"exact K": (1.0, 4.5, 35.0, 380.0), "one exact vector": (1.0, 2.0, 5.0, 20.0)}
OHMS = 2.0


def cpu_ms(work: Callable[[], object], seconds: float) -> float:
    """Milliseconds of one call: the least of four medians."""
    work()
    begun = time.process_time()
    work()
    once = max(time.process_time() - begun, 1e-6)
    calls = max(1, int(0.002 / once))  # short work is timed in groups, since the clock has steps
    repeats = max(3, min(200, int(seconds / 4 / (once * calls))))
    return 1e3 * min(statistics.median(_timed(work, calls) for _ in range(repeats)) for _ in range(4))


def _timed(work: Callable[[], object], calls: int) -> float:
    begun = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - begun) / calls


def nodal(g: np.ndarray, volts: np.ndarray) -> np.ndarray:
    """Currents by scipy.sparse.linalg.spsolve on all nodes of the circuit, assembled with arrays; volts [rows]."""
    m, n = g.shape
    word, bit, s = np.arange(m * n).reshape(m, n), np.arange(m * n).reshape(m, n) + m * n, 1.0 / OHMS
    one = np.concatenate([word.ravel(), word[:, :-1].ravel(), bit[:-1].ravel()])
    two = np.concatenate([bit.ravel(), word[:, 1:].ravel(), bit[1:].ravel()])
    value = np.concatenate([g.ravel(), np.full(m * (n - 1) + (m - 1) * n, s)])
    ends = np.concatenate([word[:, 0], bit[-1]])
    rows, cols = np.concatenate([one, two, one, two, ends]), np.concatenate([two, one, one, two, ends])
    values = np.concatenate([-value, -value, value, value, np.full(m + n, s)])
    a = scipy.sparse.csc_matrix((values, (rows, cols)), shape=(2 * m * n, 2 * m * n))
    right = np.zeros(2 * m * n)
    right[word[:, 0]] = s * volts
    return s * scipy.sparse.linalg.spsolve(a, right, permc_spec="MMD_AT_PLUS_A")[bit[-1]]


def measure(size: int, seconds: float) -> dict[str, float]:
    """All figures of one size, in ms; errors of full scale."""
    generator = torch.Generator().manual_seed(size)
    g = 1e-5 + 9e-5 * torch.rand(1, size, size, dtype=torch.float64, generator=generator)
    volts = 0.4 * torch.rand(1, 32, size, dtype=torch.float64, generator=generator) - 0.2
    one, lines, turn = volts[:, :1], LineResistance(Wires(word_segment=OHMS, bit_segment=OHMS)), count()
    k = lines.matrix(g, Side.ROWS)
    changed = LineResistance(Wires(word_segment=OHMS, bit_segment=OHMS, corrections=1.0))
    moving = g.clone()

    def write_and_read() -> None:
        moving.view(-1)[next(turn) % moving.numel()] *= 1.01
        changed.matrix(moving, Side.ROWS)

    works: dict[str, Callable[[], object]] = {
        "exact K": lambda: transfer_matrix(g, OHMS, OHMS),
        "approximate K": lambda: approximate_matrix(g, OHMS, OHMS),
        "K after one cell": write_and_read,
        "one exact vector": lambda: solve(g, one, OHMS, OHMS),
        "32 exact vectors": lambda: solve(g, volts, OHMS, OHMS),
        "spsolve, one vector": lambda: nodal(g[0].numpy(), one[0, 0].numpy()),
        "further read, one vector": lambda: one @ lines.matrix(g, Side.ROWS),
        "further read, 32 vectors": lambda: volts @ lines.matrix(g, Side.ROWS),
        "bare product, one vector": lambda: one @ g,
        "bare product, 32 vectors": lambda: volts @ g,
    }
    times = {name: cpu_ms(work, seconds) for name, work in works.items()}
    exact = torch.from_numpy(nodal(g[0].numpy(), one[0, 0].numpy()))
    full = float(exact.abs().max())
    times["error of K"] = float(((one @ k)[0, 0] - exact).abs().max()) / full
    times["error of one vector"] = float((solve(g, one, OHMS, OHMS).currents[0, 0] - exact).abs().max()) / full
    rough = approximate_matrix(g, OHMS, OHMS).k
    times["error of approximate K"] = float(((one @ rough)[0, 0] - exact).abs().max()) / full
    return times


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU seconds spent on each figure, about")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {size: measure(size, given.seconds) for size in SIZES}
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{'CPU ms, one thread':28}" + "".join(f"{f'{size} x {size}':>13}" for size in SIZES))
    for name in found[SIZES[0]]:
        print(f"{name:28}" + "".join(f"{found[size][name]:13.3g}" for size in SIZES))
    for name, goals in GOALS.items():
        kept = [
            f"{goal:g} {'kept' if found[size][name] <= goal else 'MISSED'}"
            for size, goal in zip(SIZES, goals, strict=True)
        ]
        print(f"{'goal, ' + name:28}" + "".join(f"{text:>13}" for text in kept))
    ratios = [
        ("exact K / spsolve", "exact K", "spsolve, one vector"),
        ("one vector / spsolve", "one exact vector", "spsolve, one vector"),
        ("exact K / bare product", "exact K", "bare product, one vector"),
        ("further / bare, one", "further read, one vector", "bare product, one vector"),
        ("further / bare, 32", "further read, 32 vectors", "bare product, 32 vectors"),
    ]
    for text, above, below in ratios:
        print(f"{text:28}" + "".join(f"{found[size][above] / found[size][below]:13.3g}" for size in SIZES))


if __name__ == "__main__":
    main()
