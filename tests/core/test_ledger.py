"""Wanted minus posted: late news, moved facts, estimates, and the calendar of balances."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ledger import (
    Balance,
    Charge,
    IntentState,
    Period,
    Posted,
    Posting,
    PostingKind,
    Unit,
    balances_of,
    reconcile,
    reconcile_scope,
    scope_account,
    session_charges,
    team_account,
    window_end,
    window_start,
)
from gateway.core.model import (
    SECOND,
    Confidence,
    Meter,
    Origin,
    Scope,
    ScopeKind,
    SessionTerms,
    Surface,
)
from gateway.core.sessions import Call

MINUTE = 60 * SECOND
DAY = 86_400 * SECOND
NOON = 1_795_435_200 * SECOND  # 2026-11-23T12:00:00Z
PRICE = 30_000_000
TERMS = (SessionTerms(60 * MINUTE, None, PRICE, "session-thread"),)
THREAD = Scope("azure", ScopeKind.THREAD, "thread_1")
EXACT, RECOVERED, ESTIMATED = Confidence.EXACT, Confidence.RECOVERED, Confidence.ESTIMATED


def origin(team: str = "blue") -> Origin:
    return Origin(team, "k1", "azure", Surface.DATED, "gpt", "gpt-4o", "req_1")


def call(key: str, at_us: int, *, team: str = "blue", confidence: Confidence = EXACT) -> Call:
    return Call(THREAD, key, NOON + at_us, origin(team), confidence)


def charge(
    amount: int,
    *,
    at: int = NOON,
    team: str = "blue",
    confidence: Confidence = EXACT,
    fact: str = "response/azure/resp_1#input_tokens",
) -> Charge:
    return Charge(
        fact=fact,
        at=at,
        meter=Meter.INPUT_TOKENS,
        quantity=amount,
        nano_usd=amount * 10,
        price_id="p",
        confidence=confidence,
        origin=origin(team),
    )


class Book:
    """The postings of a test, added up as a store adds them up."""

    def __init__(self) -> None:
        self.lines: list[Posting] = []
        self.posted: dict[str, Posted] = {}

    def post(self, lines: list[Posting]) -> list[int]:
        """Write the lines and return their quantities."""
        for line in lines:
            fact = line.charge.fact
            before = self.posted.get(fact)
            assert line.revision == (before.revision + 1 if before else 1)
            assert (line.kind is PostingKind.CHARGE) is (before is None)
            self.posted[fact] = Posted(
                charge=line.charge,
                quantity=(before.quantity if before else 0) + line.charge.quantity,
                nano_usd=(before.nano_usd if before else 0) + line.charge.nano_usd,
                revision=line.revision,
            )
        self.lines += lines
        return [line.charge.quantity for line in lines]

    def want(self, *wanted: Charge) -> list[int]:
        return self.post(reconcile(wanted, self.posted))

    def hear(self, calls: list[Call]) -> list[int]:
        return self.post(reconcile_scope(calls, TERMS, self.posted))

    def balances(self) -> Counter[Balance]:
        """Return what the lines add up to, balance by balance, without the empty ones."""
        return _net(self.lines)


def _net(lines: list[Posting]) -> Counter[Balance]:
    sums: Counter[Balance] = Counter()
    for line in lines:
        for balance, change in balances_of(line):
            sums[balance] += change
    return Counter({balance: total for balance, total in sums.items() if total})


def _wanted_balances(charges: list[Charge]) -> Counter[Balance]:
    return _net([Posting(each, 1, PostingKind.CHARGE) for each in charges])


# sessions of a scope


def test_calls_heard_of_at_0_then_30_then_80_minutes_earlier_are_corrected_step_by_step() -> None:
    book = Book()
    at_0, at_30, at_80 = call("c0", 0), call("c30", -30 * MINUTE), call("c80", -80 * MINUTE)
    assert book.hear([at_0]) == [+1]
    assert book.hear([at_0, at_30]) == [-1, +1]
    assert book.hear([at_0, at_30, at_80]) == [-1, +1, +1]
    assert {fact: sums.quantity for fact, sums in book.posted.items()} == {
        "session/azure/thread/thread_1/c0": 1,
        "session/azure/thread/thread_1/c30": 0,
        "session/azure/thread/thread_1/c80": 1,
    }
    assert book.posted["session/azure/thread/thread_1/c0"].revision == 3
    assert book.balances()[Balance("org", Unit.NANO_USD, Period.MONTH, NOV)] == 2 * PRICE


def test_the_same_news_twice_posts_nothing() -> None:
    book = Book()
    assert book.hear([call("a", 0)]) == [1]
    assert book.hear([call("a", 0), call("a", 0)]) == []


def test_a_scope_without_calls_has_nothing_to_post() -> None:
    assert reconcile_scope([], TERMS, {}) == []


def test_the_team_that_opened_the_session_pays_on_the_day_it_opened() -> None:
    midnight = 12 * 60 * MINUTE
    calls = [
        call("late", midnight - MINUTE, team="blue"),
        call("after", midnight + MINUTE, team="green"),
    ]
    assert [(each.origin.team, each.at) for each in session_charges(calls, TERMS)] == [
        ("blue", NOON + midnight - MINUTE)
    ]


def test_a_session_that_an_earlier_call_of_another_team_opened_moves_to_that_team() -> None:
    book = Book()
    book.hear([call("mine", 0, team="blue")])
    book.hear([call("mine", 0, team="blue"), call("theirs", -MINUTE, team="green")])
    teams = {balance.account for balance in book.balances()}
    assert teams == {"team:green", "org", "scope:azure/thread/thread_1"}


@st.composite
def news(draw: st.DrawFn) -> list[Call]:
    """Draw reports of a few calls: of any time, by any team, known well or badly."""
    report = st.builds(
        call,
        st.sampled_from("abcde"),
        st.integers(-50, 50).map(lambda quarter: quarter * 15 * MINUTE),
        team=st.sampled_from(["blue", "green"]),
        confidence=st.sampled_from(Confidence),
    )
    return draw(st.lists(report, min_size=1, max_size=12))


@given(news())
def test_whatever_is_heard_in_whatever_order_the_postings_add_up_to_what_is_wanted(
    reports: list[Call],
) -> None:
    book, known = Book(), dict[str, Call]()
    for report in reports:
        before = known.get(report.key)
        # A store learns a call anew if the report is better, or as good and earlier.
        rank = (report.confidence.rank, -report.at)
        if before is None or rank > (before.confidence.rank, -before.at):
            known[report.key] = report
        book.hear(list(known.values()))
        wanted = session_charges(known.values(), TERMS)
        posted = {fact: (each.quantity, each.nano_usd) for fact, each in book.posted.items()}
        assert {fact for fact, sums in posted.items() if sums != (0, 0)} == {
            each.fact for each in wanted
        }
        assert all(posted[each.fact] == (1, PRICE) for each in wanted)
        assert book.balances() == _wanted_balances(wanted)


# single facts

WANTED = st.builds(
    charge,
    st.integers(1, 5),
    at=st.sampled_from([NOON - DAY, NOON, NOON + MINUTE, NOON + 9 * DAY]),
    team=st.sampled_from(["blue", "green"]),
    confidence=st.sampled_from(Confidence),
    fact=st.sampled_from(["one", "two"]),
)


@given(st.lists(WANTED, max_size=12))
def test_a_fact_costs_what_was_last_wanted_of_the_best_confidence_and_only_there(
    wishes: list[Charge],
) -> None:
    book, stands = Book(), dict[str, Charge]()
    for wish in wishes:
        book.want(wish)
        before = stands.get(wish.fact)
        if before is None or wish.confidence.rank >= before.confidence.rank:
            stands[wish.fact] = wish
        assert book.balances() == _wanted_balances(list(stands.values()))
    for fact, sums in book.posted.items():
        assert (sums.quantity, sums.nano_usd) == (stands[fact].quantity, stands[fact].nano_usd)


@pytest.mark.parametrize(
    ("first", "then", "posted"),
    [
        (charge(7, confidence=EXACT), charge(9, confidence=ESTIMATED), [7]),
        (charge(7, confidence=EXACT), charge(9, confidence=RECOVERED), [7]),
        (charge(7, confidence=RECOVERED), charge(9, confidence=ESTIMATED), [7]),
        (charge(9, confidence=ESTIMATED), charge(7, confidence=RECOVERED), [9, -2]),
        (charge(9, confidence=ESTIMATED), charge(7, confidence=EXACT), [9, -2]),
        (charge(9, confidence=ESTIMATED), charge(9, confidence=EXACT), [9, 0]),
        (charge(9, confidence=ESTIMATED), charge(0, confidence=EXACT), [9, -9]),
        (charge(7), charge(7), [7]),
        (charge(7), charge(8), [7, 1]),
        (charge(7), charge(7, at=NOON + MINUTE), [7]),
        (charge(7), charge(7, at=NOON + DAY), [7, -7, 7]),
        (charge(7), charge(8, team="green"), [7, -7, 8]),
        (charge(7), charge(0, team="green"), [7, -7]),
        (charge(7), charge(9, team="green", confidence=ESTIMATED), [7]),
        (charge(0), charge(7), [7]),
        (charge(0), charge(0), []),
    ],
)
def test_the_second_word_on_a_fact_posts_the_difference_unless_it_is_worse_known(
    first: Charge, then: Charge, posted: list[int]
) -> None:
    book = Book()
    assert book.want(first) + book.want(then) == posted


def test_a_fact_reversed_to_nothing_and_then_found_elsewhere_is_only_charged_there() -> None:
    book = Book()
    assert book.want(charge(7)) + book.want(charge(0)) == [7, -7]
    assert book.want(charge(5, team="green", at=NOON + DAY)) == [5]
    assert book.want(charge(0, team="blue")) == [-5]
    assert book.want(charge(0, team="green")) == []
    assert book.balances() == Counter()


def test_a_fact_that_moves_leaves_nothing_on_its_old_day_month_and_team() -> None:
    book = Book()
    book.want(charge(7))
    book.want(charge(7, team="green", at=NOON + 9 * DAY))
    assert book.balances() == _wanted_balances([charge(7, team="green", at=NOON + 9 * DAY)])


# balances and their calendar


def micros(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()) * SECOND


NOV = micros(2026, 11, 1)


@pytest.mark.parametrize(
    ("at", "period", "start", "end"),
    [
        (micros(2026, 11, 23, 12), Period.DAY, micros(2026, 11, 23), micros(2026, 11, 24)),
        (micros(2026, 11, 23), Period.DAY, micros(2026, 11, 23), micros(2026, 11, 24)),
        (micros(2026, 11, 23) - 1, Period.DAY, micros(2026, 11, 22), micros(2026, 11, 23)),
        (micros(2026, 12, 31, 23, 59), Period.DAY, micros(2026, 12, 31), micros(2027, 1, 1)),
        (micros(2028, 2, 29, 23), Period.DAY, micros(2028, 2, 29), micros(2028, 3, 1)),
        (micros(2026, 11, 23, 12), Period.MONTH, micros(2026, 11, 1), micros(2026, 12, 1)),
        (micros(2026, 12, 31, 23, 59), Period.MONTH, micros(2026, 12, 1), micros(2027, 1, 1)),
        (micros(2027, 1, 1) - 1, Period.MONTH, micros(2026, 12, 1), micros(2027, 1, 1)),
        (micros(2027, 1, 1), Period.MONTH, micros(2027, 1, 1), micros(2027, 2, 1)),
        (micros(2027, 2, 28, 23), Period.MONTH, micros(2027, 2, 1), micros(2027, 3, 1)),
        (micros(2028, 2, 29), Period.MONTH, micros(2028, 2, 1), micros(2028, 3, 1)),
        (micros(2028, 1, 31, 23, 59), Period.MONTH, micros(2028, 1, 1), micros(2028, 2, 1)),
        (micros(2026, 11, 23), Period.EVER, 0, None),
    ],
)
def test_a_period_is_a_calendar_window_in_utc(
    at: int, period: Period, start: int, end: int | None
) -> None:
    assert (window_start(period, at), window_end(period, at)) == (start, end)


@pytest.mark.parametrize("day", [(2026, 3, 29), (2026, 10, 25), (2026, 3, 8), (2026, 11, 1)])
def test_every_day_has_24_hours_also_where_clocks_are_changed(day: tuple[int, int, int]) -> None:
    start = micros(*day)
    assert {window_start(Period.DAY, start + hour * 3600 * SECOND) for hour in range(24)} == {start}
    assert window_start(Period.DAY, start + DAY) == start + DAY


@given(st.integers(0, 4_102_444_800 * SECOND), st.sampled_from([Period.DAY, Period.MONTH]))
def test_periods_follow_one_another_without_a_gap(at: int, period: Period) -> None:
    start, end = window_start(period, at), window_end(period, at)
    assert end is not None
    assert start <= at < end
    assert window_start(period, end) == end
    assert window_start(period, end - 1) == start


def test_a_session_counts_for_team_and_organisation_by_day_and_month_and_for_its_scope() -> None:
    (made,) = session_charges([call("a", 0)], TERMS)
    day = micros(2026, 11, 23)
    changes = Counter(dict(balances_of(Posting(made, 1, PostingKind.CHARGE))))
    assert changes == {
        Balance(account, unit, period, start): amount
        for account in (team_account("blue"), "org")
        for unit, amount in ((Unit.SESSIONS, 1), (Unit.NANO_USD, PRICE))
        for period, start in ((Period.DAY, day), (Period.MONTH, NOV))
    } | {Balance(scope_account(THREAD), Unit.SESSIONS, Period.EVER, 0): 1}


def test_tokens_count_as_money_and_never_as_sessions() -> None:
    changes = dict(balances_of(Posting(charge(7), 1, PostingKind.CHARGE)))
    assert {balance.unit for balance in changes} == {Unit.NANO_USD}
    assert set(changes.values()) == {70}


def test_a_session_without_a_scope_has_no_scope_balance() -> None:
    (made,) = session_charges([call("a", 0)], TERMS)
    line = Posting(replace(made, scope=None), 1, PostingKind.CHARGE)
    assert {balance.account for balance, _ in balances_of(line)} == {"team:blue", "org"}


def test_only_settled_and_void_intents_have_released_their_claims() -> None:
    assert {state for state in IntentState if state.is_closed} == {
        IntentState.SETTLED,
        IntentState.VOID,
    }
