"""How a wanted change of weights becomes pulses on pairs of cells."""

import torch

from hil.program import ByPulses
from protocols.parts import Key, zeros
from protocols.rules import SignedPulses, SignThreshold, WriteVerify, cell_counts


def weights(on):
    return [m.weights(on.sim.chip.tiles(m.blocks)) for m in (layer.matrices["W"] for layer in on.network.layers)]


def test_pulses_move_every_weight_by_its_whole_number_of_steps(bench):
    """On cells near the middle of their window a pulse is worth one step; soft bounds cost a few per cent."""
    on = bench()
    source = torch.Generator().manual_seed(0)
    change, before = zeros(on.network), weights(on)
    for layer in on.network.layers:
        change[layer.name] = layer.step * torch.randint(-3, 4, (layer.n_out, layer.n_in), generator=source)
    numbers = SignedPulses().write(on.network, change, {}, Key(0, 0))
    assert numbers["held_weights"] == 0
    assert on.tap.lists == [("Pulse", "Pulse")]
    for layer, old, new in zip(on.network.layers, before, weights(on), strict=True):
        wanted, moved = change[layer.name], (new - old).float()
        assert torch.equal(moved.sign(), wanted.sign())
        on_average = (moved * wanted).sum() / wanted.square().sum()
        assert 0.8 < float(on_average) < 1.2


def test_the_cells_of_a_pair_move_apart_and_share_the_pulses(bench):
    layer = bench().network.layers[0]
    pulses = torch.tensor([[3.0, -4.0], [0.0, 1.0], [-1.0, 7.0], [2.0, -6.0]])
    matrix = layer.matrices["W"]
    counts = cell_counts(layer, pulses, Key(0, 0))
    assert counts.dtype is torch.int32
    raising = counts * matrix.polarity  # what each cell adds to its weight, in pulses
    sides = []
    for sign in (1, -1):
        total = torch.zeros(layer.n_out * layer.n_in + 1, dtype=torch.int64)
        cells = torch.where(matrix.polarity == sign, raising, 0).long()
        index = matrix.oriented(matrix._weight_of_cell)
        total.index_add_(0, index.reshape(-1), cells.reshape(-1))
        sides.append(total[:-1].view(layer.n_out, layer.n_in))
    plus, minus = sides
    torch.testing.assert_close((plus + minus).float(), pulses)
    assert int((plus - minus).abs().max()) <= 1
    assert not bool(counts[matrix.polarity == 0].any())


def test_odd_pulses_go_to_either_cell_in_turn(bench):
    layer = bench().network.layers[0]
    ones = torch.ones(layer.n_out, layer.n_in)
    plus = sum(float((cell_counts(layer, ones, Key(0, step)) > 0).sum()) for step in range(200))
    assert abs(plus / (200 * ones.numel()) - 0.5) < 4 * 0.5 / (200 * ones.numel()) ** 0.5


def test_nothing_to_write_sends_nothing(bench):
    on = bench()
    numbers = SignedPulses().write(on.network, zeros(on.network), {}, Key(0, 0))
    assert on.tap.lists == []
    assert numbers == {"pulsed_cells": 0.0, "held_weights": 0.0}


def test_a_layer_without_pulses_is_left_out(bench):
    on, change = bench(), None
    change = zeros(on.network)
    change["layer2"] += on.network.layers[1].step
    SignedPulses().write(on.network, change, {}, Key(0, 0))
    assert on.tap.lists == [("Pulse",)]


def test_more_pulses_than_allowed_are_held_and_reported(bench):
    on = bench()
    change = zeros(on.network)
    change["layer1"][0, 0] = 50 * on.network.layers[0].step
    numbers = SignedPulses(most=5).write(on.network, change, {}, Key(0, 0))
    assert numbers == {"pulsed_cells": 2.0, "held_weights": 1.0}
    assert on.guard.ledger.pulses == 5


