"""A bench for training protocols: a small network on a tiny guarded board, and a tap that sees what reaches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hil.contract import BoardSpec, Op, Outcome, SafeReport
from hil.deployment import place_model
from hil.lab.guard import Guard
from hil.lab.stop import StopToken
from hil.lowering import Lowering
from hil.mapping import Reference, usual_mapping
from hil.network import Network
from hil.protocol import Batch
from sim_backend.board import SimBoard


class Tap:
    """Sits between guard and board and notes every list that arrives."""

    restorable = True

    def __init__(self, board: SimBoard) -> None:
        self.board = board
        self.lists: list[tuple[str, ...]] = []
        self.before: Callable[[], None] = lambda: None

    @property
    def spec(self) -> BoardSpec:
        return self.board.spec

    def execute(self, ops: Sequence[Op]) -> list[Outcome]:
        self.lists.append(tuple(type(op).__name__ for op in ops))
        self.before()
        return self.board.execute(ops)

    def now(self) -> float:
        return self.board.now()

    def make_safe(self) -> SafeReport:
        return self.board.make_safe()

    def close(self) -> None:
        self.board.close()

    def snapshot(self) -> dict[str, Tensor]:
        return self.board.snapshot()

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        self.board.restore(saved)


@dataclass
class Bench:
    """A network on a simulated board, and everything in between."""

    sim: SimBoard
    tap: Tap
    guard: Guard
    stop: StopToken
    network: Network
    history: list[Any] = field(default_factory=list)

    @property
    def cells(self) -> Tensor:
        """Conductances of the whole chip, [K, R, C] S."""
        return self.sim.chip.state["g"].clone()

    def train(self, protocol: Any, state: Any, batch: Callable[[int], Batch], steps: int) -> Any:
        """Carries out steps and keeps their records in ``history``."""
        for _ in range(steps):
            state, record = protocol.step(state, self.network, batch(protocol.batch_of(state.step)))
            self.history.append(record)
        return state

    def cost(self, samples: Batch) -> float:
        """Mean cost of samples, measured on the board."""
        with torch.no_grad():
            return float(self.network.loss(self.network(samples.x), samples.y).mean())


def small_model(seed: int) -> nn.Sequential:
    source = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=source) - 0.5)
    return model


@pytest.fixture(scope="session")
def bench(quiet_board, noisy_board, spec_of) -> Callable[..., Bench]:
    """``bench(noisy=False, limits={...}, seed=0)``: a 2-4-3 network on a tiny board, weights as the chip starts."""

    def build(
        *, noisy: bool = False, limits: dict[str, Any] | None = None, seed: int = 0, backward: Any = None,
        reference: Reference = "middle", beside: tuple[str, ...] = (),
    ) -> Bench:  # fmt: skip
        sim = (noisy_board if noisy else quiet_board)(spec_of(limits=limits), seed=seed)
        tap, stop = Tap(sim), StopToken()
        guard = Guard(tap, stop=stop)
        mapping = usual_mapping(sim.spec, w_max=2.0, reference=reference)
        network = place_model(small_model(seed), Lowering(guard), mapping=mapping, backward=backward, beside=beside)
        return Bench(sim, tap, guard, stop, network)

    return build


@pytest.fixture
def ideal(quiet_board) -> Network:
    """A 3-5-4 network in float64 on a board without noise, its weights as the chip starts."""
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for number in (0, 2):
            bias = model[number].bias
            bias.copy_(torch.rand(bias.shape, generator=source) - 0.5)
    board = quiet_board(seed=4)
    return place_model(model, Lowering(board), mapping=usual_mapping(board.spec, w_max=3.0))


@pytest.fixture
def samples() -> Batch:
    """Seven samples for ``ideal``."""
    source = torch.Generator().manual_seed(1)
    x = 2 * torch.rand(7, 3, generator=source, dtype=torch.float64) - 1
    return Batch(x, torch.arange(7) % 4)


@pytest.fixture(scope="session")
def blobs() -> Callable[[int], Batch]:
    """``blobs(number)``: a batch of 24 points in three clouds; the number chooses the points."""
    centres = torch.tensor([[0.6, 0.0], [-0.4, 0.5], [-0.4, -0.5]])

    def batch(number: int) -> Batch:
        source = torch.Generator().manual_seed(number)
        y = torch.arange(24) % 3
        return Batch(centres[y] + 0.1 * torch.randn(24, 2, generator=source), y)

    return batch
