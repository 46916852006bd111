"""Builds boards, networks and jobs from their configuration. The one place where all rooms meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hil.activations import defective, identity
from hil.contract import Backend
from hil.deployment import MODULES, place_model, set_biases, write_weights
from hil.errors import UsageError
from hil.lab.boardfile import ADDRESSES, BoardFile
from hil.lab.config import Loaded
from hil.lab.guard import Audit, Guard
from hil.lab.job import Job
from hil.lab.opening import dtype_of, open_backend, read_board
from hil.lab.runfile import (
    ChipConfig,
    GlorotWeights,
    NetworkConfig,
    ProgressiveWeights,
    RunConfig,
    TighterLimits,
    TwinConfig,
    WireTwinConfig,
    tightened,
)
from hil.lab.stop import StopToken
from hil.lab.tasks import Samples
from hil.layers import Backward, ChipBackward, NoBackward
from hil.lowering import Lowering
from hil.mapping import usual_mapping
from hil.network import Network
from hil.program import Method
from hil.twin import MatrixTwin, TwinBackward
from hil.wire_twin import WireTwin
from protocols.core.draws import generator
from protocols.progressive import Progressive
from sim_backend.wires.conduction import LineResistance


@dataclass(frozen=True, slots=True)
class Plan:
    """A run file and its board file, read and checked.

    Args:
        run: the run file.
        board: the board file.
    """

    run: Loaded[RunConfig]
    board: Loaded[BoardFile]

    @property
    def facts(self) -> dict[str, Any]:
        """What the run depends on, as plain values; where files and boards are is left out."""
        identity, cells = self.board.value.spec.identity, self.board.value.spec.cells
        return {
            "run": {key: value for key, value in self.run.plain.items() if key != "board"},
            "board": {key: value for key, value in self.board.plain.items() if key not in ADDRESSES},
            "serial": identity.serial,
            "cells": list(cells),
            "dtype": dtype_of(self.board.value),
        }


def open_board(
    board: str | Path | Mapping[str, Any],
    *,
    seed: int = 0,
    limits: TighterLimits | None = None,
    stop: StopToken | None = None,
    audit: Audit | None = None,
) -> Lowering:
    """Opens a board, guarded.

    Args:
        board: path of a board file, its content, or the URL of a board.
        seed: seed of a simulated board whose file names none.
        limits: limits tighter than the board's.
        stop: a stop token; looked at before every list.
        audit: where lists are recorded.

    Returns:
        The backend, with lowering and guard in front of the board. Its ``close`` makes the board safe.

    Raises:
        ConfigError: the board file cannot be used.
        BoardMissing: another board answers than the file names.
        BoardInUse: another program owns the board.
        LinkTimeout: nobody answers.
        LinkLost: the board cannot be reached.
    """
    return _open(read_board(board), seed, limits or TighterLimits(), where={}, stop=stop, audit=audit)


def _open(
    board: Loaded[BoardFile],
    seed: int,
    limits: TighterLimits,
    *,
    where: Mapping[str, str],
    stop: StopToken | None,
    audit: Audit | None,
    run: str = "",
) -> Lowering:
    spec, stop = tightened(board.value.spec, limits, where), stop or StopToken()
    opened = open_backend(board, spec, seed, stop, run)
    return Lowering(Guard(opened.backend, opened.wear, stop, audit))


def guard_of(backend: Backend) -> Guard:
    """The guard inside a backend that ``open_board`` made."""
    if isinstance(backend, Lowering) and isinstance(backend.inner, Guard):
        return backend.inner
    raise UsageError("this backend has no guard; open it with hil.open_board")


def new_model(network: NetworkConfig, samples: Samples, seed: int) -> nn.Sequential:
    """The model in software, with Glorot-uniform weights drawn from the seed and biases of 0."""
    widths = [samples.train.x.shape[1], *network.hidden, samples.classes]
    source = torch.Generator().manual_seed(seed)
    modules: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        linear = nn.Linear(n_in, n_out)
        bound = (6.0 / (n_in + n_out)) ** 0.5
        with torch.no_grad():
            linear.weight.uniform_(-bound, bound, generator=source)
            linear.bias.zero_()
        modules += [linear, MODULES[network.activation]()]
    modules[-1] = MODULES[network.output]()
    return nn.Sequential(*modules)


def _put_on_board(
    run: RunConfig, samples: Samples, backend: Backend, method: Method | None, backward: Backward
) -> Network:
    """Places the network, and readies it and writes its first weights unless ``method`` is None."""
    config, rule = run.network, run.protocol.rule
    model = new_model(config, samples, run.seed)
    mapping = usual_mapping(backend.spec, w_max=config.w_max, margin=config.margin, reference=config.reference)
    network = place_model(
        model,
        backend,
        mapping=mapping,
        backward=backward,
        reading=config.reading.reading(run.seed),
        cost=samples.cost,
        beside=rule.beside,
    )
    network.heads = samples.heads
    _disturb(network, config.activation_defects, run.seed)
    if method is None:
        return network
    rule.prepare(network, run.seed)
    weights = config.weights
    if not isinstance(weights, GlorotWeights):
        weights.training.train(model, samples.batch, samples.cost, samples.heads)
    if isinstance(weights, ProgressiveWeights):
        progressive = Progressive(tuning=weights.tuning, size=samples.size, seed=run.seed)
        progressive.deploy(network, model, samples.train, method, samples.cost)
        return network
    write_weights(network, model, method)
    set_biases(network, model)
    return network


def _disturb(network: Network, sigma: float, seed: int) -> None:
    """Gives the neurons of a network their defects; an identity has none."""
    if sigma == 0:
        return
    for number, (layer, inner) in enumerate(zip(network.layers, network.activations, strict=True)):
        if inner is not identity:
            source = generator(seed, f"activation defects/{layer.name}", 0)
            network.activations[number] = defective(inner, layer.n_out, sigma, source)


def _backward(network: NetworkConfig, board: BoardFile) -> Backward:
    chosen = network.backward
    if isinstance(chosen, TwinConfig):
        return TwinBackward(MatrixTwin(chosen.bound, chosen.every, chosen.averages))
    if isinstance(chosen, WireTwinConfig):
        wires = chosen.wires or (board.simulator.wires if board.simulator is not None else None)
        lines = None if wires is None else LineResistance(wires)
        return TwinBackward(WireTwin(chosen.bound, chosen.every, chosen.averages, lines=lines))
    return ChipBackward() if isinstance(chosen, ChipConfig) else NoBackward()


def build_job(
    plan: Plan,
    stop: StopToken,
    audit: Audit | None,
    opened: Callable[[Guard], None],
    *,
    program: bool = True,
) -> Job:
    """Opens the board, puts the network on it, and gives the job.

    Args:
        plan: the run.
        stop: its stop token.
        audit: its record.
        opened: called with the guard as soon as the board is open, so that a failure in programming still ends safe.
        program: write the first weights; False when the run goes on with what is on the chip.
    """
    run = plan.run.value
    torch.set_num_threads(run.threads)
    samples = run.task.load(run.seed)  # bad data are refused before a board is touched
    backend = _open(plan.board, run.seed, run.limits, where=plan.run.where, stop=stop, audit=audit, run=run.name)
    opened(guard_of(backend))
    method = run.network.program if program else None
    return Job(
        network=_put_on_board(run, samples, backend, method, _backward(run.network, plan.board.value)),
        protocol=run.protocol,
        samples=samples,
        guard=guard_of(backend),
        seed=run.seed,
        steps=run.steps,
        evaluate_every=run.evaluate_every,
        checkpoint_every=run.checkpoint_every,
        facts={**plan.facts, "data": samples.digest()},
    )


def software_accuracy(plan: Plan) -> float | None:
    """Trains the software baseline and gives its accuracy on the test samples; None when the run file names none."""
    run = plan.run.value
    if run.software is None:
        return None
    samples = run.task.load(run.seed)
    model = new_model(run.network, samples, run.seed)
    run.software.train(model, samples.batch, samples.cost, samples.heads)
    with torch.no_grad():
        return float(samples.correct(model(samples.test.x), samples.test.y).double().mean())
