"""What a search looks through: for each key a range or a list of choices, and which number it wants to be large."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hil.contract.bounds import at_least_one, not_negative

MOST_TRIALS = 2_000
"""A proposal looks at all trials before it, so that the time of a search grows with the square of their number."""
OWN_KEYS = ("name", "seed", "threads")
"""Keys of a run that belong to the sweep: seeds have their own key, a worker has one thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Numbers between two bounds, both included; whole numbers where all that is given is written as whole numbers.

    Args:
        low: the lowest.
        high: the highest.
        log: every factor is equally likely, not every difference.
        step: distance between neighbours; None for any number (of whole numbers: 1).
        unit: unit of the bounds, such as ``V``; the run then gets texts such as ``0.25 V``.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"high must be above low, got {self.low:g} to {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be above 0 on a logarithmic scale, got {self.low:g}")
        if self.step is not None:
            if self.log or self.step <= 0:
                raise ValueError("step must be above 0, and there is none on a logarithmic scale")
            steps = (self.high - self.low) / self.step
            if steps < 1 - 1e-9 or abs(steps - round(steps)) > 1e-6:
                raise ValueError(f"step must lead from low to high exactly, got {steps:.4g} steps")

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers only."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step) if value is not None)

    def written(self, number: float) -> Any:
        """A number as the run file has it; multiples of a step without what rounding adds to them."""
        number = number if self.whole or self.step is None else float(f"{number:.12g}")
        return f"{number!r} {self.unit}" if self.unit else number

    def number(self, written: Any) -> Any:
        """The number that ``written`` made a setting of."""
        if not self.unit:
            return written
        text = str(written).split(" ", 1)[0]
        return int(text) if self.whole else float(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """A search by Optuna in the place of a grid.

    Args:
        trials: combinations to try; each is run with all seeds of the sweep. It may be raised when the search goes on.
        maximise: the number whose mean over the seeds is to be large, such as ``test_accuracy``.
        space: dotted path of a run file's key -> a range, or a list of choices; one choice is the same for all.
        sampler: ``tpe`` learns from the trials before, ``random`` does not.
        seed: seed of the sampler.
        ahead: trials under way at once. A trial is proposed when all but the last ``ahead - 1`` before it have ended,
            from these and no others, so that the proposals do not depend on which run is finished first.
    """

    trials: int
    maximise: str = "test_accuracy"
    space: Mapping[str, Range | tuple[Any, ...]]
    sampler: Literal["tpe", "random"] = "tpe"
    seed: int = 0
    ahead: int = 4

    def __post_init__(self) -> None:
        at_least_one(self, "trials", "ahead")
        not_negative(self, "seed")
        if self.trials > MOST_TRIALS:
            raise ValueError(f"trials must be at most {MOST_TRIALS:,}, got {self.trials:,}")
        for key, choices in self.space.items():
            check_key(key, "space")
            if not isinstance(choices, Range):
                check_values(key, choices, "space")
        if not self.varied:
            raise ValueError("space has nothing to search; give at least one key a range or several choices")

    @property
    def varied(self) -> tuple[str, ...]:
        """The keys that take more than one value."""
        return tuple(key for key, part in self.space.items() if isinstance(part, Range) or len(part) > 1)

    def probes(self) -> list[dict[str, Any]]:
        """Combinations that show before the first run whether the keys can be used: lowest, highest, every board."""
        low = {key: part.written(part.low) if isinstance(part, Range) else part[0] for key, part in self.space.items()}
        high = {
            key: part.written(part.high) if isinstance(part, Range) else part[-1] for key, part in self.space.items()
        }
        boards = self.space.get("board", ())
        return [low, high] + [low | {"board": board} for board in (boards if isinstance(boards, tuple) else ())]


def check_key(key: str, of: str) -> None:
    """Refuses keys that belong to the sweep; ``of`` is the key of the sweep file that names them."""
    first = key.split(".", 1)[0]
    if first in OWN_KEYS:
        instead = "; list them under `seeds`" if first == "seed" else ""
        raise ValueError(f"{of} cannot vary {key!r}, which a sweep sets itself{instead}")


def check_values(key: str, values: Sequence[Any], of: str) -> None:
    """Refuses an empty list of values, and one that has a value twice."""
    texts = [as_text(value) for value in values]
    if not texts or len(set(texts)) < len(texts):
        raise ValueError(f"{of} needs for {key!r} a list of different values")


def as_text(value: Any) -> str:
    """One value as it is written in YAML on one line."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
