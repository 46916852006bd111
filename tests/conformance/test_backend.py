"""What every backend does, whatever is behind it: simulators, the guarded stack, drivers over virtual boards.

A backend joins by one line in ``BACKENDS``: a name and a function that opens a fresh one on a tiny board, every time on
the same chip. ``pytest tests/conformance --board URL`` runs the same tests on the board behind a URL or of a file,
those that only read before those that write (``conftest.py`` puts them in order); it always ends safe.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import smu_benches
import torch
from framed_boards import framed
from scpi_boards import scpi

from hil.contract import (
    Backend,
    Blocks,
    BoardSpec,
    Flag,
    Kind,
    Op,
    Outer,
    Pulse,
    Ramp,
    Range,
    Read,
    ReadCells,
    SafeReport,
    Side,
    Stop,
    Wait,
    restorable,
)
from hil.errors import HilError
from hil.lab.build import open_board
from hil.lab.guard import Guard
from hil.lowering import Lowering
from hil.usual import usual_pulse, usual_sense

Build = Callable[..., Any]
GRID = {"volts_step": 1e-3, "ranges": (Range(negative=2e-4, positive=2e-4, step=1e-7),)}


def _minimum(spec_of: Build, noisy: Build) -> Backend:
    return Lowering(Guard(noisy(spec_of(ops=("ReadCells", "Pulse", "Wait"), reading=GRID | {"pairs": False}))))


BACKENDS: dict[str, Callable[[Build, Build, Build], Backend]] = {
    "ideal simulator": lambda spec_of, quiet, noisy: quiet(spec_of()),
    "noisy simulator": lambda spec_of, quiet, noisy: noisy(),
    "rows driven": lambda spec_of, quiet, noisy: noisy(spec_of(drive=Side.ROWS)),
    "passive, guarded": lambda spec_of, quiet, noisy: Lowering(Guard(noisy(spec_of(selector="passive")))),
    "guarded": lambda spec_of, quiet, noisy: Lowering(Guard(noisy())),
    "minimum board": lambda spec_of, quiet, noisy: _minimum(spec_of, noisy),
    "SMU and matrix": lambda spec_of, quiet, noisy: Lowering(Guard(smu_benches.minimum_board(spec_of, noisy))),
    "framed driver": lambda spec_of, quiet, noisy: framed(noisy(spec_of(reading=GRID))),
    "SCPI driver": lambda spec_of, quiet, noisy: scpi(noisy(spec_of(reading=GRID))),
    "framed, guarded": lambda spec_of, quiet, noisy: Lowering(Guard(framed(noisy()))),
}


TIMED = ("SMU and matrix",)
"""Backends that take real time for each cell."""


@pytest.fixture(
    params=[
        *(pytest.param(name, marks=[pytest.mark.slow] if name in TIMED else []) for name in BACKENDS),
        pytest.param("--board", marks=pytest.mark.hardware),
    ]
)
def opened(request, spec_of, quiet_board, noisy_board):
    """Opens the backend under test, as often as a test needs it; all are closed at the end."""
    backends: list[Backend] = []
    url = request.config.getoption("--board")
    if request.param == "--board" and url is None:
        pytest.skip("no --board was given")

    def build() -> Backend:
        if request.param == "--board":
            for backend in backends:  # a board has one owner
                backend.close()
            backends.append(open_board(url))
        else:
            backends.append(BACKENDS[request.param](spec_of, quiet_board, noisy_board))
        return backends[-1]

    yield build
    reports = [(backend.make_safe(), backend.close()) for backend in backends]
    assert all(report.confirmed for report, _ in reports), "switch the board off by hand"


@pytest.fixture
def backend(opened) -> Backend:
    """The backend under test."""
    return opened()


def whole(spec: BoardSpec) -> Blocks:
    kernels, rows, cols = spec.cells
    return Blocks(tuple(range(kernels)), (0,) * kernels, (0,) * kernels, rows, cols)


def part(spec: BoardSpec) -> Blocks:
    return Blocks((1, 0), (0, 1), (1, 0), 4, 2)


def vectors(spec: BoardSpec, blocks: Blocks, batch: int, side: Side | None = None) -> torch.Tensor:
    source = torch.Generator().manual_seed(batch)
    shape = (len(blocks), batch, blocks.lines(side or spec.geometry.drive))
    return spec.limits.read_array_volts * (2 * torch.rand(shape, generator=source) - 1)


def pulse(backend: Backend, blocks: Blocks, counts: torch.Tensor) -> Pulse:
    return Pulse(blocks, counts, usual_pulse(backend, up=True), usual_pulse(backend, up=False))


def ramp(backend: Backend, blocks: Blocks) -> Ramp:
    spec = backend.spec
    signs = torch.ones(blocks.shape, dtype=torch.int8)
    signs[:, 0] = 0
    volts = torch.arange(0.7, 1.2, spec.limits.slew or 0.1)
    shape, stop = replace(usual_pulse(backend, up=True), volts=0.0), Stop(2.5e-5, 3e-5, spec.limits.cell_amps)
    return Ramp(blocks, signs, Kind.SET, shape, "volts", volts, 0, usual_sense(spec, spec.limits.read_cell_volts), stop)


def outer(backend: Backend, blocks: Blocks) -> Outer:
    source = torch.Generator().manual_seed(3)
    tiles, rows, cols = blocks.shape
    bits = [(torch.rand((tiles, 5, n), generator=source) < 0.5).to(torch.int8) for n in (rows, cols)]
    return Outer(blocks, *bits, usual_pulse(backend, up=True), usual_pulse(backend, up=False))


def each_kind(backend: Backend) -> list[Op]:
    spec = backend.spec
    blocks, cell = part(spec), spec.limits.read_cell_volts
    mask = torch.rand(blocks.shape, generator=torch.Generator().manual_seed(4)) < 0.5
    return [
        Read(blocks, vectors(spec, blocks, 3), spec.geometry.drive, usual_sense(spec)),
        Read(
            blocks,
            vectors(spec, blocks, 2, Side.COLS)[:1],
            Side.COLS,
            usual_sense(spec, averages=2),
            (0, 0),
            pairs=True,
        ),
        ReadCells(blocks, usual_sense(spec, cell, 2), spec.geometry.drive, mask),
        pulse(backend, blocks, torch.tensor([[[1, -2]]])),
        outer(backend, blocks),
        ramp(backend, blocks),
        Wait(0.25),
    ]


def cells(backend: Backend, averages: int = 32) -> torch.Tensor:
    """All cells as read, S."""
    volts = backend.spec.limits.read_cell_volts
    (got,) = backend.execute(
        [ReadCells(whole(backend.spec), usual_sense(backend.spec, volts, averages), backend.spec.geometry.drive)]
    )
    return got.value / volts


# -- identity and outcomes ---------------------------------------------------------------------------------------------


def test_a_backend_says_who_it_is(backend):
    identity = backend.spec.identity
    assert identity.name and identity.vendor and identity.model and identity.serial
    assert all(n > 0 for n in backend.spec.cells)


def test_every_operation_has_one_outcome_in_order(backend):
    ops = each_kind(backend)
    outcomes = backend.execute(ops)
    assert len(outcomes) == len(ops)
    assert [o.seconds for o in outcomes][-1] == 0.25
    begun = [o.began for o in outcomes]
    assert begun == sorted(begun)
    for before, after in itertools.pairwise(outcomes):
        assert after.began >= before.began + before.seconds - 1e-9
    assert all(o.seconds >= 0 and o.events >= 0 for o in outcomes)


def test_shapes_and_types_of_what_comes_back(backend):
    blocks = part(backend.spec)
    read, pairs, read_cells, pulsed, outered, ramped, waited = backend.execute(each_kind(backend))
    sensed = blocks.lines(backend.spec.geometry.drive.other)
    assert read.value.shape == (2, 3, sensed) and pairs.value.shape == (2, 2, blocks.n_rows // 2)
    assert read_cells.value.shape == ramped.value.shape == blocks.shape
    assert waited.value is pulsed.value is outered.value is None
    for outcome in (read, pairs, read_cells, ramped):
        assert outcome.value.is_floating_point()
        if outcome.flags is not None:
            assert outcome.flags.dtype == torch.uint8 and outcome.flags.shape == outcome.value.shape
    for outcome in (pulsed, outered, ramped):
        assert outcome.applied.dtype == torch.int32 and outcome.applied.shape == blocks.shape
    assert read.applied is read_cells.applied is waited.applied is None


def test_nan_comes_with_its_flag_and_only_with_it(backend):
    for outcome in backend.execute(each_kind(backend)):
        if outcome.value is None:
            continue
        flags = torch.zeros(outcome.value.shape, dtype=torch.uint8) if outcome.flags is None else outcome.flags
        assert torch.equal(outcome.value.isnan(), (flags & int(Flag.NOT_MEASURED)) != 0)


def test_a_ramp_says_how_each_cell_ended(backend):
    (got,) = backend.execute([ramp(backend, part(backend.spec))])
    ended = got.flags & int(Flag.STOPPED | Flag.ABORTED | Flag.EXHAUSTED)
    assert torch.equal(ended != 0, got.applied > 0)
    assert not got.applied[:, 0].any() and bool((got.flags[:, 0] == int(Flag.NOT_MEASURED)).all())


def test_an_empty_list_does_nothing(backend):
    before = backend.now()
    assert backend.execute([]) == []
    assert backend.now() == before


def test_operations_are_not_changed(backend):
    ops = each_kind(backend)
    kept = [torch.clone(t) for t in tensors(ops)]
    backend.execute(ops)
    assert all(torch.equal(a, b) for a, b in zip(kept, tensors(ops), strict=True))


def tensors(ops: Sequence[Op]) -> list[torch.Tensor]:
    names = ("volts", "mask", "counts", "row_bits", "col_bits", "sign", "points")
    values = [getattr(op, name, None) for op in ops for name in names]
    return [v for v in values if isinstance(v, torch.Tensor)]


# -- physics that every crossbar shares --------------------------------------------------------------------------------


def test_a_product_is_the_sum_of_its_cells(backend):
    spec = backend.spec
    blocks, g = whole(spec), cells(backend)
    volts = vectors(spec, blocks, 4)
    (got,) = backend.execute([Read(blocks, volts, spec.geometry.drive, usual_sense(spec, averages=32))])
    k = g if spec.geometry.drive is Side.ROWS else g.transpose(1, 2)
    wanted = torch.bmm(volts.to(k.dtype), k)
    assert float((got.value - wanted).square().mean().sqrt()) < 0.02 * float(wanted.square().mean().sqrt())


def test_pulses_move_cells_in_their_direction_and_no_others(backend):
    spec = backend.spec
    counts = torch.zeros(spec.cells, dtype=torch.int32)
    counts[:, ::2], counts[:, 1::4] = 15, -15
    before = cells(backend)
    (got,) = backend.execute([pulse(backend, whole(spec), counts)])
    moved = cells(backend) - before
    assert torch.equal(got.applied, counts.abs())
    enough = 2.5 * spec.writing.step  # of 15
    assert float((moved[counts > 0] > enough).double().mean()) > 0.8
    assert float((moved[counts < 0] < -enough).double().mean()) > 0.8
    assert float(moved[counts == 0].abs().max()) < 2e-6


def test_the_list_is_carried_out_in_order(backend):
    spec = backend.spec
    blocks = whole(spec)
    read = ReadCells(blocks, usual_sense(spec, spec.limits.read_cell_volts, 32), spec.geometry.drive)
    up = pulse(backend, blocks, torch.tensor(10))
    a, _, b, _, c = backend.execute([read, up, read, up, read])
    assert float(a.value.mean()) < float(b.value.mean()) < float(c.value.mean())


# -- time, safety, end -------------------------------------------------------------------------------------------------


def test_time_never_goes_backward_and_waiting_takes_time(backend):
    times = [backend.now()]
    for op in each_kind(backend):
        backend.execute([op])
        times.append(backend.now())
    assert times == sorted(times)
    assert times[-1] - times[-2] >= 0.25 - 1e-9


def safe(report: SafeReport) -> bool:
    states = set(report.outputs.values())
    return states <= {"off", "on", "unreadable"} and report.confirmed == (states == {"off"})


def test_safe_is_legal_in_every_state(backend):
    assert safe(backend.make_safe())
    backend.execute(each_kind(backend))
    assert safe(backend.make_safe()) and safe(backend.make_safe())
    backend.execute([Wait(0.0)])
    backend.close()
    assert safe(backend.make_safe())


def test_safe_does_not_touch_the_cells(backend):
    before = cells(backend)
    backend.make_safe()
    assert float((cells(backend) - before).abs().max()) < 2e-6


def test_a_closed_backend_refuses_work(backend):
    backend.close()
    backend.close()
    with pytest.raises(HilError):
        backend.execute([Wait(0.0)])


# -- what can be repeated ----------------------------------------------------------------------------------------------


def outcomes_equal(a, b) -> bool:
    return all(
        (x is None and y is None) or torch.equal(x.nan_to_num(-1.0), y.nan_to_num(-1.0))
        for one, other in zip(a, b, strict=True)
        for x, y in ((one.value, other.value), (one.flags, other.flags), (one.applied, other.applied))
    )


def test_a_restored_backend_repeats_itself(opened):
    backend = opened()
    if not restorable(backend):
        pytest.skip("a chip cannot be copied")
    backend.execute(each_kind(backend))
    saved = backend.snapshot()
    first = backend.execute(each_kind(backend))
    backend.restore(saved)
    assert outcomes_equal(backend.execute(each_kind(backend)), first)
    another = opened()
    another.restore(saved)
    assert outcomes_equal(another.execute(each_kind(another)), first)
