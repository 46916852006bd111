"""Managed reads: scales, zero vectors, reruns at a rail, rounding of inputs, memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hil.contract import Range, Read, Sense
from hil.deployment import place_model
from hil.errors import UsageError
from hil.lab.guard import Guard
from hil.layers import ChipBackward, PlainReading
from hil.lowering import Lowering
from hil.management import ManagedReading
from hil.mapping import usual_mapping

VOLTS = 0.2


@pytest.fixture
def made(spec_of, quiet_board):
    """``made(reading, rail=...)``: a layer of 3 outputs and 5 inputs in float64 on a noise-free board, always one chip.

    ``rail`` gives the board amplifiers with 1 nA a code.
    """

    def build(reading=None, *, rail=None, n_out=3, n_in=5, x_max=1.0, board=None, **spec):
        ranges = {} if rail is None else {"ranges": (Range(negative=rail, positive=rail, step=1e-9),)}
        board = board or quiet_board(spec_of(reading={**ranges, **spec}), seed=3)
        model = nn.Sequential(nn.Linear(n_in, n_out, bias=False).double())
        mapping = usual_mapping(board.spec, x_max=x_max)
        network = place_model(model, board, mapping=mapping, reading=reading, backward=ChipBackward())
        return network.layers[0]

    return build


@pytest.fixture
def sent(mocker):
    """``sent(layer)``: the volts [batch, driven] of every Read that its board gets from now on."""

    def watch(layer):
        spy = mocker.spy(layer.backend, "execute")
        return lambda: [op.volts[0] for call in spy.call_args_list for op in call.args[0] if isinstance(op, Read)]

    return watch


def inputs(batch=6, n=5):
    return 2 * torch.rand((batch, n), generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1


def test_a_plain_reading_sends_inputs_as_they_are_in_one_list(made):
    layer, x = made(), inputs()
    matrix = layer.matrices["W"]
    (outcome,) = layer.backend.execute([matrix.read(x, layer.sense)])
    assert torch.equal(layer.measure(x), matrix.collect(outcome.value))
    assert PlainReading().snapshot(layer) == {} and PlainReading().told() == ""
    with pytest.raises(RuntimeError, match="plain reading has no memory and cannot take back numbers"):
        PlainReading().restore(layer, {"numbers": x})


@pytest.mark.parametrize("factor", [10.0, 1e-6, 1.0])
def test_products_scale_with_their_inputs_however_large_or_small(made, sent, factor):
    layer, plain = made(ManagedReading(), volts_step=1e-3), made(volts_step=1e-3)
    seen, x = sent(layer), inputs()
    once = layer.measure(x)
    torch.testing.assert_close(layer.measure(factor * x), factor * once, rtol=1e-12, atol=0.0)
    assert all(volts.abs().amax(1).tolist() == [VOLTS] * len(x) for volts in seen())
    torch.testing.assert_close(once, plain.measure(x), rtol=0.0, atol=0.02)
    assert not plain.measure(1e-6 * x).any()  # without management small inputs are less than a code


def test_zero_vectors_are_exactly_zero_and_are_not_read(spec_of, quiet_board, made, sent):
    noisy = quiet_board(spec_of(), amplifier_noise=1e-6)
    layer = made(ManagedReading(), board=noisy)
    seen, x = sent(layer), inputs()
    x[[1, 4]] = 0.0
    z = layer.measure(x)
    assert not z[[1, 4]].any() and bool((z[[0, 2, 3, 5]] != 0).all()) and len(seen()[0]) == 4
    assert torch.equal(layer.measure(0 * x), torch.zeros(6, 3, dtype=torch.float64)) and len(seen()) == 1
    d = inputs(3, 3)
    d[2] = 0.0
    back = layer.reading.errors(layer, d)
    assert not back[2].any() and bool((back[:2] != 0).all()) and len(seen()[1]) == 2
    assert not layer.reading.errors(layer, 0 * d).any() and len(seen()) == 2


def halvings(layer, x, rail):
    """How often each vector must be halved until no current of the layer rounds to the rail's code."""
    matrix = layer.matrices["W"]
    (outcome,) = layer.backend.execute([matrix.read(x / x.abs().amax(1, keepdim=True), layer.sense)])
    most = (outcome.value.abs() * (matrix.out_index >= 0)[:, None, :]).amax((0, 2))
    return [next(k for k in range(20) if round(float(amps) / 2**k / 1e-9) * 1e-9 < rail * (1 - 1e-9)) for amps in most]


