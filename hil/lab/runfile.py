"""Run files: the schemas of what a technician writes about a run.

Together with ``boardfile``, ``build`` and ``cli`` this is the one place that knows the configuration of all rooms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from hil.contract import BoardSpec
from hil.contract.bounds import above_zero, at_least_one, not_negative
from hil.errors import ConfigError
from hil.lab.config import name_problem
from hil.lab.tasks import Digits, Files, Iris, Mnist1dLike, Nist7x7, Parity, TwoYinYang, Wine, Xor, YinYang
from hil.layers import PlainReading
from hil.management import Bound, ManagedReading, Noise
from hil.mapping import Reference
from hil.program import ByPulses, ByRamps
from hil.units import Seconds, Volts, engineering
from protocols.baselines import Software
from protocols.training import Training
from sim_backend.wires.config import Wires

MOST_THREADS = 64
"""A run file that asks for a hundred thousand makes torch crash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TighterLimits:
    """Limits of one run; each may only be tighter than the board's.

    Args:
        read_cell_volts: see ``Limits``.
        read_array_volts: see ``Limits``.
        write_volts: see ``Limits``.
        gate_volts: see ``Limits``.
        pulse_seconds: see ``Limits``.
        pulses_per_run: see ``Limits``.
    """

    read_cell_volts: Volts | None = None
    read_array_volts: Volts | None = None
    write_volts: Volts | None = None
    gate_volts: Volts | None = None
    pulse_seconds: Seconds | None = None
    pulses_per_run: int | None = None

    def __post_init__(self) -> None:
        above_zero(self, "read_cell_volts", "read_array_volts")
        not_negative(self, "write_volts", "gate_volts", "pulse_seconds", "pulses_per_run")


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinConfig:
    """Errors go back through a twin.

    Args:
        bound: relative distance from the chip above which the twin is re-read.
        every: products after which it is re-read in any case.
        averages: conversions averaged in a re-read.
    """

    kind: Literal["twin"] = "twin"
    bound: float = 0.2
    every: int = 1000
    averages: int = 4

    def __post_init__(self) -> None:
        above_zero(self, "bound")
        at_least_one(self, "every", "averages")


