"""The record: what is committed stays, what is not does not half stay, and it costs little."""

from __future__ import annotations

import math
import multiprocessing
import sqlite3
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import torch

from hil.contract import Blocks, Outcome, Pulse, Read, Sense, Shape, Side, Wait
from hil.errors import CheckpointError, StorageError
from hil.lab.checks import Checked
from hil.lab.ledger import Ledger
from hil.lab.record import SETUP_STEP, Record
from hil.protocol import StepRecord

BLOCKS = Blocks(tuple(range(32)), (0,) * 32, (0,) * 32, 25, 25)
SHAPE = Shape(volts=1.0, seconds=1e-3, gate=None, amps=None)
COUNTS = torch.ones(32, 25, 25, dtype=torch.int32)


def read(batch: int = 1) -> Checked:
    return Checked(Read(BLOCKS, torch.zeros(1, batch, 25), Side.COLS, Sense(0.1), None), 0.1)


def pulse() -> Checked:
    return Checked(Pulse(BLOCKS, COUNTS, SHAPE, SHAPE), 1.0, COUNTS.long())


def outcome(
    seconds: float = 0.5, events: int = 3, applied: torch.Tensor | None = None, joules: float | None = None
) -> Outcome:
    return Outcome(None, None, applied, 0.0, seconds, events, joules)


@pytest.fixture
def record(tmp_path: Path) -> Generator[Record]:
    record = Record(tmp_path / "run.db")
    yield record
    record.close()


def look(record: Record, question: str) -> list[tuple[object, ...]]:
    """What another connection sees, now."""
    db = sqlite3.connect(record.path)
    try:
        return db.execute(question).fetchall()
    finally:
        db.close()


def do_step(record: Record, step: int, ledger: Ledger | None = None) -> None:
    record.step = step
    record.outcome(record.intent([read()]), [outcome()])
    record.commit_step(StepRecord(step, 1.0 / (step + 1), 0.5, {"n": step}), ledger or Ledger(), {})


def test_an_intent_says_what_will_be_sent_and_is_committed_at_once(record: Record) -> None:
    record.step = 7
    assert record.intent([read(), pulse(), Checked(Wait(1.0), 0.0)]) == 1
    (row,) = look(record, "SELECT id, step, ops, kinds, blocks, peak_volts, pulses FROM intent")
    assert row == (1, 7, 3, "Read,Pulse,Wait", "1,1,0", 1.0, 20_000)
    ((text,),) = look(record, "SELECT text FROM blocks")
    assert str(text).startswith("25x25 at 0:0:0 1:0:0 ")
    assert look(record, "SELECT * FROM outcome") == []


def test_a_step_holds_outcomes_totals_and_events_together(record: Record) -> None:
    record.step = 0
    number = record.intent([read(), pulse()])
    record.outcome(number, [outcome(), outcome(applied=COUNTS, joules=0.25)])
    record.event("remark", "hello", 12.5)
    assert look(record, "SELECT * FROM outcome") == look(record, "SELECT * FROM event") == []
    record.commit_step(
        StepRecord(0, 0.25, 0.5, {"b": 2.0, "a": 1.0}), Ledger(1, 3, 3, 20_000, 1.0, 4, 7, 0.5), {"acc": 0.9}
    )
    assert look(record, "SELECT * FROM outcome") == [(number, 2, 1.0, 6, 20_000, 0.25)]
    (row,) = record.steps()
    assert (row.step, row.loss, row.correct, dict(row.numbers)) == (0, 0.25, 0.5, {"a": 1.0, "b": 2.0})
    assert (row.lists, row.reads, row.writes, row.pulses, row.lab_seconds, row.flagged) == (1, 3, 3, 20_000, 1.0, 4)
    assert (row.half_selects, row.joules) == (7, 0.5)
    assert record.last_step() == row
    assert record.evaluations("acc") == [(0, 0.9)] and record.evaluations("other") == []
    assert record.events() == [(0, 12.5, "remark", "hello")]