def test_vectors_at_a_rail_are_read_again_with_halved_inputs_and_only_they(made, sent):
    rail, x, reading = 1.2e-5, inputs(), ManagedReading()
    layer, free = made(reading, rail=rail), made()
    needed = halvings(free, x, rail)
    assert min(needed) < max(needed) <= 4
    seen = sent(layer)
    z = layer.measure(x)
    error = 0.5e-9 * 2 ** max(needed) * 5 * layer.mapping.gain
    torch.testing.assert_close(z, free.measure(x), rtol=0.0, atol=error)
    assert reading.reruns == sum(needed) and reading.clipped == reading.cut == 0
    assert [len(volts) for volts in seen()] == [sum(k >= n for k in needed) for n in range(max(needed) + 1)]
    assert reading.told() == f"{sum(needed)} vectors read again with smaller inputs"
    clipped = made(rail=rail).measure(x)
    assert float((clipped - free.measure(x)).abs().max()) > 100 * error


@pytest.mark.parametrize(
    ("changed", "board", "factors"),
    [
        ({"input_levels": 127}, {}, [1, 2, 4, 8, 16]),
        ({}, {"volts_step": VOLTS / 63}, [1, 2, 4, 8, 16]),
        ({"input_levels": 127, "max_factor": 3}, {}, [1, 2, 4]),
        ({}, {}, [2**n for n in range(11)]),
        ({"bound": "none"}, {}, [1]),
    ],
)
def test_what_rails_all_the_same_is_accepted_and_counted(made, sent, changed, board, factors):
    """facts/rpu.md 3: at an input step of 1/126 the limit is 15.75, so that the pass at 16 is the fifth and last."""
    reading = ManagedReading(**changed)
    layer = made(reading, rail=1e-8, **board)
    seen, x = sent(layer), torch.ones(2, 5, dtype=torch.float64)
    z = layer.measure(x)
    assert [VOLTS / float(volts.max()) for volts in seen()] == pytest.approx(factors, rel=0.02)
    assert (reading.reruns, reading.clipped) == (2 * (len(factors) - 1), 2)
    assert bool(z.isfinite().all()) and "2 vectors accepted at a rail" in reading.told()


def test_the_worst_case_needs_one_more_read_at_most(made, sent):
    x, reading = inputs(), ManagedReading(bound="worst_case")
    rail = 1.2e-5
    layer, free = made(reading, rail=rail), made()
    needed = halvings(free, x, rail)
    seen = sent(layer)
    z = layer.measure(x)
    assert [len(volts) for volts in seen()] == [6, sum(k > 0 for k in needed)]
    assert reading.reruns == sum(k > 0 for k in needed) and reading.clipped == 0
    torch.testing.assert_close(z, free.measure(x), rtol=0.0, atol=0.5e-9 * 20 * 5 * layer.mapping.gain)
    high = layer.mapping.siemens_high
    for volts in seen()[1]:
        worst = max(float(volts.clamp(min=0).sum()), -float(volts.clamp(max=0).sum())) * high
        assert worst == pytest.approx(rail - 1e-9, rel=1e-6)
    with pytest.raises(UsageError, match=r"worst_case needs the current ranges of board tiny.*use bound: iterative"):
        reading._worst(free, [])


def test_the_worst_case_keeps_two_bits_of_input(made):
    reading = ManagedReading(bound="worst_case", input_levels=127)
    layer = made(reading, rail=1e-8)
    layer.measure(inputs())
    assert (reading.reruns, reading.clipped) == (6, 6)


def test_a_rail_on_a_line_that_does_not_count_is_no_reason_to_read_again(made):
    reading = ManagedReading()
    layer = made(reading, rail=1e-5, n_out=5)  # two tiles of three outputs: the last pair is padding
    cells = layer.backend.chip.state["g"]
    cells[:], cells[1, 4:] = 15e-6, 200e-6  # 0.6 V in all: 9 uA, and 120 uA on the padding
    x = torch.tensor([[0.5, 0.5, 0.5, 1.0, 0.5]], dtype=torch.float64)
    (outcome,) = layer.backend.execute([layer.matrices["W"].read(x, layer.sense)])
    assert bool(outcome.flags[1, 0, 4:].all()) and int(outcome.flags.count_nonzero()) == 2
    layer.measure(x)
    assert reading.reruns == reading.clipped == 0


