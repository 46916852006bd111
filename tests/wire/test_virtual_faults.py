"""The schedule of faults, and what each fault makes of bytes. No process, no time."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest

from instruments.virtual.faults import (
    KINDS,
    ON_REQUEST,
    Fault,
    FaultSchedule,
    FaultSettings,
    spoil_answer,
    spoil_request,
)

SOME = FaultSettings(no_answer=0.1, late=0.2, flipped_bit=0.3, late_seconds=0.25, slow_seconds=0.4, garbage_bytes=5)
ANSWER = bytes(range(65, 85))


def kinds(schedule, count):
    return [fault and fault.kind for fault in (schedule.next() for _ in range(count))]


def spoiled(kind, answer=ANSWER, seed=1):
    return spoil_answer(Fault(kind, Random(seed)), answer, SOME)


def differing_bits(a, b):
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def test_a_draw_depends_on_seed_and_command_number_only():
    whole = kinds(FaultSchedule(SOME, seed=7), 300)
    late = FaultSchedule(SOME, seed=7)
    late.number = 200
    assert kinds(late, 100) == whole[200:]
    assert kinds(FaultSchedule(SOME, seed=8), 300) != whole


def test_where_a_fault_strikes_is_the_same_after_a_script_or_an_armed_fault():
    drawn = FaultSchedule(FaultSettings(flipped_bit=1.0), seed=3).next()
    planned = FaultSchedule(seed=3, script=[(1, "flipped_bit")]).next()
    armed = FaultSchedule(seed=3)
    armed.arm("flipped_bit")
    results = [spoil_answer(fault, ANSWER, SOME) for fault in (drawn, planned, armed.next())]
    assert results[0] == results[1] == results[2]


def test_rates_are_kept():
    seen = kinds(FaultSchedule(SOME, seed=2), 20_000)
    for kind, rate in (("no_answer", 0.1), ("late", 0.2), ("flipped_bit", 0.3), (None, 0.4)):
        assert seen.count(kind) / 20_000 == pytest.approx(rate, abs=0.015)  # about 4.5 sigma


def test_armed_before_script_before_rates():
    schedule = FaultSchedule(FaultSettings(late=1.0), script=[(2, "slow"), (3, "truncated")])
    schedule.arm("garbage", 2)
    assert kinds(schedule, 4) == ["garbage", "garbage", "truncated", "late"]  # number 2 was planned and has passed


def test_idle_without_faults_and_after_the_script():
    schedule = FaultSchedule(script=[(2, "slow")])
    assert not schedule.idle
    assert kinds(schedule, 3) == [None, "slow", None]
    assert schedule.idle


def test_a_change_takes_the_place_of_all_rates_and_keeps_sizes():
    schedule = FaultSchedule(SOME)
    schedule.change(rates={"slow": 1.0})
    assert kinds(schedule, 3) == ["slow"] * 3
    assert schedule.settings.late_seconds == 0.25
    schedule.change(rates={})
    assert schedule.idle


@pytest.mark.parametrize(
    "change", [{"rates": {"slwo": 0.1}}, {"rates": {"slow": 2.0}}, {"rates": {"slow": "1"}}, {"script": [(1, "no")]}]
)
def test_a_wrong_change_changes_nothing(change):
    schedule = FaultSchedule(FaultSettings(slow=1.0))
    with pytest.raises(ValueError, match=r"slow|no fault"):
        schedule.change(**change)
    assert kinds(schedule, 2) == ["slow"] * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), True])
def test_a_wrong_probability_is_refused_by_name(kind, value):
    with pytest.raises(ValueError, match=rf"^{kind} "):
        FaultSettings(**{kind: value})


def test_wrong_sizes_and_sums_are_refused():
    with pytest.raises(ValueError, match="^late_seconds "):
        FaultSettings(late_seconds=-1.0)
    with pytest.raises(ValueError, match="^garbage_bytes "):
        FaultSettings(garbage_bytes=0)
    with pytest.raises(ValueError, match="add to at most 1"):
        FaultSettings(late=0.6, slow=0.6)


def test_every_kind_is_a_field():
    assert set(KINDS) == {field.name for field in dataclasses.fields(FaultSettings)} - {
        "late_seconds", "slow_seconds", "garbage_bytes",
    }  # fmt: skip


def test_no_answer_sends_nothing():
    assert spoiled("no_answer") == []


def test_late_and_duplicate_and_untouched():
    assert spoiled("late") == [(0.25, ANSWER)]
    assert spoiled("duplicate") == [(0.0, ANSWER + ANSWER)]
    assert spoiled("busy") == [(0.0, ANSWER)]  # the wire protocol's own affair


def test_truncated_sends_a_beginning_that_is_not_the_whole():
    for seed in range(30):
        [(hold, part)] = spoiled("truncated", seed=seed)
        assert hold == 0.0
        assert len(part) < len(ANSWER)
        assert ANSWER.startswith(part)
    assert spoiled("truncated", b"") == []


def test_a_flip_changes_one_bit():
    places = set()
    for seed in range(40):
        [(_, changed)] = spoiled("flipped_bit", seed=seed)
        assert len(changed) == len(ANSWER)
        assert differing_bits(changed, ANSWER) == 1
        places.add(changed)
        assert differing_bits(spoil_request(Fault("flipped_request", Random(seed)), ANSWER), ANSWER) == 1
    assert len(places) > 20


def test_garbage_comes_before_the_answer():
    for seed in range(20):
        [(_, sent)] = spoiled("garbage", seed=seed)
        assert sent.endswith(ANSWER)
        assert 1 <= len(sent) - len(ANSWER) <= 5


@pytest.mark.parametrize("length", [1, 20, 50, 51, 12_345])
def test_slow_bytes_add_up_to_the_answer_and_the_time(length):
    answer = bytes(n % 251 for n in range(length))
    parts = spoiled("slow", answer)
    assert b"".join(part for _, part in parts) == answer
    assert sum(hold for hold, _ in parts) == pytest.approx(0.4)
    assert len(parts) == (length if length <= 50 else pytest.approx(50, abs=25))


def test_a_duplicated_request_arrives_twice():
    assert spoil_request(Fault(ON_REQUEST[1], Random(0)), b"abc") == b"abcabc"
