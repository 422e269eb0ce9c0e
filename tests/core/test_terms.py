"""Session terms: which are in force where and when, what they come to, and what is no terms."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import SECOND, Scope, ScopeKind, SessionTerms, Trigger
from gateway.core.terms import (
    Terms,
    amount,
    amount_max,
    in_force,
    in_force_within,
    price_id,
)
from gateway.core.terms_file import read_terms

MINUTE = 60 * SECOND
JUNE_2 = 1_780_358_400 * SECOND  # 2026-06-02T00:00:00Z
JULY_1 = 1_782_864_000 * SECOND  # 2026-07-01T00:00:00Z
PLAIN = SessionTerms(60 * MINUTE, None, 30_000_000, "plain")
MINUTES = SessionTerms(
    20 * MINUTE,
    None,
    1_500_000,
    "minutes",
    per_minute=True,
    minutes_min=5,
    memory={"4g": 6_000_000, "64g": 96_000_000},
)


def entry(scope: str = "container", **changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "scope": scope,
        "valid_from": "2025-04-01",
        "usd": "0.03",
        "active_s": 3600,
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def others(*, but: str = "container") -> list[dict[str, object]]:
    """Return an entry for each kind of scope but one."""
    return [entry(kind.value) for kind in ScopeKind if kind.value != but]


def read(*entries: dict[str, object]) -> Terms:
    terms, faults = read_terms([*others(), *entries])
    assert faults == []
    return terms


def faults_of(*entries: object) -> list[str]:
    return read_terms([*others(), *entries])[1]


def prices(terms: Terms, upstream: str, *ats: int) -> list[int]:
    schedule = terms.of(ScopeKind.CONTAINER, upstream)
    return [in_force(schedule, at).nano_usd for at in ats]


def test_an_entry_is_in_force_from_its_day_on_and_the_first_also_before() -> None:
    terms = read(entry(), entry(valid_from="2026-06-02", usd="0.05"))
    ats = (0, JUNE_2 - 1, JUNE_2, JULY_1)
    assert prices(terms, "azure", *ats) == [30_000_000, 30_000_000, 50_000_000, 50_000_000]


def test_an_entry_for_a_region_comes_before_one_for_everywhere_from_its_day_on() -> None:
    terms = read(
        entry(),
        entry(valid_from="2026-06-02", usd="0.033", regions=["SwedenCentral", "westus"]),
        entry(valid_from="2026-07-01", usd="0.05"),
    ).placed({"north": "swedencentral", "east": "eastus"})
    ats = (JUNE_2 - 1, JUNE_2, JULY_1)
    assert prices(terms, "north", *ats) == [30_000_000, 33_000_000, 33_000_000]
    assert prices(terms, "east", *ats) == [30_000_000, 30_000_000, 50_000_000]
    assert prices(terms, "not-placed", *ats) == [30_000_000, 30_000_000, 50_000_000]


def test_a_scope_has_the_terms_of_its_kind_and_upstream() -> None:
    terms = read(entry(usd="0.05"))
    of_thread = terms.of_scope(Scope("azure", ScopeKind.THREAD, "t"))
    of_container = terms.of_scope(Scope("azure", ScopeKind.CONTAINER, "c"))
    assert (of_thread[0].nano_usd, of_container[0].nano_usd) == (30_000_000, 50_000_000)
    with pytest.raises(KeyError):
        Terms({}).of(ScopeKind.THREAD, "azure")


def test_what_could_come_into_force_while_work_is_done_is_known_before() -> None:
    first, second = PLAIN, replace(PLAIN, valid_from=JUNE_2, price_id="june")
    third = replace(PLAIN, valid_from=JULY_1, price_id="july")
    schedule = (first, second, third)
    assert in_force_within(schedule, JUNE_2 - 2, JUNE_2 - 1) == (first,)
    assert in_force_within(schedule, JUNE_2 - 1, JUNE_2) == (first, second)
    assert in_force_within(schedule, JUNE_2, JULY_1) == (second, third)


@pytest.mark.parametrize(
    ("memory", "lasted_us", "nano_usd"),
    [
        (None, 0, 5 * 1_500_000),
        ("1g", 5 * MINUTE - 1, 5 * 1_500_000),
        (None, 5 * MINUTE, 6 * 1_500_000),
        (None, 19 * MINUTE + 59 * SECOND, 20 * 1_500_000),
        ("4g", 0, 5 * 6_000_000),
        ("64g", 6 * MINUTE, 7 * 96_000_000),
        # A tier whose price was taken out again is never billed as less than the dearest.
        ("16g", 0, 5 * 96_000_000),
    ],
)
def test_by_the_minute_every_minute_begun_is_charged_and_no_fewer_than_the_least(
    memory: str | None, lasted_us: int, nano_usd: int
) -> None:
    assert amount(MINUTES, memory, lasted_us) == nano_usd


def test_the_price_of_a_session_does_not_depend_on_how_long_it_lasts() -> None:
    assert amount(PLAIN, None, 0) == amount(PLAIN, None, 59 * MINUTE) == 30_000_000
    assert amount_max(PLAIN, "4g") == 30_000_000
    assert [price_id(MINUTES, memory) for memory in (None, "1g", "4g")] == [
        *("minutes", "minutes", "minutes/4g")
    ]


@given(st.integers(0, 20 * MINUTE - 1), st.sampled_from([None, "4g", "64g"]))
def test_no_session_comes_to_more_than_its_bound_or_to_less_than_its_minimum(
    lasted_us: int, memory: str | None
) -> None:
    cost = amount(MINUTES, memory, lasted_us)
    assert amount(MINUTES, memory, 0) <= cost <= amount_max(MINUTES, memory)


def test_everything_an_entry_can_say_is_read() -> None:
    terms = read(
        entry(
            usd=None,
            usd_per_minute="0.0015",
            minutes_min=5,
            active_s=1200,
            idle_s=900,
            trigger="on_request",
            memory={"4g": "0.006"},
            regions=["swedencentral"],
        ),
        entry(),
    ).placed({"azure": "swedencentral"})
    assert terms.of(ScopeKind.CONTAINER, "azure") == (
        SessionTerms(
            1200 * SECOND,
            900 * SECOND,
            1_500_000,
            "session-container@2025-04-01/swedencentral",
            valid_from=1_743_465_600 * SECOND,
            trigger=Trigger.ON_REQUEST,
            per_minute=True,
            minutes_min=5,
            memory={"4g": 6_000_000},
        ),
    )


def test_a_tier_is_permitted_only_where_it_has_a_price_shown_or_not() -> None:
    tiers = {"4g": "0.12", "16g": "0.48"}
    both, _ = read_terms([*others(but="response"), entry("response", memory={"4g": "0.12"})])
    assert both.tiers("azure", JUNE_2) == frozenset()
    terms, faults = read_terms(
        [
            *(each for each in others() if each["scope"] != "response"),
            entry(memory=tiers),
            entry("response", memory={"4g": "0.12"}),
        ]
    )
    assert faults == []
    assert terms.tiers("azure", JUNE_2) == {"4g"}


FAULTY: list[tuple[dict[str, object], str]] = [
    (entry(scope="moon"), "scope"),
    (entry(usd="free"), "usd"),
    (entry(usd=0.03), "usd"),
    (entry(usd="-1"), "usd"),
    (entry(usd=None), "usd"),
    (entry(usd_per_minute="0.1"), "usd"),
    (entry(active_s=None), "active_s"),
    (entry(active_s="3600"), "active_s"),
    (entry(active_s=True), "active_s"),
    (entry(active_s=600), "active_s"),
    (entry(idle_s=600), "idle_s"),
    (entry(idle_s=3601), "idle_s"),
    (entry(minutes_min=5), "minutes_min"),
    (entry(usd=None, usd_per_minute="0.1", minutes_min=0), "minutes_min"),
    (entry(usd=None, usd_per_minute="0.1", minutes_min=61), "minutes_min"),
    (entry(memory={"8g": "0.1"}), "memory.8g"),
    (entry(memory={"1g": "0.1"}), "memory.1g"),
    (entry(memory={"4g": 1}), "memory.4g"),
    (entry(memory=["4g"]), "memory"),
    (entry(trigger="on_sight"), "trigger"),
    (entry(valid_from=None), "valid_from"),
    (entry(valid_from="soon"), "valid_from"),
    (entry(regions=[]), "regions"),
    (entry(regions="swedencentral"), "regions"),
    (entry(regions=["", 5]), "regions"),
    (entry(idel_s=1200), "idel_s"),
]


@pytest.mark.parametrize(("faulty", "name"), FAULTY)
def test_a_faulty_field_is_named_with_its_entry(faulty: dict[str, object], name: str) -> None:
    (fault,) = faults_of(faulty)
    assert fault.startswith(f"session[3].{name}: ")
    assert "`" in fault


@pytest.mark.parametrize("document", [None, {}, "session", [5], [[]]])
def test_terms_are_a_list_of_tables(document: object) -> None:
    assert read_terms(document)[1] == ["`session` must be a list of tables"]


def test_entries_that_contradict_one_another_are_all_told_at_once() -> None:
    found = faults_of(
        entry(),
        entry(usd="0.05"),
        entry(valid_from="2026-06-02", regions=["westus"]),
        entry(valid_from="2026-06-02", regions=["eastus", "westus"]),
        entry("thread", valid_from="2024-01-01"),
    )
    assert found == [
        "session[4].valid_from: scope `container` has an entry for this day already, session[3]",
        "session[6].valid_from: scope `container` in `westus` has an entry for this day already, "
        "session[5]",
        "session[7].valid_from: stands after session[0] of scope `thread`, which is later; write "
        "the entries in order of their days",
    ]


def test_every_kind_of_scope_has_terms_everywhere() -> None:
    assert faults_of() == ["session: scope `container` has no entry without `regions`"]
    assert faults_of(entry(regions=["westus"])) == faults_of()


def test_faults_of_several_entries_are_told_at_once() -> None:
    found = faults_of(entry(usd="x", idle_s=5), entry(trigger=5))
    assert [fault.split(":")[0] for fault in found] == [
        *("session[3].idle_s", "session[3].usd", "session[4].trigger")
    ]
