"""A schema with every kind of field, for the tests of the door for configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from hil.errors import ConfigError
from hil.lab import config
from hil.units import Amps, Volts


class Drive(Enum):
    ROWS = auto()
    COLUMNS = auto()


class Mode(Enum):
    FAST = "fast mode"


class Level(IntEnum):
    LOW = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SGD:
    kind: Literal["sgd"] = "sgd"
    eta: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Momentum:
    kind: Literal["momentum"] = "momentum"
    beta: float

    def __post_init__(self) -> None:
        if not 0 < self.beta < 1:
            raise ValueError(f"beta must lie between 0 and 1, got {self.beta}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    read: Volts = 0.3
    amps: Amps | None = None
    steps: tuple[Volts, ...] = ()
    low: float = 0
    high: float = 1

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("the low end is above the high end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    seed: int
    rate: float = 0.1
    note: str = ""
    armed: bool = False
    drive: Drive = Drive.ROWS
    mode: Mode = Mode.FAST
    level: Level = Level.LOW
    size: Literal["small", "large", 3] = "small"
    limits: Limits | None = None
    transforms: tuple[SGD | Momentum, ...] = ()
    update: SGD | Momentum | None = None
    tagged: Annotated[SGD | Momentum, Field(discriminator="kind")] = SGD()
    layers: list[int] = field(default_factory=list[int])
    shape: tuple[int, int] = (1, 1)
    named: dict[str, Limits] = field(default_factory=dict[str, Limits])
    folder: Path | None = None
    batch: Annotated[int, Field(gt=0)] = 1
    volts: Literal["auto"] | Volts = "auto"
    chips: frozenset[int] = frozenset()
    board: str | Limits = ""
    extra: Any = None


def refused(text: str, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, Run, "run.yaml", overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()