def test_a_fixed_reference_is_never_pulsed(bench):
    """The plus cell alone takes all pulses of its weight, and moves it by as many steps."""
    on = bench(reference="fixed")
    change, before = zeros(on.network), weights(on)
    for layer in on.network.layers:
        change[layer.name] += 2 * layer.step
    SignedPulses().write(on.network, change, {}, Key(0, 0))
    for layer, old, new in zip(on.network.layers, before, weights(on), strict=True):
        matrix = layer.matrices["W"]
        pulses = on.sim.chip.state["pulses"]
        blocks = zip(matrix.blocks.kernel, matrix.blocks.row, matrix.blocks.col, strict=True)
        got = torch.stack([pulses[k, r : r + matrix.blocks.n_rows, c : c + matrix.blocks.n_cols] for k, r, c in blocks])
        assert set(got[matrix.polarity > 0].tolist()) == {2} and not bool(got[matrix.polarity <= 0].any())
        assert 0.8 < float(((new - old) / (2 * layer.step)).mean()) < 1.2


# -- one pulse by sign -------------------------------------------------------------------------------------------------


def test_sign_and_threshold_send_one_pulse_or_none(bench):
    on = bench()
    change = zeros(on.network)
    change["layer1"][:] = torch.tensor([[0.5, -0.5], [0.1, -0.1], [0.11, 0.0], [-7.0, 0.05]])
    numbers = SignThreshold(above=0.1).write(on.network, change, {}, Key(0, 0))
    assert numbers == {"pulsed_cells": 4.0} and on.guard.ledger.pulses == 4
    before, after = weights(bench())[0], weights(on)[0]
    wanted = torch.tensor([[1, -1], [0, 0], [1, 0], [-1, 0]])
    assert torch.equal((after - before).sign().long(), wanted)


def test_without_a_threshold_every_change_counts_and_nothing_is_nothing(bench):
    on = bench()
    assert SignThreshold(above=0.0).write(on.network, zeros(on.network), {}, Key(0, 0)) == {"pulsed_cells": 0.0}
    assert on.tap.lists == []


# -- write-verify ------------------------------------------------------------------------------------------------------

METHOD = ByPulses(window=2e-6, rounds=40)


def test_write_verify_brings_weights_to_where_they_were_wanted(bench):
    on, change = bench(), None
    change, before = zeros(on.network), weights(on)
    change["layer1"][0, 1], change["layer2"][2, 3], change["layer2"][1, 0] = 0.4, -0.3, 0.05
    numbers = WriteVerify(above=0.1, method=METHOD).write(on.network, change, {}, Key(0, 0))
    assert numbers["missed_cells"] == 0 and numbers["held_cells"] == 0 and numbers["pulsed_cells"] == 4
    change["layer2"][1, 0] = 0.0  # below the threshold
    tolerance = 2 * METHOD.window / on.network.layers[0].mapping.scale
    for layer, old, new in zip(on.network.layers, before, weights(on), strict=True):
        assert float((new - old - change[layer.name]).abs().max()) <= tolerance
        assert bool(((new - old)[change[layer.name] == 0] == 0).all())


def test_cells_at_the_end_of_the_window_are_held_and_stuck_ones_reported(bench):
    """Neither ends the run, even if every cell of the update is one of them."""
    on, change = bench(), None
    change = zeros(on.network)
    change["layer1"][0, 0] = 50.0
    numbers = WriteVerify(method=ByPulses(window=1e-9, rounds=2)).write(on.network, change, {}, Key(0, 0))
    assert numbers == {"pulsed_cells": 2.0, "missed_cells": 2.0, "held_cells": 2.0}


def test_write_verify_leaves_a_fixed_reference_alone(bench):
    on = bench(reference="fixed")
    change, before = zeros(on.network), weights(on)
    change["layer1"][0, 1] = 0.3
    numbers = WriteVerify(above=0.1, method=METHOD).write(on.network, change, {}, Key(0, 0))
    assert numbers == {"pulsed_cells": 1.0, "missed_cells": 0.0, "held_cells": 0.0}
    moved = (weights(on)[0] - before[0])[0, 1]
    assert abs(float(moved) - 0.3) <= METHOD.window / on.network.layers[0].mapping.scale


def test_nothing_above_the_threshold_is_not_even_read(bench):
    on = bench()
    numbers = WriteVerify(above=0.1, method=METHOD).write(on.network, zeros(on.network), {}, Key(0, 0))
    assert on.tap.lists == [] and set(numbers.values()) == {0.0}
