"""What is posted is the difference between what is wanted and what was posted before."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ledger import Balance, OwnedObject, Period, Posting, PostingKind, Unit
from gateway.core.model import Confidence, ObjectId, ObjectKind, Scope, ScopeKind
from gateway.core.sessions import Call
from gateway.core.terms import Terms
from gateway.ports import SessionRow
from gateway.stores import SqliteStore, bookings, reads
from tests.stores.conftest import fresh_tables
from tests.stores.making import (
    CENT,
    FILE,
    MINUTE,
    NOON,
    SESSION,
    THREAD,
    amounts,
    balances,
    call,
    charge,
    news,
    sums,
)


async def ledger(store: SqliteStore) -> list[Posting]:
    return [row.posting async for row in store.ledger()]


async def test_late_news_makes_reverses_and_makes_the_charge_again(store: SqliteStore) -> None:
    first = await store.book(news(call(0)))
    second = await store.book(news(call(-30)))
    third = await store.book(news(call(-80)))
    assert amounts(first) == [("step@0", 1)]
    assert amounts(second) == [("step@0", -1), ("step@-30", 1)]
    assert amounts(third) == [("step@-30", -1), ("step@-80", 1), ("step@0", 1)]
    assert [line.revision for line in third] == [2, 1, 3]
    assert [line.kind for line in third] == [
        PostingKind.CORRECTION,
        PostingKind.CHARGE,
        PostingKind.CORRECTION,
    ]
    assert sum(line.charge.nano_usd for line in await ledger(store)) == 6 * CENT


def test_the_sums_are_the_same_in_whatever_order_the_news_comes() -> None:
    for order in permutations((0, -30, -80)):
        with closing(fresh_tables()) as connection:
            for minute in order:
                bookings.book(connection, news(call(minute)), recorded_at=NOON)
            assert sums(all_postings(connection)) == {
                "session/east/thread/thread_1/step@-80": (1, SESSION),
                "session/east/thread/thread_1/step@0": (1, SESSION),
            }


def all_postings(connection: sqlite3.Connection) -> list[Posting]:
    return [row.posting for row in reads.ledger_page(connection, after=0)]


def all_balances(connection: sqlite3.Connection) -> dict[Balance, int]:
    found = connection.execute("SELECT * FROM balances WHERE posted <> 0")
    return {
        Balance(row["account"], Unit(row["unit"]), Period(row["period"]), row["window_start"]): row[
            "posted"
        ]
        for row in found
    }


SCOPES = (THREAD, Scope("east", ScopeKind.CONTAINER, "cntr_1"))

HEARD = st.builds(
    call,
    st.integers(-900, 900),
    key=st.sampled_from(["a", "b", "c", "d", "e"]),
    scope=st.sampled_from(SCOPES),
    confidence=st.sampled_from(Confidence),
    team=st.sampled_from(["risk", "sales"]),
)


def same_work_has_one_team(calls: Sequence[Call]) -> list[Call]:
    """Let each step belong to one team, as it does at Azure."""
    teams = {item.key: item.origin for item in calls}
    return [replace(item, origin=teams[item.key]) for item in calls]


@given(st.lists(HEARD, max_size=12).map(same_work_has_one_team), st.data())
def test_any_order_and_any_batching_of_the_same_calls_give_the_same_sums(
    calls: list[Call], data: st.DataObject
) -> None:
    with closing(fresh_tables()) as at_once:
        bookings.book(at_once, news(*calls), recorded_at=NOON)
        expected = sums(all_postings(at_once))
    shuffled = data.draw(st.permutations(calls))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(calls)), max_size=4)))
    with closing(fresh_tables()) as piecemeal:
        for start, end in zip([0, *cuts], [*cuts, len(calls)], strict=True):
            bookings.book(piecemeal, news(*shuffled[start:end]), recorded_at=NOON)
        postings = all_postings(piecemeal)
        assert sums(postings) == expected
        assert all_balances(piecemeal) == balances(postings)
        kept = piecemeal.execute("SELECT fact, nano_usd FROM sessions")
        assert {fact: (1, nano_usd) for fact, nano_usd in kept} == expected


@given(st.lists(HEARD, max_size=8))
def test_booking_the_same_news_twice_posts_nothing(calls: list[Call]) -> None:
    with closing(fresh_tables()) as connection:
        told = news(*calls, charges=[charge(5), charge(7, fact="run/east/run_2/input_tokens")])
        bookings.book(connection, told, recorded_at=NOON)
        before = all_postings(connection), all_balances(connection)
        assert bookings.book(connection, told, recorded_at=NOON) == ()
        assert (all_postings(connection), all_balances(connection)) == before


def test_an_estimate_is_replaced_by_what_was_read_as_a_correction(
    tables: sqlite3.Connection,
) -> None:
    guess = charge(90, quantity=9, confidence=Confidence.ESTIMATED)
    bookings.book(tables, news(charges=[guess]), recorded_at=NOON)
    (line,) = bookings.book(tables, news(charges=[charge(70, quantity=7)]), recorded_at=NOON)
    assert (line.kind, line.revision) == (PostingKind.CORRECTION, 2)
    assert (line.charge.quantity, line.charge.nano_usd) == (-2, -20)
    assert line.charge.confidence is Confidence.EXACT


def test_what_was_read_is_never_replaced_by_an_estimate(tables: sqlite3.Connection) -> None:
    bookings.book(tables, news(charges=[charge(70)]), recorded_at=NOON)
    guess = charge(90, confidence=Confidence.ESTIMATED)
    assert bookings.book(tables, news(charges=[guess]), recorded_at=NOON) == ()


def test_a_session_that_was_guessed_is_confirmed_at_the_same_price(
    tables: sqlite3.Connection,
) -> None:
    guess = call(0, confidence=Confidence.ESTIMATED)
    bookings.book(tables, news(guess), recorded_at=NOON)
    (line,) = bookings.book(tables, news(call(0)), recorded_at=NOON)
    assert (line.charge.quantity, line.charge.nano_usd) == (0, 0)
    assert [row.confidence for row in reads.sessions(tables, team=None)] == ["exact"]


def test_one_fact_twice_in_one_booking_ends_at_the_last_amount(
    tables: sqlite3.Connection,
) -> None:
    lines = bookings.book(tables, news(charges=[charge(70), charge(50)]), recorded_at=NOON)
    assert [line.charge.nano_usd for line in lines] == [70, -20]


@pytest.mark.parametrize(
    ("first", "then", "stands"),
    [
        pytest.param(call(5, key="s"), call(3, key="s"), 3, id="the earlier of equals"),
        pytest.param(call(3, key="s"), call(5, key="s"), 3, id="also when heard first"),
        pytest.param(
            call(3, key="s", confidence=Confidence.ESTIMATED),
            call(5, key="s"),
            5,
            id="what was read before what was guessed",
        ),
        pytest.param(
            call(5, key="s"),
            call(3, key="s", confidence=Confidence.ESTIMATED),
            5,
            id="never a guess for what was read",
        ),
    ],
)
def test_of_two_reports_of_one_call_the_better_one_stands(
    first: Call, then: Call, stands: int, tables: sqlite3.Connection
) -> None:
    bookings.book(tables, news(first), recorded_at=NOON)
    bookings.book(tables, news(then), recorded_at=NOON)
    (known,) = reads.calls(tables, THREAD)
    assert known.at == NOON + stands * MINUTE


def test_a_scope_without_terms_is_never_booked(tables: sqlite3.Connection) -> None:
    with pytest.raises(KeyError):
        bookings.book(tables, replace(news(call(0)), terms=Terms({})), recorded_at=NOON)


async def test_sessions_stand_as_the_calls_say_newest_first(store: SqliteStore) -> None:
    await store.book(news(call(0), call(10), call(70, team="sales")))
    newest, oldest = await store.sessions()
    assert oldest == SessionRow(
        scope=THREAD,
        start=NOON,
        end=NOON + 60 * MINUTE,
        calls=2,
        team="risk",
        key="pub1",
        nano_usd=SESSION,
        confidence="exact",
    )
    assert (newest.start, newest.team) == (NOON + 70 * MINUTE, "sales")
    assert await store.sessions(team="risk") == [oldest]
    await store.book(news(call(-10)))
    assert [row.calls for row in await store.sessions()] == [1, 3]


async def test_balances_are_those_of_the_windows_that_hold_the_moment(store: SqliteStore) -> None:
    day = 24 * 60
    await store.book(news(call(0), call(day), charges=[charge(5)]))
    today = await store.balances("team:risk", NOON)
    assert today["sessions", "day"] == (1, 0)
    assert today["sessions", "month"] == (2, 0)
    assert today["nano_usd", "day"] == (SESSION + 5, 0)
    thread = await store.balances("scope:east/thread/thread_1", NOON)
    assert thread["sessions", "ever"] == (2, 0)
    assert (await store.balances("team:nobody", NOON))["sessions", "day"] == (0, 0)


async def test_the_ledger_pages_through_everything_in_order(store: SqliteStore) -> None:
    many = [charge(n + 1, fact=f"run/east/run_{n}/input_tokens") for n in range(1_100)]
    await store.book(news(charges=many))
    lines = [row async for row in store.ledger()]
    assert [row.posting.charge for row in lines] == many
    assert [row.number for row in lines] == list(range(1, 1_101))
    assert {row.recorded_at for row in lines} == {NOON}
    assert [row.number async for row in store.ledger(after=1_098)] == [1_099, 1_100]


async def test_postings_are_found_by_the_request_that_caused_them(store: SqliteStore) -> None:
    mine = charge(5, request="req-7")
    await store.book(news(charges=[mine, charge(6, fact="run/east/run_2/input_tokens")]))
    (row,) = await store.postings_of_request("req-7")
    assert row.posting.charge == mine


@pytest.mark.parametrize("statement", ["UPDATE postings SET nano_usd = 0", "DELETE FROM postings"])
def test_postings_cannot_be_changed_or_deleted(statement: str, tables: sqlite3.Connection) -> None:
    bookings.book(tables, news(charges=[charge(5)]), recorded_at=NOON)
    with pytest.raises(sqlite3.IntegrityError, match="postings are never"):
        tables.execute(statement)
    assert len(all_postings(tables)) == 1


def owned(*, team: str = "risk", item: ObjectId = FILE, minute: int = 0) -> OwnedObject:
    return OwnedObject(object=item, team=team, at=NOON + minute * MINUTE)


async def test_the_first_owner_stays_the_owner(store: SqliteStore) -> None:
    await store.book(replace(news(), created=(owned(team="risk"),)))
    await store.book(replace(news(), created=(owned(team="sales"),)))
    assert await store.owners([FILE]) == {FILE: "risk"}


async def test_a_deleted_object_has_no_owner_and_stays_deleted(store: SqliteStore) -> None:
    await store.book(replace(news(), created=(owned(),)))
    assert await store.owners([FILE]) == {FILE: "risk"}
    await store.book(replace(news(), deleted=(FILE,)))
    assert await store.owners([FILE]) == {}
    await store.book(replace(news(), created=(owned(team="sales"),)))
    assert await store.owners([FILE]) == {}
    assert await store.owned(upstream="east", kind=ObjectKind.FILE, team="risk") == []


async def test_only_what_is_known_has_an_owner(store: SqliteStore) -> None:
    elsewhere = replace(FILE, upstream="west")
    await store.book(replace(news(), created=(owned(),)))
    assert await store.owners([FILE, elsewhere]) == {FILE: "risk"}
    assert await store.owners([FILE, elsewhere]) == {FILE: "risk"}


async def test_a_team_sees_its_own_living_objects_newest_first(store: SqliteStore) -> None:
    items = [replace(FILE, id=f"file-{n}") for n in range(4)]
    teams = ["risk", "risk", "sales", "risk"]
    created = tuple(
        owned(item=item, team=team, minute=n)
        for n, (item, team) in enumerate(zip(items, teams, strict=True))
    )
    await store.book(replace(news(), created=created, deleted=(items[0],)))
    found = await store.owned(upstream="east", kind=ObjectKind.FILE, team="risk")
    assert found == [("file-3", NOON + 3 * MINUTE), ("file-1", NOON + MINUTE)]
