"""A run that is saved in the middle and goes on in new objects is bit-identical to an unbroken one."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from safetensors.torch import load, save

from hil.layers import ChipBackward
from hil.program import ByPulses
from hil.protocol import State
from hil.twin import MatrixTwin, TwinBackward
from protocols.backpropagation import Backpropagation
from protocols.core.codes import RandomCode, SequentialCode, SinusoidalCode, WalshCode
from protocols.filters import Adam, Decay, LowPass, Threshold, UpdateNoise
from protocols.perturbation import NodePerturbation, WeightPerturbation
from protocols.pulsed_perturbation import PulsedPerturbation
from protocols.rules import SignedPulses, SignThreshold, WriteVerify
from protocols.training import Training
from protocols.transforms import Clip, Momentum, Residual, Sgd, StochasticRounding

STEPS, SAVED = 11, 6  # 6 is in the middle of a tau_theta of 4 and of a tau_x of 5
CODES = (RandomCode(), SequentialCode(), WalshCode(), SinusoidalCode())
BASELINES = ("fresh", "once", "two_sided", "high_pass")
NODE = NodePerturbation(norm=0.5)
ROUNDED = (Sgd(eta=0.3), StochasticRounding())
CHAINS = {
    "residual": (Sgd(eta=0.3, decay=1e-3), Residual()),
    "momentum": (Sgd(eta=0.05), Momentum(beta=0.8), StochasticRounding()),
    "clip": (Sgd(eta=0.3), Clip(rms=0.05), Residual()),
    "adam": (Adam(), Sgd(eta=0.05), Residual()),
    "low pass": (LowPass(tau=5.0), Sgd(eta=1.0), StochasticRounding()),
    "decay": (Sgd(eta=0.3), Decay(halving=5.0), Residual()),
    "noise": (Sgd(eta=0.3), UpdateNoise(std=0.01), StochasticRounding()),
    "threshold": (Sgd(eta=0.1), Threshold(above=0.05)),
}
RULES = {
    "signed": SignedPulses(most=3),
    "sign": SignThreshold(above=0.02),
    "verify": WriteVerify(method=ByPulses(window=4e-6, rounds=3), above=0.05),
}
PROTOCOLS = {
    **{
        f"{code.kind} {baseline} {kind}": Training(
            source=source(norm=0.5, code=code, baseline=baseline, **more), transforms=ROUNDED, rule=SignedPulses(),
            tau_p=2, tau_x=5, tau_theta=4,
        )
        for code, baseline in itertools.product(CODES, BASELINES)
        for kind, source, more in (
            ("node", NodePerturbation, {}),
            ("weight", WeightPerturbation, {"together": "network", "cost_noise": 0.01}),
        )
    },
    "walsh none": Training(
        source=NodePerturbation(norm=0.5, code=WalshCode(), baseline="none"), transforms=ROUNDED, rule=SignedPulses(),
        tau_theta=8,
    ),
    **{chain: Training(source=NODE, transforms=CHAINS[chain], rule=SignedPulses()) for chain in CHAINS},
    **{f"rule {rule}": Training(source=NODE, transforms=CHAINS["threshold"], rule=RULES[rule]) for rule in RULES},
    **{
        f"backprop {rule}": Training(source=Backpropagation(), transforms=(Sgd(eta=0.5),), rule=used, tau_theta=2)
        for rule, used in RULES.items()
    },
    "pulsed": Training(source=PulsedPerturbation(budget=100), transforms=ROUNDED, rule=SignedPulses(), tau_theta=4),
}  # fmt: skip


def backward(which):
    return ChipBackward() if which == "chip" else TwinBackward(MatrixTwin(bound=0.1, every=7, averages=2))


@pytest.mark.parametrize(("name", "back"), [(name, "twin") for name in PROTOCOLS] + [("backprop signed", "chip")])
def test_a_resumed_run_is_bit_identical(bench, blobs, name, back):
    """State, network with its twin, and board go through bytes into new objects."""
    protocol = PROTOCOLS[name]
    unbroken = bench(noisy=True, backward=backward(back))
    expected = unbroken.train(protocol, protocol.init(unbroken.network, 3), blobs, STEPS)

    first = bench(noisy=True, backward=backward(back))
    state = first.train(protocol, protocol.init(first.network, 3), blobs, SAVED)
    allowed = protocol.remembered(first.network, 24)
    grown = {name: tensor for name, tensor in state.tensors.items() if name.startswith("source/")}
    assert all(allowed[name] == tuple(t.shape) and t.dtype is torch.float64 for name, t in grown.items())
    assert len(grown) == len(allowed)
    numbers = json.dumps([state.step, state.seed])
    saved = [save(dict(part)) for part in (state.tensors, first.network.snapshot(), first.guard.snapshot())]

    second = bench(noisy=True, backward=backward(back))
    tensors, network, board = (load(data) for data in saved)
    second.network.restore(network)
    second.guard.restore(board)
    final = second.train(protocol, State(*json.loads(numbers), tensors), blobs, STEPS - SAVED)

    assert unbroken.history == first.history + second.history
    assert (final.step, final.seed) == (expected.step, expected.seed)
    for theirs, mine in (
        (expected.tensors, final.tensors),
        (unbroken.network.snapshot(), second.network.snapshot()),
        (unbroken.guard.snapshot(), second.guard.snapshot()),
    ):
        assert theirs.keys() == mine.keys()
        for tensor, value in theirs.items():
            torch.testing.assert_close(mine[tensor], value, rtol=0, atol=0)
    assert unbroken.guard.ledger.pulses > 0


@pytest.mark.parametrize("wrong", ["shape", "dtype", "negative", "missing", "unknown"])
def test_a_twin_that_does_not_fit_is_refused(bench, wrong):
    network = bench(backward=backward("twin")).network
    layer = network.layers[1]
    layer.rule.twin.reread(layer)
    saved = network.snapshot()
    weights, numbers = "layer2.backward.weights", "layer2.backward.numbers"
    match wrong:
        case "shape":
            saved[weights] = saved[weights][:1]
        case "dtype":
            saved[weights] = saved[weights].long()
        case "negative":
            saved[numbers] = -saved[numbers] - 1
        case "missing":
            del saved[numbers]
        case "unknown":
            saved["layer3.backward.weights"] = saved[weights]
    with pytest.raises(RuntimeError, match=r"does not fit|unknown tensors: layer3\.backward\.weights"):
        network.restore(saved)