def test_a_step_that_cannot_be_stored_leaves_nothing_and_loses_nothing(record: Record) -> None:
    do_step(record, 0)
    record.outcome(record.intent([read()]), [outcome()])
    record.event("remark", "kept", 1.0)
    with pytest.raises(CheckpointError, match="there twice"):
        record.commit_step(StepRecord(0, 1.0, 1.0), Ledger(), {"acc": 0.1})
    assert record.events() == [] and record.evaluations("acc") == []
    assert [row[0] for row in record.in_doubt()] == [2]
    record.commit_step(StepRecord(1, 1.0, 1.0), Ledger(), {})
    assert [text for *_, text in record.events()] == ["kept"] and record.in_doubt() == []


def test_a_record_of_an_earlier_version_is_refused_with_what_to_do(record: Record, tmp_path: Path) -> None:
    record.close()
    db = sqlite3.connect(tmp_path / "run.db", isolation_level=None)
    db.execute("PRAGMA user_version = 1")
    db.close()
    with pytest.raises(CheckpointError, match="version 1, of an earlier Crossbar-HIL; .* begin a new run"):
        Record(tmp_path / "run.db")


def test_energy_that_a_board_does_not_know_is_null(record: Record) -> None:
    record.outcome(record.intent([read()]), [outcome()])
    record.commit_setup({})
    assert look(record, "SELECT joules FROM outcome") == [(None,)]


def test_what_is_not_a_number_comes_back_as_such(record: Record) -> None:
    record.commit_step(StepRecord(0, math.nan, math.nan, {"x": math.nan}), Ledger(), {"loss": math.nan})
    record.commit_step(StepRecord(1, math.inf, 0.0, {}), Ledger(), {})
    first, second = record.steps()
    assert math.isnan(first.loss) and math.isnan(first.correct) and math.isnan(first.numbers["x"])
    assert second.loss == math.inf
    assert math.isnan(record.evaluations("loss")[0][1])


def test_lists_in_doubt_are_those_without_a_whole_outcome(record: Record) -> None:
    whole, partly, never = (record.intent([pulse(), pulse()]) for _ in range(3))
    record.outcome(whole, [outcome(), outcome()])
    record.outcome(partly, [outcome()])
    record.commit_setup({})
    assert record.in_doubt() == [
        (partly, SETUP_STEP, "Pulse,Pulse", 40_000),
        (never, SETUP_STEP, "Pulse,Pulse", 40_000),
    ]


def test_dropping_what_came_after_a_checkpoint(record: Record) -> None:
    record.outcome(record.intent([pulse()]), [outcome()])
    record.commit_setup({"acc": 0.1})
    for step in range(6):
        do_step(record, step)
    record.commit_setup({"acc": 0.2})
    record.intent([pulse()])
    record.drop_after(4)
    assert [row.step for row in record.steps()] == [0, 1, 2, 3] and record.count_steps() == 4
    assert record.evaluations("acc") == [(SETUP_STEP, 0.1)]
    assert [row[0] for row in look(record, "SELECT id FROM intent")] == [1, 2, 3, 4, 5]
    assert [row[0] for row in look(record, "SELECT intent FROM outcome")] == [1, 2, 3, 4, 5]
    assert record.in_doubt() == []
    assert record.intent([read()]) == 6
    record.drop_after(SETUP_STEP)
    assert record.count_steps() == 0 and look(record, "SELECT * FROM intent") == []


def test_missing_steps_are_noticed(record: Record) -> None:
    for step in (0, 1, 3):
        do_step(record, step)
    with pytest.raises(CheckpointError, match="the last is 3 and there are 3"):
        record.count_steps()


def test_a_record_goes_on_where_it_ended(tmp_path: Path) -> None:
    first = Record(tmp_path / "run.db")
    do_step(first, 0)
    first.note("k", "v")
    first.event("remark", "at the end", 1.0)
    first.close()
    assert not (tmp_path / "run.db-wal").exists()
    second = Record(tmp_path / "run.db")
    assert second.meta("k") == "v" and second.meta("other") is None
    assert second.intent([read()]) == 2
    assert [text for *_, text in second.events()] == ["at the end"]
    second.close()


