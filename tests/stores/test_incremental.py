"""News is worked into the last sessions alone, and the ledger says what the whole set would."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlite_utils.db import Database

from gateway.core.ledger import Posting, session_charges
from gateway.core.model import Confidence, Micros, ScopeKind, SessionTerms, Trigger
from gateway.core.sessions import CREATION, Call, windows
from gateway.core.terms import EVERYWHERE, Schedule, Terms
from gateway.stores import bookings, reads, schema
from tests.stores.making import MINUTE, NOON, THREAD, balances, call, news, origin, sums

HOUR = SessionTerms(60 * MINUTE, None, 30_000_000, "hour")
IDLE = replace(HOUR, idle_us=20 * MINUTE, price_id="idle")
MINUTES = replace(
    HOUR,
    nano_usd=1_500_000,
    per_minute=True,
    minutes_min=5,
    price_id="minutes",
    memory={"4g": 6_000_000},
)
ASKED = replace(HOUR, trigger=Trigger.ON_REQUEST, nano_usd=7, price_id="asked")


def _dated(*found: SessionTerms) -> Schedule:
    """Return these terms one after another, each from four hours after the one before."""
    return tuple(
        replace(terms, valid_from=NOON + number * 240 * MINUTE)
        for number, terms in enumerate(found)
    )


SCHEDULES = st.lists(st.sampled_from([HOUR, IDLE, MINUTES, ASKED]), min_size=1, max_size=3).map(
    lambda found: _dated(*found)
)
REPORTS = st.lists(
    st.builds(
        lambda key, minute, confidence, team, memory: replace(
            call(minute, key=key, confidence=confidence, team=team), memory=memory
        ),
        st.sampled_from([*"abcdefghij", CREATION]),
        st.integers(0, 12 * 60),
        st.sampled_from(Confidence),
        st.sampled_from(["risk", "trade"]),
        st.sampled_from([None, "4g"]),
    ),
    min_size=1,
    max_size=14,
)
# How many reports are booked at once, again and again.
PORTIONS = st.lists(st.integers(1, 4), min_size=1, max_size=5)


@contextmanager
def ledger() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    schema.migrate(connection)
    try:
        yield connection
    finally:
        connection.close()


def booked(
    connection: sqlite3.Connection, calls: Sequence[Call], schedule: Schedule
) -> tuple[Posting, ...]:
    terms = Terms({(ScopeKind.THREAD, EVERYWHERE): schedule})
    return bookings.book(connection, replace(news(*calls), terms=terms), recorded_at=NOON)


def standing(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute("SELECT * FROM sessions ORDER BY starts_at")]


def in_portions(reports: list[Call], portions: list[int]) -> Iterator[list[Call]]:
    taken = 0
    while taken < len(reports):
        for size in portions:
            if part := reports[taken : taken + size]:
                yield part
            taken += size


@settings(max_examples=300)
@given(SCHEDULES, REPORTS, PORTIONS)
@example(_dated(IDLE), [call(0), call(25), call(10)], [1])
@example(_dated(MINUTES), [call(0), call(50), call(-30), call(20)], [1])
@example(_dated(HOUR, MINUTES), [call(300), call(200), call(239), call(241)], [1])
@example(_dated(HOUR), [call(0, key="b"), call(0, key="a")], [1])
def test_in_any_order_and_portions_the_ledger_is_what_the_set_of_calls_says(
    schedule: Schedule, reports: list[Call], portions: list[int]
) -> None:
    with ledger() as connection:
        lines: list[Posting] = []
        for part in in_portions(reports, portions):
            lines += booked(connection, part, schedule)
            known = reads.calls(connection, THREAD)
            wanted = session_charges(known, schedule)
            assert sums(lines) == {each.fact: (1, each.nano_usd) for each in wanted}
            assert [
                (row["fact"], row["starts_at"], row["ends_at"], row["calls"], row["last_at"])
                for row in standing(connection)
            ] == [
                (each.fact, each.start, each.end, each.calls, each.last)
                for each in windows(known, schedule)
            ]
            assert [row["nano_usd"] for row in standing(connection)] == [
                each.nano_usd for each in wanted
            ]
        stored = connection.execute(
            "SELECT account, unit, period, window_start, posted FROM balances"
        )
        assert {tuple(row)[:4]: row["posted"] for row in stored if row["posted"]} == {
            (each.account, each.unit.value, each.period.value, each.window_start): amount
            for each, amount in balances(lines).items()
        }


@settings(max_examples=100)
@given(SCHEDULES, REPORTS, PORTIONS, st.randoms(use_true_random=False))
def test_the_order_of_news_never_matters(
    schedule: Schedule, reports: list[Call], portions: list[int], chance: Any
) -> None:
    # Reports that differ in nothing but who told could stand for one another.
    unlike = list({(each.key, each.at, each.confidence): each for each in reports}.values())
    shuffled = chance.sample(unlike, len(unlike))
    results = []
    for order in (unlike, shuffled):
        with ledger() as connection:
            for part in in_portions(order, portions):
                booked(connection, part, schedule)
            results.append(standing(connection))
    assert results[0] == results[1]


def test_late_news_that_merges_two_sessions_and_splits_another_posts_the_difference() -> None:
    with ledger() as connection:
        schedule = _dated(IDLE)
        lines = [*booked(connection, [call(0), call(25), call(100)], schedule)]
        assert [line.charge.quantity for line in lines] == [1, 1, 1]
        merged = booked(connection, [call(15)], schedule)
        assert [(line.charge.fact[-7:], line.charge.quantity) for line in merged] == [
            ("step@25", -1)
        ]
        assert booked(connection, [call(44)], schedule) == ()
        # The first session now ends with its hour, at 60: what comes then opens the next.
        assert [line.charge.fact[-7:] for line in booked(connection, [call(60)], schedule)] == [
            "step@60"
        ]


def test_by_the_minute_each_call_posts_what_it_adds_and_news_from_between_nothing() -> None:
    with ledger() as connection:
        posted = [
            [line.charge.nano_usd for line in booked(connection, [call(minute)], _dated(MINUTES))]
            for minute in (0, 3, 10, 7, 10, 59)
        ]
    assert posted == [[5 * 1_500_000], [], [6 * 1_500_000], [], [], [49 * 1_500_000]]


def test_a_tier_learned_late_reprices_every_session_of_its_container() -> None:
    with ledger() as connection:
        booked(connection, [call(1), call(90)], _dated(MINUTES))
        made = replace(call(0, key=CREATION), memory="4g")
        lines = booked(connection, [made], _dated(replace(MINUTES, trigger=Trigger.ON_REQUEST)))
        assert [row["nano_usd"] for row in standing(connection)] == [5 * 6_000_000] * 2
        assert sum(line.charge.nano_usd for line in lines) == 10 * (6_000_000 - 1_500_000)


def _steps(connection: sqlite3.Connection, calls: Sequence[Call]) -> int:
    """Return how many thousand steps of SQLite's machine it takes to book these calls."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    connection.set_progress_handler(count, 1000)
    booked(connection, calls, _dated(HOUR))
    connection.set_progress_handler(None, 0)
    return counted[0]