def test_a_rail_at_no_current_is_no_reason_to_read_again(made, spec_of, quiet_board):
    reading = ManagedReading()
    spec = spec_of(reading={"ranges": (Range(negative=0.0, positive=1e-3, step=1e-9),), "volts_low": 0.0})
    layer = made(reading, board=quiet_board(spec, seed=3))
    (outcome,) = layer.backend.execute([layer.matrices["W"].read(-torch.ones(1, 5, dtype=torch.float64), Sense())])
    assert bool(outcome.flags.any())
    layer.measure(-torch.ones(1, 5, dtype=torch.float64))
    assert reading.reruns == reading.clipped == 0


def test_several_matrices_are_managed_together(made, sent):
    """A rail of either makes both be read again, with the same inputs."""
    reading = ManagedReading()
    layer, free = made(reading, rail=1.2e-5), made()
    layer.visible, free.visible = ({"A": one.matrices["W"], "C": one.matrices["W"]} for one in (layer, free))
    seen, x = sent(layer), inputs()
    torch.testing.assert_close(layer.measure(x), free.measure(x), rtol=0.0, atol=2e-3)
    assert reading.reruns > 0 and all(torch.equal(a, b) for a, b in zip(seen()[0::2], seen()[1::2], strict=True))


def test_errors_are_scaled_but_never_read_again(made, sent):
    reading = ManagedReading(noise="constant", input_levels=3)
    layer, plain = made(reading, rail=1e-6), made(rail=1e-6)
    seen, d = sent(layer), inputs(4, 3)
    assert torch.equal(layer.rule.backward(layer, d), plain.rule.backward(plain, d))
    assert len(seen()) == 1 and reading.reruns == reading.clipped == 0


def test_reads_past_the_layer_are_not_managed(made):
    """A transfer reads one line: no scale, no rerun, the rail stays visible."""
    reading = ManagedReading()
    layer, plain = made(reading, rail=1e-6), made(rail=1e-6)
    one = torch.eye(5, dtype=torch.float64)[2:3] * 0.5
    (managed,), (bare,) = (each.backend.execute([each.matrices["W"].read(one)]) for each in (layer, plain))
    assert torch.equal(managed.value, bare.value) and bool(managed.flags.any()) and reading.reruns == 0


def test_inputs_have_127_levels_symmetric_about_0(made, sent):
    layer = made(ManagedReading(noise="constant", input_levels=127), n_in=1, n_out=1)
    seen = sent(layer)
    x = torch.linspace(-1, 1, 2001, dtype=torch.float64)[:, None]
    layer.measure(x)
    volts = seen()[0][:, 0].unique()
    levels = torch.arange(-63, 64, dtype=torch.float64) / 63 * VOLTS
    torch.testing.assert_close(volts, levels)
    assert 0.0 in volts.tolist() and torch.equal(volts, -volts.flip(0))


@pytest.mark.parametrize(
    ("changed", "board", "codes"),
    [
        ({"input_levels": 15}, {}, 7),
        ({}, {"volts_step": VOLTS / 7}, 7),
        ({}, {"input_levels": 8}, 7),
    ],
)
def test_random_rounding_of_inputs_is_exact_on_average(made, sent, changed, board, codes):
    layer = made(ManagedReading(stochastic_inputs=True, **changed), **board)
    seen = sent(layer)
    row = torch.tensor([1.0, -0.9, 0.5, 0.03, 0.0], dtype=torch.float64)
    layer.measure(row.expand(4000, 5))
    layer.measure(row.expand(4000, 5))
    share = seen()[0] / VOLTS
    torch.testing.assert_close(share * codes, (share * codes).round(), rtol=0.0, atol=1e-9)
    assert share.mean(0).tolist() == pytest.approx(row.tolist(), abs=4 * 0.5 / codes / 4000**0.5)
    assert bool((share[:, 0] == 1).all()) and not share[:, 4].any()
    assert len(share[:, 2].unique()) == 2 and not torch.equal(*seen())


def test_random_rounding_needs_levels(made):
    layer = made(ManagedReading(stochastic_inputs=True))
    with pytest.raises(UsageError, match=r"board tiny: its inputs are continuous; set input_levels"):
        layer.measure(inputs())


