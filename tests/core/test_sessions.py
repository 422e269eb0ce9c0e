"""Which calls make which sessions: the rule of the hour, as tables and as properties."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import (
    SECOND,
    Confidence,
    Origin,
    Scope,
    ScopeKind,
    SessionTerms,
    Surface,
    Trigger,
)
from gateway.core.sessions import CREATION, REQUEST, Call, in_order, open_at, windows
from gateway.core.terms import Schedule, in_force

MINUTE = 60 * SECOND
NOON = 1_795_435_200 * SECOND
HOUR = SessionTerms(active_us=60 * MINUTE, idle_us=None, nano_usd=30_000_000, price_id="session")
IDLE = SessionTerms(60 * MINUTE, 20 * MINUTE, 30_000_000, "session-idle")
ORIGIN = Origin("blue", "k1", "azure", Surface.DATED, "gpt", "gpt-4o", "req_1")


def thread(name: str = "thread_1") -> Scope:
    return Scope("azure", ScopeKind.THREAD, name)


def call(key: str, at_us: int, scope: Scope | None = None) -> Call:
    return Call(scope or thread(), key, NOON + at_us, ORIGIN)


def opened(calls: list[Call], terms: SessionTerms = HOUR) -> list[tuple[int, str, int]]:
    """Return for each session the minute it opened, the call that did, and how many used it."""
    return [
        ((window.start - NOON) // MINUTE, window.opener.key, window.calls)
        for window in windows(calls, (terms,))
    ]


def test_without_a_call_there_is_no_session_whatever_tools_are_enabled() -> None:
    assert windows([], (HOUR,)) == ()
    assert open_at([], (HOUR,), NOON) is None


@pytest.mark.parametrize(
    ("second_call_us", "sessions"),
    [
        (0, [(0, "a", 2)]),
        (1, [(0, "a", 2)]),
        (59 * MINUTE + 59 * SECOND, [(0, "a", 2)]),
        (60 * MINUTE - 1, [(0, "a", 2)]),
        (60 * MINUTE, [(0, "a", 1), (60, "b", 1)]),
        (61 * MINUTE, [(0, "a", 1), (61, "b", 1)]),
    ],
)
def test_a_call_within_the_hour_is_free_and_one_at_its_end_opens_the_next(
    second_call_us: int, sessions: list[tuple[int, str, int]]
) -> None:
    assert opened([call("a", 0), call("b", second_call_us)]) == sessions


def test_the_hour_runs_from_the_first_call_and_later_calls_do_not_prolong_it() -> None:
    calls = [call(f"c{minute}", minute * MINUTE) for minute in (0, 30, 59, 61)]
    assert opened(calls) == [(0, "c0", 3), (61, "c61", 1)]


def test_two_threads_at_the_same_moment_are_two_sessions() -> None:
    one = windows([call("a", 0, thread("thread_1"))], (HOUR,))
    other = windows([call("a", 0, thread("thread_2"))], (HOUR,))
    assert [one[0].fact, other[0].fact] == [
        "session/azure/thread/thread_1/a",
        "session/azure/thread/thread_2/a",
    ]


def test_seven_calls_of_one_run_are_one_session() -> None:
    assert opened([call(f"step_{n}", n * SECOND) for n in range(7)]) == [(0, "step_0", 7)]


@pytest.mark.parametrize(
    ("minutes", "sessions"),
    [
        ((0, 19), [(0, "0", 2)]),
        ((0, 20), [(0, "0", 1), (20, "20", 1)]),
        ((0, 19, 38, 57), [(0, "0", 4)]),
        ((0, 19, 38, 57, 60), [(0, "0", 4), (60, "60", 1)]),
        ((0, 25, 50), [(0, "0", 1), (25, "25", 1), (50, "50", 1)]),
    ],
)
def test_with_an_idle_time_a_session_ends_twenty_minutes_after_its_last_call_or_with_its_hour(
    minutes: tuple[int, ...], sessions: list[tuple[int, str, int]]
) -> None:
    assert opened([call(str(minute), minute * MINUTE) for minute in minutes], IDLE) == sessions


@pytest.mark.parametrize(
    ("at_us", "is_open"),
    [(-1, False), (0, True), (60 * MINUTE - 1, True), (60 * MINUTE, False)],
)
def test_a_session_is_open_from_its_start_up_to_but_not_at_its_end(
    at_us: int, is_open: bool
) -> None:
    assert (open_at([call("a", 0)], (HOUR,), NOON + at_us) is not None) is is_open


def test_a_call_reported_twice_counts_once_at_its_earliest_time() -> None:
    assert opened([call("a", 5 * MINUTE), call("a", 0), call("a", 9 * MINUTE)]) == [(0, "a", 1)]


def test_of_two_reports_of_one_call_at_one_time_the_better_known_stands_in_any_order() -> None:
    read = call("a", 0)
    guessed = replace(read, confidence=Confidence.ESTIMATED, reason="lost")
    for reports in ([read, guessed], [guessed, read]):
        assert windows(reports, (HOUR,))[0].opener is read


def test_calls_at_the_same_microsecond_are_opened_by_the_first_in_name() -> None:
    assert opened([call("b", 0), call("a", 0)]) == opened([call("a", 0), call("b", 0)])
    assert opened([call("b", 0), call("a", 0)]) == [(0, "a", 2)]


CALLS = st.lists(
    st.builds(call, st.sampled_from("abcdefgh"), st.integers(0, 300).map(lambda m: m * MINUTE)),
    max_size=20,
)
MINUTES = replace(IDLE, nano_usd=1_500_000, per_minute=True, minutes_min=5, memory={"4g": 6})
ASKED = replace(HOUR, trigger=Trigger.ON_REQUEST)


def dated(found: list[SessionTerms]) -> Schedule:
    """Return these terms one after another, each from 100 minutes after the one before."""
    return tuple(
        replace(terms, valid_from=NOON + number * 100 * MINUTE)
        for number, terms in enumerate(found)
    )


SCHEDULES = st.lists(st.sampled_from([HOUR, IDLE, MINUTES, ASKED]), min_size=1, max_size=3).map(
    dated
)


@given(CALLS, SCHEDULES, st.randoms(use_true_random=False))
def test_the_windows_depend_on_the_set_of_calls_alone(
    calls: list[Call], schedule: Schedule, chance: random.Random
) -> None:
    shuffled = calls + calls[: len(calls) // 2]
    chance.shuffle(shuffled)
    assert windows(shuffled, schedule) == windows(calls, schedule)


@given(CALLS, SCHEDULES)
def test_windows_follow_one_another_and_never_overlap(
    calls: list[Call], schedule: Schedule
) -> None:
    found = windows(calls, schedule)
    for window in found:
        assert window.terms == in_force(schedule, window.start)
        assert window.start <= window.last < window.end
        assert window.end <= window.start + window.terms.active_us
    for earlier, later in pairwise(found):
        assert earlier.end <= later.start


@given(CALLS, SCHEDULES)
def test_each_known_call_lies_in_exactly_one_window_and_is_counted_there(
    calls: list[Call], schedule: Schedule
) -> None:
    found = windows(calls, schedule)
    earliest = {each.key: min(c.at for c in calls if c.key == each.key) for each in calls}
    for at in earliest.values():
        assert sum(window.start <= at < window.end for window in found) == 1
    assert sum(window.calls for window in found) == len(earliest)


@given(CALLS, SCHEDULES)
def test_each_window_is_named_after_the_call_that_opened_it(
    calls: list[Call], schedule: Schedule
) -> None:
    found = windows(calls, schedule)
    assert all(window.opener.at == window.start for window in found)
    assert len({window.fact for window in found}) == len(found)


@given(CALLS, SCHEDULES)
def test_what_comes_from_a_window_on_does_not_depend_on_what_lies_before_it(
    calls: list[Call], schedule: Schedule
) -> None:
    found = windows(calls, schedule)
    known = in_order(calls)
    for number, window in enumerate(found):
        tail = [each for each in known if each.at >= window.start]
        assert windows(tail, schedule, first=known[0]) == found[number:]


@given(CALLS, SCHEDULES, st.integers(0, 300))
def test_news_after_the_last_opening_is_worked_into_the_last_window_alone(
    calls: list[Call], schedule: Schedule, minute: int
) -> None:
    known = in_order(calls)
    before = windows([each for each in known if each.at <= NOON + minute * MINUTE], schedule)
    if not before:
        return
    old = {each.key for each in known if each.at <= NOON + minute * MINUTE}
    news = [each for each in known if each.key not in old]
    assert (*before[:-1], *windows(news, schedule, begun=before[-1])) == windows(known, schedule)


# terms


def test_a_session_has_the_terms_of_its_opening_to_its_end() -> None:
    schedule = (HOUR, replace(IDLE, valid_from=NOON + 30 * MINUTE, nano_usd=50_000_000))
    calls = [call(str(minute), minute * MINUTE) for minute in (0, 29, 55, 60, 79, 100)]
    assert [(each.opener.key, each.nano_usd) for each in windows(calls, schedule)] == [
        ("0", 30_000_000),
        ("60", 50_000_000),
        ("100", 50_000_000),
    ]


@pytest.mark.parametrize(
    ("terms", "opened_by"),
    [(HOUR, ["late"]), (ASKED, [CREATION, "late"])],
)
def test_what_was_only_asked_for_opens_and_uses_a_session_where_that_is_charged(
    terms: SessionTerms, opened_by: list[str]
) -> None:
    calls = [call(CREATION, 0), call(f"{REQUEST}run/r", 10 * MINUTE), call("late", 70 * MINUTE)]
    found = windows(calls, (terms,))
    assert [each.opener.key for each in found] == opened_by
    assert sum(each.calls for each in found) == (3 if terms is ASKED else 1)


def test_a_container_has_the_memory_of_its_first_call_in_all_its_sessions() -> None:
    made, again = replace(call("a", 0), memory="4g"), call("b", 90 * MINUTE)
    other = replace(call("c", 200 * MINUTE), memory="16g")
    assert [each.memory for each in windows([again, other, made], (MINUTES,))] == ["4g"] * 3
    assert [each.nano_usd for each in windows([again, other, made], (MINUTES,))] == [5 * 6] * 3
