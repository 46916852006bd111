"""A run file over many seeds: each seed is another chip, other weights, other batches.

``python benchmarks/seeds.py config/runs/digits_node.yaml --seeds 16 --set board=config/boards/ideal.yaml``
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from hil.lab.job import RunResult
from hil.lab.runs import run


def one(run_file: str, settings: list[str], seed: int, folder: str) -> RunResult:
    return run(run_file, out=Path(folder) / f"seed-{seed}", overrides=[*settings, f"seed={seed}"])


def main() -> None:
    """Prints one row a seed, then mean, lowest and highest test accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool,
    ):
        waiting = [pool.submit(one, args.config, args.settings, seed, folder) for seed in range(args.seeds)]
        results = [future.result() for future in waiting]
    failed = [result for result in results if result.exit_code or result.test_accuracy is None]
    if failed:
        sys.exit(f"{len(failed)} runs failed, the first with: {failed[0].error}")
    accuracies = [100 * result.test_accuracy for result in results if result.test_accuracy is not None]
    for seed, result in enumerate(results):
        print(
            f"seed {seed:3d}  test {accuracies[seed]:5.1f} %  software {100 * (result.software_accuracy or 0):5.1f} %"
            f"  pulses {result.pulses:9,}  {result.iterations_per_second:5.0f} it/s"
        )
    print(
        f"mean {statistics.mean(accuracies):.2f} %, lowest {min(accuracies):.2f} %, highest {max(accuracies):.2f} %,"
        f" mean pulses {statistics.mean(result.pulses for result in results):,.0f}"
    )


if __name__ == "__main__":
    main()
