"""The simulated board as a backend: repeatable noise, virtual clock, snapshots, abilities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hil.contract import Kind, Outer, Probe, Pulse, Ramp, Read, ReadCells, Sense, Shape, Side, Stop, Wait, WritingSpec
from hil.contract.cost import cost, ramp_cost
from hil.errors import BoardMissing, CheckpointError, Unsupported
from sim_backend.board import SimBoard
from sim_backend.config import SimulatorConfig

UP, DOWN = Shape(1.0, 1e-6, 3.0), Shape(1.2, 1e-6, 3.0)


@pytest.fixture
def ops(whole, spec_of):
    """One of each operation."""
    blocks = whole(spec_of())
    source = torch.Generator().manual_seed(1)
    bits = torch.ones(4, 3, 6, dtype=torch.int8), torch.ones(4, 3, 5, dtype=torch.int8)
    points = torch.arange(0.8, 1.4, 0.1)
    signs = torch.randint(-1, 2, (4, 6, 5), generator=source).to(torch.int8)
    ramp = Ramp(blocks, signs, Kind.SET, replace(UP, volts=0.0), "volts", points, 0, Sense(0.2), Stop(3e-5, 1e-5, 1.0))
    return [
        Read(blocks, 0.2 * torch.rand(4, 8, 5, generator=source), Side.COLS),
        ReadCells(blocks, Sense(0.2, averages=2), Side.COLS, torch.rand(4, 6, 5, generator=source) < 0.7),
        Pulse(blocks, torch.randint(-3, 4, (4, 6, 5), generator=source), UP, DOWN, cycles=2, alternate=True),
        Outer(blocks, *bits, UP, DOWN),
        ramp,
        Wait(2.5),
        Probe(("temperature",)),
    ]


def results(board: SimBoard, ops) -> list[torch.Tensor]:
    """All tensors of all outcomes, and the chip afterwards."""
    tensors = [t for o in board.execute(ops) for t in (o.value, o.flags, o.applied) if t is not None]
    return [*tensors, *board.snapshot().values()]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    """Bit for bit; NaN equals NaN."""
    return len(a) == len(b) and all(
        x.dtype == y.dtype and torch.allclose(x, y, rtol=0, atol=0, equal_nan=True) for x, y in zip(a, b, strict=True)
    )


def test_equal_seeds_and_lists_give_equal_results(noisy_board, ops):
    assert equal(results(noisy_board(seed=3), ops), results(noisy_board(seed=3), ops))


def test_how_a_list_is_cut_does_not_matter(noisy_board, ops):
    one, other = noisy_board(), noisy_board()
    whole_list = one.execute(ops)
    parts = [o for op in ops for o in other.execute([op])]
    for a, b in zip(whole_list, parts, strict=True):
        assert a.value is None or torch.allclose(a.value, b.value, rtol=0, atol=0, equal_nan=True)
        assert (a.began, a.seconds) == (b.began, b.seconds)
    assert equal(list(one.snapshot().values()), list(other.snapshot().values()))


def test_other_seeds_make_other_chips_and_other_noise(noisy_board, quiet_board, whole, ops):
    assert not torch.equal(noisy_board(seed=1).chip.state["g"], noisy_board(seed=2).chip.state["g"])
    same_chip = [quiet_board(seed=seed, start_dtod=0.0, read_noise=1e-6) for seed in (1, 2)]
    a, b = (board.execute(ops[:1])[0].value for board in same_chip)
    assert not torch.equal(a, b)


def test_noise_differs_from_operation_to_operation(noisy_board, ops):
    a, b = noisy_board().execute([ops[0], ops[0]])
    assert not torch.equal(a.value, b.value)


def test_the_seed_of_the_board_file_goes_before_the_runs(quiet_board):
    board = quiet_board()
    config = SimulatorConfig(law=board.chip.law, seed=7)
    assert equal(*(list(SimBoard(board.spec, config, seed).snapshot().values()) for seed in (1, 2)))


def test_a_restored_board_goes_on_bit_for_bit(noisy_board, ops):
    board = noisy_board(seed=5)
    board.execute(ops)
    saved = board.snapshot()
    first = results(board, ops)
    board.restore(saved)
    assert equal(results(board, ops), first)
    fresh = noisy_board(seed=5)
    fresh.restore(saved)
    assert equal(results(fresh, ops), first)


def test_a_snapshot_is_a_copy(noisy_board, ops):
    board = noisy_board()
    saved = board.snapshot()
    kept = {name: t.clone() for name, t in saved.items()}
    board.execute(ops)
    assert all(torch.equal(saved[name], kept[name]) for name in kept)


@pytest.mark.parametrize("name", ["chip.g", "chip.stuck", "chip.pulses", "law.low", "board.clock", "board.number"])
@pytest.mark.parametrize("damage", ["missing", "shape", "dtype", "nan", "inf"])
def test_a_snapshot_that_does_not_fit_is_refused_and_changes_nothing(noisy_board, ops, name, damage):
    board = noisy_board()
    saved = board.snapshot()
    board.execute(ops)
    before = board.snapshot()
    value = saved[name]
    if damage in ("nan", "inf") and not value.is_floating_point():
        damage = "dtype"
    if damage == "missing":
        del saved[name]
    elif damage == "shape":
        saved[name] = value.unsqueeze(0).repeat_interleave(2, 0)
    elif damage == "dtype":
        saved[name] = value.to(torch.float16)
    else:
        saved[name] = torch.full_like(value, float(damage))
    with pytest.raises(CheckpointError, match=name):
        board.restore(saved)
    assert equal(list(board.snapshot().values()), list(before.values()))


# -- clock -------------------------------------------------------------------------------------------------------------


def test_the_virtual_clock_is_the_cost_of_the_operations(noisy_board, ops):
    board = noisy_board()
    total = 0.0
    for op in ops:
        (got,) = board.execute([op])
        if isinstance(op, Ramp):
            price = ramp_cost(op, int(got.applied.sum()), board.spec)
            assert price.seconds <= cost(op, board.spec).seconds
        else:
            price = cost(op, board.spec)
        assert got.began == pytest.approx(total, abs=1e-12)
        assert (got.seconds, got.events) == (price.seconds, price.events)
        total += price.seconds
        assert board.now() == pytest.approx(total, abs=1e-12)


def test_what_operations_cost(spec_of, whole):
    timing = {"read_event": 1.0, "write_event": 10.0, "kernel_select": 0.25, "gap": 0.5}
    spec = spec_of(timing=timing)
    blocks = whole(spec)
    read = Read(blocks, torch.zeros(4, 3, 5), Side.COLS, Sense(averages=2))
    assert cost(read, spec).seconds == 4 * 3 * 2 * 1.5 + 4 * 0.25 and cost(read, spec).events == 24
    assert cost(ReadCells(blocks, Sense(0.1), Side.COLS), spec).seconds == 4 * 5 * 1.5 + 4 * 0.25
    mask = torch.zeros(4, 6, 5, dtype=torch.bool)
    mask[0, :, 2] = mask[1, 3, 4] = True  # two gate lines
    assert cost(ReadCells(blocks, Sense(0.1), Side.COLS, mask), spec).events == 2
    counts = torch.zeros(4, 6, 5, dtype=torch.int8)
    counts[0, 0, 0], counts[0, 1, 0], counts[2, 0, 3] = 3, 2, -4  # 3 slots up, 4 slots down
    pulse = Pulse(blocks, counts, replace(UP, seconds=2.0), replace(DOWN, seconds=5.0))
    assert cost(pulse, spec).seconds == 3 * 2.0 + 4 * 5.0 + 7 * 10.5 + 1.0
    assert (cost(pulse, spec).events, cost(pulse, spec).pulses) == (7, 9)
    turned = cost(replace(pulse, cycles=3, alternate=True), spec)
    assert turned.seconds == 2 * 26.0 + (3 * 5.0 + 4 * 2.0) + 21 * 10.5 + 1.0
    assert (turned.events, turned.pulses) == (21, 27)
    assert cost(Wait(3.5), spec).seconds == 3.5


def test_kernels_that_work_at_the_same_time_share_the_time(spec_of, whole):
    spec = spec_of(timing={"parallel_kernels": 2})
    op = Read(whole(spec), torch.zeros(4, 3, 5), Side.COLS)
    assert cost(op, spec).seconds == cost(op, spec_of()).seconds / 2


# -- abilities and the rest --------------------------------------------------------------------------------------------


def test_a_board_refuses_what_its_spec_does_not_list_before_anything_happens(quiet_board, spec_of, ops):
    board = quiet_board(spec_of(ops=("ReadCells", "Pulse", "Wait")), dtype="float32")
    before = board.snapshot()
    for op in ops:
        if type(op).__name__ in board.spec.abilities.ops:
            continue
        with pytest.raises(Unsupported, match="it knows Pulse, ReadCells, Wait"):
            board.execute([ops[2], op])
    assert equal(list(board.snapshot().values()), list(before.values()))


@pytest.mark.parametrize(
    ("parts", "change", "reason"),
    [
        ({"reading": {"pairs": False}}, {"pairs": True}, "pair"),
        ({"abilities": {"largest_batch": 7}}, {}, "at most 7"),
        ({"abilities": {"signed_read": False}}, {"volts": torch.full((4, 1, 5), -0.1)}, "negative"),
    ],
)
def test_a_board_refuses_reads_beyond_its_abilities(quiet_board, spec_of, ops, parts, change, reason):
    board = quiet_board(spec_of(**parts))
    with pytest.raises(Unsupported, match=reason):
        board.execute([replace(ops[0], **change)])


def test_a_probe_the_simulator_does_not_know_is_refused_at_once(quiet_board, spec_of):
    with pytest.raises(Unsupported, match="supply"):
        quiet_board(spec_of(abilities={"probes": ("supply",)}))


def test_a_closed_board_is_gone_but_still_safe(quiet_board, ops):
    board = quiet_board()
    board.close()
    board.close()
    assert board.make_safe().confirmed
    with pytest.raises(BoardMissing, match="closed"):
        board.execute(ops[:1])


@pytest.mark.parametrize("name", ["ideal", "daffodil"])
def test_the_usual_pulse_of_a_board_file_is_that_of_its_physics(board_file, name):
    """The spec's usual pulse makes the spec's step on a mean cell in the middle of its window."""
    file = board_file(name)
    law, writing = file.simulator.law, file.spec.writing
    assert isinstance(writing, WritingSpec)
    up, down = Shape(writing.up_volts, writing.seconds), Shape(writing.down_volts, writing.seconds)
    assert law.strength(up, True) == pytest.approx(1.0) and law.strength(down, False) == pytest.approx(1.0)
    assert (law.high - law.low) / law.states == pytest.approx(writing.step, rel=1e-6)
    assert file.spec.limits.siemens_low <= law.low < law.high <= file.spec.limits.siemens_high
    assert len(file.simulator.source) > 20