@pytest.mark.parametrize(
    ("changed", "x", "share", "cut"),
    [
        ({"noise": "abs_max"}, [[2.0, -4.0]], [[0.5, -1.0]], 0),
        ({"noise": "abs_max", "threshold": 2.0}, [[2.0, -4.0], [1.0, 0.5]], [[1.0, -1.0], [1.0, 0.5]], 1),
        ({"noise": "max"}, [[2.0, -1.0], [2.0, -4.0]], [[1.0, -0.5], [1.0, -1.0]], 1),
        ({"noise": "max"}, [[-2.0, -4.0]], [[-0.5, -1.0]], 0),
        ({"noise": "constant", "threshold": 4.0}, [[2.0, -1.0]], [[0.5, -0.25]], 0),
        ({"noise": "constant"}, [[0.5, -3.0]], [[0.5, -1.0]], 1),
        ({"noise": "average_abs_max"}, [[2.0, -1.0], [0.0, 0.0], [-6.0, 1.0]], [[0.5, -0.25], [-1.0, 0.25]], 1),
    ],
)
def test_what_vectors_are_divided_by(made, sent, changed, x, share, cut):
    reading = ManagedReading(**changed)
    layer, plain = made(reading, n_in=2), made(n_in=2)
    seen, x = sent(layer), torch.tensor(x, dtype=torch.float64)
    z = layer.measure(x)
    assert (seen()[0][:, :2] / VOLTS).tolist() == [pytest.approx(row) for row in share]
    assert reading.cut == cut and reading.told() == ("1 vectors with inputs cut" if cut else "")
    if not cut:
        torch.testing.assert_close(z, plain.measure(x), rtol=1e-9, atol=1e-9)


def test_the_running_average_remembers_and_does_not_forget_at_once(made, sent):
    layer = made(ManagedReading(noise="average_abs_max", decay=0.1), n_in=1)
    seen = sent(layer)
    ones = torch.ones(1, 1, dtype=torch.float64)
    for x in (4 * ones, ones, ones.expand(2, 1)):
        layer.measure(x)
    second = 0.9 * 4 + 0.1
    third = 0.81 * second + 0.19
    assert [float(volts.max()) for volts in seen()] == pytest.approx([VOLTS, VOLTS / second, VOLTS / third])


@pytest.mark.parametrize("x_max", [0.7, 1.0, 3.0, 11.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_inputs_never_pass_the_limit(spec_of, quiet_board, x_max, dtype):
    board = quiet_board(spec_of(limits={"read_array_volts": 0.3}))
    model = nn.Sequential(nn.Linear(5, 3, bias=False).to(dtype))
    mapping = usual_mapping(board.spec, x_max=x_max)
    network = place_model(model, Lowering(Guard(board)), mapping=mapping, reading=ManagedReading())
    plain = place_model(model, board, mapping=mapping).layers[0]
    x = (100 * inputs()).to(dtype)
    torch.testing.assert_close(network.layers[0].measure(x), plain.measure(x), rtol=1e-5, atol=1e-4)


def test_a_snapshot_goes_on_where_it_was_taken(spec_of, quiet_board):
    def network():
        board = quiet_board(spec_of(reading={"ranges": (Range(negative=2e-5, positive=2e-5, step=1e-8),)}), seed=3)
        reading = ManagedReading(noise="average_abs_max", stochastic_inputs=True, input_levels=15, seed=5)
        model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        return place_model(model, board, mapping=usual_mapping(board.spec, w_max=0.5), reading=reading)

    first, second = network(), network()
    first(inputs())
    saved = {name: tensor.clone() for name, tensor in first.snapshot().items()}
    assert {"layer1.reading.numbers", "layer2.reading.numbers"} <= saved.keys()
    assert all(bool(tensor.isfinite().all()) for tensor in saved.values())
    assert not torch.equal(first(inputs()), second(inputs()))  # other draws
    first.restore(saved)
    second.restore(saved)
    reruns = first.layers[0].reading.reruns
    assert reruns == second.layers[0].reading.reruns > 0
    assert torch.equal(first(inputs()), second(inputs()))
    with pytest.raises(RuntimeError, match="reading of layer1 does not fit: it holds"):
        first.restore(saved | {"layer1.reading.numbers": torch.zeros(2)})
    with pytest.raises(RuntimeError, match="counts are not whole numbers"):
        first.restore(saved | {"layer1.reading.numbers": torch.full((5,), -1.0, dtype=torch.float64)})
    plain = place_model(nn.Sequential(nn.Linear(5, 3)), quiet_board(spec_of()))
    assert not any("reading" in name for name in plain.snapshot())


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"threshold": 0.0}, "threshold must be above 0"),
        ({"max_factor": 0.5}, "max_factor must be at least 1"),
        ({"decay": 0.0}, "decay above 0"),
        ({"input_levels": 128}, "must be odd"),
        ({"input_levels": 1}, "at least 3"),
    ],
)
def test_settings_out_of_range_are_refused(changed, text):
    with pytest.raises(ValueError, match=text):
        ManagedReading(**changed)
