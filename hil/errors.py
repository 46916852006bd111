"""Errors that carry their facts.

Every error is a dataclass: the facts are its fields and the sentence comes from ``__str__``. The sentence says what
happened, where, what was seen and expected, and what to do next. ``exit_code`` is what the command line ends with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hil.units import engineering

if TYPE_CHECKING:
    from hil.contract import Outcome


class HilError(Exception):
    """The base of every error that Crossbar-HIL raises on purpose."""

    exit_code: ClassVar[int] = 1


@dataclass(eq=False)
class ConfigProblem:
    """One thing that is wrong in a configuration file.

    Args:
        where: ``file:line:column``, or the name of the source when it has no lines.
        key: dotted path of the key, e.g. ``spec.limits.read_cell_volts``.
        problem: what was seen and what is expected.
        suggestion: a name the user may have meant.
    """

    where: str
    key: str
    problem: str
    suggestion: str | None = None

    def __str__(self) -> str:
        hint = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        key = f"{self.key}: " if self.key else ""
        return f"{self.where}: {key}{self.problem}{hint}"


@dataclass(eq=False)
class ConfigError(HilError):
    """A configuration cannot be used; all its problems are listed, not only the first."""

    problems: Sequence[ConfigProblem]
    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)

    @classmethod
    def at(cls, where: str, key: str, problem: str, suggestion: str | None = None) -> ConfigError:
        """Makes an error with a single problem."""
        return cls([ConfigProblem(where, key, problem, suggestion)])


@dataclass(eq=False)
class UsageError(HilError):
    """A command or a call was given something it cannot work with."""

    problem: str
    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        return self.problem


@dataclass(eq=False)
class CheckpointError(HilError):
    """A checkpoint or run folder cannot be read."""

    path: str
    problem: str
    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@dataclass(eq=False)
class CheckpointMismatch(HilError):
    """A run cannot go on, because something it depends on has changed since the checkpoint."""

    path: str
    name: str
    saved: object
    now: object
    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.name} was {self.saved!r} when the checkpoint was written and is {self.now!r} now; "
            "set it back, or start a new run"
        )


@dataclass(eq=False)
class LimitExceeded(HilError):
    """An operation asked for more than a limit allows; nothing of its list was sent.

    Args:
        quantity: what is limited, in words.
        value: what was asked for, in SI units.
        limit: what is allowed, in SI units.
        unit: SI unit of both ("" for a count).
        where: kernel and cell, or the operation.
        source: ``file:line`` that set the limit.
    """

    quantity: str
    value: float
    limit: float
    unit: str
    where: str
    source: str = ""
    exit_code: ClassVar[int] = 5

    def __str__(self) -> str:
        sense = "below" if self.value < self.limit else "above"
        value, limit = engineering(self.value, self.unit), engineering(self.limit, self.unit)
        if value == limit:
            value, limit = f"{self.value!r} {self.unit}".strip(), f"{self.limit!r} {self.unit}".strip()
        source = f", set in {self.source}" if self.source else ""
        return f"{self.quantity} {value} {sense} {limit} ({self.where}){source}; nothing was sent"


@dataclass(eq=False)
class InvalidOperation(HilError):
    """An operation is not well formed (shape, dtype, NaN, overlap); nothing of its list was sent."""

    operation: str
    problem: str
    exit_code: ClassVar[int] = 5

    def __str__(self) -> str:
        return f"{self.operation}: {self.problem}; nothing was sent"


@dataclass(eq=False)
class LimitBreached(HilError):
    """A measured current passed its limit; the run ends and the board is made safe."""

    quantity: str
    value: float
    limit: float
    unit: str
    where: str
    exit_code: ClassVar[int] = 5

    def __str__(self) -> str:
        return (
            f"{self.quantity} {engineering(self.value, self.unit)} was measured, above the limit of "
            f"{engineering(self.limit, self.unit)} ({self.where}); look at the cell before you go on"
        )


@dataclass(eq=False)
class Unsupported(HilError):
    """A board cannot do what was asked, and no other of its operations gives the same result."""

    capability: str
    board: str
    reason: str = ""
    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        return f"board {self.board} cannot do {self.capability}" + (f": {self.reason}" if self.reason else "")


@dataclass(eq=False)
class PlacementError(HilError):
    """A layer does not fit on the free cells of a chip."""

    layer: str
    needed: int
    free: int
    what: str = "blocks"
    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        return (
            f"layer {self.layer} needs {self.needed} {self.what} and the chip has {self.free} free; "
            "use smaller layers, fewer replicas or a larger chip"
        )


@dataclass(eq=False)
class BoardFault(HilError):
    """A board failed in the middle of a list of operations.

    Args:
        board: name of the board.
        text: what the board said or did.
        done: outcomes of the operations before ``index``.
        index: the operation that failed; nothing after it was sent.
        doubt: bool [K, R, C], the cells whose state is in doubt, or None.
    """

    board: str
    text: str
    done: list[Outcome] = field(default_factory=list)
    index: int = 0
    doubt: Any = None
    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        cells = 0 if self.doubt is None else int(self.doubt.sum())
        doubt = f"; {cells} cells are in doubt, read them before you go on" if cells else ""
        return f"board {self.board} failed at operation {self.index}: {self.text}{doubt}"


@dataclass(eq=False)
class BoardMissing(HilError):
    """A board cannot be opened, or is another one than expected."""

    board: str
    problem: str
    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        return f"board {self.board}: {self.problem}"


@dataclass(eq=False)
class LinkTimeout(HilError):
    """A board did not answer in time.

    Args:
        url: the link.
        waited_for: what was expected, in words.
        elapsed: s waited.
        got: bytes that did arrive.
    """

    url: str
    waited_for: str
    elapsed: float
    got: int = 0
    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        part = f"only {self.got} bytes came" if self.got else "nothing came"
        return (
            f"{self.url}: no {self.waited_for} after {engineering(self.elapsed, 's')} ({part}); "
            "look at power, cable and settings of the link"
        )


@dataclass(eq=False)
class LinkLost(HilError):
    """The other end of a link is gone, or cannot be reached."""

    url: str
    problem: str
    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        return f"{self.url}: {self.problem}"


@dataclass(eq=False)
class WireError(HilError):
    """A board sent something that its wire protocol does not allow.

    Args:
        url: the link.
        problem: what was seen and what was expected; foreign text in it is escaped and cut.
    """

    url: str
    problem: str
    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        return f"{self.url}: {self.problem}"


@dataclass(eq=False)
class BoardInUse(HilError):
    """Another program owns the board.

    Args:
        board: serial number or device.
        pid: process that owns it; 0 when it is not known.
        host: its machine.
        user: its user.
        run: its run.
        since: when it began, as text.
    """

    board: str
    pid: int
    host: str
    user: str
    run: str
    since: str
    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        run = f", run {self.run}" if self.run else ""
        return (
            f"board {self.board} is in use by process {self.pid} of {self.user} on {self.host}{run}, "
            f"since {self.since}; wait for its end, or end it"
        )


@dataclass(eq=False)
class ProgramFailed(HilError):
    """Write-verify left more cells outside their window than allowed."""

    layer: str
    failed: int
    cells: int
    allowed: float
    worst: str
    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        return (
            f"layer {self.layer}: {self.failed} of {self.cells} cells ended outside their window, more than the "
            f"{100 * self.allowed:.1f} % allowed (worst: {self.worst}); look at the chip map in the report"
        )


@dataclass(eq=False)
class Aborted(HilError):
    """An operator ended the run at once."""

    reason: str
    exit_code: ClassVar[int] = 4

    def __str__(self) -> str:
        return f"aborted: {self.reason}"


@dataclass(eq=False)
class StorageError(HilError):
    """The record or a checkpoint cannot be written."""

    path: str
    problem: str
    exit_code: ClassVar[int] = 6

    def __str__(self) -> str:
        return f"{self.path}: cannot be written ({self.problem}); free some space and go on with `hil resume`"
