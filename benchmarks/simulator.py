"""How fast the simulator is: reads, pulsed updates, wires and memory, beside bare torch operations of the same size.

Run it with ``python benchmarks/simulator.py``. float32; wall time, the median of interleaved repeats; every ratio is
against what was measured beside it in the same run. Peers are run where they can be imported. Where they cannot, their
stored rates are named as such: those were measured on another machine (aihwkit 1.2.0, one thread), so a ratio to them
says little; the ratio to a bare normal carries over.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peers import (
    STORED_BATCH_MS,
    STORED_CELLS,
    STORED_PRODUCT,
    STORED_STEP,
    absent,
    aihwkit_updates,
    badcrossbar_reads,
    crosssim_products,
)
from wires import GOALS, SIZES, cpu_ms
from wires import measure as measure_wires

from hil.batch_added import batch_added
from hil.contract import Blocks, BoardSpec, Outer, Pulse, Range, Read, Shape, Side
from hil.lab.opening import read_board
from sim_backend.aging.pcm import PcmDrift
from sim_backend.board import SimBoard
from sim_backend.config import SimulatorConfig
from sim_backend.laws.constant_step import ConstantStep
from sim_backend.laws.soft_bounds import SoftBounds
from sim_backend.pulsed.place import place_of
from sim_backend.pulsed.push import Push

IDEAL = Path(__file__).resolve().parent.parent / "config" / "boards" / "ideal.yaml"
UPDATE_SIZES = (25, 128, 512, 1024)
SHARES = (0.02, 0.1, 0.3, 0.5, 0.7, 1.0)
USUAL: dict[str, Any] = {"low": 10e-6, "high": 210e-6, "volts_up": 1.0, "volts_down": 1.0, "seconds": 1e-6}
LAWS = (ConstantStep(**USUAL, states=1200, step_std=0.3), SoftBounds(**USUAL, states=1200, step_std=0.3))
UP = DOWN = Shape(1.0, 1e-6, 3.0)

Work = Callable[[], object]


def medians(works: dict[str, Work], seconds: float) -> dict[str, float]:
    """Seconds of each piece of work: the median of repeats that are interleaved, so that all see the same machine."""
    calls: dict[str, int] = {}
    for name, work in works.items():
        work()
        begun = time.perf_counter()
        work()
        calls[name] = max(1, int(2e-3 / max(time.perf_counter() - begun, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in works}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times[next(iter(works))]) < 7:
        for name, work in works.items():
            work()
            begun = time.perf_counter()
            for _ in range(calls[name]):
                work()
            times[name].append((time.perf_counter() - begun) / calls[name])
    return {name: statistics.median(values) for name, values in times.items()}


def spec_of(kernels: int, size: int) -> BoardSpec:
    """A board of the contract with 7 bit inputs and 9 bit outputs, whose currents keep off the rails."""
    spec = read_board(IDEAL).value.spec
    rail = 0.2 * size**0.5 * 210e-6 * 6
    reading = replace(
        spec.reading,
        volts_low=-0.2,
        volts_high=0.2,
        volts_step=0.4 / 126,
        ranges=(Range(negative=rail, positive=rail, step=2 * rail / 510),),
    )
    return replace(spec, geometry=replace(spec.geometry, kernels=kernels, rows=size, cols=size), reading=reading)


def whole(kernels: int, size: int) -> Blocks:
    return Blocks(tuple(range(kernels)), (0,) * kernels, (0,) * kernels, size, size)


def goal(value: float, limit: float, *, most: bool) -> str:
    kept = value <= limit if most else value >= limit
    return f"goal {'<=' if most else '>='} {limit:g}: {'kept' if kept else 'MISSED'}"


def products(seconds: float) -> None:
    """Reads with converters and noise, against the bare batched product."""
    for tiles, size, most in ((1, 512, 2.2), (32, 25, 5.0)):
        spec = spec_of(tiles, size)
        volts = 0.4 * torch.rand(tiles, 1024, size) - 0.2
        op = Read(whole(tiles, size), volts, Side.COLS)
        quiet = SimulatorConfig(law=LAWS[1], amplifier_noise=1e-6)
        boards = {"io": SimBoard(spec, quiet), "cells": SimBoard(spec, replace(quiet, read_noise=1e-6))}
        k = torch.rand(tiles, size, size)
        works: dict[str, Work] = {
            "bare": partial(torch.bmm, volts, k),
            "normal": partial(torch.randn, tiles, 1024, size),
        }
        works |= {name: partial(board.execute, [op]) for name, board in boards.items()}
        peer = crosssim_products(size) if tiles == 1 else {}
        t = medians(works | peer, seconds)
        ratio = t["io"] / t["bare"]
        print(
            f"product {tiles:2} x {size:3} x {size:3}, batch 1024: bare {1e3 * t['bare']:6.2f} ms, a normal an output "
            f"{1e3 * t['normal']:6.2f} ms; with DAC, noise, ADC {1e3 * t['io']:6.2f} ms = {ratio:.2f} x bare "
            f"({goal(ratio, most, most=True)}); with noise of the cells too {t['cells'] / t['bare']:.2f} x bare; "
            f"stored aihwkit {STORED_PRODUCT[size]:.1f} x bare"
            + "".join(f"; {name} {t[name] / t['bare']:.2f} x bare" for name in peer)
        )


def trains(size: int, number: int = 1) -> list[Outer]:
    """Updates as in the stored workload: 31 slots, x and d even in -1 to 1, about 2.5 pulses a cell."""
    source, gain = torch.Generator().manual_seed(size), (0.01 / (0.001 * 31)) ** 0.5
    made: list[Outer] = []
    for _ in range(number):
        lines = [2 * torch.rand(size, generator=source) - 1 for _ in range(2)]
        bits = [
            ((torch.rand(1, 31, size, generator=source) < line.abs() * gain) * line.sign()).to(torch.int8)
            for line in lines
        ]
        made.append(Outer(whole(1, size), bits[0], bits[1], UP, DOWN))
    return made


def updates(seconds: float) -> None:
    """Coincidence updates through the board: product, law, wear, price, outcome."""
    for size in UPDATE_SIZES:
        cells, (op,) = size * size, trains(size)
        boards = {law.kind: SimBoard(spec_of(1, size), SimulatorConfig(law=law)) for law in LAWS}
        works: dict[str, Work] = {"normal": partial(torch.randn, size, size)}
        works |= {kind: partial(board.execute, [op]) for kind, board in boards.items()}
        works |= aihwkit_updates(size)
        t = medians(works, seconds)
        for kind in boards:
            rate = cells / t[kind]
            least = 4.0 if kind == "constant_step" and size >= 512 else 3.0
            stored, peer = rate / STORED_CELLS[kind], t.get(f"aihwkit {kind}")
            paired = f"; aihwkit in this run {peer / t[kind]:.1f} x slower" if peer else ""
            judged = f" ({goal(stored, least, most=False)})" if size >= 128 else ""
            print(
                f"update {kind:13} {size:4}: {1e3 * t[kind]:7.3f} ms, {rate:.2e} cells/s, "
                f"{t[kind] / t['normal']:4.1f} bare normals, {stored:.1f} x stored aihwkit{judged}{paired}"
            )


def batches(seconds: float) -> None:
    """32 updates one by one, and batch-added."""
    for size in UPDATE_SIZES[1:]:
        ops, board = trains(size, 32), SimBoard(spec_of(1, size), SimulatorConfig(law=LAWS[0]))
        works: dict[str, Work] = {
            "single": partial(board.execute, ops),
            "added": lambda board=board, ops=ops: board.execute(batch_added(ops)),
        }
        t = medians(works, seconds)
        stored = STORED_BATCH_MS[size] / 1e3
        print(
            f"32 updates, constant_step {size:4}: one by one {1e3 * t['single']:6.1f} ms, batch-added "
            f"{1e3 * t['added']:6.1f} ms; stored aihwkit {1e3 * stored:.0f} ms = {stored / t['single']:.1f} and "
            f"{stored / t['added']:.1f} x slower"
        )


def sparse(seconds: float, size: int = 512) -> None:
    """Signed pulses on a share of the cells: both paths, and the whole operation."""
    for law in LAWS:
        board = SimBoard(spec_of(1, size), SimulatorConfig(law=law))
        blocks, source = whole(1, size), torch.Generator().manual_seed(0)
        place, push = place_of(blocks, size, size), Push(1.0, 1.0, None, torch.float32)
        for share in SHARES:
            hit = torch.rand(blocks.shape, generator=source) < share
            counts = (hit * torch.randint(0, 2, blocks.shape, generator=source).mul_(2).sub_(1)).to(torch.int32)
            op, flat, pulsed = Pulse(blocks, counts, UP, DOWN), counts.view(-1), board.chip._pulsed
            works: dict[str, Work] = {
                way: partial(pulsed.pulse, place, flat, push, source, dense=way == "dense")
                for way in ("dense", "active")
            }
            t = medians(works | {"execute": partial(board.execute, [op])}, seconds / 3)
            ratio = t["dense"] / t["active"]
            judged = f" ({goal(ratio, 3.0, most=False)})" if share == 0.02 else ""
            print(
                f"pulses {law.kind:13} {size} on {100 * share:3.0f} % of the cells: dense {1e3 * t['dense']:.3f} ms, "
                f"active {1e3 * t['active']:.3f} ms, ratio {ratio:.2f}{judged}; whole operation "
                f"{1e3 * t['execute']:.3f} ms"
            )


def wires(seconds: float) -> None:
    """Exact line resistance, in CPU time on one thread; badcrossbar beside it where it can be imported."""
    for at, size in enumerate(SIZES):
        peer = {name: cpu_ms(work, seconds / 4) for name, work in badcrossbar_reads(size).items()}
        found = measure_wires(size, seconds)
        judged = ", ".join(
            f"{name} {found[name]:.3g} ms ({goal(found[name], GOALS[name][at], most=True)})" for name in GOALS
        )
        further = found["further read, 32 vectors"] / found["bare product, 32 vectors"]
        beside = "".join(f"; {name} {ms:.3g} ms" for name, ms in peer.items())
        print(f"wires {size:3}: {judged}; further read {further:.2f} x bare{beside}")


def memory(size: int = 1024) -> None:
    """Bytes of all tensors that are saved with a tile."""
    for law, aging in ((LAWS[0], None), (LAWS[1], None), (replace(LAWS[1], write_std=1.0), PcmDrift())):
        board = SimBoard(spec_of(1, size), SimulatorConfig(law=law, aging=aging))
        held = sum(t.numel() * t.element_size() for t in board.snapshot().values()) / size**2
        what = law.kind + (" with write noise and drift" if aging else "")
        print(f"state of {what}, {size} x {size}: {held:.1f} bytes a cell ({goal(held, 64.0, most=True)})")


def main() -> None:
    """Prints a line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5, help="seconds spent on each group of figures, about")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=["products", "updates", "batches", "sparse", "wires", "memory"])
    given = parser.parse_args()
    groups: dict[str, Callable[[float], None]] = {
        "products": products, "updates": updates, "batches": batches, "sparse": sparse,
    }  # fmt: skip
    print(f"peers that cannot be imported: {', '.join(absent()) or 'none'}; {STORED_STEP}")
    for threads in given.threads:
        torch.set_num_threads(threads)
        print(f"-- {threads} thread{'s' * (threads > 1)}; load of the machine {os.getloadavg()[0]:.1f}")
        for name, group in groups.items():
            if given.only is None or name in given.only:
                group(given.seconds)
    torch.set_num_threads(1)
    if given.only is None or "wires" in given.only:
        print("-- wires: CPU time, one thread, float64")
        wires(given.seconds)
    if given.only is None or "memory" in given.only:
        memory()
    print(f"-- load of the machine at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
