"""Bins chosen by Optuna: their number, and how their edges lie between even width and even count.

The objective is the continuous ranked probability score of samples that were not fitted, in folds: a proper score
(Gneiting and Raftery 2007, eq. 20), finite also where a table has no probability, which the likelihood is not. The
plain binnings are tried first, so that the result is never worse than they are on these folds. Objective, folds and
parameters are this project's choice; the papers on optimised binning do not say theirs.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from hil.errors import UsageError
from sim_backend.fit.binning import Binning, binned, quantile_edges
from sim_backend.fit.samples import Samples
from sim_backend.fit.scores import ranked_score
from sim_backend.fit.table import Array, Jumps, JumpTable

FOLDS = 4
MOST_SAMPLES = 4000
"""Samples that the search looks at; the table is then made of all."""
MOST_BINS = 64
_COARSE = 48
"""Levels of the axis of changes during the search."""


def optimised_edges(samples: Samples, binning: Binning) -> Array:
    """Inner edges of the bins that predict held-out samples best.

    Args:
        samples: pulses of one polarity.
        binning: the search's seed and number of trials; its ``bins`` are tried first.

    Raises:
        UsageError: optuna is not installed.
    """
    try:
        import optuna  # pyright: ignore[reportMissingImports]
    except ImportError:
        problem = "optimised binning needs optuna; install it with: pip install 'crossbar-hil[sweep]'"
        raise UsageError(f"{problem}, or choose equal or quantile bins") from None
    source = np.random.default_rng(binning.seed)
    chosen = samples.take(source.permutation(len(samples))[:MOST_SAMPLES])
    fold = np.arange(len(chosen)) % FOLDS
    most = max(1, min(MOST_BINS, len(samples) // 2))

    def objective(trial: Any) -> float:
        bins = trial.suggest_int("bins", 1, most, log=True)
        edges = mixed_edges(
            chosen.g, bins, trial.suggest_float("mix", 0.0, 1.0), trial.suggest_float("skew", -1.0, 1.0)
        )
        return held_out_score(chosen, fold, edges)

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another package, about its own future
            study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=binning.seed))
            for mix in (0.0, 1.0):
                study.enqueue_trial({"bins": min(most, binning.bins_for(len(samples))), "mix": mix, "skew": 0.0})
            study.optimize(objective, n_trials=max(2, binning.trials))
    finally:
        optuna.logging.set_verbosity(before)
    best = study.best_params
    return mixed_edges(samples.g, best["bins"], best["mix"], best["skew"])


def mixed_edges(g: Array, bins: int, mix: float, skew: float) -> Array:
    """Inner edges [bins - 1] between even width and even count.

    Args:
        g: [n] S, conductances.
        bins: number of bins.
        mix: 0 for even width, 1 for even count.
        skew: above 0 narrower bins at low conductances, below 0 at high ones.
    """
    share = (np.arange(1, bins) / bins) ** np.exp(skew)
    even = g.min() + share * (g.max() - g.min())
    counted = quantile_edges(g, bins) if skew == 0 else np.quantile(g, share)
    return (1.0 - mix) * even + mix * counted


def held_out_score(samples: Samples, fold: np.ndarray, edges: Array) -> float:
    """The mean score over folds, S: each is predicted by a table of the others."""
    total = 0.0
    for number in np.unique(fold):
        held = fold == number
        if held.all():
            held = np.zeros_like(held)  # a single sample predicts itself
        jumps = binned(samples.g[~held], samples.dg[~held], edges, _COARSE)
        judged = samples.take(held) if held.any() else samples
        total += ranked_score(_alone(jumps), judged) * len(judged)
    return total / len(samples)


def _alone(jumps: Jumps) -> JumpTable:
    """A table that has the same jumps in both polarities."""
    return JumpTable(jumps, jumps)