def test_a_scope_with_a_thousand_calls_is_not_gone_through_for_news_at_its_end() -> None:
    def at(number: int, at: Micros) -> Call:
        return Call(THREAD, f"step_{number:04d}", at, origin())

    for apart in (60 * MINUTE, MINUTE // 20):
        with ledger() as connection:
            known = [at(number, NOON + number * apart) for number in range(1000)]
            booked(connection, known, _dated(HOUR))
            last = known[-1].at
            assert _steps(connection, [at(5000, last + 1)]) <= 3
            assert _steps(connection, [at(5001, last + 90 * MINUTE)]) <= 3
            assert _steps(connection, [known[-1]]) <= 3
    # What lies before all of them concerns them all.
    with ledger() as connection:
        booked(connection, known, _dated(HOUR))
        assert _steps(connection, [at(5002, NOON - MINUTE)]) > 20


def test_a_ledger_of_the_first_release_goes_on_with_its_open_sessions() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    schema.MIGRATIONS.apply(Database(connection, execute_plugins=False), stop_before="terms")
    with ledger() as newer:
        booked(newer, [call(0), call(30)], _dated(IDLE))
        for table in ("calls", "postings", "balances", "sessions"):
            known = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            names, places = ", ".join(known), ", ".join("?" * len(known))
            for row in newer.execute(f"SELECT {names} FROM {table}").fetchall():
                connection.execute(f"INSERT INTO {table} VALUES ({places})", tuple(row))
    schema.migrate(connection)

    assert [row["last_at"] for row in standing(connection)] == [None, None]
    assert [line.charge.nano_usd for line in booked(connection, [call(40)], _dated(IDLE))] == []
    assert [line.charge.quantity for line in booked(connection, [call(15)], _dated(IDLE))] == [-1]
    assert [(row["calls"], row["last_at"]) for row in standing(connection)] == [
        (4, NOON + 40 * MINUTE)
    ]
    connection.close()
