"""Operations that a board may lack, and what must be equal when they are lowered."""

from __future__ import annotations

from dataclasses import replace

import torch

from hil.contract import Blocks, Kind, Outcome, Outer, Ramp, Sense, Shape, Side, Stop
from hil.lowering import Lowering

MINIMUM = ("ReadCells", "Pulse", "Wait")
BLOCKS = Blocks((0, 1, 3), (0, 2, 1), (1, 0, 2), 4, 3)
SHAPE = BLOCKS.shape
SPREAD = {"low_dtod": 0.03, "high_dtod": 0.1, "step_dtod": 0.2}
UP, DOWN = Shape(1.0, 1e-6, 2.5), Shape(1.2, 1e-6, 3.0)


def same_outcome(a: Outcome, b: Outcome, atol: float = 0.0) -> None:
    for name in ("value", "flags", "applied"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None), name
        if x is not None:
            torch.testing.assert_close(
                x, y, rtol=0.0, atol=atol, equal_nan=True, msg=lambda text, n=name: f"{n}: {text}"
            )


def same_chip(a, lowered: Lowering) -> None:
    b = lowered.inner
    torch.testing.assert_close(a.chip.state["g"], b.chip.state["g"], rtol=1e-12, atol=0.0)
    assert torch.equal(a.chip.state["pulses"], b.chip.state["pulses"])


def signs(seed: int, sign: int) -> torch.Tensor:
    picked = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) < 0.8
    return (picked * sign).to(torch.int8)


def ramp(name: str, seed: int) -> Ramp:
    """One of the ramps that labs use."""
    source = torch.Generator().manual_seed(seed)
    target = (60 + 90 * torch.rand(SHAPE, generator=source, dtype=torch.float64)) * 1e-6 * 0.2
    start = torch.randint(0, 8, SHAPE, generator=source)
    stop, sense = Stop(target * 0.98, target * 1.02, 1e-3), Sense(0.2)
    volts = torch.arange(0.6, 1.9, 0.05, dtype=torch.float64)
    base = Ramp(BLOCKS, signs(seed, 1), Kind.SET, Shape(1.5, 1e-6, 0.0), "gate", volts, 0, sense, stop)
    down = replace(base, sign=signs(seed, -1), kind=Kind.RESET, shape=Shape(0.0, 1e-6, 3.0), knob="volts")
    up = replace(base, kind=Kind.FORM, shape=Shape(0.0, 1e-6, 1.0), knob="volts")
    return {
        "set by gate": base,
        "set from a start tensor, back": replace(base, start=start, back=True),
        "set traced": replace(base, trace=True, start=start + 3),
        "reset by volts": down,
        "reset with abort rules": replace(down, stop=replace(stop, jump=1e-9, rise=0.0, rises=1)),
        "form until it switches": replace(up, stop=replace(stop, slope=1e-7, flat=2e-7, hits=2)),
        "sweep traced": replace(up, kind=Kind.SWEEP, trace=True, stop=Stop(0.0, 0.0, amps_max=30e-6)),
        "nothing to do": replace(base, sign=torch.zeros(SHAPE, dtype=torch.int8), trace=True),
    }[name]


def outer(seed: int, slots: int = 7) -> Outer:
    source = torch.Generator().manual_seed(seed)

    def bits(lines: int) -> torch.Tensor:
        fires = torch.rand((3, slots, lines), generator=source) < 0.5
        sign = torch.randint(0, 2, (3, 1, lines), generator=source) * 2 - 1
        return (fires * sign).to(torch.int8)

    return Outer(BLOCKS, bits(4), bits(3), UP, DOWN)


def vectors(seed: int, drive: Side, batch: int = 5, feeds: int = 3) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return 0.4 * torch.rand((feeds, batch, BLOCKS.lines(drive)), generator=source, dtype=torch.float64) - 0.2
