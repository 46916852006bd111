"""Does a network come out the same on a model of a device as on the device? Accuracy on models minus that on the truth.

A network 64-32-10 learns the digits by pulses: each weight is one cell against a fixed reference in the middle of its
window, and in each step a cell gets one pulse, against its gradient, with the probability rate |gradient|. Jumps come
from a device: the truth, whose law is known, or a model that was fitted to samples of it. Networks of one device are
trained at once.

Training on the truth several times over gives the noise floor: a bias below it is none.

Reference: Yousuf et al., arXiv 2211.15925, for the question; network, numbers of samples and bins are this project's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Protocol

import torch
from torch import Tensor

from protocols.core.draws import generator
from protocols.core.mlp import Mlp
from protocols.studies.study import Axis, Cell, Series, Study, Table
from protocols.studies.training import Data


class Device(Protocol):
    """Where jumps come from."""

    def draw(self, g: Tensor, up: Tensor, generator: torch.Generator) -> Tensor:
        """One jump of each cell at conductances ``g`` S, ``up`` or down, S."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Models of one kind, one for each data set.

    Args:
        name: how they were made.
        points: samples per polarity.
        bins: bins per polarity.
        devices: the models.
        wasserstein: mean distance of their jumps from those of the truth, as a share of the window.
        ks: mean Kolmogorov-Smirnov distance.
    """

    name: str
    points: int
    bins: int
    devices: Sequence[Device]
    wasserstein: float
    ks: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulsed:
    """Training by pulses.

    Args:
        window: conductances at both ends, S.
        w_max: the weight at the upper end.
        hidden: width of the hidden layer; 0 for none.
        rate: pulses per step for a gradient of 1, at most one.
        batch: samples of a step.
        steps: how many.
        replicas: networks on each device.
        seed: root seed.
    """

    window: tuple[float, float]
    w_max: float = 1.0
    hidden: int = 32
    rate: float = 2.0
    batch: int = 16
    steps: int = 600
    replicas: int = 4
    seed: int = 0

    def accuracies(self, device: Device, data: Data, stream: str) -> list[float]:
        """Trains on a device and gives the test accuracy of each network; ``stream`` names its draws."""
        low, high = self.window
        widths = (data.x.shape[1], *([self.hidden] if self.hidden else []), data.classes)
        network = Mlp(widths=widths, hidden="tanh", output="identity", cost="cross_entropy")
        scale = 2.0 * self.w_max / (high - low)
        middle = 0.5 * (low + high)
        source = generator(self.seed, f"bias/{stream}", 0)
        theta = network.glorot(self.replicas, source).clamp_(-self.w_max, self.w_max)
        batches = data.batches(self.batch, self.seed)
        for step in range(self.steps):
            gradient = network.gradient(theta, *batches(step))
            fires = torch.rand(gradient.shape, generator=source) < self.rate * gradient.abs()
            g = theta[fires].div_(scale).add_(middle)
            moved = g + device.draw(g, gradient[fires] < 0, source)
            theta[fires] = moved.clamp_(low, high).sub_(middle).mul_(scale)
        return [float(share) for share in network.correct(theta, data.test_x, data.test_y)]


def modeling_bias(data: Data, truth: Device, models: Iterable[Model], how: Pulsed, *, repeats: int = 8) -> Study:
    """Trains on the truth and on models of it.

    Args:
        data: what to learn.
        truth: the device whose law is known.
        models: models of it, those of one name in rising number of samples.
        how: the training.
        repeats: how often the truth is trained on, ``how.replicas`` networks each.
    """
    true = [each for number in range(repeats) for each in how.accuracies(truth, data, f"truth/{number}")]
    floor = 200.0 * stdev(true) / how.replicas**0.5
    found = [_Found.of(model, how, data, fmean(true)) for model in models]
    columns = ("table", "samples", "bins", "W1, % of window", "KS", "bias", "lowest", "highest")
    return Study(
        name="modeling_bias",
        title="Does a network come out the same on a jump table as on the device it was fitted to?",
        table=Table(
            "Accuracy on tables minus accuracy on the truth, in points: mean, lowest and highest of the data sets",
            columns,
            tuple(one.row for one in found),
        ),
        x=Axis(label="samples per polarity", log=True),
        y=Axis(label="bias of the accuracy, points"),
        series=(*_curves(found), *_band(found, floor)),
        notes=_notes(true, floor, found, how.replicas),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """The biases of models of one kind, one for each data set, in points of accuracy."""

    model: Model
    bias: tuple[float, ...]

    @classmethod
    def of(cls, model: Model, how: Pulsed, data: Data, true: float) -> _Found:
        stream = f"{model.name}/{model.points}"
        means = [
            fmean(how.accuracies(device, data, f"{stream}/{number}")) for number, device in enumerate(model.devices)
        ]
        return cls(model, tuple(100.0 * (mean - true) for mean in means))

    @property
    def row(self) -> tuple[Cell, ...]:
        model, bias = self.model, self.bias
        distances = (round(100.0 * model.wasserstein, 3), round(model.ks, 3))
        points = tuple(round(value, 2) for value in (fmean(bias), min(bias), max(bias)))
        return (model.name, model.points, model.bins, *distances, *points)


def _curves(found: Sequence[_Found]) -> list[Series]:
    names = dict.fromkeys(one.model.name for one in found)
    chosen = [(name, [one for one in found if one.model.name == name]) for name in names]
    return [
        Series(name, tuple(float(one.model.points) for one in ones), tuple(fmean(one.bias) for one in ones))
        for name, ones in chosen
    ]


def _band(found: Sequence[_Found], floor: float) -> list[Series]:
    """The noise floor as two lines."""
    points = [float(one.model.points) for one in found]
    ends = (min(points), max(points)) if points else (1.0, 1.0)
    names = {1: f"noise floor, ±{floor:.1f}", -1: ""}  # one entry of the legend for both
    return [Series(name, ends, (sign * floor,) * 2, "law") for sign, name in names.items()]


def _notes(true: Sequence[float], floor: float, found: Sequence[_Found], replicas: int) -> tuple[str, ...]:
    notes = [
        f"accuracy on the truth {100 * fmean(true):.1f} % ({len(true)} networks, from {100 * min(true):.1f} to "
        f"{100 * max(true):.1f} %); noise floor {floor:.1f} points: two standard deviations of the mean of {replicas}"
    ]
    for points in sorted({one.model.points for one in found}):
        here = [one for one in found if one.model.points == points]
        every = [bias for one in here for bias in one.bias]
        beyond = sum(abs(bias) > floor for bias in every)
        notes.append(
            f"{points:,} samples: single tables are off by {min(every):+.1f} to {max(every):+.1f} points, {beyond} of "
            f"{len(every)} by more than the noise floor"
        )
    return tuple(notes)