def test_opening_to_read_changes_nothing(tmp_path: Path) -> None:
    record = Record(tmp_path / "run.db")
    do_step(record, 0)
    record.close()
    before = (tmp_path / "run.db").read_bytes()
    again = Record(tmp_path / "run.db")
    assert again.count_steps() == 1
    again.close()
    assert (tmp_path / "run.db").read_bytes() == before


def write_steps(path: Path, steps: int, ready: Callable[[], object]) -> None:
    record = Record(path)
    ready()
    for step in range(steps):
        do_step(record, step)
    record.close()


def test_reading_while_another_writes(tmp_path: Path) -> None:
    """A reader in this process, a writer in another: the reader sees whole steps only, and more and more of them."""
    path = tmp_path / "run.db"
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    writer = context.Process(target=write_steps, args=(path, 150, ready.set))
    writer.start()
    assert ready.wait(10)
    counts: list[int] = []
    while writer.is_alive():
        reader = Record(path)
        counts.append(reader.count_steps())
        assert [row.step for row in reader.steps()][: counts[-1]] == list(range(counts[-1]))
        reader.close()
    writer.join()
    assert writer.exitcode == 0 and counts == sorted(counts)
    assert len(look_steps(path)) == 150


def look_steps(path: Path) -> list[int]:
    record = Record(path)
    try:
        return [row.step for row in record.steps()]
    finally:
        record.close()


def test_foreign_text_cannot_speak_to_the_terminal(record: Record) -> None:
    record.event("error", "\x1b[2J\x07 gone\r\nand " + "long" * 1000, 0.0)
    record.commit_setup({})
    ((_, _, _, text),) = record.events()
    assert text.isprintable() and "\\x1b[2J" in text and len(text) < 2100


@pytest.mark.parametrize("text", [b"", b"SQLite format 3\0 but not really", b"\0" * 4096, b"hello"])
def test_what_is_no_record(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "run.db"
    path.write_bytes(text)
    if text:
        with pytest.raises(CheckpointError, match="not a run record"):
            Record(path)
        assert path.read_bytes() == text
    else:  # a file that was only just made when its process was killed
        Record(path).close()


def test_a_making_that_was_cut_off_leaves_no_half_tables(tmp_path: Path, mocker: object) -> None:
    path = tmp_path / "run.db"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("BEGIN IMMEDIATE")
    db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    db.close()  # without a commit
    Record(path).close()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="unable to open"):
        Record(tmp_path / "nowhere" / "run.db")


def test_full_sync_is_a_choice(tmp_path: Path) -> None:
    for full, level in ((False, 1), (True, 2)):
        record = Record(tmp_path / f"{full}.db", full_sync=full)
        assert record._db.execute("PRAGMA synchronous").fetchone() == (level,)
        assert record._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        record.close()


def test_sync_folds_the_log_back(record: Record) -> None:
    for step in range(50):
        do_step(record, step)
    size = record.path.stat().st_size
    record.sync()
    assert record.path.stat().st_size > size


@pytest.mark.parametrize("batch", [1, 1024])
def test_an_intent_and_its_outcome_cost_at_most_60_us(record: Record, batch: int) -> None:
    """Measured 20 to 30 us at every batch size; CPU time, the best of some rounds."""
    lists = [
        (
            [read(batch)],
            [Outcome(torch.zeros(32, batch, 25), torch.ones(32, batch, 25, dtype=torch.uint8), None, 0, 0, 1)],
        ),
        ([pulse()], [outcome(applied=COUNTS)]),
    ]
    best = [math.inf, math.inf]
    for _ in range(10):
        for kind, (checked, outcomes) in enumerate(lists):
            began = time.process_time()
            for _ in range(100):
                record.outcome(record.intent(checked), outcomes)
            best[kind] = min(best[kind], (time.process_time() - began) / 100)
    assert max(best) < 60e-6