@dataclass(frozen=True, slots=True, kw_only=True)
class WireTwinConfig:
    """Errors go back through a twin that knows the resistance of the lines.

    Args:
        wires: the lines; None for those of the board file's simulator.
        bound: see ``TwinConfig``.
        every: see ``TwinConfig``.
        averages: see ``TwinConfig``.
    """

    kind: Literal["wire_twin"] = "wire_twin"
    wires: Wires | None = None
    bound: float = 0.2
    every: int = 1000
    averages: int = 4

    def __post_init__(self) -> None:
        above_zero(self, "bound")
        at_least_one(self, "every", "averages")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipConfig:
    """Errors go back through the chip, by transposed reads."""

    kind: Literal["chip"] = "chip"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoneConfig:
    """The protocol needs no backward pass."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainReadingConfig:
    """Inputs are read as they are."""

    kind: Literal["plain"] = "plain"

    def reading(self, seed: int) -> PlainReading:
        """The reading; it draws nothing."""
        return PlainReading()


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedReadingConfig:
    """Products are measured with noise and bound management.

    Args:
        noise: see ``ManagedReading``, as for all the others.
        threshold: upper limit of the scale, or the constant.
        bound: what happens where a current met a rail.
        max_factor: inputs are not made smaller any more once they are this many times smaller.
        input_levels: levels that inputs are rounded to; None for the board's.
        stochastic_inputs: round inputs at random.
        decay: weight of a new vector in the running average.
    """

    kind: Literal["managed"] = "managed"
    noise: Noise = "abs_max"
    threshold: float | None = None
    bound: Bound = "iterative"
    max_factor: float = 1000.0
    input_levels: int | None = None
    stochastic_inputs: bool = False
    decay: float = 1e-3

    def __post_init__(self) -> None:
        self.reading(0)

    def reading(self, seed: int) -> ManagedReading:
        """The reading, with draws from a seed."""
        return ManagedReading(
            noise=self.noise,
            threshold=self.threshold,
            bound=self.bound,
            max_factor=self.max_factor,
            input_levels=self.input_levels,
            stochastic_inputs=self.stochastic_inputs,
            decay=self.decay,
            seed=seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GlorotWeights:
    """First weights drawn from the seed, Glorot-uniform, with biases of 0."""

    kind: Literal["glorot"] = "glorot"


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftwareWeights:
    """First weights trained in software (in silico) and mapped onto the chip.

    Args:
        training: how.
    """

    kind: Literal["software"] = "software"
    training: Software


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressiveWeights:
    """First weights trained in software, programmed layer by layer, the later layers tuned on measured activations.

    Args:
        training: the training before.
        tuning: the training of the later layers after each layer.
    """

    kind: Literal["progressive"] = "progressive"
    training: Software
    tuning: Software


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The network and how it sits on the chip.

    Args:
        hidden: width of each hidden layer.
        activation: after each hidden layer.
        output: after the last layer.
        w_max: the largest weight: one cell of its pair at the top of the window, the other at the bottom or the
            reference.
        margin: share of the window left free at both ends.
        reference: what a weight's minus cell does: moves against the plus cell (``middle``, ``low``), or stays where it
            is (``fixed``).
        weights: where the first weights come from.
        program: how the first weights are written; None starts from the cells as they are.
        backward: how errors go back.
        reading: how products are measured.
        activation_defects: spread of the neurons' activations; for studies.
    """

    hidden: tuple[int, ...] = (32,)
    activation: Literal["tanh", "sigmoid", "relu"] = "tanh"
    output: Literal["identity", "tanh", "sigmoid"] = "identity"
    w_max: float = 1.0
    margin: float = 0.03
    reference: Reference = "middle"
    weights: GlorotWeights | SoftwareWeights | ProgressiveWeights = field(default_factory=GlorotWeights)
    program: ByPulses | ByRamps | None = None
    backward: NoneConfig | ChipConfig | TwinConfig | WireTwinConfig = field(default_factory=NoneConfig)
    reading: PlainReadingConfig | ManagedReadingConfig = field(default_factory=PlainReadingConfig)
    activation_defects: float = 0.0

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden widths must be at least 1, got {list(self.hidden)}")
        if not self.w_max > 0:
            raise ValueError(f"w_max must be above 0, got {self.w_max}")
        if not 0 <= self.margin < 0.5:
            raise ValueError(f"margin must lie between 0 and 0.5, got {self.margin}")
        if not self.activation_defects >= 0:
            raise ValueError(f"activation_defects must be at least 0, got {self.activation_defects}")
        if not isinstance(self.weights, GlorotWeights) and self.program is None:
            raise ValueError(f"program is needed to write {self.weights.kind} weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """A run file.

    Args:
        name: name of the run; its folder begins with it.
        source: where the settings come from.
        seed: root seed of chip, weights, batches and draws.
        board: path of the board file.
        task: the data set.
        network: the network.
        protocol: the training protocol.
        steps: steps to do.
        evaluate_every: steps between two looks at the test samples.
        checkpoint_every: steps between two checkpoints.
        limits: limits tighter than the board's.
        software: the software baseline; None for none.
        threads: torch threads; one is right for small chips.
    """

    name: str
    source: str = ""
    seed: int = 0
    board: str
    task: Digits | Xor | Parity | Nist7x7 | Iris | Wine | YinYang | TwoYinYang | Mnist1dLike | Files
    network: NetworkConfig = field(default_factory=NetworkConfig)
    protocol: Training
    steps: int
    evaluate_every: int = 250
    checkpoint_every: int = 250
    limits: TighterLimits = field(default_factory=TighterLimits)
    software: Software | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "evaluate_every", "checkpoint_every", "threads")
        not_negative(self, "seed")
        if self.threads > MOST_THREADS:
            raise ValueError(f"threads must be at most {MOST_THREADS}, got {self.threads}")
        if problem := name_problem(self.name):
            raise ValueError(f"name {problem}")


def tightened(spec: BoardSpec, limits: TighterLimits, where: Mapping[str, str]) -> BoardSpec:
    """A board's spec with the tighter limits of a run.

    Args:
        spec: the board.
        limits: the run's limits.
        where: ``file:line`` of the run file's keys.

    Raises:
        ConfigError: a limit is looser than the board's.
    """
    names = [name for name in TighterLimits.__dataclass_fields__ if getattr(limits, name) is not None]
    for name in names:
        wanted, board = getattr(limits, name), getattr(spec.limits, name)
        if board is None or wanted > board:
            key = f"limits.{name}"
            unit = "V" if name.endswith("volts") else "s" if name.endswith("seconds") else ""
            allowed = (
                "limit, which allows none" if board is None else engineering(board, unit) if unit else f"{board:,}"
            )
            asked = engineering(wanted, unit) if unit else f"{wanted:,}"
            problem = f"{asked} is looser than the board's {allowed}; a run may only tighten limits"
            raise ConfigError.at(where.get(key, "limits"), key, problem)
    fresh = replace(spec.limits, **{name: getattr(limits, name) for name in names})
    sources = {f"limits.{name}": where.get(f"limits.{name}", "") for name in names}
    return replace(spec, limits=fresh, where={**spec.where, **sources})
