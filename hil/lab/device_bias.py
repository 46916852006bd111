"""The modeling-bias study: tables of a known device, from the simulator's room, in the hands of a protocol's study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from protocols.studies.study import Study

POINTS = (50, 200, 1000, 10_000)
PLAIN_BINS = (3, 10, 30, 100)
QUICK_POINTS = (50, 1000)
QUICK_BINS = (3, 30)


def modeling_bias(
    data: Any,
    *,
    points: Sequence[int],
    bins: Sequence[int],
    sets: int,
    replicas: int,
    repeats: int = 8,
    steps: int = 600,
) -> Study:
    """Fits tables to synthetic samples and trains on them.

    Args:
        data: what the networks learn.
        points: samples per polarity, rising.
        bins: bins of the plain tables; one that interpolates between quantile bins is put beside them.
        sets: data sets for each table.
        replicas: networks on each table.
        repeats: how often the truth is trained on.
        steps: training steps of a network.
    """
    from protocols.studies.modeling_bias import Model, Pulsed
    from protocols.studies.modeling_bias import modeling_bias as studied
    from sim_backend.fit.binning import Binning
    from sim_backend.fit.study import Setting, Truth, distance

    truth = Truth()

    def models() -> Iterator[Model]:
        plain = {f"{count} equal bins, nearest": Binning(method="equal", bins=count) for count in bins}
        for name, binning in {**plain, "quantile bins, interpolated": Binning()}.items():
            for count in points:
                setting = Setting(points=count, binning=binning, plain=name in plain)
                devices = [setting.table(truth, seed) for seed in range(sets)]
                found = [distance(truth, device) for device in devices]
                w1, ks = (sum(values) / sets for values in zip(*found, strict=True))
                yield Model(
                    name=name, points=count, bins=binning.bins_for(count), devices=devices,
                    wasserstein=w1 / truth.window, ks=ks,
                )  # fmt: skip

    how = Pulsed(window=(truth.low, truth.high), replicas=replicas, steps=steps)
    return studied(data, truth, models(), how, repeats=repeats)
